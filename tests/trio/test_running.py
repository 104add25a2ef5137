"""``uringloop.trio.run``: all of trio works as a guest of the loop."""
import asyncio
import inspect
import os
import signal
import sys
import threading
from functools import partial

import pytest
import sniffio
import trio
import trio.testing

import uringloop.trio
from tests.support.hosting import Hosted, turns
from tests.support.programs import outcome, script
from uringloop.copying.loop import CopyingLoop

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup


class TestRun(Hosted):

    def test_returns_what_the_function_does(self):
        async def main(*args):
            return args

        assert uringloop.trio.run(main, 1, 'two') == (1, 'two')

    @pytest.mark.filterwarnings('error')
    def test_a_coroutine_instead_of_the_function_is_told(self):
        async def main():
            pass

        coroutine = main()
        with pytest.raises(TypeError, match=r'takes the async function itself, not main\(\): '
                                            'got <coroutine object .*main at '):
            uringloop.trio.run(coroutine)
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED

    def test_raises_what_the_function_does(self):
        async def main():
            raise LookupError('of the function')

        with pytest.raises(LookupError, match='of the function'):
            self.run(main)

    def test_a_nursery_groups_exceptions(self):
        async def fail(number):
            raise ValueError(number)

        async def main():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail, 1)
                nursery.start_soon(trio.sleep_forever)

        with pytest.raises(ExceptionGroup) as caught:
            self.run(main)
        assert [error.args for error in caught.value.exceptions] == [(1,)]

    def test_deadlines(self):
        seen = []

        async def sleep(seconds):
            start = trio.current_time()
            await trio.sleep(seconds)
            assert trio.current_time() >= start + seconds
            seen.append(seconds)

        async def main():
            async with trio.open_nursery() as nursery:
                for seconds in (0.03, 0.01, 0.02, 0):
                    nursery.start_soon(sleep, seconds)
            with trio.move_on_after(0.01) as scope:
                await trio.sleep_forever()
            assert scope.cancelled_caught

        self.run(main)
        assert sorted(seen) == [0, 0.01, 0.02, 0.03]

    def test_can_be_run_again(self):
        async def main():
            await trio.sleep(0)
            return asyncio.get_running_loop()

        assert self.run(main) is not self.run(main)

    def test_in_another_thread(self):
        async def main():
            await trio.sleep(0.001)
            return threading.current_thread()

        async def outer():
            return await trio.to_thread.run_sync(self.run, main)

        assert trio.run(outer) is not threading.main_thread()

    def test_not_within_a_running_loop(self):
        async def main():
            with pytest.raises(RuntimeError, match='cannot be called from a running'):
                uringloop.trio.run(trio.sleep, 0)

        asyncio.run(main())
        self.run(main)

    def test_who_runs_is_told_to_libraries(self):
        async def of_asyncio():
            await asyncio.sleep(0)
            return sniffio.current_async_library()

        async def main():
            return sniffio.current_async_library(), await uringloop.trio.run_asyncio(of_asyncio())

        assert self.run(main) == ('trio', 'asyncio')


