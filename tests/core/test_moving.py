"""A loop that moves between threads, and one that is left by an exception."""
import asyncio
import os
import signal
import socket
import sys
import threading

import pytest

from tests.support.cases import UringCase, both_sides


class _TestMoving:

    def elsewhere(self, function, *args):
        """Call it in another thread; returns the exception it ended with."""
        problems = []

        def call():
            try:
                function(*args)
            except BaseException as exc:
                problems.append(exc)

        thread = threading.Thread(target=call)
        thread.start()
        thread.join(self.timeout)
        assert not thread.is_alive()
        return problems[0] if problems else None

    def test_signals_go_where_the_loop_went(self):
        """The descriptor that they write to stays, whoever runs the loop."""
        def stop():
            seen.append(True)
            self.loop.stop()

        seen = []
        self.loop.add_signal_handler(signal.SIGUSR1, stop)
        for move in range(3):
            assert self.elsewhere(self.run, asyncio.sleep(0)) is None
            self.loop.call_soon_threadsafe(os.kill, os.getpid(), signal.SIGUSR1)
            self.loop.run_forever()
            assert len(seen) == move + 1
        self.loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        assert self.elsewhere(self.loop.run_forever) is None
        assert len(seen) == 4

    def test_a_signal_that_came_before(self):
        seen = []
        self.loop.add_signal_handler(signal.SIGUSR1, seen.append, True)
        self.run(asyncio.sleep(0))
        os.kill(os.getpid(), signal.SIGUSR1)
        assert self.elsewhere(self.turns, 3) is None
        assert seen == [True]

    def test_no_stranger_gets_the_descriptor(self):
        """Neither while the loop is elsewhere nor after."""
        free = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]
        self.loop.add_signal_handler(signal.SIGUSR1, int)
        self.run(asyncio.sleep(0))
        for fd in free:
            os.close(fd)
        assert self.elsewhere(self.run, asyncio.sleep(0)) is None
        pairs = [socket.socketpair() for _ in range(8)]
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            for sock in [sock for pair in pairs for sock in pair]:
                sock.setblocking(False)
                with pytest.raises(BlockingIOError):
                    sock.recv(1)
        finally:
            for sock in [sock for pair in pairs for sock in pair]:
                sock.close()

    def test_threads_wake_it_wherever_it_is(self):
        async def main():
            return await self.loop.run_in_executor(None, threading.get_ident)

        try:
            for _ in range(3):
                assert self.elsewhere(self.run, main()) is None
                assert self.run(main()) != threading.get_ident()
        finally:
            self.run(self.loop.shutdown_default_executor())


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


class _TestClosing:

    def test_what_finalizers_schedule_is_refused(self):
        class Thing:
            def __init__(self, *how):
                self.how = how

            def __del__(self):
                method, *args = self.how
                try:
                    said.append(getattr(loop, method)(*args, print))
                except RuntimeError as exc:
                    said.append(str(exc))

        said = []
        loop = self.loop
        for how in [('call_soon',), ('call_soon_threadsafe',), ('call_later', 1),
                    ('call_at', 1)]:
            loop.call_soon(print, Thing(*how))
            loop.call_later(60, print, Thing(*how))
        loop.close()
        assert said == ['Event loop is closed'] * 8
        assert not loop._ready
        assert not loop._scheduled


both_sides(globals(), _TestMoving, _TestClosing)
