"""A program that runs on one of the loops, and what was seen."""
from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Coroutine
from typing import Any

from tests.against_asyncio.programs import Program

PATIENCE = 10.0                # seconds that nothing at all may happen while something is due
ENDLESS = 60.0                 # what has no end by then never has
LOOKS = 2                      # so often nothing is due, and nothing happens in between
NAP = 0.0002                   # the loop goes to sleep between two looks


CHANCE = 'chance'              # what was seen of that which may happen in several ways


class MischiefError(Exception):
    """What protocols, callbacks and tasks raise on purpose; an end says so by itself."""


def told(exc: BaseException | None) -> str:
    """An exception, as loops can be compared by it."""
    if exc is None:
        return 'None'
    code = getattr(exc, 'errno', None)
    return type(exc).__name__ if code is None else f'{type(exc).__name__}({code})'


class World:
    """What steps have in common; its subclasses have the steps."""

    def __init__(self, loop: asyncio.AbstractEventLoop, uring: bool) -> None:
        self.loop: Any = loop
        self.uring = uring
        self.batching = True                     # a loop may be asked not to
        self.events = 0                          # so many, ever: something goes on
        self.calls: list[tuple[str, str]] = []       # of this turn: who has raised what
        self.handled: list[tuple[str, str]] = []     # of whom the exception handler was told
        self.trace: list[dict[str, Any]] = []
        loop.set_exception_handler(self.handler)

    # -- what subclasses have -------------------------------------------------------------------

    def due(self) -> str:
        """What has still to happen, or nothing."""
        return ''

    def seen(self) -> dict[str, Any]:
        """What was seen since this was last asked, by name."""
        return {}

    async def finish(self) -> None:
        """Close all that is open."""

    # -- running ---------------------------------------------------------------------------------

    def handler(self, _: Any, context: dict[str, Any]) -> None:
        self.events += 1
        message = context['message']
        if message.startswith('Exception in callback'):
            message = 'Exception in callback'        # which it is asyncio's and ours name apart
            if not self.uring and isinstance(context.get('exception'), AttributeError):
                return               # asyncio's own: one that is closed as it resumes is lost twice
        exc = context.get('exception')
        name = exc.args[0].name if isinstance(exc, MischiefError) and exc.args else ''
        self.handled.append((name, f'{message} {told(exc)}'))

    def attempt(self, who: str, what: str, call: Any, *arguments: Any) -> Any:
        """Call, and tell of an exception."""
        try:
            return call(*arguments)
        except Exception as exc:
            self.calls.append((who, f'{what}: {told(exc)}'))
            return None

    async def play(self, program: Program) -> list[dict[str, Any]]:
        """What was seen of each turn, and of the end."""
        self.batching = ('batch', False) not in program.options
        for turn in program.turns:
            for step in turn:
                answer = getattr(self, step.name)(*step.arguments)
                if inspect.isawaitable(answer):
                    await answer
            if not await self.settle():
                break
        await self.finish()
        await self.settle()
        return self.trace

    async def settle(self) -> bool:
        """Let the loop run until nothing is due, and nothing has happened for some looks."""
        quiet, last = 0, self.events
        until = time.monotonic() + PATIENCE
        latest = until + ENDLESS
        due = ''
        while quiet < LOOKS:
            await asyncio.sleep(NAP)
            due = self.due()
            if due or self.events != last:
                quiet = 0
            else:
                quiet += 1
            if self.events != last:
                last, until = self.events, time.monotonic() + PATIENCE
            elif due and time.monotonic() > until:
                break
            if time.monotonic() > latest:
                due = 'it goes on and on'
                break
        self.note(due)
        return not due

    def note(self, due: str) -> None:
        """The end of a turn."""
        seen = self.seen()
        if self.calls:
            seen['calls'] = self.calls
        if self.handled:
            seen['handler'] = sorted(self.handled)
        if due:
            seen['forgotten'] = due
        self.calls, self.handled = [], []
        self.trace.append(seen)

    async def until(self, condition: Any) -> None:
        """Wait for what has to come, while it is made: say, a connection that is accepted."""
        end = time.monotonic() + PATIENCE
        while not condition():
            await asyncio.sleep(0)
            if time.monotonic() > end:
                raise TimeoutError('what was begun does not come')

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self.loop.create_task(coroutine)       # type: ignore[no-any-return]