class TestTurns(Hosted):
    """What happens while trio has nothing to do, and what ends that."""

    def test_no_thread_waits_for_trio(self):
        async def main():
            before = set(threading.enumerate())
            await trio.sleep(0.01)
            return set(threading.enumerate()) - before

        async def warm_up():
            await trio.to_thread.run_sync(int)

        trio.run(warm_up)
        threads = self.run(main)
        if self.way != 'thread':
            # If not: trio has changed inside, and GuestTicks.adopt did not know it.
            assert not threads

    def test_an_event_set_by_a_callback(self):
        async def main():
            for number in range(50):
                event = trio.Event()
                asyncio.get_running_loop().call_later(0.0001 * (number % 3), event.set)
                await event.wait()

        self.run(main)

    def test_an_event_set_by_another_thread(self):
        async def main():
            token = trio.lowlevel.current_trio_token()
            for _ in range(50):
                event = trio.Event()
                thread = threading.Thread(target=token.run_sync_soon, args=(event.set,))
                thread.start()
                await event.wait()
                thread.join()

        self.run(main)

    def test_cancelled_by_a_callback(self):
        async def main():
            with trio.CancelScope() as scope:
                asyncio.get_running_loop().call_later(0.001, scope.cancel)
                await trio.sleep_forever()

        self.run(main)

    def test_a_deadline_set_by_a_callback(self):
        async def main():
            with trio.CancelScope() as scope:
                asyncio.get_running_loop().call_later(
                    0.001, setattr, scope, 'deadline', trio.current_time() + 0.002)
                await trio.sleep_forever()

        self.run(main)

    def test_who_waits_for_all_to_be_blocked(self):
        async def main():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                for cushion in (0, 0.001):
                    await trio.testing.wait_all_tasks_blocked(cushion)
                nursery.cancel_scope.cancel()

        self.run(main)

    def test_a_clock_that_jumps(self):
        async def main():
            before = trio.current_time()
            await trio.sleep(3)
            return trio.current_time() - before

        assert self.run(main, clock=trio.testing.MockClock(autojump_threshold=0)) == 3

    def test_a_sleep_of_ages(self):
        async def main():
            with trio.move_on_after(0.001):
                await trio.sleep(1e300)

        self.run(main)

    def test_a_task_that_asks_the_clock_is_not_taken_for_idle(self):
        async def main():
            clock = trio.lowlevel.current_clock()
            for _ in range(5):
                assert clock.deadline_to_sleep_time(clock.current_time() + 100) > 99
                await trio.lowlevel.checkpoint()

        self.run(main)

    def test_the_loop_goes_on_while_trio_is_busy(self):
        async def main():
            ticks = 0

            def tick():
                nonlocal ticks
                ticks += 1
                asyncio.get_running_loop().call_soon(tick)

            tick()
            await turns(20)
            return ticks

        assert self.run(main) >= 20

    def test_an_idle_trio_has_no_turns(self):
        class Waits(trio.abc.Instrument):
            count = 0

            def before_io_wait(self, timeout):
                self.count += 1

        async def main():
            before = waits.count
            await trio.sleep(0.05)
            return waits.count - before

        waits = Waits()
        assert self.run(main, instruments=[waits]) < 10


class TestAllOfTrio(Hosted):

    def test_its_own_sockets(self):
        async def main():
            one, two = trio.socket.socketpair()
            with one, two:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(one.send, b'there')
                    assert await two.recv(100) == b'there'
                    nursery.start_soon(two.send, b'back')
                    assert await one.recv(100) == b'back'

        self.run(main)

    def test_its_streams(self):
        async def echo(stream):
            async with stream:
                async for chunk in stream:
                    await stream.send_all(chunk)

        async def main():
            content = os.urandom(1 << 20)
            async with trio.open_nursery() as nursery:
                listener, = await nursery.start(partial(trio.serve_tcp, host='127.0.0.1'), echo, 0)
                stream = await trio.testing.open_stream_to_socket_listener(listener)
                nursery.start_soon(stream.send_all, content)
                back = b''
                while len(back) < len(content):
                    back += await stream.receive_some()
                await stream.aclose()
                nursery.cancel_scope.cancel()
            assert back == content

        self.run(main)

    def test_its_threads(self):
        def in_thread():
            return trio.from_thread.run(trio.sleep, 0), threading.current_thread()

        async def main():
            return await trio.to_thread.run_sync(in_thread)

        assert self.run(main)[1] is not threading.current_thread()

    def test_its_processes(self):
        async def main():
            done = await trio.run_process(['cat'], stdin=b'through', capture_stdout=True)
            return done.stdout

        assert self.run(main) == b'through'

    def test_its_asynchronous_generators_are_finished(self):
        finished = []

        async def numbers():
            try:
                yield 1
                yield 2
            finally:
                finished.append(sniffio.current_async_library())

        async def main():
            generator = numbers()
            await generator.__anext__()
            task = await uringloop.trio.run_asyncio(of_asyncio())
            return generator, task

        async def of_asyncio():
            generator = numbers()
            await generator.__anext__()
            return generator

        self.run(main)
        assert sorted(finished) == ['asyncio', 'trio']


