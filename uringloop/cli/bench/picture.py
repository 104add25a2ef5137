"""Pictures of bars and words, written as SVG; no library is needed."""
from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

WIDTH = 1010

# A card of its own behind everything: it can be read on any page.  The second is for the dark.
COLOURS = {
    'card': ('#ffffff', '#0d1117'), 'edge': ('#d0d7de', '#3d444d'),
    'text': ('#24292f', '#e6edf3'), 'faint': ('#57606a', '#9198a1'),
    'own': ('#0969da', '#4493f8'), 'peer': ('#8c959f', '#656c76'),
    'c': ('#1a7f37', '#3fb950'), 'limit': ('#bc4c00', '#f0883e'),
}


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
