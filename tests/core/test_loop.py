"""The loop itself: callbacks, timers, threads, signals, descriptors, streams, subprocesses."""
import asyncio
import contextvars
import errno
import gc
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import weakref
from pathlib import Path

import pytest

from tests.support.cases import both_sides

# Numbers of epoll_wait, epoll_pwait, epoll_pwait2 and io_uring_enter, on x86-64 and arm64.
SLEEPS = {'232', '281', '22', '441', '426'}

variable = contextvars.ContextVar('variable', default='unset')


class _TestCallbacks:

    def test_order_and_arguments(self):
        seen = []
        for n in range(1000):
            self.loop.call_soon(lambda *args: seen.append(args), n, 'x' * (n % 3))
        self.loop.call_soon(self.loop.stop)
        self.forever()
        assert seen == [(n, 'x' * (n % 3)) for n in range(1000)]

    @pytest.mark.parametrize('count', [0, 1, 2, 7])
    def test_argument_counts(self, count):
        seen = []
        self.loop.call_soon(lambda *args: seen.append(args), *range(count))
        self.turns()
        assert seen == [tuple(range(count))]

    def test_callbacks_of_callbacks_run_in_the_next_turn(self):
        seen = []

        def first():
            seen.append('first')
            self.loop.call_soon(seen.append, 'third')

        self.loop.call_soon(first)
        self.loop.call_soon(seen.append, 'second')
        self.turns()
        assert seen == ['first', 'second']
        self.turns()
        assert seen == ['first', 'second', 'third']

    def test_cancel(self):
        seen = []
        handle = self.loop.call_soon(seen.append, 1)
        later = self.loop.call_soon(seen.append, 2)
        assert not handle.cancelled()
        handle.cancel()
        handle.cancel()
        assert handle.cancelled()
        self.turns()
        assert seen == [2]
        later.cancel()          # after it has run: harmless
        assert later.cancelled()

    def test_cancel_in_the_same_turn(self):
        def cancel():
            handle.cancel()

        seen = []
        self.loop.call_soon(cancel)
        handle = self.loop.call_soon(seen.append, 'never')
        self.turns(2)
        assert seen == []

    def test_a_cancelled_handle_lets_go_of_its_arguments(self):
        class Thing:
            pass

        gone = []
        thing = Thing()
        weakref.finalize(thing, gone.append, True)
        handle = self.loop.call_soon(print, thing)
        del thing
        handle.cancel()
        gc.collect()
        assert gone == [True]
        self.turns()

    def test_contexts(self):
        seen = []
        context = contextvars.copy_context()
        context.run(variable.set, 'given')
        token = variable.set('current')
        try:
            self.loop.call_soon(lambda: seen.append(variable.get()), context=context)
            self.loop.call_soon(lambda: seen.append(variable.get()))
            self.loop.call_later(0, lambda: seen.append(variable.get()), context=context)
            self.loop.call_soon_threadsafe(lambda: seen.append(variable.get()), context=context)
        finally:
            variable.reset(token)
        self.loop.call_later(0.001, self.loop.stop)
        self.forever()
        assert sorted(seen) == ['current', 'given', 'given', 'given']
        assert seen[0] == 'given'

    def test_a_callback_changes_its_own_context_only(self):
        seen = []
        self.loop.call_soon(variable.set, 'mine')
        self.loop.call_soon(lambda: seen.append(variable.get()))
        self.turns()
        assert seen == ['unset']

    def test_get_context(self):
        if sys.version_info < (3, 12):
            handle = self.loop.call_soon(print)
            handle.cancel()
            assert handle.cancelled()
            return
        context = contextvars.copy_context()
        handle = self.loop.call_soon(print, context=context)
        assert handle.get_context() is context
        handle.cancel()

    def test_repr(self):
        def callback_name():
            raise AssertionError('cancelled')

        handle = self.loop.call_soon(callback_name, 42)
        assert repr(handle).startswith('<Handle ')
        assert 'callback_name(' in repr(handle)
        handle.cancel()
        assert repr(handle) == '<Handle cancelled>'
        timer = self.loop.call_later(1000, callback_name)
        assert repr(timer).startswith('<TimerHandle when=')
        assert 'callback_name(' in repr(timer)
        timer.cancel()
        assert 'cancelled' in repr(timer)

    def test_not_callable(self):
        self.loop.call_soon(None)
        self.turns()
        [context] = self.problems
        assert isinstance(context['exception'], TypeError)

    def test_not_callable_in_debug_mode(self):
        async def coroutine():
            pass

        self.loop.set_debug(True)
        for method in (self.loop.call_soon, self.loop.call_soon_threadsafe,
                       lambda what: self.loop.call_later(1, what),
                       lambda what: self.loop.call_at(1, what)):
            with pytest.raises(TypeError, match='a callable object was expected'):
                method(None)
            with pytest.raises(TypeError, match='coroutines cannot be used'):
                method(coroutine)
            made = coroutine()
            with pytest.raises(TypeError, match='coroutines cannot be used'):
                method(made)
            made.close()

    def test_an_exception_is_reported_and_the_rest_runs(self):
        seen = []

        def broken():
            raise ZeroDivisionError('in a callback')

        handle = self.loop.call_soon(broken)
        self.loop.call_soon(seen.append, 'after')
        timer = self.loop.call_later(0, broken)
        self.loop.call_later(0.001, self.loop.stop)
        self.forever()
        assert seen == ['after']
        first, second = self.problems
        assert first['handle'] is handle
        assert second['handle'] is timer
        for context in (first, second):
            assert isinstance(context['exception'], ZeroDivisionError)
            assert context['message'].startswith('Exception in callback ')
            assert 'broken()' in context['message']
            assert context['exception'].__traceback__ is not None

    @pytest.mark.parametrize('kind', [SystemExit, KeyboardInterrupt])
    def test_exits_leave_run_forever(self, kind):
        seen = []

        def leave():
            raise kind('enough')

        self.loop.call_soon(seen.append, 'before')
        self.loop.call_soon(leave)
        self.loop.call_soon(seen.append, 'after')
        with pytest.raises(kind, match='enough'):
            self.loop.run_forever()
        assert not self.loop.is_running()
        assert asyncio._get_running_loop() is None
        self.turns()
        assert seen == ['before', 'after']
        assert self.problems == []

    @pytest.mark.parametrize('kind', [SystemExit, KeyboardInterrupt])
    def test_exits_of_tasks_leave_run_until_complete(self, kind):
        async def leave():
            raise kind

        with pytest.raises(kind):
            self.loop.run_until_complete(leave())
        assert self.run(asyncio.sleep(0, 'usable')) == 'usable'

    def test_a_generator_context_survives_exceptions(self):
        # The interpreter's exception state must be clean in the next callback.
        seen = []

        def broken():
            raise ValueError

        self.loop.call_soon(broken)
        self.loop.call_soon(lambda: seen.append(sys.exc_info()))
        self.turns()
        assert seen == [(None, None, None)]
        assert len(self.problems) == 1


