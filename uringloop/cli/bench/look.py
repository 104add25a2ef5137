"""What the figures of a command look like: the columns of its tables, and the words around them."""
from __future__ import annotations

from abc import ABC, abstractmethod

from uringloop.cli.bench.results import Group, Measured, Results, Row


def ratio(value: float | None) -> str:
    return '-' if value is None else f'{value:.2f}' if value >= 0.1 else f'{value:.3f}'


class Look(ABC):
    """Each command has one."""

    heading: str            # of the page
    made: str               # the commands that made the page
    legend: str             # what the columns say
    picture: str            # its title
    one_scale: bool         # whether the bars of a group's rows can be compared

    @abstractmethod
    def columns(self, group: Group) -> list[str]:
        """The heads of the columns with figures."""

    @abstractmethod
    def figures(self, group: Group, row: Row, each: Measured) -> list[str]:
        """What stands in these columns."""

    @abstractmethod
    def bar(self, group: Group, row: Row, each: Measured) -> str:
        """What stands behind a bar."""

    @abstractmethod
    def bars(self, group: Group) -> str:
        """What that means; empty for a group that is not drawn."""

    def setting(self, results: Results) -> list[str]:
        """Paragraphs on where it was measured, if anything of it was."""
        return []

    def notes(self, group: Group) -> list[str]:
        """Paragraphs below a group."""
        return []

    def conditions(self, results: Results) -> str:
        """Besides rounds and seconds."""
        return ''