class TestSignals(Hosted):

    def test_receivers_of_trio(self):
        async def main():
            with trio.open_signal_receiver(signal.SIGUSR1) as signals:
                for _ in range(5):
                    asyncio.get_running_loop().call_later(
                        0.001, os.kill, os.getpid(), signal.SIGUSR1)
                    assert await signals.__anext__() == signal.SIGUSR1

        self.run(main)

    def test_handlers_of_the_loop(self):
        async def main():
            loop = asyncio.get_running_loop()
            event = trio.Event()
            loop.add_signal_handler(signal.SIGUSR1, event.set)
            loop.call_later(0.001, os.kill, os.getpid(), signal.SIGUSR1)
            await event.wait()
            loop.remove_signal_handler(signal.SIGUSR1)

        self.run(main)

    def test_ctrl_c_is_the_main_tasks(self):
        async def main():
            asyncio.get_running_loop().call_later(0.001, os.kill, os.getpid(), signal.SIGINT)
            try:
                await trio.sleep_forever()
            finally:
                seen.append('cleaned up')

        seen = []
        with pytest.raises(KeyboardInterrupt):
            self.run(main)
        assert seen == ['cleaned up']
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_ctrl_c_while_a_task_computes(self):
        async def main():
            os.kill(os.getpid(), signal.SIGINT)
            while True:
                pass

        with pytest.raises(KeyboardInterrupt):
            self.run(main)

    def test_ctrl_c_ends_a_program(self):
        code, errors = outcome('''
            import os, signal, threading, trio, uringloop.trio
            async def main():
                threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
                await trio.sleep_forever()
            uringloop.trio.run(main)
            ''', timeout=20)
        assert code == -signal.SIGINT
        assert errors.splitlines()[-1].endswith('KeyboardInterrupt')


class TestWhatStopsTheLoop(Hosted):
    """trio is brought to its end first, whatever it is."""

    def ended(self, callback, *args):
        async def main():
            asyncio.get_running_loop().call_later(0.001, callback, *args)
            try:
                await trio.sleep_forever()
            finally:
                seen.append('cleaned up')
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.001)
                seen.append('at leisure')

        seen = []
        try:
            uringloop.trio.run(main)
        finally:
            assert seen == ['cleaned up', 'at leisure']

    def test_stop(self):
        with pytest.raises(RuntimeError, match='the event loop was stopped before trio ended'):
            self.ended(lambda: asyncio.get_running_loop().stop())

    def test_an_exit_in_a_callback(self):
        with pytest.raises(SystemExit):
            self.ended(sys.exit, 3)

    def test_a_loop_that_cannot_go_on(self, monkeypatch):
        def cannot(_):
            patch.undo()            # the loop's end needs it
            raise OSError('the ring cannot be entered')

        async def main():
            begun.append(True)

        begun = []
        loop = CopyingLoop if self.way == 'fallback' else uringloop.Loop
        with monkeypatch.context() as patch:
            patch.setattr(loop, 'run_forever', cannot)
            with pytest.raises(OSError, match='the ring cannot be entered'):
                uringloop.trio.run(main)
        assert not begun

    def test_what_of_asyncio_is_left_is_cancelled(self):
        async def left():
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                seen.append('cancelled')
                raise

        async def main():
            task = asyncio.get_running_loop().create_task(left())
            await turns(3)
            return task

        seen = []
        assert self.run(main).cancelled()
        assert seen == ['cancelled']


def test_without_trio_the_cure_is_named():
    assert script('''
        import sys
        sys.modules['trio'] = None
        import uringloop
        try:
            import uringloop.trio
        except ImportError as error:
            print(error)
        ''') == 'uringloop.trio needs trio: pip install trio\n'


def test_a_trio_that_is_changed_inside_waits_in_its_thread():
    assert script('''
        import threading, trio, uringloop.trio
        from uringloop.trio.ticks import GuestTicks

        adopt = GuestTicks.adopt
        GuestTicks.adopt = lambda self, tick: adopt(self, object())

        async def main():
            await trio.sleep(0.01)
            return threading.active_count()

        print(uringloop.trio.run(main))
        ''') == '2\n'
