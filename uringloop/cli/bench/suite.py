"""A command that measures: its rows, how they are measured, and what the figures look like."""
from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uringloop.cli.bench import results
from uringloop.cli.bench.look import Look
from uringloop.cli.bench.rows import Group
from uringloop.cli.bench.turns import Plan

NAME = 15                   # characters, of the longest name of a row


@dataclass(frozen=True)
class Suite:
    name: str               # of the command, and of the folder with its C programs
    help: str
    description: str
    groups: Callable[[list[str]], list[Any]]        # next to these loops
    run: Callable[[list[Any], Plan], list[results.Group]]
    look: Look
    memory: bool = False    # whether it takes --memory

    def names(self) -> list[str]:
        """Of the rows, a line each."""
        everything: list[Group[Any]] = self.groups([])
        return [textwrap.fill(f'  {row.name:{NAME}} {group.name}: {row.title}', 79,
                              subsequent_indent=' ' * (NAME + 5))
                for group in everything for row in group.rows]
