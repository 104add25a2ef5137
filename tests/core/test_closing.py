"""Closing a loop: what it refuses and forgets, and code of the program that runs meanwhile."""
import gc
import signal
import socket

import pytest

from tests.support.cases import UringCase, both_sides
from tests.support.programs import program, script
from tests.support.turns import turns

on_each_loop = pytest.mark.parametrize('loop', ['asyncio', 'uring'])


class _TestClosed:

    def test_a_closed_loop_refuses_all_calls(self):
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


class _TestFinalizers:

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


@on_each_loop
def test_loop_closed_with_finalizers_that_schedule(loop):
    assert program(loop, '''
        class Scheduling:
            def __del__(self):
                try:
                    loop.call_soon(print, 'x')
                    loop.call_later(1, print, 'x')
                except RuntimeError:
                    pass        # it is closed

        for _ in range(3):
            loop.call_soon(print, Scheduling())
            loop.call_later(1, print, Scheduling())
        loop.close()
    ''') == 0


@on_each_loop
@pytest.mark.parametrize('turns', [3, 7])
def test_loop_closed_with_tasks_inside_generators(loop, turns):
    """A generator that is dropped makes a task, of a loop that is being closed."""
    assert program(loop, f'''
        import logging

        logging.disable(logging.CRITICAL)

        async def numbers():
            try:
                while True:
                    yield 1
            finally:
                await asyncio.sleep(0)

        async def work():
            async for _ in numbers():
                future = loop.create_future()
                loop.call_soon(future.set_result, None)
                await future

        async def main():
            for _ in range(5):
                loop.create_task(work())
            for _ in range({turns}):
                await asyncio.sleep(0)

        loop.run_until_complete(main())
        loop.close()
    ''') == 0


@on_each_loop
@pytest.mark.parametrize('example', ['sleeps', 'connects'])
def test_closed_loop_keeps_no_lists(loop, example):
    """Test frameworks look for what the collector knows after a test and did not before."""
    assert program(loop, f'''
        import gc, sys

        async def sleeps():
            await asyncio.sleep(0.01)

        async def connects():
            server = await loop.create_server(asyncio.Protocol, '127.0.0.1', 0)
            transport, _ = await loop.create_connection(
                asyncio.Protocol, *server.sockets[0].getsockname())
            await asyncio.sleep(0.01)
            transport.close()
            server.close()
            await asyncio.sleep(0.01)

        def lists():
            return {{id(each): each for each in gc.get_objects() if type(each) is list}}

        loop.run_until_complete({example}())
        gc.collect()
        gc.disable()
        before = lists()
        loop.run_until_complete({example}())
        loop.stop()
        loop.close()
        after = lists()
        new = [each for number, each in after.items() if number not in before]
        if new:
            sys.exit(repr([type(by) for each in new for by in gc.get_referrers(each)]))
    ''') == 0


class TestManyInFlight(UringCase):

    def test_what_is_in_flight_is_cancelled_in_bunches(self):
        """Not by some 20 a system call, each of which looks at all of them."""
        async def main():
            waiting = [self.loop.create_task(self.loop.sock_recv(ours, 1)) for ours, _ in pairs]
            await turns(3)
            return waiting

        pairs = [socket.socketpair() for _ in range(300)]
        for ours, _ in pairs:
            ours.setblocking(False)
        waiting = self.run(main())
        assert self.loop.stats().operations_in_flight >= len(pairs)
        before = self.loop.stats().syscalls
        self.loop.close()
        after = self.loop.stats()
        assert after.operations_in_flight == 0
        assert after.syscalls - before < 12
        for task in waiting:
            task._log_destroy_pending = False
        for pair in pairs:
            for sock in pair:
                sock.close()


both_sides(globals(), _TestClosed, _TestFinalizers)


def test_an_interrupt_while_a_loop_is_made():
    """The finalizer finds one that is half made, and counts as closed."""
    assert script("""
        import gc, uringloop, weakref

        def interrupted():
            weakref.WeakValueDictionary = before
            raise KeyboardInterrupt

        before, weakref.WeakValueDictionary = weakref.WeakValueDictionary, interrupted
        try:
            uringloop.Loop()
        except KeyboardInterrupt:
            print('interrupted')
        gc.collect()
        loop = uringloop.Loop()
        assert not loop.is_closed()
        loop.close()
        assert loop._closed
        """) == 'interrupted\n'
