"""Runs a program on both loops, and tells where what was seen is not the same."""
from __future__ import annotations

import asyncio
import gc
import logging
import warnings
from collections import Counter
from typing import Any

import uringloop
from tests.against_asyncio.programs import Program
from tests.against_asyncio.world import CHANCE
from tests.support.cases import assert_no_leaks

ATTEMPTS = 3
logger = logging.getLogger(__name__)
counted: Counter[str] = Counter()        # programs, steps, ...: what a long run tells in the end


class DisagreementError(AssertionError):
    """The two loops have not done the same."""


def run(kind: Any, program: Program, uring: bool) -> list[dict[str, Any]]:
    """What was seen of it on one of the loops."""
    loop = (uringloop.new_event_loop(require_uring=True, **dict(program.options)) if uring
            else asyncio.SelectorEventLoop())
    world = kind(loop, uring)
    try:
        return loop.run_until_complete(world.play(program))     # type: ignore[no-any-return]
    finally:
        loop.set_exception_handler(lambda *_: None)
        loop.close()
        del world
        if uring:
            gc.collect()
            assert_no_leaks(loop)


def compare(kind: Any, program: Program) -> None:
    """Raise ``DisagreementError`` if the loops do not agree, however often they are asked.

    What a busy machine has done to one of them once is not found again, and is only counted.
    """
    counted['programs'] += 1
    counted['turns'] += len(program.turns)
    counted['steps'] += sum(map(len, program.turns))
    for attempt in range(ATTEMPTS):
        text = difference(program, *run_both(kind, program))
        if not text:
            return
        if attempt == 0:
            counted['disagreements'] += 1
            logger.info('a disagreement: %s', text)
    counted['disagreements that stay'] += 1
    raise DisagreementError(text)


def run_both(kind: Any, program: Program) -> list[list[dict[str, Any]]]:
    """What was seen on asyncio's loop, and on this one."""
    gc.disable()                         # finalizers run when they are due, not by chance
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', ResourceWarning)
            return [run(kind, program, uring) for uring in (False, True)]
    finally:
        gc.enable()


def difference(program: Program, theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> str:
    """The first turn that is not the same, as text."""
    chance: set[str] = set()
    for number in range(max(len(theirs), len(ours))):
        pair = [trace[number] if number < len(trace) else {} for trace in (theirs, ours)]
        chance.update(name for seen in pair for name, what in seen.items() if what == CHANCE)
        pair = [certain(seen, chance) for seen in pair]
        if pair[0] == pair[1]:
            continue
        turn = (' '.join(f'{step.name}{step.arguments}' for step in program.turns[number])
                if number < len(program.turns) else 'the end')
        lines = [f'in turn {number}: {turn}']
        for name in sorted({*pair[0], *pair[1]}):
            one, two = (seen.get(name) for seen in pair)
            if one != two:
                lines += [f'  {name}', f'    asyncio   {one}', f'    uringloop {two}']
        return '\n'.join(['', told(program), *lines])
    return ''


def certain(seen: dict[str, Any], chance: set[str]) -> dict[str, Any]:
    """Without what one of the loops, or both, say is chance."""
    seen = {name: what for name, what in seen.items() if name not in chance}
    for name in ('handler', 'calls'):
        seen[name] = [each for each in seen.get(name, ()) if each[0] not in chance]
    return seen


def told(program: Program) -> str:
    """As one can paste it: but for what is as ever."""
    turns = ',\n'.join(f'    ({", ".join(map(repr, turn))},)' for turn in program.turns)
    return f'Program((\n{turns},\n), {program.options!r})'
