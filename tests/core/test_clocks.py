"""Clocks of a program's own, and those who look into the loop's queues."""
import asyncio
import functools
import heapq
import threading
import time
from unittest import mock

import pytest

from tests.support.cases import both_sides

HOUR = 3600


class _TestClocks:
    """A deadline is one by ``loop.time()``, whoever that is."""

    def finish_by_real_time(self, main, loop=None):
        """``run_until_complete``, bounded by a clock that is not the loop's."""
        loop = loop or self.loop
        guard = threading.Timer(self.timeout, loop.call_soon_threadsafe, [loop.stop])
        guard.start()
        try:
            return loop.run_until_complete(main)
        finally:
            guard.cancel()

    def test_a_function_in_its_place(self):
        async def main():
            now, fired = [1000.0], []
            self.loop.time = lambda: now[0]
            self.loop.call_later(HOUR, fired.append, 'later')
            at = self.loop.call_at(1000 + 2 * HOUR, fired.append, 'at')
            assert at.when() == 1000 + 2 * HOUR
            for expected in ([], ['later'], ['later', 'at']):
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert fired == expected
                now[0] += HOUR + 1
            del self.loop.time
            assert abs(self.loop.time() - time.monotonic()) < HOUR

        self.finish_by_real_time(main())

    def test_sleep_and_timeouts(self):
        async def main():
            now = [0.0]
            with mock.patch.object(self.loop, 'time', lambda: now[0]):
                sleeping = asyncio.ensure_future(asyncio.sleep(HOUR, 'slept'))
                waiting = asyncio.ensure_future(
                    asyncio.wait_for(self.loop.create_future(), 2 * HOUR))
                await asyncio.sleep(0)
                now[0] = HOUR + 1
                assert await sleeping == 'slept'
                now[0] = 2 * HOUR + 1
                with pytest.raises(asyncio.TimeoutError):
                    await waiting

        self.finish_by_real_time(main())

    def test_a_subclass(self):
        class Ahead(type(self.loop)):
            offset = 0.0

            def time(self):
                return super().time() + self.offset

        loop = Ahead()
        try:
            fired = []
            handle = loop.call_later(HOUR, fired.append, True)
            assert HOUR - 60 < handle.when() - time.monotonic() < HOUR + 60
            loop.offset = HOUR + 1
            loop.call_soon(loop.stop)
            loop.run_forever()
            assert fired == [True]
        finally:
            loop.close()

    def test_patched_in_the_class(self):
        kind = type(self.loop)
        now, fired = [5.0], []
        with mock.patch.object(kind, 'time', lambda loop: now[0]):
            assert self.loop.call_later(1, fired.append, 'first').when() == 6
            now[0] = 7.0
            self.turns()
            assert fired == ['first']
        assert self.loop.call_later(0, fired.append, 'second').when() > 7 + 1e-6
        self.turns(2)
        assert fired == ['first', 'second']

    def test_a_class_put_in_the_place_of_the_loops(self):
        """As looptime has it."""
        kind = type(self.loop)
        self.loop.call_later(0, int)
        self.turns()
        self.loop.__class__ = type('Still', (kind,), {'time': lambda loop: 1.0})
        assert self.loop.call_later(1, int).when() == 2.0
        self.loop.__class__ = kind
        assert self.loop.call_later(1, int).when() > 2.0

    def test_the_wait_is_as_long_as_the_clock_says(self):
        """While the clock stands the loop sleeps, and other things wake it."""
        self.loop.time = lambda: 0.0
        self.loop.call_later(HOUR, pytest.fail)
        self.loop.run_in_executor(None, self.loop.call_soon_threadsafe, self.loop.stop)
        self.loop.run_forever()
        del self.loop.time
        self.run(self.loop.shutdown_default_executor())

    def test_resolution(self):
        """Timers within the clock's resolution are due; programs set it."""
        fired = []
        self.loop.time = lambda: 10.0
        assert self.loop._clock_resolution == time.get_clock_info('monotonic').resolution
        self.loop.call_at(10.25, fired.append, 'early')
        self.turns()
        assert fired == []
        self.loop._clock_resolution = 0.5
        self.turns()
        assert fired == ['early']
        del self.loop.time

    def test_the_selectors_select_is_wrapped(self):
        """Virtual clocks leap to the next timer instead of waiting for it."""
        now = [0.0]
        asked = []

        def leap(select, timeout):
            asked.append(timeout)
            if timeout is not None:
                now[0] += timeout
            return select(0)

        async def main():
            done = []
            for delay in (2 * HOUR, HOUR):
                self.loop.call_later(delay, done.append, delay)
            await asyncio.sleep(3 * HOUR)
            assert done == [HOUR, 2 * HOUR]
            assert now[0] == pytest.approx(3 * HOUR)
            return await self.loop.run_in_executor(None, sum, [1, 2])

        selector = self.loop._selector
        with mock.patch.object(selector, 'select', functools.partial(leap, selector.select)), \
                mock.patch.object(self.loop, 'time', lambda: now[0]):
            assert self.finish_by_real_time(main()) == 3
        assert max(wait for wait in asked if wait is not None) == pytest.approx(HOUR)
        assert self.run(asyncio.sleep(0, 'as before')) == 'as before'
        self.run(self.loop.shutdown_default_executor())

    def test_each_turn_is_wrapped(self):
        class Leaping(type(self.loop)):
            offset = 0.0
            turns = 0

            def time(self):
                return super().time() + self.offset

            def _run_once(self):
                self.turns += 1
                if not self._ready and self._scheduled:
                    self.offset += max(0, self._scheduled[0]._when - self.time())
                super()._run_once()

        loop = Leaping()
        try:
            self.finish_by_real_time(asyncio.sleep(HOUR), loop)
            assert loop.offset == pytest.approx(HOUR, abs=60)
            assert loop.turns >= 2
        finally:
            loop.close()

    def test_an_overridden_call_at(self):
        class Counting(type(self.loop)):
            def call_at(self, when, callback, *args, context=None):
                seen.append(callback)
                return super().call_at(when, callback, *args, context=context)

        seen = []
        loop = Counting()
        try:
            loop.call_later(0, int)
            loop.run_until_complete(asyncio.sleep(1e-6))
            assert seen[0] is int
            assert len(seen) == 2
            with mock.patch.object(loop, 'call_at', seen.append):
                with pytest.raises(TypeError):
                    loop.call_later(0, int)
        finally:
            loop.close()


