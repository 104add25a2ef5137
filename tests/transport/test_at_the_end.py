"""What was said before an end leaves, and what came before it is heard."""
import asyncio
import contextlib
import os
import socket
import threading

import pytest

from tests.support.cases import UringCase, both_sides
from tests.support.programs import program
from tests.support.protocols import Recorder as Datagrams
from tests.support.sockets import PAIRS
from tests.support.streams import Buffered, Recorder, Streams, both_kinds
from tests.support.turns import turns


class _TestWrittenBefore(Streams):
    """asyncio sends at the call; so what follows the call does not call it back."""

    @both_kinds
    @pytest.mark.parametrize('end', ['abort', 'raise'])
    def test_written_by_a_protocol(self, kind, end):
        class Refusing(Recorder):
            def data_received(self, data):
                self.transport.write(b'bad request')
                if end == 'raise':
                    raise ZeroDivisionError
                self.transport.abort()

        async def main():
            near, peer = await self.half(Refusing, kind=kind)
            peer.send(b'?')
            await near.until_lost()
            assert await self.read_all(peer) == b'bad request'

        self.run(main())

    def test_datagram_sent_before_abort(self):
        async def main():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                peer.bind(('127.0.0.1', 0))
                peer.setblocking(False)
                transport, protocol = await self.loop.create_datagram_endpoint(
                    Datagrams, remote_addr=peer.getsockname())
                transport.sendto(b'farewell')
                transport.abort()
                assert await self.loop.sock_recv(peer, 100) == b'farewell'
                await protocol.until(lambda p: p.lost)

        self.run(main())

    @both_kinds
    def test_written_after_close(self, kind):
        async def main():
            near, peer = await self.half(kind=kind)
            near.transport.write(b'before')
            near.transport.close()
            near.transport.write(b'after')
            assert await self.read_all(peer) == b'before'

        self.run(main())

    @pytest.mark.parametrize('exception', [KeyboardInterrupt, SystemExit])
    def test_written_before_the_loop_is_left(self, exception):
        """The program may never run the loop again."""
        async def main():
            near.append(await self.open(one))
            near[0].transport.write(b'farewell')
            raise exception

        near = []
        self.opened = []
        one, peer = socket.socketpair()
        with peer:
            peer.setblocking(False)
            with pytest.raises(exception):
                self.loop.run_until_complete(main())
            assert peer.recv(100) == b'farewell'
            near[0].transport.abort()
            self.loop.run_until_complete(near[0].until_lost())

    @pytest.mark.parametrize('kind', ['tcp', 'udp'])
    def test_sent_by_another_thread_while_the_loop_sleeps(self, kind):
        """Not to be done, but with asyncio it arrives at once and not with the next event."""
        async def main():
            if kind == 'tcp':
                sock, peer = PAIRS[kind]()
                protocol = await self.open(sock)
                send = protocol.transport.write
            else:
                peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                peer.bind(('127.0.0.1', 0))
                transport, protocol = await self.loop.create_datagram_endpoint(
                    Datagrams, remote_addr=peer.getsockname())
                send = transport.sendto
            done = self.loop.create_future()

            def other():
                try:
                    with peer:
                        peer.settimeout(2)
                        # Time to fall asleep; if it does not, the test is only weaker.
                        threading.Event().wait(0.05)
                        send(b'psst')
                        received.append(peer.recv(100))
                finally:
                    self.loop.call_soon_threadsafe(done.set_result, None)

            thread = threading.Thread(target=other)
            thread.start()
            await done
            thread.join()
            protocol.transport.abort()
            await protocol.until(lambda *_: protocol.lost)

        received = []
        self.run(main())
        assert received == [b'psst']


