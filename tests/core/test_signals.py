"""Signals: handlers of the loop and of ``signal``, Ctrl-C, and a loop that sleeps meanwhile."""
import asyncio
import contextlib
import os
import signal
import sys
import textwrap
import threading

import pytest

import uringloop
from tests.support.cases import UringCase, both_sides
from tests.support.process import SLEEPS, until_asleep
from tests.support.programs import LOOPS, program
from tests.support.protocols import endpoint


class _TestSignals:

    def kill_soon(self, number):
        """Send this process a signal from another thread once the loop has fallen asleep."""
        started = threading.Event()
        main = threading.main_thread()

        def other():
            started.wait(self.timeout)
            until_asleep(main, self.timeout)
            signal.pthread_kill(main.ident, number)

        thread = threading.Thread(target=other)
        thread.start()
        self.loop.call_soon(started.set)
        return thread

    def test_a_handler_runs_while_the_loop_sleeps(self):
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

    def test_a_handler_replaces_another(self):
        seen = []
        self.loop.add_signal_handler(signal.SIGUSR1, seen.append, 'first')
        self.loop.add_signal_handler(
            signal.SIGUSR1, lambda: (seen.append('second'), self.loop.stop()))
        self.loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        self.forever()
        assert seen == ['second']

    def test_close_removes_handlers(self):
        self.loop.add_signal_handler(signal.SIGUSR1, print)
        self.loop.close()
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL

    def test_bad_arguments_are_refused(self):
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

    def test_ctrl_c_interrupts_a_sleeping_loop(self):
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


class TestTimerSignals(UringCase):

    @pytest.fixture(autouse=True)
    def _alarm(self, _fresh_loop):
        handler = signal.getsignal(signal.SIGALRM)
        yield
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)

    def test_keyboard_interrupt_while_asleep(self):
        def interrupt(number, frame):
            raise KeyboardInterrupt

        async def asleep():
            pair.extend(await endpoint(local_addr=('127.0.0.1', 0)))
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            await self.loop.create_future()

        async def awake():
            transport, protocol = pair
            transport.sendto(b'x', transport.get_extra_info('sockname'))
            await protocol.until(lambda p: p.datagrams)
            transport.close()
            await protocol.until(lambda p: p.lost)

        pair = []
        signal.signal(signal.SIGALRM, interrupt)
        task = self.loop.create_task(asleep())
        with pytest.raises(KeyboardInterrupt):
            self.loop.run_until_complete(task)
        task.cancel()
        self.run(awake())

    def test_the_sleep_goes_on_after_a_handler(self):
        """A signal interrupts the sleep, its handler runs, and the sleep goes on."""
        seen = []

        async def main():
            woken = self.loop.create_future()

            def handler(number, frame):
                seen.append(number)
                if len(seen) == 3:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    self.loop.call_soon_threadsafe(woken.set_result, None)

            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
            await woken

        self.run(main())
        assert seen == [signal.SIGALRM] * 3

    def test_a_handler_of_the_loop_wakes_it(self):
        async def main():
            signalled = self.loop.create_future()
            self.loop.add_signal_handler(signal.SIGALRM, signalled.set_result, None)
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            await signalled
            self.loop.remove_signal_handler(signal.SIGALRM)

        self.run(main())

    @pytest.mark.parametrize('error', [KeyboardInterrupt, ZeroDivisionError])
    def test_one_is_heeded_though_to_read_of_it_has_failed(self, error):
        """The wake-up socket is read once more."""
        def fails():
            del self.loop._read_from_self
            raise error

        seen = []
        self.loop.add_signal_handler(signal.SIGALRM, lambda: (seen.append(1), self.loop.stop()))
        self.loop._read_from_self = fails
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        if error is KeyboardInterrupt:
            with pytest.raises(KeyboardInterrupt):
                self.forever()
            assert not seen
        self.forever()
        assert seen
        self.loop.remove_signal_handler(signal.SIGALRM)
        self.problems.clear()

    def test_all_are_heeded_though_the_program_reads_one_at_a_time(self):
        def read_one():
            with contextlib.suppress(BlockingIOError):
                self.loop._process_self_data(self.loop._ssock.recv(1))

        async def main():
            told = []
            kinds = signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP
            for kind in kinds:
                self.loop.add_signal_handler(kind, told.append, kind)
            self.loop._read_from_self = read_one
            for kind in kinds:
                signal.raise_signal(kind)
            while set(told) != set(kinds):
                await asyncio.sleep(0.001)
            del self.loop._read_from_self
            for kind in kinds:
                self.loop.remove_signal_handler(kind)

        self.run(main())

    @pytest.mark.skipif(sys.version_info < (3, 11), reason='asyncio.Runner is new in 3.11')
    def test_an_interrupted_runner_cancels_its_task(self):
        async def main():
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                cancelled.append(True)

        cancelled = []
        signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
        with asyncio.Runner(loop_factory=uringloop.new_event_loop) as runner:
            with pytest.raises(KeyboardInterrupt):
                runner.run(main())
        assert cancelled == [True]