class _TestTimers:

    def test_patched_monotonic_clock(self, monkeypatch):
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

    def test_time_is_monotonic(self):
        before = time.monotonic()
        times = [self.loop.time() for _ in range(100)]
        assert before <= times[0]
        assert times == sorted(times)
        assert times[-1] <= time.monotonic()

    def test_order(self):
        seen = []
        now = self.loop.time()
        for delay in (0.005, 0.001, 0.003, 0.002, 0.004):
            self.loop.call_at(now + delay, seen.append, delay)
        self.loop.call_at(now + 0.006, self.loop.stop)
        self.forever()
        assert seen == [0.001, 0.002, 0.003, 0.004, 0.005]
        assert self.loop.time() >= now + 0.006 - 1e-6

    def test_many_in_order(self):
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
    def test_no_delay(self, delay):
        self.loop.call_later(delay, self.loop.stop)
        self.forever()

    def test_none(self):
        # asyncio 3.10 lets call_at(None) pass as far as the handle, which asserts.
        kinds = (TypeError, AssertionError) \
            if sys.version_info < (3, 11) and not self.uring else TypeError
        with pytest.raises(TypeError):
            self.loop.call_later(None, print)
        with pytest.raises(kinds):
            self.loop.call_at(None, print)

    @pytest.mark.parametrize('bad', ['soon', object(), [1]])
    def test_bad_delay(self, bad):
        with pytest.raises(TypeError):
            self.loop.call_later(bad, print)

    def test_when(self):
        handle = self.loop.call_at(123456.5, print)
        assert handle.when() == 123456.5
        handle.cancel()
        assert handle.when() == 123456.5
        now = self.loop.time()
        handle = self.loop.call_later(1000, print)
        assert now + 1000 <= handle.when() <= self.loop.time() + 1000
        handle.cancel()

    def test_cancel(self):
        seen = []
        first = self.loop.call_later(0.001, seen.append, 1)
        self.loop.call_later(0.002, seen.append, 2)
        self.loop.call_later(0.003, self.loop.stop)
        first.cancel()
        self.forever()
        assert seen == [2]

    def test_many_cancelled(self):
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

    def test_comparison(self):
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

    def test_sleep_and_wait_for(self):
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
    def test_timeout(self):
        async def main():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.005):
                    await self.loop.create_future()
            async with asyncio.timeout(self.timeout) as scope:
                await asyncio.sleep(0)
            assert not scope.expired()

        self.run(main())


