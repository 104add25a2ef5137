"""What figures of work and its processor time look like."""
from __future__ import annotations

from uringloop.cli.bench.look import Look, ratio
from uringloop.cli.bench.loops import OWN
from uringloop.cli.bench.results import Group, Measured, Results, Row, best, others

SETTING = (
    'All of it is on one machine: what is measured is bound to one processor, and its load, if '
    'that is a process of its own, to another. Nothing goes zero-copy there.')
ALONE = (
    'All of it is on one machine, and this was allowed one processor of it: what is measured and '
    'its load share that. Nothing goes zero-copy there.')
COLUMNS = (
    'Medians of the rounds, in which all take turns; ratios are medians of the rounds\' ratios, '
    'with the least and the greatest of them, and more is better in each. "CPU us": processor '
    'time that the measured process takes for each, in microseconds. "x best": times the rate of '
    'the best of the other loops in the row, "x by CPU": times the work that the best of them '
    'does in a second of processor time.')


def number(value: float) -> str:
    return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


class WorkLook(Look):
    """Of samples that are Work."""

    one_scale = False

    def __init__(self, command: str, *, heading: str, picture: str, unit: str, legend: str,
                 lossy: bool = False) -> None:
        self.command = command
        self.heading = heading
        self.picture = picture
        self.unit = unit        # the head of the column with what counts
        self.lossy = lossy      # whether some of what is sent may never be done
        self.legend = f'{COLUMNS} {legend}'

    def columns(self, group: Group) -> list[str]:
        heads = [self.unit, 'x best', 'CPU us', 'x by CPU']
        if self._with_c(group):
            heads.append('of C by CPU' if group.rows[0].by == 'cpu' else 'of C')
        return [*heads, 'lost'] if self.lossy else heads

    def figures(self, group: Group, row: Row, each: Measured) -> list[str]:
        rate = 'less' if row.by == 'less' else 'rate'
        cells = [number(each.median(lambda sample: sample.rate)), self._times_best(row, each, rate)]
        # Where less is better there is an amount, and nothing is done again and again.
        cells += ['-', '-'] if row.by == 'less' else [
            number(each.median(lambda sample: 1e6 / sample.per_cpu)),
            self._times_best(row, each, 'cpu')]
        if self._with_c(group):
            cells.append(ratio(each.against(row.limit, row.by)))
        return [*cells, self._lost(each)] if self.lossy else cells

    def bar(self, group: Group, row: Row, each: Measured) -> str:
        figure, times, cpu, times_by_cpu, *_ = (
            cell.partition(' ')[0] for cell in self.figures(group, row, each))
        words = f'{figure}, {times}x'
        if row.by != 'less':
            words += f'; CPU {cpu} us, {times_by_cpu}x'
        return words

    def bars(self, group: Group) -> str:
        counts = 'by CPU' if group.rows and group.rows[0].by == 'cpu' else 'by rate'
        return f'bars {counts}; {self.unit}, times the best other loop; CPU us each, times it'

    def setting(self, results: Results) -> list[str]:
        if results.machine.get('cores', '').partition(' ')[0] == '1':
            return [ALONE]
        return [SETTING]

    @staticmethod
    def _times_best(row: Row, each: Measured, by: str) -> str:
        other = best(others(row.entrants, OWN), by)
        words = ratio(each.against(other, by))
        ratios = each.ratios(other, by) if other is not None and other is not each else []
        if len(ratios) > 1:
            words += f' ({ratio(min(ratios))}-{ratio(max(ratios))})'
        return words

    @staticmethod
    def _with_c(group: Group) -> bool:
        return any(each.side == 'C' for row in group.rows for each in row.entrants)

    @staticmethod
    def _lost(each: Measured) -> str:
        lost = sum(sample.lost for sample in each.samples)
        if not lost:
            return '0'
        share = lost / (lost + sum(sample.units for sample in each.samples))
        return '< 0.1 %' if share < 0.001 else f'{share:.1%}'.replace('%', ' %')
