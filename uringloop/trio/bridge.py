"""What is asyncio's, for a trio task to wait for."""
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import trio

from uringloop.trio.ticks import CURRENT, make_runnable

T = TypeVar('T')


def host_loop() -> asyncio.AbstractEventLoop:
    """The loop whose guest this trio is; RuntimeError if it is nobody's."""
    loop = asyncio._get_running_loop()
    if loop is None:
        raise RuntimeError('this trio runs on no event loop: start it by uringloop.trio.run()')
    return loop


async def run_asyncio(awaitable: Awaitable[T]) -> T:
    """Wait in a trio task for a coroutine, a task or a future of asyncio.

    Cancelling cancels that, and waits for its end.
    """
    future: asyncio.Future[T] = asyncio.ensure_future(awaitable, loop=host_loop())
    cancelled: Callable[[], NoReturn] | None = None

    def abort(raise_cancel: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
        nonlocal cancelled
        cancelled = raise_cancel
        future.cancel()
        return trio.lowlevel.Abort.FAILED

    task, ticks = trio.lowlevel.current_task(), CURRENT.get()
    future.add_done_callback(lambda _: make_runnable(task, ticks))
    await trio.lowlevel.wait_task_rescheduled(abort)
    if future.cancelled() and cancelled is not None:
        cancelled()
    return future.result()


async def until_done(future: asyncio.Future[Any]) -> None:
    """Wait for a future, which goes on when the task that waits is cancelled."""
    waiting = True

    def done(_: asyncio.Future[Any]) -> None:
        # The future may be done, and this called a turn later: cancelled in between.
        if waiting:
            make_runnable(task, ticks)

    def abort(_: Any) -> trio.lowlevel.Abort:
        nonlocal waiting
        waiting = False
        return trio.lowlevel.Abort.SUCCEEDED

    task, ticks = trio.lowlevel.current_task(), CURRENT.get()
    future.add_done_callback(done)
    await trio.lowlevel.wait_task_rescheduled(abort)