class _TestRunning:

    def test_stop_before_run(self):
        seen = []
        self.loop.call_soon(seen.append, 1)
        self.loop.stop()
        self.loop.run_forever()
        assert seen == [1]

    def test_stop_finishes_the_turn(self):
        seen = []
        self.loop.call_soon(self.loop.stop)
        self.loop.call_soon(seen.append, 'same turn')
        self.loop.call_soon(lambda: self.loop.call_soon(seen.append, 'next turn'))
        self.forever()
        assert seen == ['same turn']
        self.turns()
        assert seen == ['same turn', 'next turn']

    def test_run_until_complete(self):
        async def answer():
            await asyncio.sleep(0)
            return 42

        async def fail():
            raise KeyError('inside')

        assert self.loop.run_until_complete(answer()) == 42
        with pytest.raises(KeyError, match='inside'):
            self.loop.run_until_complete(fail())
        future = self.loop.create_future()
        self.loop.call_soon(future.set_result, 'set')
        assert self.loop.run_until_complete(future) == 'set'
        with pytest.raises(TypeError):
            self.loop.run_until_complete(42)

    def test_stopped_before_the_future(self):
        future = self.loop.create_future()
        self.loop.call_soon(self.loop.stop)
        with pytest.raises(RuntimeError, match='Event loop stopped before Future completed'):
            self.loop.run_until_complete(future)

    def test_a_future_of_another_loop(self):
        other = self.new_loop()
        try:
            with pytest.raises(ValueError, match='different loop'):
                self.loop.run_until_complete(other.create_future())
        finally:
            other.close()

    def test_already_running(self):
        async def main():
            assert self.loop.is_running()
            if self.uring or sys.version_info < (3, 13):
                # asyncio's of 3.13.0 thinks afterwards that it does not run.
                with pytest.raises(RuntimeError, match='This event loop is already running'):
                    self.loop.run_forever()
            coroutine = asyncio.sleep(0)
            with pytest.raises(RuntimeError, match='already running'):
                self.loop.run_until_complete(coroutine)
            coroutine.close()
            with pytest.raises(RuntimeError, match='Cannot close a running event loop'):
                self.loop.close()
            assert asyncio.get_running_loop() is self.loop

        self.run(main())
        assert not self.loop.is_running()

    def test_another_loop_is_running(self):
        other = self.new_loop()

        async def main():
            with pytest.raises(
                    RuntimeError, match='while another loop is running'):
                other.run_until_complete(other.create_future())

        try:
            self.run(main())
        finally:
            other.close()

    def test_closed(self):
        self.loop.close()
        self.loop.close()
        assert self.loop.is_closed()
        assert 'closed=True' in repr(self.loop)
        for call in (lambda: self.loop.call_soon(print),
                     lambda: self.loop.call_soon_threadsafe(print),
                     lambda: self.loop.call_later(1, print),
                     lambda: self.loop.call_at(1, print),
                     self.loop.run_forever,
                     lambda: self.loop.run_until_complete(self.loop.create_future()),
                     lambda: self.loop.run_in_executor(None, print),
                     lambda: self.loop.add_signal_handler(signal.SIGUSR1, print)):
            with pytest.raises(RuntimeError, match='Event loop is closed'):
                call()

    def test_closed_before_it_ran(self):
        loop = self.new_loop()
        loop.call_soon(print)
        loop.call_later(1, print)
        loop.close()
        assert loop.is_closed()

    def test_close_forgets_callbacks(self):
        class Thing:
            def __del__(self):
                gone.append(True)

        gone = []
        self.loop.call_soon(print, Thing())
        self.loop.call_later(100, print, Thing())
        self.loop.close()
        gc.collect()
        assert gone == [True, True]

    def test_unclosed_loop_warns(self):
        loop = self.new_loop()
        with pytest.warns(ResourceWarning, match='unclosed event loop'):
            loop.__del__()
        loop.close()

    def test_run_again_in_other_threads(self):
        seen = []
        for _ in range(3):
            thread = threading.Thread(
                target=lambda: seen.append(self.loop.run_until_complete(asyncio.sleep(0.001, 1))))
            thread.start()
            thread.join(self.timeout)
        assert self.run(asyncio.sleep(0, 2)) == 2
        assert seen == [1, 1, 1]

    def test_repr(self):
        assert 'running=False closed=False debug=False' in repr(self.loop)

    def test_debug_flag(self):
        assert self.loop.get_debug() is False
        self.loop.set_debug(True)
        assert self.loop.get_debug() is True
        self.run(asyncio.sleep(0))

    def test_slow_callbacks_are_logged_in_debug_mode(self, caplog):
        self.loop.set_debug(True)
        self.loop.slow_callback_duration = 0

        def slow_one():
            self.loop.stop()

        self.loop.call_soon(slow_one)
        with caplog.at_level(logging.WARNING, logger='asyncio'):
            self.forever()
        [record] = [r for r in caplog.records if 'slow_one' in r.getMessage()]
        assert record.getMessage().startswith('Executing <Handle ')
        assert ' took ' in record.getMessage()

    def test_wrong_thread_in_debug_mode(self):
        self.loop.set_debug(True)

        def intrude():
            for call in (lambda: self.loop.call_soon(print),
                         lambda: self.loop.call_later(0, print),
                         lambda: self.loop.call_at(0, print)):
                with pytest.raises(RuntimeError, match='Non-thread-safe operation'):
                    call()
            return True

        async def main():
            assert await self.loop.run_in_executor(None, intrude)
            await self.loop.shutdown_default_executor()

        self.run(main())

    def test_debug_mode_sees_where_a_handle_was_made(self):
        self.loop.set_debug(True)

        def broken():
            raise ValueError

        self.loop.call_soon(broken)
        self.turns()
        assert 'source_traceback' in self.problems[0]

    def test_asyncgens_are_shut_down(self):
        seen = []

        async def generator():
            try:
                yield 1
                yield 2
            finally:
                await asyncio.sleep(0)
                seen.append('closed')

        async def main():
            agen = generator()
            assert await agen.__anext__() == 1
            return agen

        kept = self.run(main())
        self.run(self.loop.shutdown_asyncgens())
        assert seen == ['closed']
        del kept

    def test_forgotten_asyncgens_are_closed(self):
        closed = self.loop.create_future()

        async def generator():
            try:
                yield 1
                yield 2
            finally:
                await asyncio.sleep(0)
                closed.set_result(True)

        async def main():
            async for _ in generator():
                break
            gc.collect()
            assert await closed

        self.run(main())

    def test_asyncgen_hooks_are_restored(self):
        hooks = sys.get_asyncgen_hooks()
        self.run(asyncio.sleep(0))
        assert sys.get_asyncgen_hooks() == hooks


