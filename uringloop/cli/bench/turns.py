"""All take turns, A B C A B C, so that what else the machine does falls on all of them."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uringloop.cli.bench import results
from uringloop.cli.bench.loops import OWN
from uringloop.cli.bench.process import FailedError, MissingError
from uringloop.cli.bench.progress import Progress
from uringloop.cli.bench.rows import NO_LOOP, E, Entrant, G, Group, Row

FAILURES = 2                # of another loop, after which it has no more turns


class BenchError(Exception):
    """Why nothing can be measured, and what would cure it."""


@dataclass(frozen=True)
class Plan:
    """How long, how often, from how much memory, and what a run has besides."""

    seconds: float
    rounds: int
    memory: int
    folder: Path            # which is removed when all is done
    programs: dict[str, Path]       # of C
    missing: dict[str, str]         # why there are no others

    def program(self, name: str) -> str:
        """Its path."""
        if name in self.missing:
            raise MissingError(self.missing[name])
        return str(self.programs[name])


def take(groups: list[G], absent: dict[str, str], plan: Plan,
         sample: Callable[[G, Any], Any]) -> list[results.Group]:
    """In each round everyone has a turn, which is one ``sample``.

    ``absent`` tells of groups that cannot be measured, and why.
    """
    turns = {(group.name, entrant): results.Measured(entrant.side, entrant.label)
             for group in groups if group.name not in absent
             for entrant in group.entrants}
    by_name = {group.name: group for group in groups}
    failures: Counter[tuple[str, Entrant]] = Counter()
    with Progress(len(turns) * plan.rounds) as progress:
        for number in range(plan.rounds):
            for (name, entrant), measured in turns.items():
                progress.step(f'round {number + 1} of {plan.rounds}, {name}: '
                              f'{measured.who} {entrant.label}')
                if measured.missing or failures[name, entrant] == FAILURES:
                    continue
                try:
                    done = sample(by_name[name], entrant)
                    if not done.rate:
                        raise FailedError('nothing was done')
                    measured.samples.append(done)
                except MissingError as error:
                    measured.missing = str(error)
                except FailedError as error:
                    failures[name, entrant] += 1
                    measured.note = f'failed: {error}'
                    # What other loops do wrong is for their makers to cure.
                    measured.failed = entrant.side in ('C', NO_LOOP, OWN)
                    if measured.failed:
                        measured.missing = measured.note
                        measured.samples.clear()
    for turn, measured in turns.items():
        _tell_failures(measured, failures[turn])
    return [_result(group, absent.get(group.name, ''), turns) for group in groups]


def _tell_failures(measured: results.Measured, failures: int) -> None:
    if not measured.samples:
        measured.missing, measured.note = measured.missing or measured.note, ''
    elif failures:
        measured.note = f'{failures} of {len(measured.samples) + failures} rounds {measured.note}'


def _result(group: Group[E], missing: str,
            turns: dict[tuple[str, Entrant], results.Measured]) -> results.Group:
    """The same entrant may stand in several rows, and be the limit in some."""
    rows = [_row(group.name, row, turns) if not missing
            else results.Row(row.name, row.title, row.note, [], row.by) for row in group.rows]
    baseline = None if group.baseline is None else turns.get((group.name, group.baseline))
    return results.Group(group.name, group.title, group.baseline_name, missing, baseline, rows)


def _row(group: str, row: Row[E],
         turns: dict[tuple[str, Entrant], results.Measured]) -> results.Row:
    done = results.Row(row.name, row.title, row.note, [
        replace(turns[group, entrant], limit=entrant is row.limit) for entrant in row.entrants],
        row.by)
    if row.limit is None:
        best = results.best([each for each in done.entrants if each.side == 'C'], row.by)
        if best is not None:
            best.limit = True
    return done
