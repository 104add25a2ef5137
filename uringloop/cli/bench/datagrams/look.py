"""What the figures of ``bench datagrams`` look like: what several processes do next to one."""
from __future__ import annotations

from collections.abc import Iterator

from uringloop.cli.bench.look import ratio
from uringloop.cli.bench.results import Group
from uringloop.cli.bench.work import WorkLook

WORKERS = 'workers'         # the group; its first row is that of one process
SHARED = (
    'Each process has a processor of its own, and so has each load, as far as there are enough: '
    'where loads and processes have the same ones, all of them together are what is measured, and '
    'the rate says less than the processor time.')


class DatagramsLook(WorkLook):
    """It has one more note."""

    def notes(self, group: Group) -> list[str]:
        if group.name != WORKERS or group.missing:
            return []
        compared = '; '.join(_compared(group))
        return [SHARED + (' Times the rate of one process, and times its work in a second of '
                          f'processor time: {compared}.' if compared else '')]


def _compared(group: Group) -> Iterator[str]:
    """A phrase for each that takes part."""
    alone, *more = group.rows
    for place, one in enumerate(alone.entrants):
        times = [f'{ratio(several.against(one, "rate"))} and {ratio(several.against(one, "cpu"))} '
                 f'in {row.name}' for row in more
                 if (several := row.entrants[place]).samples and one.samples]
        if times:
            yield f'{one.who} ({one.label}) {", ".join(times)}'