class _TestExceptionHandlers:

    def test_set(self):
        def handler(loop, context):
            seen.append((loop, context))

        seen = []
        with pytest.raises(TypeError, match='callable'):
            self.loop.set_exception_handler(42)
        self.loop.set_exception_handler(handler)
        assert self.loop.get_exception_handler() is handler
        self.loop.call_exception_handler({'message': 'hello'})
        assert seen == [(self.loop, {'message': 'hello'})]

    def test_default(self, caplog):
        self.loop.set_exception_handler(None)
        assert self.loop.get_exception_handler() is None

        def broken():
            raise ZeroDivisionError('to be logged')

        self.loop.call_soon(broken)
        with caplog.at_level(logging.ERROR, logger='asyncio'):
            self.turns()
        [record] = caplog.records
        assert 'broken' in record.getMessage()
        assert record.exc_info[0] is ZeroDivisionError

    def test_a_broken_handler(self, caplog):
        def handler(loop, context):
            raise TypeError('the handler itself')

        def broken():
            raise ZeroDivisionError

        self.loop.set_exception_handler(handler)
        self.loop.call_soon(broken)
        with caplog.at_level(logging.ERROR, logger='asyncio'):
            self.turns()
        assert any('Unhandled error in exception handler' in r.getMessage()
                   for r in caplog.records)
        assert self.run(asyncio.sleep(0, 'usable')) == 'usable'

    def test_an_exception_never_retrieved(self):
        future = self.loop.create_future()
        future.set_exception(ValueError('lost'))
        del future
        gc.collect()
        [context] = self.problems
        assert 'exception was never retrieved' in context['message']


