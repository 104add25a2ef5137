"""The picture as PNG, by whichever library is installed."""
from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from uringloop.cli.bench.picture import COLOURS, Picture, svg

SCALE = 2                   # pixels of a PNG for one of the picture
LIBRARIES = ('cairosvg', 'matplotlib', 'PIL')


def missing() -> str:
    """Why no PNG can be made; empty if it can."""
    if any(importlib.util.find_spec(name) for name in LIBRARIES):
        return ''
    return 'a .png takes cairosvg, matplotlib or Pillow: pip install matplotlib, or name an .svg'


def write(drawn: Picture, file: str) -> None:
    ways = {'cairosvg': _by_cairosvg, 'matplotlib': _by_matplotlib, 'PIL': _by_pillow}
    for name in LIBRARIES:
        if importlib.util.find_spec(name):
            return ways[name](drawn, file)


def _by_cairosvg(drawn: Picture, file: str) -> None:
    library: Any = importlib.import_module('cairosvg')
    # Without the style for the dark: a PNG has one look.
    head, _, rest = svg(drawn).partition('  <style>')
    library.svg2png(bytestring=(head + rest.partition('</style>\n')[2]).encode(), write_to=file,
                    scale=SCALE)


def _by_matplotlib(drawn: Picture, file: str) -> None:
    figures: Any = importlib.import_module('matplotlib.figure')
    patches: Any = importlib.import_module('matplotlib.patches')
    dots = 100 * SCALE
    figure = figures.Figure(figsize=(drawn.width / 100, drawn.height / 100), dpi=dots,
                            facecolor=COLOURS['card'][0])
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, drawn.width)
    axes.set_ylim(drawn.height, 0)
    axes.axis('off')
    for shape in drawn.shapes:
        colour = COLOURS[shape.colour][0]
        if shape.text:
            axes.text(shape.x, shape.y, shape.text, color=colour, fontsize=shape.size * 0.72 * 0.94,
                      fontweight='bold' if shape.bold else 'normal',
                      ha={'start': 'left', 'end': 'right'}[shape.anchor], va='baseline',
                      parse_math=False)
        else:
            axes.add_patch(patches.Rectangle(
                (shape.x, shape.y), shape.width, shape.height, color=colour, linewidth=0))
    figure.savefig(file, format='png')


def _by_pillow(drawn: Picture, file: str) -> None:
    image_module: Any = importlib.import_module('PIL.Image')
    draw_module: Any = importlib.import_module('PIL.ImageDraw')
    font_module: Any = importlib.import_module('PIL.ImageFont')
    image = image_module.new('RGB', (round(drawn.width * SCALE), round(drawn.height * SCALE)),
                             COLOURS['card'][0])
    draw = draw_module.Draw(image)
    for shape in drawn.shapes:
        colour = COLOURS[shape.colour][0]
        x, y = shape.x * SCALE, shape.y * SCALE
        if shape.text:
            font = font_module.load_default(shape.size * SCALE)
            anchor = {'start': 'ls', 'end': 'rs'}[shape.anchor]
            draw.text((x, y), shape.text, fill=colour, font=font, anchor=anchor)
        else:
            draw.rectangle((x, y, x + max(shape.width * SCALE - 1, 1),
                            y + shape.height * SCALE - 1), fill=colour)
    image.save(file, format='PNG')