@pytest.mark.parametrize('loop', ['asyncio', 'uring, no busy_poll'])
@pytest.mark.parametrize('ends', [True, False])
def test_signal_while_asleep_after_a_submission(loop, ends):
    """Its handler runs at once, also if the sleep began by submitting something."""
    assert program(loop, f'''
        import os, signal, socket

        def handler(number, frame):
            if {ends}:
                raise KeyboardInterrupt
            os._exit(7)

        async def main():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(('127.0.0.1', 0))
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, remote_addr=sock.getsockname())
            for _ in range(5):
                await asyncio.sleep(0)
            transport.sendto(b'x')
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            await loop.create_future()

        try:
            loop.run_until_complete(main())
        except KeyboardInterrupt:
            os._exit(7)
    ''') == 7


both_sides(globals(), _TestSignals)


RAISING = '''
    import os, signal, socket

    class Stop(Exception):
        pass

    def raising(*arguments):
        raise {exception}

    class Counting(asyncio.Protocol):
        received = 0
        lost = False

        def data_received(self, data):
            self.received += len(data)

        def connection_lost(self, exc):
            self.lost = True

    signal.signal(signal.SIGUSR1, raising)
    near, far = socket.socketpair()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        # Data and the signal come together, while the loop sleeps; it is held meanwhile, or it
        # might have read the one, and not yet handed it over, when the other comes.
        os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
        while far.recv(1) == b'g':
            while open(f'/proc/{{parent}}/syscall').read().split()[0] not in {sleeps}:
                os.sched_yield()
            os.kill(parent, signal.SIGSTOP)
            while open(f'/proc/{{parent}}/stat').read().rpartition(')')[2].split()[0] != 'T':
                os.sched_yield()
            far.send(b'data')
            os.kill(parent, signal.SIGUSR1)
            os.kill(parent, signal.SIGCONT)
        os._exit(0)
    far.close()
    near.setblocking(False)
    os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
    transport, protocol = loop.run_until_complete(
        loop.create_connection(Counting, sock=near))
    for round in range(50):
        loop.call_soon(transport.write, b'g')
        try:
            loop.run_forever()
        except {exception}:
            continue
    async def all_received():
        while protocol.received < 200:       # what came with the last signal; else for ever
            await asyncio.sleep(0)

    loop.run_until_complete(all_received())
    assert not protocol.lost
    transport.write(b'x')
    os.waitpid(child, 0)
    os._exit(7)
'''


@pytest.mark.parametrize('exception', ['KeyboardInterrupt', 'Stop'])
@pytest.mark.parametrize('loop', LOOPS)
def test_nothing_is_lost_by_a_handler_that_raises(loop, exception):
    """It raises before what came with the signal is taken, as in asyncio's ``select``."""
    assert program(loop, textwrap.dedent(RAISING.format(
        exception=exception, sleeps=SLEEPS))) == 7