class _TestTasks:

    def test_create_task(self):
        async def main():
            task = self.loop.create_task(asyncio.sleep(0, 'done'), name='a name')
            assert task.get_name() == 'a name'
            assert await task == 'done'

        self.run(main())

    @pytest.mark.skipif(sys.version_info < (3, 11), reason='the argument is new in 3.11')
    def test_context(self):
        context = contextvars.copy_context()
        context.run(variable.set, 'given')

        async def read():
            await asyncio.sleep(0)
            return variable.get()

        async def main():
            assert await self.loop.create_task(read(), context=context) == 'given'
            assert await self.loop.create_task(read()) == 'unset'

        self.run(main())

    def test_factory(self):
        made = []

        def factory(loop, coroutine, **kwargs):
            made.append(loop)
            return asyncio.Task(coroutine, loop=loop, **kwargs)

        with pytest.raises(TypeError):
            self.loop.set_task_factory('no factory')
        self.loop.set_task_factory(factory)
        assert self.loop.get_task_factory() is factory
        assert self.loop.run_until_complete(asyncio.sleep(0, 5)) == 5
        assert made == [self.loop]
        self.loop.set_task_factory(None)

    @pytest.mark.skipif(sys.version_info < (3, 12), reason='eager tasks are new in 3.12')
    def test_eager(self):
        async def quick():
            return 'at once'

        async def main():
            self.loop.set_task_factory(asyncio.eager_task_factory)
            task = asyncio.create_task(quick())
            assert task.done()
            slow = asyncio.create_task(asyncio.sleep(0, 'later'))
            assert not slow.done()
            assert await slow == 'later'
            assert task.result() == 'at once'
            self.loop.set_task_factory(None)

        self.run(main())

    def test_cancellation(self):
        async def main():
            task = asyncio.ensure_future(self.loop.create_future().__class__(loop=self.loop))
            waiter = asyncio.ensure_future(asyncio.wait({task}))
            await asyncio.sleep(0)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            assert not task.done()
            task.cancel()

        self.run(main())

    def test_gather_of_many(self):
        async def step(n):
            await asyncio.sleep(0)
            return n

        async def main():
            assert await asyncio.gather(*map(step, range(2000))) == list(range(2000))

        self.run(main())

    def test_current_task_and_all_tasks(self):
        async def main():
            assert asyncio.current_task() in asyncio.all_tasks()
            assert asyncio.current_task().get_loop() is self.loop

        self.run(main())

    def test_create_future(self):
        future = self.loop.create_future()
        assert isinstance(future, asyncio.Future)
        assert future.get_loop() is self.loop


