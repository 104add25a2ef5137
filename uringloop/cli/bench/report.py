"""The figures as tables: for the terminal, and as the page docs/benchmarks.md."""
from __future__ import annotations

from collections.abc import Iterator
from textwrap import fill

from uringloop.cli.bench.loops import OWN
from uringloop.cli.bench.results import Group, Measured, Results, Row

WIDTH = 100                 # of what is not in columns
MADE = (
    'Made by `python -m uringloop bench zerocopy --json FILE` and `python -m uringloop bench '
    'report FILE`. Ratios hold within one run; absolute figures of two machines, or of two days, '
    'do not compare.')
DEVICE = (
    'The device is an ifb, which drops at once what it is sent. What a real card has besides is '
    'absent: mapping memory for DMA, an IOMMU, and notifications that come late, when the packet '
    'has left.')
RFC = (
    'The RFC: "[RFC 00/12] io_uring zerocopy send", a series of patches that Pavel Begunkov sent '
    'to the netdev mailing list in November 2021; what came of it is in Linux 6.0 of 2022. Its '
    '0.38x were 18,281 MB/s by copying and 47,421 MB/s by MSG_ZEROCOPY: compare MB/s, too, to see '
    'on which side a ratio differs from it.')
FLUSH = (
    'The RFC\'s "flush" asked for a notification. The API that came of it always notifies, once a '
    'request, so there are no rows without; what differs is whether a sender waits for each.')
LEGEND = (
    'Medians of the rounds, in which all take turns; ratios are medians of the rounds\' ratios. '
    'MB: a million bytes. A row, as of the RFC, is a name and the senders below it. "of C": of the '
    'first of these. "x" a loop: of the fastest measurement of another loop on that network, '
    'whatever the row. "copied": the share of the bytes sent that was copied, by the loop or by '
    'the kernel. What the sender says is compared with what the device has counted.')


def ratio(value: float | None) -> str:
    return '-' if value is None else f'{value:.2f}' if value >= 0.1 else f'{value:.3f}'


def copied(each: Measured) -> str:
    """The share of the bytes that were copied, in all rounds; all and none are exactly that."""
    share = each.copied
    if share is None:
        return '-'
    if 0 < share < 0.01 or 0.99 < share < 1:
        return '< 1 %' if share < 0.5 else '> 99 %'
    return f'{share:.0%}'.replace('%', ' %')


def columns(group: Group) -> list[str]:
    """The heads of the columns with figures."""
    peer = group.peer(OWN)
    heads = ['MB/s', 'datagrams/s']
    if group.baseline_name:
        heads.append(f'x {group.baseline_name}')
    return [*heads, 'of C', *([f'x {peer.side}'] if peer else []), 'copied']


def figures(group: Group, row: Row, each: Measured) -> list[str]:
    """What stands in these columns."""
    cells = [f'{each.median(lambda sample: sample.speed):,.0f}',
             f'{each.median(lambda sample: sample.rate):,.0f}']
    if group.baseline_name:
        cells.append(ratio(each.against(group.baseline)))
    cells.append(ratio(each.against(row.limit)))
    if peer := group.peer(OWN):
        cells.append(ratio(each.against(peer)))
    return [*cells, copied(each)]


def _lines(group: Group) -> Iterator[str]:
    yield f'{group.name}: {group.title}'
    if group.missing:
        yield f'  not measured: {group.missing}'
        return
    heads = columns(group)
    table = {(row.name, number): figures(group, row, each)
             for row in group.rows for number, each in enumerate(row.senders) if each.samples}
    widths = [max(map(len, column)) for column in zip(heads, *table.values(), strict=True)]
    names = [(each.who, each.label) for row in group.rows for each in row.senders]
    first, second = (max(map(len, column)) for column in zip(*names, strict=True))
    yield '  '.join([' ' * (first + second + 4), *map(str.rjust, heads, widths)])
    for row in group.rows:
        yield f'{row.name}: {row.title}; {row.note}'
        for number, each in enumerate(row.senders):
            start = f'  {each.who:{first}}  {each.label:{second}}'
            if each.samples:
                yield '  '.join([start, *map(str.rjust, table[row.name, number], widths)])
            else:
                yield f'{start}  - {each.missing}'
            if each.wrong:
                yield f'    NOT ALL DELIVERED: {each.wrong}'


def _on_devices(results: Results) -> bool:
    return any(group.name != 'loopback' and not group.missing for group in results.groups)


def table(results: Results) -> str:
    """All of it for a terminal."""
    parts = ['\n'.join(_lines(group)) for group in results.groups]
    notes = [LEGEND]
    if _on_devices(results):
        notes.append(DEVICE)
    if any(group.name == 'rfc' and not group.missing for group in results.groups):
        notes += [RFC, FLUSH]
    return '\n\n'.join([*parts, *(fill(note, WIDTH) for note in notes)]) + '\n'


# -- the page ------------------------------------------------------------------------------------

def _cell(text: str) -> str:
    return text.replace('|', r'\|')


def _sections(group: Group) -> Iterator[str]:
    yield f'## {group.title[0].upper()}{group.title[1:]}'
    if group.missing:
        yield f'Not measured: {group.missing}.'
        return
    heads = columns(group)
    for row in group.rows:
        yield f'**`{row.name}`**: {row.title}; {row.note}.'
        lines = ['| | | ' + ' | '.join(heads) + ' |', '|---|---|' + '---:|' * len(heads)]
        for each in row.senders:
            cells = figures(group, row, each) if each.samples else ['-'] * len(heads)
            if each.wrong:
                cells[-1] += f' (**not all delivered**: {each.wrong})'
            label = _cell(each.label) + f' (not measured: {_cell(each.missing)})' * bool(
                each.missing)
            lines.append(f'| {each.who} | {label} | ' + ' | '.join(cells) + ' |')
        yield '\n'.join(lines)


def page(results: Results, plot: str = '') -> str:
    """A document; ``plot`` is the name of the picture beside it."""
    facts = [f'{name}: {value}' for name, value in (
        results.machine | results.versions).items() if value]
    memory = (f'payloads walk through {results.memory / 1e6:,.0f} MB' if results.memory
              else 'one hot payload, which is best for those who copy')
    parts = [
        '# Benchmarks',
        fill(MADE, WIDTH, break_on_hyphens=False),
        '\n'.join(f'- {fact}' for fact in facts),
        fill(f'{results.rounds} rounds of {results.seconds:g} seconds each; {memory}. {LEGEND}',
             WIDTH, break_on_hyphens=False),
    ]
    if _on_devices(results):
        parts.insert(2, fill(DEVICE, WIDTH, break_on_hyphens=False))
    if plot:
        parts.append(f'![Bars of the figures below, with what C reaches marked]({plot})')
    for group in results.groups:
        parts += _sections(group)
        if group.name == 'rfc' and not group.missing:
            parts += [fill(note, WIDTH, break_on_hyphens=False) for note in (RFC, FLUSH)]
    return '\n\n'.join(parts) + '\n'
