"""The figures as tables: for the terminal, and as a page of the documentation."""
from __future__ import annotations

import textwrap
from collections.abc import Iterator

from uringloop.cli.bench.look import Look
from uringloop.cli.bench.results import Group, Results

WIDTH = 100                 # of what is not in columns


def _fill(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_on_hyphens=False)


def _lines(group: Group, look: Look) -> Iterator[str]:
    yield f'{group.name}: {group.title}'
    if group.missing:
        yield f'  not measured: {group.missing}'
        return
    heads = look.columns(group)
    table = {(row.name, number): look.figures(group, row, each)
             for row in group.rows for number, each in enumerate(row.entrants) if each.samples}
    widths = [max(map(len, column)) for column in zip(heads, *table.values(), strict=True)]
    names = [(each.who, each.label) for row in group.rows for each in row.entrants]
    first, second = (max(map(len, column)) for column in zip(*names, strict=True))
    yield '  '.join([' ' * (first + second + 4), *map(str.rjust, heads, widths)])
    for row in group.rows:
        yield f'{row.name}: {row.title}; {row.note}'
        for number, each in enumerate(row.entrants):
            start = f'  {each.who:{first}}  {each.label:{second}}'
            if each.samples:
                yield '  '.join([start, *map(str.rjust, table[row.name, number], widths)])
            else:
                yield f'{start}  - {each.missing}'
            if each.note:
                yield f'    {each.note}'
            if each.wrong:
                yield f'    NOT ALL DELIVERED: {each.wrong}'


def table(results: Results, look: Look) -> str:
    """All of it for a terminal."""
    parts = ['\n'.join(_lines(group, look)) for group in results.groups]
    notes = [look.legend, *look.setting(results),
             *(note for group in results.groups for note in look.notes(group))]
    return '\n\n'.join([*parts, *map(_fill, notes)]) + '\n'


# -- the page ------------------------------------------------------------------------------------

def _cell(text: str) -> str:
    return text.replace('|', r'\|')


def _sections(group: Group, look: Look) -> Iterator[str]:
    yield f'## {group.title[0].upper()}{group.title[1:]}'
    if group.missing:
        yield f'Not measured: {group.missing}.'
        return
    heads = look.columns(group)
    for row in group.rows:
        yield f'**`{row.name}`**: {row.title}; {row.note}.'
        lines = ['| | | ' + ' | '.join(heads) + ' |', '|---|---|' + '---:|' * len(heads)]
        for each in row.entrants:
            cells = look.figures(group, row, each) if each.samples else ['-'] * len(heads)
            if each.wrong:
                cells[-1] += f' (**not all delivered**: {each.wrong})'
            told = each.note or f'not measured: {each.missing}' * bool(each.missing)
            label = _cell(each.label) + f' ({_cell(told)})' * bool(told)
            lines.append(f'| {each.who} | {label} | ' + ' | '.join(cells) + ' |')
        yield '\n'.join(lines)
    yield from map(_fill, look.notes(group))


def page(results: Results, look: Look, plot: str = '') -> str:
    """A document; ``plot`` is the name of the picture beside it."""
    facts = [f'{name}: {value}' for name, value in (
        results.machine | results.versions).items() if value]
    conditions = '; '.join(filter(None, [
        f'{results.rounds} rounds of {results.seconds:g} seconds each', look.conditions(results)]))
    parts = [
        f'# {look.heading}',
        _fill(look.made),
        *([_fill(look.beside)] if look.beside else []),
        *map(_fill, look.setting(results)),
        '\n'.join(f'- {fact}' for fact in facts),
        _fill(f'{conditions}. {look.legend}'),
    ]
    if plot:
        parts.append(f'![Bars of the figures below]({plot})')
    for group in results.groups:
        parts += _sections(group, look)
    return '\n\n'.join(parts) + '\n'
