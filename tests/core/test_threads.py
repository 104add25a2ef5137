"""Other threads: they wake the loop, and it calls functions in them."""
import asyncio
import resource
import socket
import threading
import time

import pytest

import uringloop
from tests.support.cases import Case, UringCase, both_sides
from tests.support.process import in_thread, until_asleep
from tests.support.programs import program
from tests.support.turns import turns


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

    def test_calls_of_many_threads_keep_their_order(self):
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

    def test_each_of_many_wakeups_is_heard(self):
        """Nobody takes back what tells of them."""
        async def main():
            woken = asyncio.Event()
            heard = threading.Event()

            def other():
                for _ in range(2000):
                    self.loop.call_soon_threadsafe(woken.set)
                    assert heard.wait(self.timeout)
                    heard.clear()

            thread = threading.Thread(target=other)
            thread.start()
            for _ in range(2000):
                await woken.wait()
                woken.clear()
                heard.set()
            thread.join(self.timeout)

        self.run(main())

    def test_a_call_before_the_loop_runs(self):
        thread = threading.Thread(
            target=self.loop.call_soon_threadsafe, args=(self.loop.stop,))
        thread.start()
        thread.join(self.timeout)
        self.forever()

    def test_run_in_executor_returns_and_raises(self):
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

    def test_run_coroutine_threadsafe_returns_the_result(self):
        async def double(n):
            await asyncio.sleep(0)
            return 2 * n

        def other():
            return asyncio.run_coroutine_threadsafe(double(21), self.loop).result(self.timeout)

        async def main():
            assert await self.loop.run_in_executor(None, other) == 42
            await self.loop.shutdown_default_executor()

        self.run(main())

    def test_getaddrinfo_and_getnameinfo(self):
        async def main():
            assert await self.loop.getaddrinfo(
                '127.0.0.1', 80, family=socket.AF_INET, type=socket.SOCK_DGRAM) \
                == socket.getaddrinfo('127.0.0.1', 80, socket.AF_INET, socket.SOCK_DGRAM)
            assert await self.loop.getnameinfo(
                ('127.0.0.1', 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV) \
                == ('127.0.0.1', '80')
            await self.loop.shutdown_default_executor()

        self.run(main())


class TestCounters(UringCase):

    def test_another_thread_reads_them_while_the_loop_runs(self):
        """`make tsan` tells if one is written without the GIL."""
        seen = []
        running = True

        def look():
            while running:
                stats = self.loop.stats()
                seen.append((stats.syscalls, stats.submissions, stats.completions))
                time.sleep(0)

        async def main():
            reader, writer = socket.socketpair()
            with reader, writer:
                reader.setblocking(False)
                for _ in range(300):
                    # Polled and submitted before the loop looks for what completes.
                    waiting = asyncio.ensure_future(self.loop.sock_recv(reader, 10))
                    await asyncio.sleep(0)
                    self.loop.call_later(0.0001, writer.send, b'x')
                    assert await waiting == b'x'

        thread = threading.Thread(target=look)
        thread.start()
        try:
            self.run(main())
        finally:
            running = False
            thread.join()
        assert seen == sorted(seen)


class TestMovingLoop(UringCase):

    def test_a_thread_that_a_callback_waits_for_is_not_slowed_down(self):
        """A flood is; but while the loop's thread runs nothing, that would only last longer."""
        def other():
            before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
            for _ in range(20_000):
                self.loop.call_soon_threadsafe(int)
            return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before

        async def main():
            return in_thread(other)

        assert self.run(main()) < 5000

    def test_is_woken_in_whichever_thread_it_runs(self):
        async def main():
            future = self.loop.create_future()
            in_thread(lambda: self.loop.call_soon_threadsafe(future.set_result, 'woken'))
            return await future

        async def asleep():
            future = self.loop.create_future()
            started = threading.Event()

            def other():
                started.wait()
                self.loop.call_soon_threadsafe(future.set_result, 'woken')

            thread = threading.Thread(target=other)
            thread.start()
            started.set()
            assert await future == 'woken'
            thread.join()

        for _ in range(3):
            assert self.run(main()) == 'woken'
            self.run(asleep())
            in_thread(lambda: self.run(asleep()))


class _TestWakeUps(Case):

    @pytest.mark.parametrize('busy_poll', [0, 50])
    def test_heard_at_once_behind_zerocopy_writes(self, busy_poll):
        """Whatever has been sent: a wake-up from a thread is heard at once."""
        async def main():
            listening = socket.create_server(('127.0.0.1', 0))
            with listening:
                transport, _ = await asyncio.get_running_loop().create_connection(
                    asyncio.Protocol, *listening.getsockname())
                for _ in range(3):
                    transport.write(bytes(70_000))
                woken = asyncio.get_running_loop().create_future()
                waker = threading.Timer(0.05, asyncio.get_running_loop().call_soon_threadsafe,
                                        (woken.set_result, None))
                waker.start()
                begin = time.monotonic()
                await asyncio.wait_for(woken, 4)
                assert time.monotonic() - begin < 2
                waker.join()
                transport.abort()
                await turns(3)

        if not self.uring:
            return self.run(main())
        loop = uringloop.new_event_loop(require_uring=True, busy_poll=busy_poll)
        loop.run_until_complete(main())
        loop.close()


class _TestTurns(Case):

    def test_another_thread_has_its_turn_between_c_functions(self):
        """They run no bytecode, at which the interpreter would let others run."""
        numbers = list(range(100_000))
        go = threading.Event()
        ran = []

        def other():
            go.wait(self.timeout)
            ran.append('other thread')

        async def main():
            thread = threading.Thread(target=other)
            thread.start()
            for _ in range(400):
                self.loop.call_soon(sum, numbers)
            self.loop.call_soon(ran.append, 'end of the turn')
            go.set()
            await asyncio.sleep(0)
            thread.join()
            assert ran == ['other thread', 'end of the turn']

        self.run(main())

    def test_an_error_while_woken_is_reported(self):
        class Failing(type(self.loop)):
            def _process_self_data(self, data):
                super()._process_self_data(data)
                raise ValueError('mine')

        async def main():
            for expected in range(1, 3):
                loop._csock.send(b'\0')         # as signals do
                while len(problems) < expected:
                    await asyncio.sleep(0)
                assert len(problems) == expected
                assert isinstance(problems[-1]['exception'], ValueError)

        problems = []
        loop = Failing()
        loop.set_exception_handler(lambda loop, context: problems.append(context))
        try:
            loop.run_until_complete(asyncio.wait_for(main(), self.timeout))
        finally:
            loop.close()


class TestWakeupSocket(UringCase):

    def test_a_wakeup_while_the_wakeup_socket_is_read(self):
        read, loops_thread = self.loop._read_from_self, threading.current_thread()

        def call_once_it_sleeps(callback):
            until_asleep(loops_thread, self.timeout)
            self.loop.call_soon_threadsafe(callback)

        async def main():
            done = asyncio.Event()

            def meanwhile():
                self.loop._read_from_self = read
                in_thread(lambda: self.loop.call_soon_threadsafe(done.set))
                read()

            self.loop._read_from_self = meanwhile
            self.loop._csock.send(b'\0')            # as signals do
            await done.wait()
            assert self.loop._read_from_self == read
            for _ in range(2):
                done.clear()
                thread = threading.Thread(target=call_once_it_sleeps, args=(done.set,))
                thread.start()
                await done.wait()
                thread.join(self.timeout)

        self.run(main())


class TestFloods(UringCase):
    """With asyncio it is for the interpreter which thread runs, and how much waits then."""

    def test_threads_that_flood_do_not_fill_the_memory(self):
        longest = []

        def flood():
            for _ in range(40_000):
                self.loop.call_soon_threadsafe(int)

        async def main():
            threads = [threading.Thread(target=flood) for _ in range(4)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                longest.append(len(self.loop._ready))
                await asyncio.sleep(0)
            for thread in threads:
                thread.join()

        self.timeout = 60
        self.run(main())
        assert max(longest) < 30_000


both_sides(globals(), _TestTurns, _TestThreads, _TestWakeUps)


@pytest.mark.parametrize('how', ['server', 'sock_accept'])
@pytest.mark.parametrize('loop', ['asyncio', 'uring'])
def test_others_go_on_while_accepting_blocks(loop, how):
    """Who shares a listening socket has made it blocking: each accept waits for the next."""
    assert program(loop, f'''
        import os, pathlib, socket, threading

        def ends_once_the_loop_waits():
            running = pathlib.Path(f'/proc/self/task/{{os.getpid()}}/syscall')
            while running.read_text().split()[0] not in ('288', '242'):      # accept4
                pass
            os._exit(7)

        async def main():
            listening = socket.create_server(('127.0.0.1', 0))
            listening.setblocking(False)
            shared = listening.dup()
            if {how!r} == 'server':
                await asyncio.start_server(lambda reader, writer: None, sock=listening)
                client = socket.create_connection(listening.getsockname())
            threading.Thread(target=ends_once_the_loop_waits, daemon=True).start()
            shared.setblocking(True)
            if {how!r} == 'sock_accept':
                await loop.sock_accept(listening)
            await asyncio.sleep(100)

        loop.run_until_complete(main())
    ''') == 7
