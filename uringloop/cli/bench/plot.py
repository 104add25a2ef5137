"""The figures as bars."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial

from uringloop.cli.bench.look import Look
from uringloop.cli.bench.loops import KNOWN, OWN
from uringloop.cli.bench.picture import WIDTH, Picture, Shape
from uringloop.cli.bench.results import MEASURES, Measured, Results, Row

LEFT = 310                  # where bars begin
LONGEST = 410               # pixels of the longest
STEP = 20                   # from one bar to the next
BAR = 13
CHARACTER = 6.4             # pixels of one, about
FACTS = ('processor', 'kernel', 'CPython', 'uringloop-zc', *KNOWN[1:])


class PlotError(Exception):
    """There is nothing to draw."""


def _colour(each: Measured) -> str:
    return {'C': 'c', OWN: 'own'}.get(each.side, 'peer')


def _length(row: Row, each: Measured) -> float:
    """Of its bar, in what counts in the row."""
    return each.median(MEASURES[row.by])


def _longest(rows: list[Row]) -> float:
    return max(_length(row, each) for row in rows for each in row.entrants if each.samples)


def _row(picture: Picture, row: Row, words_of: Callable[[Measured], str], y: float,
         scale: float) -> float:
    """Draws a row from ``y`` on; where the next one may begin."""
    y += 24
    picture.words(row.name, 20, y, bold=True)
    picture.words(f'{row.title}; {row.note}', 32 + CHARACTER * 1.2 * len(row.name), y, 'faint')
    y += 8
    mark = None
    if row.limit is not None:
        mark = LEFT + _length(row, row.limit) * scale
    for each in row.entrants:
        if not each.samples:
            continue
        length = _length(row, each) * scale
        picture.words(f'{each.who}  {each.label}', LEFT - 8, y + 11, anchor='end')
        picture.shapes.append(Shape(_colour(each), LEFT, y, max(length, 1), BAR))
        words = words_of(each) + ' NOT ALL DELIVERED' * bool(each.wrong)
        end = LEFT + length
        if mark is not None:
            if abs(mark - end) < 8:
                end = max(end, mark)
            # It makes room for words.
            if not end < mark < end + 12 + CHARACTER * len(words):
                picture.shapes.append(Shape('limit', mark - 1, y - 4, 2, STEP))
        picture.words(words, end + 6, y + 11, 'limit' if each.wrong else 'faint')
        y += STEP
    return y


def _legend(picture: Picture, results: Results) -> None:
    """Who has which colour, of those who are there."""
    measured = [(row, each) for row, each in results.entrants() if each.samples]
    colours = {_colour(each) for _, each in measured}
    without = ', Python without one' * any(not each.side for _, each in measured)
    x = 20.0
    for colour, words in (('own', 'uringloop'), ('peer', f'other loops{without}'),
                          ('c', 'C')):
        if colour in colours:
            picture.shapes.append(Shape(colour, x, 50, 12, 12))
            picture.words(words, x + 18, 60)
            x += 40 + CHARACTER * len(words)
    if any(row.limit for row, _ in measured):
        picture.shapes.append(Shape('limit', x + 5, 48, 2, 16))
        picture.words('what C reaches in the row', x + 18, 60)


def picture(results: Results, look: Look) -> Picture:
    """All bars."""
    drawn = [(group, rows) for group in results.groups if look.bars(group) and (rows := [
        row for row in group.rows if any(each.samples for each in row.entrants)])]
    if not drawn:
        raise PlotError('nothing that can be drawn was measured')
    done = Picture(look.picture)
    done.words(done.title, 20, 34, size=16, bold=True)
    _legend(done, results)
    y = 72.0
    for group, rows in drawn:
        y += 32
        done.words(group.title, 20, y, size=14, bold=True)
        done.words(look.bars(group), WIDTH - 20, y, 'faint', anchor='end')
        for row in rows:
            longest = _longest(rows if look.one_scale else [row])
            y = _row(done, row, partial(look.bar, group, row), y, LONGEST / longest)
    facts = ', '.join(f'{name} {value}' if name[0].isupper() or name in results.versions else value
                      for name, value in (results.machine | results.versions).items()
                      if name in FACTS and value)
    y += 30
    done.words(f'{facts}; medians of {results.rounds} rounds of {results.seconds:g} s', 20, y,
               'faint')
    done.height = y + 20
    return done