class _TestReceivedBefore(Streams):

    @both_kinds
    def test_answer_that_came_before_a_write_failed(self, kind):
        """A server that refuses an upload answers, closes, and resets what it has not read."""
        async def main():
            near, peer = await self.half(kind=kind)
            near.transport.write(bytes(8 << 20))
            await near.until(lambda: 'pause' in near.calls)
            await turns()
            # All in one turn: the loop learns of both at once.
            peer.send(b'413 too large')
            peer.close()
            await near.until_lost()
            assert near.data == b'413 too large'

        self.run(main())

    def test_interrupted_while_a_buffer_is_filled(self):
        class Interrupting(Buffered):
            size = 10

            def received(self, data):
                super().received(data)
                if len(self.data) == 10:
                    raise KeyboardInterrupt

        async def first():
            await self.open(near, Interrupting)
            far.send(sent)
            await self.loop.create_future()

        async def second():
            protocol, = self.opened
            await protocol.until_length(len(sent))
            assert protocol.data == sent
            protocol.transport.abort()
            await protocol.until_lost()

        self.opened = []
        sent = bytes(range(52))
        near, far = socket.socketpair()
        with far:
            task = self.loop.create_task(first())
            with pytest.raises(KeyboardInterrupt):
                self.loop.run_until_complete(task)
            task.cancel()
            self.loop.run_until_complete(asyncio.wait_for(second(), self.timeout))


on_each_loop = pytest.mark.parametrize('loop', ['asyncio', 'uring'])


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


class TestExitedChild(UringCase):

    def test_terminate(self):
        """A child that has ended but was not yet waited for keeps its exit code.

        With some versions of asyncio the signal's own look at the child takes it away.
        """
        async def main():
            waits, go_on = os.pipe()
            process = await asyncio.create_subprocess_exec(
                'sh', '-c', 'read line; exit 3', stdin=waits)
            os.close(waits)
            os.close(go_on)
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            return await process.wait()

        assert self.run(main()) == 3


class TestNeverRun(UringCase):

    def test_zerocopy_send_of_a_loop_that_does_not_run(self):
        """It is copied, and nothing of it stays."""
        data = bytearray(100)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            for _ in range(5):
                sending = self.loop.sock_sendto_zerocopy(sock, data, sock.getsockname()[:1] + (9,))
                assert sending.result() == (100, True)
        data.clear()
        assert self.loop.stats().operations_live == 0


class _TestToldOnce(Streams):
    """A protocol that keeps its sending half open hears of the end once."""

    class Answering(Recorder):
        keep_open = True

        def eof_received(self):
            self.transport.write(b'answer')
            return super().eof_received()

    class BufferedAnswering(Buffered):
        keep_open = True
        size = 128 * 1024

        def eof_received(self):
            self.transport.write(b'answer')
            return super().eof_received()

    @both_kinds
    @pytest.mark.parametrize('factory', [Answering, BufferedAnswering])
    def test_after_a_read_that_filled_the_buffer(self, kind, factory):
        """The end comes when another read was due anyway."""
        size = 128 * 1024

        async def main():
            near, peer = await self.half(factory, kind=kind)
            if kind == 'tcp':
                near.transport.get_extra_info('socket').setsockopt(
                    socket.SOL_SOCKET, socket.SO_RCVBUF, 400_000)
            pieces = 8 if kind == 'tcp' else 1      # bulk, to be read one by one
            for piece in range(1, pieces + 1):
                near.transport.pause_reading()
                await self.loop.sock_sendall(peer, bytes(size))
                await turns(2)
                near.transport.resume_reading()
                while len(near.data) < piece * size:
                    await asyncio.sleep(0)
            # The turns are not waited through: a poll may be on its way.
            peer.shutdown(socket.SHUT_WR)
            await near.until(lambda: 'eof' in near.calls)
            assert await self.read(peer, 6) == b'answer'
            await turns(10)
            assert near.calls.count('eof') == 1
            near.transport.abort()
            await near.until_lost()
            assert await self.read_all(peer) == b''
            assert near.lost == [None]

        self.run(main())


both_sides(globals(), _TestWrittenBefore, _TestReceivedBefore, _TestToldOnce)
