"""What test helpers do with the loop's queues, ``_ready`` and ``_scheduled``."""
import asyncio
import contextvars
import heapq

import pytest

from tests.support.cases import both_sides

variable = contextvars.ContextVar('variable', default='unset')
HOUR = 3600


class _TestQueues:
    """``_ready`` and ``_scheduled`` are private, and looked at by every other test helper."""

    def test_ready_lists_what_is_to_run(self):
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

    def test_ready_is_changed_as_a_deque(self):
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

    def test_a_foreign_handle_is_run(self):
        seen = []
        handle = asyncio.Handle(seen.append, ('foreign',), self.loop)
        self.loop._ready.append(handle)
        assert list(self.loop._ready) == [handle]
        self.turns()
        assert seen == ['foreign']

    def test_a_foreign_handle_is_given_what_it_names(self):
        """Its arguments are whatever can be unpacked, and its context what has a ``run``."""
        class Runs:
            def run(self, callback, *args):
                callback('by itself', *args)

        seen = []
        context = contextvars.copy_context()
        context.run(variable.set, 'its own')

        def called(*args):
            seen.append((args, variable.get()))

        for args, where in (((), context), ((1,), context), ([1, 2], None), ((1, 2, 3), Runs())):
            self.loop._ready.append(asyncio.Handle(called, args, self.loop, where))
        self.turns()
        assert seen == [((), 'its own'), ((1,), 'its own'), ((1, 2), 'unset'),
                        (('by itself', 1, 2, 3), 'unset')]

    def test_a_foreign_handle_that_fails_tells_where_it_was_made(self):
        def fails():
            raise ZeroDivisionError

        self.loop.set_debug(True)
        made = asyncio.Handle(fails, (), self.loop)
        self.loop.set_debug(False)
        plain = asyncio.Handle(fails, (), self.loop)
        self.loop._ready.extend([made, plain])
        self.turns()
        assert [problem['handle'] for problem in self.problems] == [made, plain]
        assert all(type(problem['exception']) is ZeroDivisionError for problem in self.problems)
        assert all('fails' in problem['message'] for problem in self.problems)
        assert self.problems[0]['source_traceback'] is made._source_traceback
        assert 'source_traceback' not in self.problems[1]
        self.problems.clear()

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

    def test_scheduled_lists_the_timers(self):
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

    def test_timers_are_fired_by_hand(self):
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

    def test_a_kept_list_of_timers_sees_what_comes_and_goes(self):
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

    def test_timers_are_taken_out(self):
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


both_sides(globals(), _TestQueues)
