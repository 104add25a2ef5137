"""Programs of callbacks, timers, tasks and futures: what runs when, one by one.

Nothing here is left to chance, and so the order of everything is compared.  Time stands still
until the program says that it goes on; or it is the loop's own, and then timers are due at once
or never.
"""
from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.against_asyncio.world import MischiefError, told

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar('variable', default='-')
APART = 1e-5                   # seconds: asyncio leaves open which of two equal times is first
IDLE = 4                       # turns in which nothing else was ready
LATE = 3600.0                  # seconds, of timers that are never due


class Action(NamedTuple):
    """A method of the schedule's; ``body`` is for a callback, or task, of its own."""

    name: str
    number: int = 0
    body: tuple[Any, ...] = ()


class Schedule(NamedTuple):
    """Bodies, one after the other, each with the milliseconds that pass before."""

    bodies: tuple[tuple[int, tuple[Action, ...]], ...]
    own_clock: bool = False              # the loop's


class InlineExecutor(concurrent.futures.Executor):
    """A thread for each call, which has ended when that returns: nothing is left to chance."""

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **more: Any) -> Any:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def run() -> None:
            try:
                future.set_result(call(*arguments, **more))
            except BaseException as exc:
                future.set_exception(exc)

        in_thread(run)
        return future


def in_thread(call: Callable[[], Any]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


class Performance:
    """A schedule on one of the loops."""

    def __init__(self, loop: asyncio.AbstractEventLoop, schedule: Schedule) -> None:
        self.loop: Any = loop
        self.schedule = schedule
        self.log: list[str] = []
        self.now = 1000.0
        self.timers = 0
        self.handles: list[Any] = []
        self.futures: list[Any] = []
        self.tasks: list[Any] = []
        self.queue: asyncio.Queue[str] = asyncio.Queue()
        self.event, self.lock = asyncio.Event(), asyncio.Lock()
        self.executor = InlineExecutor()
        self.idle = 0
        self.looking = self.ended = False
        loop.set_exception_handler(self.handler)
        if not schedule.own_clock:
            self.loop.time = lambda: self.now

    def handler(self, _: Any, context: dict[str, Any]) -> None:
        if not self.ended:
            message = context['message']
            if ' at 0x' in message or '<' in message:
                message = message.split('<')[0]
            self.log.append(f'handler: {message} {told(context.get("exception"))}')

    # -- running ---------------------------------------------------------------------------------

    def play(self) -> list[str]:
        for number, (pause, body) in enumerate(self.schedule.bodies):
            self.now += pause / 1000
            self.log.append(f'-- {number}')
            self.loop.call_soon(self.callback, f'{number}', body)
            self.run()
        self.log.append('-- the end')
        self.now += LATE
        self.run()
        for task in self.tasks:
            task.cancel()
        self.run()
        seen, self.log, self.ended = self.log, [], True
        while pending := asyncio.all_tasks(self.loop):      # some go on when they are cancelled
            for task in pending:
                task.cancel()
            self.run()
        for future in self.tasks + self.futures:
            if future.done() and not future.cancelled():
                future.exception()
        return seen

    def run(self) -> None:
        """Until nothing is ready, and for some turns on."""
        self.idle = 0
        while self.idle < IDLE:
            self.look_again()
            try:
                self.loop.run_forever()
            except (KeyboardInterrupt, SystemExit) as exc:
                self.log.append(f'left by {told(exc)}')
            else:
                if self.idle < IDLE:
                    self.log.append('stopped')

    def look_again(self) -> None:
        if not self.looking:
            self.looking = True
            self.loop.call_soon(self.look)

    def look(self) -> None:
        self.looking = False
        self.idle = 0 if len(self.loop._ready) else self.idle + 1
        if self.idle >= IDLE:
            self.loop.stop()
        else:
            self.look_again()

    def callback(self, name: str, body: tuple[Action, ...]) -> None:
        self.log.append(f'{name} ({VARIABLE.get()})')
        for place, action in enumerate(body):
            method = getattr(self, action.name, None)
            if method is not None:
                method(f'{name}.{place}', action)

    async def coroutine(self, name: str, body: tuple[Action, ...]) -> str:
        self.log.append(f'{name} begins ({VARIABLE.get()})')
        try:
            for place, action in enumerate(body):
                inner = f'{name}.{place}'
                if method := getattr(self, f'async_{action.name}', None):
                    self.log.append(f'{inner}: {await method(inner, action)}')
                else:
                    getattr(self, action.name)(inner, action)
        except BaseException as exc:
            self.log.append(f'{name} ends by {told(exc)}')
            raise
        self.log.append(f'{name} ends')
        return name

    # -- of callbacks ----------------------------------------------------------------------------

    def soon(self, name: str, action: Action) -> None:
        self.handles.append(self.loop.call_soon(self.callback, name, action.body))

    def delay(self, number: int) -> float:
        if self.schedule.own_clock:
            return LATE + number if number else 0
        self.timers += 1
        return number / 1000 + self.timers * APART

    def later(self, name: str, action: Action) -> None:
        self.handles.append(self.loop.call_later(
            self.delay(action.number), self.callback, name, action.body))

    def at(self, name: str, action: Action) -> None:
        self.handles.append(self.loop.call_at(
            self.loop.time() + self.delay(action.number), self.callback, name, action.body))

    def threadsafe(self, name: str, action: Action) -> None:
        self.handles.append(self.loop.call_soon_threadsafe(self.callback, name, action.body))

    def thread(self, name: str, action: Action) -> None:
        in_thread(lambda: self.threadsafe(name, action))

    def cancel(self, name: str, action: Action) -> None:
        if self.handles:
            self.handles[action.number % len(self.handles)].cancel()

    def stop(self, *_: Any) -> None:
        self.loop.stop()

    def fail(self, *_: Any) -> None:
        raise MischiefError

    def interrupt(self, *_: Any) -> None:
        raise KeyboardInterrupt

    def leave(self, *_: Any) -> None:
        raise SystemExit

    def set_variable(self, name: str, action: Action) -> None:
        VARIABLE.set(name)

    def advance(self, name: str, action: Action) -> None:
        self.now += action.number / 1000

    # -- of futures and tasks ----------------------------------------------------------------------

    def future(self, name: str, action: Action) -> None:
        self.futures.append(self.loop.create_future())

    def attempt(self, name: str, call: Any, *arguments: Any) -> None:
        try:
            call(*arguments)
        except (asyncio.InvalidStateError, RuntimeError) as exc:
            self.log.append(f'{name}: {told(exc)}')

    def some(self, action: Action) -> Any:
        """One of the futures and tasks, or None."""
        found = self.futures + self.tasks
        return found[action.number % len(found)] if found else None

    def set_result(self, name: str, action: Action) -> None:
        if self.futures:
            future = self.futures[action.number % len(self.futures)]
            self.attempt(name, future.set_result, name)

    def set_exception(self, name: str, action: Action) -> None:
        if self.futures:
            future = self.futures[action.number % len(self.futures)]
            self.attempt(name, future.set_exception, MischiefError())

    def cancel_future(self, name: str, action: Action) -> None:
        if (future := self.some(action)) is not None:
            self.log.append(f'{name}: {future.cancel()}')

    def when_done(self, name: str, action: Action) -> None:
        if (future := self.some(action)) is not None:
            future.add_done_callback(lambda _: self.callback(name, action.body))

    def task(self, name: str, action: Action) -> None:
        self.tasks.append(self.loop.create_task(self.coroutine(name, action.body)))

    def execute(self, name: str, action: Action) -> None:
        """In another thread; an odd number fails there."""
        call = self.fail if action.number % 2 else str
        future = self.loop.run_in_executor(self.executor, call)
        self.futures.append(future)
        future.add_done_callback(lambda _: self.callback(name, action.body))

    def from_thread(self, name: str, action: Action) -> None:
        """A coroutine that another thread hands in."""
        in_thread(lambda: asyncio.run_coroutine_threadsafe(
            self.coroutine(name, action.body), self.loop))

    def put(self, name: str, action: Action) -> None:
        self.queue.put_nowait(name)

    def set_event(self, *_: Any) -> None:
        self.event.set()

    def clear_event(self, *_: Any) -> None:
        self.event.clear()

    # -- in tasks only -----------------------------------------------------------------------------

    async def async_turn(self, *_: Any) -> Any:
        await asyncio.sleep(0)

    async def async_sleep(self, name: str, action: Action) -> Any:
        return await asyncio.sleep(self.delay(action.number), name)

    async def async_wait(self, name: str, action: Action) -> Any:
        future = self.some(action)
        return None if future is None else await future

    async def async_wait_shielded(self, name: str, action: Action) -> Any:
        future = self.some(action)
        return None if future is None else await asyncio.shield(future)

    async def async_call(self, name: str, action: Action) -> Any:
        return await self.coroutine(name, action.body)

    async def async_catch(self, name: str, action: Action) -> Any:
        try:
            return await self.coroutine(name, action.body)
        except (Exception, asyncio.CancelledError) as exc:
            return f'caught {told(exc)}'

    async def async_gather(self, name: str, action: Action) -> Any:
        return await asyncio.gather(
            *[self.coroutine(f'{name}.{place}', (each,)) for place, each in enumerate(action.body)],
            return_exceptions=bool(action.number % 2))

    async def async_wait_for(self, name: str, action: Action) -> Any:
        return await asyncio.wait_for(self.coroutine(name, action.body), self.delay(action.number))

    async def async_first(self, name: str, action: Action) -> Any:
        tasks = [self.loop.create_task(self.coroutine(f'{name}.{place}', (each,)))
                 for place, each in enumerate(action.body)]
        self.tasks += tasks
        if not tasks:
            return None
        done, _pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return [task in done for task in tasks]

    async def async_get(self, *_: Any) -> Any:
        return await self.queue.get()

    async def async_wait_event(self, *_: Any) -> Any:
        return await self.event.wait()

    async def async_locked(self, name: str, action: Action) -> Any:
        async with self.lock:
            return await self.coroutine(name, action.body)
