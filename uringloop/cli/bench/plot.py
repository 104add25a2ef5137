"""The figures as bars, drawn as shapes and written as SVG; no library is needed."""
from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

from uringloop.cli.bench.loops import OWN
from uringloop.cli.bench.report import copied, ratio
from uringloop.cli.bench.results import Group, Measured, Results, Row

WIDTH = 1010
LEFT = 310                  # where bars begin
LONGEST = 410               # pixels of the longest
STEP = 20                   # from one bar to the next
BAR = 13
CHARACTER = 6.4             # pixels of one, about

# A card of its own behind everything: it can be read on any page.  The second is for the dark.
COLOURS = {
    'card': ('#ffffff', '#0d1117'), 'edge': ('#d0d7de', '#3d444d'),
    'text': ('#24292f', '#e6edf3'), 'faint': ('#57606a', '#9198a1'),
    'own': ('#0969da', '#4493f8'), 'peer': ('#8c959f', '#656c76'),
    'c': ('#1a7f37', '#3fb950'), 'limit': ('#bc4c00', '#f0883e'),
}


class PlotError(Exception):
    """There is nothing to draw."""


@dataclass(frozen=True)
class Shape:
    """A rectangle, or words: ``text`` stands at ``x``, its baseline at ``y``."""

    colour: str
    x: float
    y: float
    width: float = 0
    height: float = 0
    text: str = ''
    size: int = 12
    bold: bool = False
    anchor: str = 'start'


@dataclass
class Picture:
    title: str
    width: float = WIDTH
    height: float = 0
    shapes: list[Shape] = field(default_factory=list)

    def words(self, text: str, x: float, y: float, colour: str = 'text', *,
              size: int = 12, bold: bool = False, anchor: str = 'start') -> None:
        self.shapes.append(Shape(colour, x, y, text=text, size=size, bold=bold, anchor=anchor))


def _colour(each: Measured) -> str:
    return {'C': 'c', OWN: 'own'}.get(each.side, 'peer')


def _value(group: Group, each: Measured) -> str:
    speed = each.median(lambda sample: sample.speed)
    rate = each.median(lambda sample: sample.rate) / 1e6
    words = f'{speed:,.0f} MB/s, {rate:.2f} M/s'
    if group.baseline is not None:
        words += f', {ratio(each.against(group.baseline))}x'
    return f'{words}, {copied(each)} copied'


def _row(picture: Picture, group: Group, row: Row, y: float, scale: float) -> float:
    """Draws a row from ``y`` on; where the next one may begin."""
    y += 24
    picture.words(row.name, 20, y, bold=True)
    picture.words(f'{row.title}; {row.note}', 32 + CHARACTER * 1.2 * len(row.name), y, 'faint')
    y += 8
    mark = None
    if row.limit is not None:
        mark = LEFT + row.limit.median(lambda sample: sample.speed) * scale
    for each in row.senders:
        if not each.samples:
            continue
        speed = each.median(lambda sample: sample.speed)
        picture.words(f'{each.who}  {each.label}', LEFT - 8, y + 11, anchor='end')
        picture.shapes.append(Shape(_colour(each), LEFT, y, max(speed * scale, 1), BAR))
        words = _value(group, each) + ' NOT ALL DELIVERED' * bool(each.wrong)
        end = LEFT + speed * scale
        if mark is not None:
            if abs(mark - end) < 8:
                end = max(end, mark)
            # It makes room for words.
            if not end < mark < end + 12 + CHARACTER * len(words):
                picture.shapes.append(Shape('limit', mark - 1, y - 4, 2, STEP))
        picture.words(words, end + 6, y + 11, 'limit' if each.wrong else 'faint')
        y += STEP
    return y


def picture(results: Results) -> Picture:
    """All bars; those of loopback are left out, for nothing is zero-copy there."""
    drawn = [group for group in results.groups if group.name != 'loopback' and any(
        each.samples for row in group.rows for each in row.senders)]
    if not drawn:
        raise PlotError('nothing that can be drawn was measured (loopback is not)')
    done = Picture('Datagrams sent by uringloop, by other loops and from C')
    done.words(done.title, 20, 34, size=16, bold=True)
    x = 20.0
    for colour, words in (('own', 'uringloop'), ('peer', 'other loops, Python without one'),
                          ('c', 'C')):
        done.shapes.append(Shape(colour, x, 50, 12, 12))
        done.words(words, x + 18, 60)
        x += 40 + CHARACTER * len(words)
    done.shapes.append(Shape('limit', x + 5, 48, 2, 16))
    done.words('what C reaches in the row', x + 18, 60)
    y = 72.0
    for group in drawn:
        y += 32
        done.words(group.title, 20, y, size=14, bold=True)
        note = 'MB/s; millions of datagrams a second'
        if group.baseline is not None:
            note += f'; times {group.baseline_name}'
        note += '; share of the bytes that was copied'
        done.words(note, WIDTH - 20, y, 'faint', anchor='end')
        fastest = max(each.median(lambda sample: sample.speed)
                      for row in group.rows for each in row.senders if each.samples)
        for row in group.rows:
            if any(each.samples for each in row.senders):
                y = _row(done, group, row, y, LONGEST / fastest)
    facts = ', '.join(f'{name} {value}' if name[0].isupper() or name in results.versions else value
                      for name, value in {
                          name: value for name, value in
                          (results.machine | results.versions).items()
                          if name in ('processor', 'kernel', 'CPython', 'uringloop-zc',
                                      'uvloop', 'rloop')}.items() if value)
    y += 30
    done.words(f'{facts}; medians of {results.rounds} rounds of {results.seconds:g} s', 20, y,
               'faint')
    done.height = y + 20
    return done


def svg(drawn: Picture) -> str:
    """As a document that follows the reader's preference of light and dark."""
    style = [f'.{name} {{ fill: {dark}; }}' for name, (_, dark) in COLOURS.items()]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {drawn.width:g} {drawn.height:g}" '
        'role="img" aria-labelledby="title" font-family="system-ui, sans-serif">',
        f'  <title id="title">{escape(drawn.title)}</title>',
        '  <style>@media (prefers-color-scheme: dark) {',
        *(f'    {line}' for line in style),
        f'    .frame {{ stroke: {COLOURS["edge"][1]}; }}',
        '  }</style>',
        f'  <rect class="card frame" x="0.5" y="0.5" width="{drawn.width - 1:g}" '
        f'height="{drawn.height - 1:g}" rx="8" fill="{COLOURS["card"][0]}" '
        f'stroke="{COLOURS["edge"][0]}"/>',
    ]
    for shape in drawn.shapes:
        paint = f'class="{shape.colour}" fill="{COLOURS[shape.colour][0]}"'
        place = f'x="{shape.x:.1f}" y="{shape.y:.1f}"'
        if shape.text:
            weight = ' font-weight="600"' if shape.bold else ''
            anchor = f' text-anchor="{shape.anchor}"' if shape.anchor != 'start' else ''
            lines.append(f'  <text {paint} {place} font-size="{shape.size}"{weight}{anchor}>'
                         f'{escape(shape.text)}</text>')
        else:
            lines.append(f'  <rect {paint} {place} width="{shape.width:.1f}" '
                         f'height="{shape.height:.1f}"/>')
    return '\n'.join([*lines, '</svg>']) + '\n'
