"""What ``bench everyday`` compares: each loop in each task."""
from __future__ import annotations

from dataclasses import dataclass

from uringloop.cli.bench import rows
from uringloop.cli.bench.everyday.tasks import GROUPS, TASKS, Task
from uringloop.cli.bench.loops import OWN
from uringloop.cli.bench.rows import Entrant, Group


@dataclass(frozen=True)
class Loop(Entrant):

    task: str               # one of TASKS


Row = rows.Row[Loop]


def _row(task: Task, loops: list[str]) -> Row:
    note = f'{task.unit} a connection' if task.by == 'less' else f'{task.unit} a second'
    return Row(task.name, task.title, note, None,
               tuple(Loop(loop, '', task.name) for loop in loops), task.by)


def groups(peers: list[str]) -> list[Group[Loop]]:
    """All there is to measure, next to these loops."""
    return [Group(name, title, None, '', tuple(
        _row(task, [OWN, *peers]) for task in TASKS.values() if task.group == name))
        for name, title in GROUPS.items()]
