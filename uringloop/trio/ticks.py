"""When trio has its turn: as a callback of the loop, and without a thread.

A guest of trio's kind runs in ticks.  Where a tick leaves nothing to do trio has a thread wait for
its epoll, and that then calls the host: for whatever comes two threads have to wake up, and the
round trip of a small datagram takes three times as long.  But an epoll can be polled itself.  So
trio's clock says that there is no time to wait, trio asks for the next tick at once, and that is
held back here until the epoll has something, the deadline is there, or a task is made runnable.

What that knows of trio's inside is tried in ``GuestTicks.adopt``: a trio that has it otherwise gets
its thread, and so does one with a clock of the program's own.
"""
from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from math import inf
from time import perf_counter
from typing import Any

import outcome
import trio

LONGEST = 24 * 3600.0       # seconds: trio, too, then looks again


class GuestClock(trio.abc.Clock):
    """As trio's own, and asked by trio when no task is runnable: that is told to the ticks."""

    def __init__(self, ticks: GuestTicks) -> None:
        self._ticks = ticks
        # As trio's: so that nobody takes it for another clock.
        self._offset = random.uniform(10_000, 1_000_000)

    def start_clock(self) -> None:
        """It goes already."""

    def current_time(self) -> float:
        return self._offset + perf_counter()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return self._ticks.may_sleep(deadline - self.current_time())


class GuestTicks:
    """Of one run of trio: runs its ticks, or holds the next one back."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._adopted = False           # whether ``adopt`` was tried
        self._epoll = -1                # of trio's epoll, a descriptor of our own
        self._idle: float | None = None     # how long trio would sleep after this tick
        self._held: Callable[[], object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._guest: Any = None
        self._runner: Any = None

    @property
    def direct(self) -> bool:
        """Whether it goes without a thread."""
        return self._epoll >= 0

    def adopt(self, tick: Any) -> None:
        """Look into the guest that ``tick`` is of; leave it alone if it is not the known one."""
        self._adopted = True
        try:
            guest = tick.__self__
            runner = guest.runner
            _ = (guest.unrolled_run_next_send, runner.guest_tick_scheduled,
                 runner.waiting_for_idle, runner.io_manager.get_events)
            # A number of our own: trio closes its epoll before it tells that it has ended.
            self._epoll = os.dup(runner.io_manager._epoll.fileno())
        except AttributeError:
            return
        self._guest, self._runner = guest, runner
        self._loop.add_reader(self._epoll, self._awake)

    def close(self) -> None:
        """trio has ended."""
        if self.direct:
            self._loop.remove_reader(self._epoll)
            os.close(self._epoll)
            self._epoll = -1
        self._unhold()

    def may_sleep(self, timeout: float) -> float:
        """What trio is to believe of the time until its next deadline."""
        # Who waits for all to be idle is told by the end of a sleep: that has to be trio's own.
        # And a task that asks is not trio, which is about to wait.
        if not self.direct or timeout <= 0 or self._runner.waiting_for_idle \
                or trio.lowlevel.in_trio_task():
            return timeout
        self._idle = timeout
        return 0

    def soon(self, tick: Callable[[], object]) -> None:
        """trio wants its next tick."""
        if not self._adopted:
            self.adopt(tick)
        idle, self._idle = self._idle, None
        if idle is None or self._has_events():
            self._loop.call_soon(tick)
            return
        self._held = tick
        # So that trio wakes its epoll when it has something to do before.
        self._runner.guest_tick_scheduled = False
        if idle != inf:
            self._timer = self._loop.call_later(min(idle, LONGEST), self._awake)

    def poke(self) -> None:
        """A task is about to be made runnable: spares waking the epoll for that."""
        if self._held is not None:
            self._loop.call_soon(self._unhold())

    def _has_events(self) -> bool:
        events = self._guest.unrolled_run_next_send
        return not isinstance(events, outcome.Value) or bool(events.value)

    def _unhold(self) -> Any:
        tick, self._held = self._held, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if tick is not None:
            self._runner.guest_tick_scheduled = True
        return tick

    def _awake(self) -> None:
        """The epoll has something, or the deadline is there."""
        if self._held is not None:
            tick = self._unhold()
            # As trio does it after its thread has waited.
            self._guest.unrolled_run_next_send = outcome.capture(
                self._runner.io_manager.get_events, 0)
            tick()


# Of the run that a task is in; not set where trio is another's guest.
CURRENT: trio.lowlevel.RunVar[GuestTicks | None] = trio.lowlevel.RunVar('uringloop', None)


def make_runnable(task: trio.lowlevel.Task, ticks: GuestTicks | None) -> None:
    """Have a trio task go on that has waited for something of the loop."""
    if ticks is not None:
        ticks.poke()
    trio.lowlevel.reschedule(task)


def unpark(lot: trio.lowlevel.ParkingLot, ticks: GuestTicks | None, count: float = inf) -> None:
    """The same for those who wait there."""
    if lot:
        if ticks is not None:
            ticks.poke()
        lot.unpark(count=count)
