"""What ``soak.py`` has seen over time, as a picture."""
from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from uringloop.cli.bench.picture import WIDTH, Picture, Shape, svg

LEFT, RIGHT = 130.0, 20.0
HIGH = 90.0                 # pixels of the highest
MOST = 400                  # columns: what more was seen shares one


class Sample(NamedTuple):
    """What was seen at a moment."""

    second: float
    memory: int             # bytes
    descriptors: int
    pinned: int             # bytes, the most since the sample before
    late: float             # seconds, of a timer, the most since the sample before


class Panel(NamedTuple):
    title: str
    unit: str
    values: list[float]
    colour: str


def columns(samples: list[Sample]) -> list[Sample]:
    """No more than there is room for; each has the most of what it stands for."""
    each = -(-len(samples) // MOST)
    groups = [samples[i:i + each] for i in range(0, len(samples), each)]
    return [Sample(group[-1].second, *(max(values) for values in list(
        zip(*group, strict=True))[1:])) for group in groups]


def panels(samples: list[Sample]) -> list[Panel]:
    return [
        Panel('memory', 'MiB', [sample.memory / (1 << 20) for sample in samples], 'own'),
        Panel('descriptors', '', [sample.descriptors for sample in samples], 'c'),
        Panel('bytes pinned, at most', 'KiB', [sample.pinned / 1024 for sample in samples], 'own'),
        Panel('timers late, at most', 'ms', [sample.late * 1000 for sample in samples], 'limit'),
    ]


def figure(value: float) -> str:
    return f'{value:,.1f}'.removesuffix('.0')


def draw(done: Picture, panel: Panel, y: float) -> float:
    """Columns from ``y`` on, all from zero; where the next panel begins."""
    y += 26
    highest = max(panel.values) or 1
    done.words(panel.title, 20, y, bold=True)
    words = f'{figure(highest)} {panel.unit}'.strip() + f', in the end {figure(panel.values[-1])}'
    done.words(f'at most {words}', WIDTH - RIGHT, y, 'faint', anchor='end')
    y += 10
    width = (WIDTH - LEFT - RIGHT) / len(panel.values)
    for number, value in enumerate(panel.values):
        height = max(value / highest * HIGH, 0.5)
        done.shapes.append(Shape(panel.colour, LEFT + number * width, y + HIGH - height,
                                 max(width - (width > 3), 0.5), height))
    for share in 1, 0:
        done.words(f'{figure(highest * share)} {panel.unit}'.strip(), LEFT - 8,
                   y + HIGH * (1 - share) + 4 + 4 * share, 'faint', anchor='end')
    return y + HIGH + 8


def write(path: Path, samples: list[Sample], setting: str) -> None:
    """As SVG."""
    samples = columns(samples)
    done = Picture('A mix of everything in one loop: what it takes over time')
    done.words(done.title, 20, 34, size=16, bold=True)
    y = 40.0
    for panel in panels(samples):
        y = draw(done, panel, y)
    y += 14
    done.words('0 s', LEFT, y, 'faint')
    done.words(f'{samples[-1].second:,.0f} s', WIDTH - RIGHT, y, 'faint', anchor='end')
    done.words(setting, 20, y + 24, 'faint')
    done.height = y + 44
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg(done))