class _TestThreads:

    def test_wakes_a_sleeping_loop(self):
        rounds = 200
        turn = threading.Event()
        seen = []

        def answer(n):
            seen.append(n)
            turn.set()
            if n == rounds - 1:
                self.loop.stop()

        def other():
            for n in range(rounds):
                if not turn.wait(self.timeout):
                    return
                turn.clear()
                self.loop.call_soon_threadsafe(answer, n)

        thread = threading.Thread(target=other)
        thread.start()
        self.loop.call_soon(turn.set)
        self.forever()
        thread.join(self.timeout)
        assert seen == list(range(rounds))

    def test_many_threads(self):
        seen = []

        def other(name):
            for n in range(500):
                self.loop.call_soon_threadsafe(note, (name, n))

        def note(what):
            seen.append(what)
            if len(seen) == 2000:
                self.loop.stop()

        threads = [threading.Thread(target=other, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        self.forever()
        for thread in threads:
            thread.join(self.timeout)
        for name in range(4):
            assert [n for who, n in seen if who == name] == list(range(500))

    def test_a_wakeup_while_the_last_one_is_read(self):
        read = self.loop._read_from_self

        def call(callback, delay):
            time.sleep(delay)       # so that the loop sleeps
            self.loop.call_soon_threadsafe(callback)

        def other(callback, delay=0.0):
            thread = threading.Thread(target=call, args=(callback, delay))
            thread.start()
            return thread

        def meanwhile():
            self.loop._read_from_self = read
            other(lambda: None).join(self.timeout)
            read()

        async def main():
            done = asyncio.Event()
            self.loop._read_from_self = meanwhile
            for _ in range(2):
                done.clear()
                thread = other(done.set, 0.05)
                await done.wait()
                thread.join(self.timeout)

        self.run(main())

    def test_before_the_loop_runs(self):
        thread = threading.Thread(
            target=self.loop.call_soon_threadsafe, args=(self.loop.stop,))
        thread.start()
        thread.join(self.timeout)
        self.forever()

    def test_run_in_executor(self):
        async def main():
            assert await self.loop.run_in_executor(None, threading.get_ident) \
                != threading.get_ident()
            with pytest.raises(ZeroDivisionError):
                await self.loop.run_in_executor(None, lambda: 1 // 0)
            assert await asyncio.gather(
                *(self.loop.run_in_executor(None, abs, -n) for n in range(100))) \
                == list(range(100))
            assert await asyncio.to_thread(sum, [1, 2]) == 3
            await self.loop.shutdown_default_executor()

        self.run(main())

    def test_run_coroutine_threadsafe(self):
        async def double(n):
            await asyncio.sleep(0)
            return 2 * n

        def other():
            return asyncio.run_coroutine_threadsafe(double(21), self.loop).result(self.timeout)

        async def main():
            assert await self.loop.run_in_executor(None, other) == 42
            await self.loop.shutdown_default_executor()

        self.run(main())

    def test_getaddrinfo(self):
        async def main():
            assert await self.loop.getaddrinfo(
                '127.0.0.1', 80, family=socket.AF_INET, type=socket.SOCK_DGRAM) \
                == socket.getaddrinfo('127.0.0.1', 80, socket.AF_INET, socket.SOCK_DGRAM)
            assert await self.loop.getnameinfo(
                ('127.0.0.1', 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV) \
                == ('127.0.0.1', '80')
            await self.loop.shutdown_default_executor()

        self.run(main())


class _TestSignals:

    def kill_soon(self, number):
        """Send this process a signal from another thread once the loop has fallen asleep."""
        started = threading.Event()
        main = threading.main_thread()

        def other():
            started.wait(self.timeout)
            state = Path(f'/proc/self/task/{main.native_id}/syscall')
            end = time.monotonic() + self.timeout
            while state.read_text().split()[0] not in SLEEPS and time.monotonic() < end:
                os.sched_yield()
            signal.pthread_kill(main.ident, number)

        thread = threading.Thread(target=other)
        thread.start()
        self.loop.call_soon(started.set)
        return thread

    def test_handler(self):
        seen = []

        def handler(*args):
            seen.append(args)
            self.loop.stop()

        self.loop.add_signal_handler(signal.SIGUSR1, handler, 'an', 'argument')
        for _ in range(20):
            thread = self.kill_soon(signal.SIGUSR1)
            self.forever()
            thread.join(self.timeout)
        assert seen == [('an', 'argument')] * 20
        assert self.loop.remove_signal_handler(signal.SIGUSR1) is True
        assert self.loop.remove_signal_handler(signal.SIGUSR1) is False
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL

    def test_replaced(self):
        seen = []
        self.loop.add_signal_handler(signal.SIGUSR1, seen.append, 'first')
        self.loop.add_signal_handler(
            signal.SIGUSR1, lambda: (seen.append('second'), self.loop.stop()))
        self.loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        self.forever()
        assert seen == ['second']

    def test_close_removes(self):
        self.loop.add_signal_handler(signal.SIGUSR1, print)
        self.loop.close()
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL

    def test_bad_arguments(self):
        async def coroutine():
            pass

        with pytest.raises(TypeError):
            self.loop.add_signal_handler(signal.SIGUSR1, coroutine)
        with pytest.raises(RuntimeError, match='cannot be caught'):
            self.loop.add_signal_handler(signal.SIGKILL, print)
        with pytest.raises(ValueError):
            self.loop.add_signal_handler(1000, print)
        with pytest.raises(TypeError):
            self.loop.add_signal_handler('SIGUSR1', print)

    def test_interrupt_of_a_sleeping_loop(self):
        for _ in range(5):
            thread = self.kill_soon(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                self.forever()
            thread.join(self.timeout)
        assert self.run(asyncio.sleep(0, 'usable')) == 'usable'

    def test_a_plain_handler_runs_while_the_loop_sleeps(self):
        # Not by add_signal_handler: a handler of signal.signal runs between two
        # instructions of the main thread, so the wait must let it.
        before = signal.signal(
            signal.SIGUSR1, lambda *_: self.loop.call_soon_threadsafe(self.loop.stop))
        try:
            thread = self.kill_soon(signal.SIGUSR1)
            self.forever()
            thread.join(self.timeout)
        finally:
            signal.signal(signal.SIGUSR1, before)


class _TestDescriptors:

    def test_reader_and_writer(self):
        one, two = socket.socketpair()
        with one, two:
            one.setblocking(False)
            two.setblocking(False)
            seen = []

            def readable():
                seen.append(two.recv(100))
                self.loop.stop()

            def writable():
                one.send(b'hello')
                assert self.loop.remove_writer(one) is True

            self.loop.add_reader(two, readable)
            self.loop.add_writer(one, writable)
            self.forever()
            assert seen == [b'hello']
            assert self.loop.remove_reader(two.fileno()) is True
            assert self.loop.remove_reader(two) is False
            assert self.loop.remove_writer(one) is False

    def test_level_triggered(self):
        reader, writer = os.pipe()
        try:
            seen = []

            def readable():
                seen.append(os.read(reader, 1))
                if len(seen) == 5:
                    self.loop.stop()

            self.loop.add_reader(reader, readable)
            os.write(writer, b'abcde')
            self.forever()
            assert b''.join(seen) == b'abcde'
            self.loop.remove_reader(reader)
        finally:
            os.close(reader)
            os.close(writer)

    def test_hangup(self):
        reader, writer = os.pipe()
        self.loop.add_reader(reader, self.loop.stop)
        self.loop.call_soon(os.close, writer)
        self.forever()
        self.loop.remove_reader(reader)
        os.close(reader)

    def test_replaced(self):
        reader, writer = os.pipe()
        seen = []
        self.loop.add_reader(reader, seen.append, 'first')
        self.loop.add_reader(reader, lambda: (seen.append('second'), self.loop.stop()))
        os.write(writer, b'x')
        self.forever()
        assert set(seen) == {'second'}
        self.loop.remove_reader(reader)
        os.close(reader)
        os.close(writer)

    def test_both_directions_of_one(self):
        one, two = socket.socketpair()
        with one, two:
            seen = []

            def note(what):
                if what not in seen:
                    seen.append(what)
                if len(seen) == 2:
                    self.loop.stop()

            two.send(b'x')
            self.loop.add_writer(one, note, 'writable')
            self.loop.add_reader(one, note, 'readable')
            self.forever()
            assert sorted(seen) == ['readable', 'writable']
            assert self.loop.remove_writer(one)
            assert self.loop.remove_reader(one)

    def test_removed_in_the_same_turn(self):
        pairs = [socket.socketpair() for _ in range(2)]
        seen = []

        def readable(n):
            seen.append(n)
            for one, _ in pairs:
                self.loop.remove_reader(one)
            self.loop.call_soon(self.loop.stop)

        for n, (one, two) in enumerate(pairs):
            self.loop.add_reader(one, readable, n)
            two.send(b'x')
        self.forever()
        assert len(seen) == 1
        for pair in pairs:
            for sock in pair:
                sock.close()

    def test_regular_file(self):
        with tempfile.TemporaryFile() as file:
            with pytest.raises(PermissionError):
                self.loop.add_reader(file, print)
            assert self.loop.remove_reader(file) is False

    def test_bad_descriptors(self):
        for bad in (-1, 'file', None):
            with pytest.raises(ValueError):
                self.loop.add_reader(bad, print)
        with pytest.raises(OSError):
            self.loop.add_reader(10 ** 6, print)

    def test_closed_without_remove(self):
        one, two = socket.socketpair()
        descriptor = one.fileno()
        self.loop.add_reader(one, print)
        self.turns(2)
        one.close()
        two.close()
        assert self.run(asyncio.sleep(0.001, 'alive')) == 'alive'
        assert self.loop.remove_reader(descriptor) is True

    def test_context(self):
        reader, writer = os.pipe()
        seen = []
        token = variable.set('then')
        try:
            self.loop.add_reader(
                reader, lambda: (seen.append(variable.get()), self.loop.stop()))
        finally:
            variable.reset(token)
        os.write(writer, b'x')
        self.forever()
        assert set(seen) == {'then'}
        self.loop.remove_reader(reader)
        os.close(reader)
        os.close(writer)

    def test_an_exception_in_a_reader(self):
        reader, writer = os.pipe()

        def broken():
            os.read(reader, 1)
            self.loop.stop()
            raise ZeroDivisionError

        self.loop.add_reader(reader, broken)
        os.write(writer, b'x')
        self.forever()
        assert isinstance(self.problems[0]['exception'], ZeroDivisionError)
        assert self.loop.remove_reader(reader) is True
        os.close(reader)
        os.close(writer)

    def test_many_readers(self):
        pairs = [socket.socketpair() for _ in range(100)]
        seen = set()

        def readable(n):
            pairs[n][0].recv(1)
            seen.add(n)
            if len(seen) == len(pairs):
                self.loop.stop()

        for n, (one, two) in enumerate(pairs):
            self.loop.add_reader(one, readable, n)
            self.loop.call_soon(two.send, b'x')
        self.forever()
        for pair in pairs:
            self.loop.remove_reader(pair[0])
            for sock in pair:
                sock.close()

    def test_across_threads(self):
        # A loop that moves to another thread keeps its readers.
        reader, writer = os.pipe()
        seen = []
        self.loop.add_reader(
            reader, lambda: (seen.append(os.read(reader, 1)), self.loop.stop()))
        os.write(writer, b'a')
        self.forever()
        os.write(writer, b'b')
        thread = threading.Thread(target=self.loop.run_forever)
        thread.start()
        thread.join(self.timeout)
        assert not thread.is_alive()
        os.write(writer, b'c')
        self.forever()
        assert seen == [b'a', b'b', b'c']
        self.loop.remove_reader(reader)
        os.close(reader)
        os.close(writer)


class _TestStreams:

    def test_echo(self):
        async def echo(reader, writer):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        async def main():
            server = await asyncio.start_server(echo, '127.0.0.1', 0)
            host, port = server.sockets[0].getsockname()
            payload = bytes(range(256)) * 2000

            async def client():
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(payload)
                writer.write_eof()
                received = await reader.read()
                writer.close()
                await writer.wait_closed()
                return received

            for received in await asyncio.gather(*(client() for _ in range(5))):
                assert received == payload
            server.close()
            await server.wait_closed()

        self.run(main())

    def test_unix(self, tmp_path):
        async def upper(reader, writer):
            writer.write((await reader.readline()).upper())
            writer.close()
            await writer.wait_closed()

        async def main():
            path = str(tmp_path / 'socket')
            server = await asyncio.start_unix_server(upper, path)
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b'hello\n')
            assert await reader.read() == b'HELLO\n'
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()

        self.run(main())

    def test_refused(self):
        async def main():
            with socket.socket() as sock:
                sock.bind(('127.0.0.1', 0))
                port = sock.getsockname()[1]
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection('127.0.0.1', port)

        self.run(main())

    def test_pipes(self):
        async def main():
            reader, writer = os.pipe()
            stream = asyncio.StreamReader()
            receiving, _ = await self.loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reader, 'rb', 0))
            sending, _ = await self.loop.connect_write_pipe(
                asyncio.BaseProtocol, os.fdopen(writer, 'wb', 0))
            sending.write(b'through a pipe')
            sending.close()
            assert await stream.read() == b'through a pipe'
            receiving.close()
            await asyncio.sleep(0)

        self.run(main())


class _TestSubprocesses:

    def test_echo(self):
        async def main():
            process = await asyncio.create_subprocess_exec(
                sys.executable, '-c',
                'import sys; sys.stdout.write(sys.stdin.read().upper()); sys.exit(7)',
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
            out, _ = await process.communicate(b'hello')
            assert out == b'HELLO'
            assert process.returncode == 7

        self.run(main())

    def test_shell_and_kill(self):
        async def main():
            process = await asyncio.create_subprocess_shell(
                'echo out; echo err >&2', stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE)
            assert await process.communicate() == (b'out\n', b'err\n')
            process = await asyncio.create_subprocess_exec(
                'cat', stdin=asyncio.subprocess.PIPE)
            process.kill()
            assert await process.wait() == -signal.SIGKILL

        self.run(main())

    def test_child_that_is_gone_already(self):
        """Nobody waits for children where SIGCHLD is ignored."""
        async def main():
            for _ in range(5):
                process = await asyncio.create_subprocess_exec(sys.executable, '-c', '')
                assert await process.wait() == 255

        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            if self.uring or sys.version_info >= (3, 12):
                self.run(main())
        finally:
            signal.signal(signal.SIGCHLD, before)

    def test_no_descriptor_to_watch_by(self, monkeypatch):
        def refuse(pid, flags=0):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        async def main():
            monkeypatch.setattr(os, 'pidfd_open', refuse)
            process = await asyncio.create_subprocess_exec(
                sys.executable, '-c', 'raise SystemExit(7)')
            assert await process.wait() == 7

        if self.uring:
            self.run(main())

    def test_no_such_program(self):
        async def main():
            with pytest.raises(FileNotFoundError):
                await asyncio.create_subprocess_exec('/no/such/program')

        self.run(main())


both_sides(
    globals(), _TestCallbacks, _TestTimers, _TestRunning, _TestExceptionHandlers, _TestTasks,
    _TestThreads, _TestSignals, _TestDescriptors, _TestStreams, _TestSubprocesses)
