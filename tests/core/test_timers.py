"""Timers: when they fire, in which order, and how they are cancelled and compared."""
import asyncio
import decimal
import fractions
import sys
import time

import pytest

from tests.support.cases import UringCase, both_sides


class _TestTimers:

    def test_fire_by_a_patched_monotonic_clock(self, monkeypatch):
        """As tests with a frozen time do."""
        async def main():
            fired = self.loop.create_future()
            self.loop.call_later(3600, fired.set_result, None)
            await asyncio.sleep(0)
            now = time.monotonic()
            monkeypatch.setattr(time, 'monotonic', lambda: now + 3601)
            assert self.loop.time() == now + 3601
            await fired
            monkeypatch.undo()
            assert self.loop.time() < now + 3600

        self.loop.run_until_complete(main())

    def test_fire_by_the_clock_that_asyncio_is_given(self, monkeypatch):
        """All is frozen but asyncio, as freezegun does it (``real_asyncio``)."""
        real, frozen = time.monotonic, time.monotonic()
        monkeypatch.setattr(time, 'monotonic', lambda: frozen)
        monkeypatch.setattr(asyncio.SelectorEventLoop, 'time', lambda self: real())
        assert self.loop.time() > frozen
        self.loop.run_until_complete(asyncio.sleep(0.01))

    def test_time_is_monotonic(self):
        before = time.monotonic()
        times = [self.loop.time() for _ in range(100)]
        assert before <= times[0]
        assert times == sorted(times)
        assert times[-1] <= time.monotonic()

    def test_fire_in_the_order_of_their_times(self):
        seen = []
        now = self.loop.time()
        for delay in (0.005, 0.001, 0.003, 0.002, 0.004):
            self.loop.call_at(now + delay, seen.append, delay)
        self.loop.call_at(now + 0.006, self.loop.stop)
        self.forever()
        assert seen == [0.001, 0.002, 0.003, 0.004, 0.005]
        assert self.loop.time() >= now + 0.006 - 1e-6

    def test_many_fire_in_order(self):
        seen = []
        now = self.loop.time() + 0.01
        delays = [(n * 7919 % 1000) / 1e6 for n in range(1000)]
        for delay in delays:
            self.loop.call_at(now + delay, seen.append, delay)
        self.loop.call_at(now + 0.0015, self.loop.stop)
        self.forever()
        assert seen == sorted(delays)

    def test_due_timers_run_after_ready_callbacks(self):
        seen = []
        self.loop.call_later(0, seen.append, 'timer')
        self.loop.call_soon(seen.append, 'soon')
        self.loop.call_later(0.001, self.loop.stop)
        self.forever()
        assert seen == ['soon', 'timer']

    @pytest.mark.parametrize('delay', [0, -1, -1e9, float('-inf')])
    def test_no_delay_fires_at_once(self, delay):
        self.loop.call_later(delay, self.loop.stop)
        self.forever()

    def test_none_is_no_time(self):
        # asyncio 3.10 lets call_at(None) pass as far as the handle, which asserts.
        kinds = (TypeError, AssertionError) \
            if sys.version_info < (3, 11) and not self.uring else TypeError
        with pytest.raises(TypeError):
            self.loop.call_later(None, print)
        with pytest.raises(kinds):
            self.loop.call_at(None, print)

    @pytest.mark.parametrize('bad', ['soon', object(), [1]])
    def test_what_is_no_number_is_refused(self, bad):
        with pytest.raises(TypeError):
            self.loop.call_later(bad, print)

    def test_a_handle_tells_when(self):
        handle = self.loop.call_at(123456.5, print)
        assert handle.when() == 123456.5
        handle.cancel()
        assert handle.when() == 123456.5
        now = self.loop.time()
        handle = self.loop.call_later(1000, print)
        assert now + 1000 <= handle.when() <= self.loop.time() + 1000
        handle.cancel()

    @pytest.mark.parametrize('kind', [decimal.Decimal, fractions.Fraction])
    def test_a_handle_keeps_a_time_of_another_kind(self, kind):
        seen = []
        # Due at once, for asyncio cannot compute how long to wait for a Decimal.
        self.loop.call_at(0, seen.append, 'float')
        when = kind('0.1')
        handle = self.loop.call_at(when, seen.append, 'other')
        assert handle.when() is when
        assert handle > self.loop.call_at(0.05, self.loop.stop)
        assert f'when={when}' in repr(handle)
        self.forever()
        assert seen == ['float', 'other']

    @pytest.mark.parametrize('delay', [decimal.Decimal('0.1'), '0.1'])
    def test_a_delay_that_cannot_be_added_is_refused(self, delay):
        with pytest.raises(TypeError):
            self.loop.call_later(delay, print)

    def test_a_cancelled_one_does_not_fire(self):
        seen = []
        first = self.loop.call_later(0.001, seen.append, 1)
        self.loop.call_later(0.002, seen.append, 2)
        self.loop.call_later(0.003, self.loop.stop)
        first.cancel()
        self.forever()
        assert seen == [2]

    def test_those_that_are_not_cancelled_fire(self):
        seen = []
        handles = [self.loop.call_later(3600 + n, seen.append, n) for n in range(1000)]
        for handle in handles[::2] + handles[1::4]:
            handle.cancel()
        self.turns(2)
        soon = [self.loop.call_later(n / 1e6, seen.append, n) for n in range(1000)]
        for n, handle in enumerate(soon):
            if n % 10:
                handle.cancel()
        self.loop.call_later(0.002, self.loop.stop)
        self.forever()
        assert seen == list(range(0, 1000, 10))
        for handle in handles:
            handle.cancel()

    def test_cancelled_by_an_earlier_one_of_the_same_turn(self):
        def cancel():
            victim.cancel()

        seen = []
        now = self.loop.time()
        victim = self.loop.call_at(now + 1e-6, seen.append, 'never')
        self.loop.call_at(now, cancel)
        self.loop.call_at(now + 0.001, self.loop.stop)
        self.forever()
        assert seen == []

    def test_handles_compare_by_time(self):
        first = self.loop.call_at(1e9, print)
        second = self.loop.call_at(2e9, print)
        same = self.loop.call_at(1e9, print)
        assert first < second and first <= second
        assert second > first and second >= first
        assert first == same and hash(first) == hash(same)
        assert first <= same and first >= same
        assert first != second
        assert first != 'else'
        with pytest.raises(TypeError):
            first < 1  # noqa: B015
        for handle in (first, second, same):
            handle.cancel()
        assert first != second

    def test_sleep_and_wait_for_take_their_time(self):
        async def main():
            before = self.loop.time()
            assert await asyncio.sleep(0.01, 'result') == 'result'
            assert self.loop.time() - before >= 0.01 - 1e-6
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(self.loop.create_future(), 0.01)
            assert await asyncio.gather(*(asyncio.sleep(n / 1e4, n) for n in range(50))) \
                == list(range(50))

        self.run(main())

    @pytest.mark.skipif(sys.version_info < (3, 11), reason='asyncio.timeout is new in 3.11')
    def test_asyncio_timeout_expires(self):
        async def main():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.005):
                    await self.loop.create_future()
            async with asyncio.timeout(self.timeout) as scope:
                await asyncio.sleep(0)
            assert not scope.expired()

        self.run(main())


class TestRefusedTimers(UringCase):

    def test_not_a_number_is_refused(self):
        """Nothing compares with it: one such timer would upset the order of all others."""
        nan = float('nan')
        with pytest.raises(ValueError):
            self.loop.call_later(nan, print)
        with pytest.raises(ValueError):
            self.loop.call_at(nan, print)
        self.loop.call_later(0.001, self.loop.stop)
        self.forever()


both_sides(globals(), _TestTimers)
