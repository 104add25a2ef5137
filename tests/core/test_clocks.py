"""Clocks of a program's own: a deadline is one by ``loop.time()``, whatever that is."""
import asyncio
import functools
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

    def test_a_function_in_the_place_of_time(self):
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

    def test_sleep_and_timeouts_go_by_it(self):
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

    def test_time_of_a_subclass(self):
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

    def test_time_patched_in_the_class(self):
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

    def test_timers_within_the_resolution_are_due(self):
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

    def test_an_overridden_call_at_is_called(self):
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


both_sides(globals(), _TestClocks)
