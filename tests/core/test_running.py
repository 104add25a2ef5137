"""Running and stopping a loop, debug mode, asynchronous generators, and how the loop is left."""
import asyncio
import gc
import logging
import sys
import threading

import pytest

from tests.support.cases import UringCase, both_sides


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

    def test_run_until_complete_returns_and_raises(self):
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

    def test_stopped_before_the_future_is_done(self):
        future = self.loop.create_future()
        self.loop.call_soon(self.loop.stop)
        with pytest.raises(RuntimeError, match='Event loop stopped before Future completed'):
            self.loop.run_until_complete(future)

    def test_a_future_of_another_loop_is_refused(self):
        other = self.new_loop()
        try:
            with pytest.raises(ValueError, match='different loop'):
                self.loop.run_until_complete(other.create_future())
        finally:
            other.close()

    def test_a_running_loop_is_neither_run_nor_closed(self):
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

    def test_not_run_while_another_loop_is_running(self):
        other = self.new_loop()

        async def main():
            with pytest.raises(
                    RuntimeError, match='while another loop is running'):
                other.run_until_complete(other.create_future())

        try:
            self.run(main())
        finally:
            other.close()

    def test_run_again_in_other_threads(self):
        seen = []
        for _ in range(3):
            thread = threading.Thread(
                target=lambda: seen.append(self.loop.run_until_complete(asyncio.sleep(0.001, 1))))
            thread.start()
            thread.join(self.timeout)
        assert self.run(asyncio.sleep(0, 2)) == 2
        assert seen == [1, 1, 1]

    def test_repr_tells_the_state(self):
        assert 'running=False closed=False debug=False' in repr(self.loop)

    def test_debug_mode_is_switched(self):
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

    def test_another_thread_is_refused_in_debug_mode(self):
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


class TestLeaving(UringCase):
    """However ``run_forever`` is left, the thread is as it was."""

    @pytest.mark.parametrize('depth', range(3))
    def test_interrupted_while_it_leaves(self, depth):
        """A signal's exception in the midst of it leaves nothing undone."""
        def trace(frame, event, arg):
            if 'origin_tracking' in frame.f_code.co_name:
                # As a signal's handler could, between two instructions.
                sys.settrace(None)
                raise KeyboardInterrupt

        def stop():
            self.loop.stop()
            sys.settrace(trace)

        before = sys.get_asyncgen_hooks()
        sys.set_coroutine_origin_tracking_depth(depth)
        try:
            self.loop.set_debug(True)
            self.loop.call_soon(stop)
            self.loop.run_forever()
            sys.settrace(None)
            assert sys.get_coroutine_origin_tracking_depth() == depth
            assert sys.get_asyncgen_hooks() == before
            assert asyncio._get_running_loop() is None
            assert not self.loop.is_running()
        finally:
            sys.settrace(None)
            sys.set_coroutine_origin_tracking_depth(0)
            self.loop.set_debug(False)


both_sides(globals(), _TestRunning)
