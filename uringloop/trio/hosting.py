"""``run``: trio as the guest of this loop."""
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import outcome
import trio

from uringloop.policy import end_loop, new_event_loop
from uringloop.trio.ticks import CURRENT, GuestClock, GuestTicks

T = TypeVar('T')


class Guest:
    """One run of trio on a loop, from its start to its outcome."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.ticks = GuestTicks(loop)
        self.outcome: outcome.Outcome[Any] | None = None
        self.scope = trio.CancelScope()

    def start(self, async_fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...],
              options: dict[str, Any]) -> None:
        """A callback of the loop, so that trio finds asyncio's hooks of asynchronous generators."""

        async def main() -> Any:
            CURRENT.set(self.ticks)
            with self.scope:
                return await async_fn(*args)

        main.__name__ = getattr(async_fn, '__name__', main.__name__)
        main.__qualname__ = getattr(async_fn, '__qualname__', main.__qualname__)
        try:
            trio.lowlevel.start_guest_run(
                main, run_sync_soon_threadsafe=self.loop.call_soon_threadsafe,
                run_sync_soon_not_threadsafe=self.ticks.soon, done_callback=self.ended, **options)
        except BaseException as error:
            self.ended(outcome.Error(error))

    def ended(self, result: outcome.Outcome[Any]) -> None:
        self.outcome = result
        self.ticks.close()
        self.loop.stop()

    def run(self) -> Any:
        """Run the loop until trio has ended, whatever stops it meanwhile."""
        error: BaseException | None = None
        while self.outcome is None:
            try:
                self.loop.run_forever()
                if self.outcome is None:
                    error = error or RuntimeError('the event loop was stopped before trio ended')
            except (KeyboardInterrupt, SystemExit) as raised:
                # Of a callback of asyncio's: those of trio are told to trio.  (Any other is the
                # loop's, which cannot go on.)
                error = raised
            if error is not None:
                self.scope.cancel()
        if error is not None:
            raise error
        return self.outcome.unwrap()


def run(async_fn: Callable[..., Awaitable[T]], *args: Any,
        clock: trio.abc.Clock | None = None,
        instruments: Sequence[trio.abc.Instrument] = (),
        restrict_keyboard_interrupt_to_checkpoints: bool = False) -> T:
    """As ``trio.run``, on a new loop of this package: trio's guest mode.

    All of trio works as ever, its own sockets too; what is of the loop can be had as well, by
    ``open_datagram_endpoint`` and ``run_asyncio``.
    """
    if asyncio.iscoroutine(async_fn):
        problem = ('uringloop.trio.run(main, ...) takes the async function itself, not main(): '
                   f'got {async_fn!r}')
        async_fn.close()                    # nobody else will, and Python would warn of that
        raise TypeError(problem)
    if asyncio._get_running_loop() is not None:
        raise RuntimeError('uringloop.trio.run() cannot be called from a running event loop')
    loop = new_event_loop()
    guest = Guest(loop)
    starting = loop.call_soon(guest.start, async_fn, args, {
        'clock': clock or GuestClock(guest.ticks), 'instruments': instruments,
        'restrict_keyboard_interrupt_to_checkpoints': restrict_keyboard_interrupt_to_checkpoints})
    try:
        return guest.run()  # type: ignore[no-any-return]
    finally:
        starting.cancel()
        guest.ticks.close()
        end_loop(loop)
