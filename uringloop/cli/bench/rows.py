"""What is compared: the rows of a table, and who takes part in each."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

NO_LOOP = ''


@dataclass(frozen=True)
class Entrant:
    """One that takes part; what is equal is measured once, whatever rows it stands in."""

    side: str               # 'C', NO_LOOP, or the name of a loop
    label: str


E = TypeVar('E', bound=Entrant)


@dataclass(frozen=True)
class Row(Generic[E]):
    name: str
    title: str
    note: str
    limit: E | None         # what C reaches; None: nobody of C takes part, or the best of them
    others: tuple[E, ...]
    by: str = 'rate'        # what counts: see results.Row

    @property
    def entrants(self) -> tuple[E, ...]:
        return self.others if self.limit is None else (self.limit, *self.others)


@dataclass(frozen=True)
class Group(Generic[E]):
    """Rows that are measured in one place."""

    name: str
    title: str
    baseline: E | None      # what the ratios refer to
    baseline_name: str
    rows: tuple[Row[E], ...]

    @property
    def entrants(self) -> list[E]:
        """All that are to be measured."""
        baseline = [self.baseline] if self.baseline else []
        return baseline + [entrant for row in self.rows for entrant in row.entrants]


G = TypeVar('G', bound=Group[Any])


def chosen(everything: list[G], names: list[str]) -> list[G]:
    """The rows of these names; the name of a group stands for all its rows."""
    left = []
    for group in everything:
        rows = tuple(row for row in group.rows if {row.name, group.name} & set(names))
        if rows:
            left.append(replace(group, rows=rows))
    return left
