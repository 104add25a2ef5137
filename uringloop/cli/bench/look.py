"""What the figures of a command look like: the columns of its tables, and the words around them."""
from __future__ import annotations

from abc import ABC, abstractmethod

from uringloop.cli.bench.results import Group, Measured, Results, Row


def ratio(value: float | None) -> str:
    return '-' if value is None else f'{value:.2f}' if value >= 0.1 else f'{value:.3f}'


class Look(ABC):
    """Each command has one."""

    command: str
    heading: str            # of the page
    legend: str             # what the columns say
    picture: str            # its title
    beside = ''             # what the page says of other pages
    one_scale: bool         # whether the bars of a group's rows can be compared

    @property
    def made(self) -> str:
        """The commands that made the page."""
        return (
            f'Made by `python -m uringloop bench {self.command} --json FILE` and `python -m '
            'uringloop bench report FILE`. Ratios hold within one run; absolute figures of two '
            'machines, or of two days, do not compare.')

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