class _TestLookingIn:
    """``_ready`` and ``_scheduled`` are private, and looked at by every other test helper."""

    def test_what_is_ready(self):
        assert not self.loop._ready
        assert len(self.loop._ready) == 0
        first = self.loop.call_soon(print, 'first')
        second = self.loop.call_soon(print, 'second')
        second.cancel()
        assert self.loop._ready
        assert list(self.loop._ready) == [first, second]
        assert self.loop._ready[-1] is second
        assert first in self.loop._ready
        assert [handle._cancelled for handle in self.loop._ready] == [False, True]
        assert first._callback is print
        assert first._args == ('first',)
        assert first._loop is self.loop
        self.turns()
        assert not self.loop._ready

    def test_it_is_changed(self):
        seen = []
        ready = self.loop._ready
        self.loop.call_soon(seen.append, 'dropped')
        ready.clear()
        one, two, three = [self.loop.call_soon(seen.append, n) for n in (1, 2, 3)]
        assert ready.popleft() is one
        assert ready.pop() is three
        ready.append(one)
        ready.appendleft(three)
        assert list(ready) == [three, two, one]
        ready.remove(two)
        self.turns()
        assert seen == [3, 1]
        with pytest.raises(IndexError):
            ready.popleft()

    def test_a_foreign_handle(self):
        seen = []
        handle = asyncio.Handle(seen.append, ('foreign',), self.loop)
        self.loop._ready.append(handle)
        assert list(self.loop._ready) == [handle]
        self.turns()
        assert seen == ['foreign']

    def test_spinning_until_nothing_is_ready(self):
        async def steps(left):
            while left:
                left -= 1
                await asyncio.sleep(0)
            done.append(True)

        async def main():
            tasks = [asyncio.ensure_future(steps(n)) for n in (1, 5, 20)]
            spins = 0
            await asyncio.sleep(0)
            while self.loop._ready:
                spins += 1
                await asyncio.sleep(0)
            assert len(done) == 3
            assert spins >= 20
            await asyncio.gather(*tasks)

        done = []
        self.run(main())

    def test_the_timers(self):
        assert not self.loop._scheduled
        late = self.loop.call_later(2 * HOUR, print, 'late')
        soon = self.loop.call_later(HOUR, print, 'soon')
        assert len(self.loop._scheduled) == 2
        assert self.loop._scheduled[0] is soon
        assert sorted(self.loop._scheduled) == [soon, late]
        assert all(isinstance(handle, asyncio.TimerHandle) for handle in self.loop._scheduled)
        assert soon._scheduled
        soon.cancel()
        self.turns()
        assert list(self.loop._scheduled) == [late]
        assert not soon._scheduled

    def test_they_are_fired_by_hand(self):
        """As Home Assistant's tests do."""
        seen = []
        for delay in (2 * HOUR, HOUR):
            self.loop.call_later(delay, seen.append, delay)
        for handle in list(self.loop._scheduled):
            if not handle.cancelled() and handle.when() <= self.loop.time() + HOUR:
                handle._run()
                handle.cancel()
        assert seen == [HOUR]
        self.turns()
        assert seen == [HOUR]
        assert [handle._args for handle in self.loop._scheduled] == [(2 * HOUR,)]

    def test_a_list_that_is_kept(self):
        """Whoever keeps it sees what comes and goes."""
        seen = []
        timers = self.loop._scheduled
        for n in range(300):
            self.loop.call_later(HOUR, print)
            self.loop.call_later(0, seen.append, n)
        assert len(timers) == 600
        self.turns()
        assert sorted(seen) == list(range(300))
        assert len(timers) == 300
        for handle in timers[:200]:
            handle.cancel()
        self.turns()
        assert len(self.loop._scheduled) == 100
        del timers
        self.turns()
        assert len(self.loop._scheduled) == 100
        self.loop.call_later(0, self.loop.stop)
        self.forever()

    def test_they_are_taken_out(self):
        seen = []
        self.loop.call_later(0, seen.append, 'taken')
        self.loop.call_later(0, seen.append, 'stays')
        heapq.heappop(self.loop._scheduled)
        self.turns()
        assert len(seen) == 1
        self.loop.call_later(0, seen.append, 'dropped')
        self.loop._scheduled.clear()
        self.turns()
        self.loop.call_later(0, seen.append, 'dropped')
        self.loop._scheduled = []
        self.turns()
        assert len(seen) == 1
        assert not self.loop._scheduled

    def test_a_cancelled_handle_is_run_by_hand(self):
        handle = self.loop.call_soon(print)
        handle.cancel()
        handle._run()
        assert handle._callback is handle._args is None
        [context] = self.problems
        assert isinstance(context['exception'], TypeError)

    def test_a_callback_is_put_in_the_place_of_another(self):
        seen = []
        handle = self.loop.call_soon(print)
        handle._callback, handle._args = seen.append, ('another',)
        self.turns()
        assert seen == ['another']


both_sides(globals(), _TestClocks, _TestLookingIn)
