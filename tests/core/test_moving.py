"""A loop that is run by one thread after another: what was armed goes on."""
import asyncio
import gc
import os
import signal
import socket
import threading

import pytest

from tests.support.cases import UringCase, assert_no_leaks, both_sides
from tests.support.process import descriptors, in_thread
from tests.support.protocols import endpoint
from tests.support.sockets import LOCAL, udp
from tests.support.streams import MANY_BYTES, Echo, Recorder, Streams
from tests.support.turns import settle, turns


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

    def test_a_signal_that_came_before_is_handled(self):
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


async def talk(one, two):
    """Each of two ``(transport, Recorder)`` sends to the other, three ways."""
    for (sender, _), (receiver, received) in ((one, two), (two, one)):
        received.datagrams.clear()
        address = receiver.get_extra_info('sockname')
        sender.sendto(b'short', address)
        sender.sendto(bytes(20_000), address)
        assert (await sender.sendto_zerocopy(bytearray(1000), address)).nbytes == 1000
        await received.until(lambda p: len(p.datagrams) == 3)
        assert received.datagrams == [b'short', bytes(20_000), bytes(1000)]


class TestEndpoints(UringCase):

    def test_endpoints_and_calls_go_on_in_another_thread(self):
        """What was armed on the first thread's ring goes on, on the second's."""
        async def first():
            pair = [await endpoint(local_addr=('127.0.0.1', 0)) for _ in range(2)]
            await talk(*pair)
            task = asyncio.ensure_future(self.loop.sock_recvfrom(sock, 100))
            await asyncio.sleep(0)
            return pair, task

        async def second(pair, task):
            await talk(*pair)
            pair[0][0].sendto(b'to the pending call', sock.getsockname())
            assert (await task)[0] == b'to the pending call'
            assert await self.loop.sock_sendto(sock, b'x', sock.getsockname()) == 1
            assert (await self.loop.sock_recvfrom(sock, 100))[0] == b'x'

        async def third(pair):
            await talk(*pair)
            for transport, protocol in pair:
                transport.close()
                await protocol.until(lambda p: p.lost)
                assert not protocol.errors

        with udp() as sock:
            pair, task = self.run(first())
            in_thread(lambda: self.run(second(pair, task)))
            self.run(third(pair))
        assert not self.problems

    def test_what_is_sent_between_two_threads_arrives(self):
        """What is sent while the loop does not run, and its ring is another thread's."""
        async def first():
            return [await endpoint(local_addr=('127.0.0.1', 0)) for _ in range(2)]

        async def second(pair):
            await pair[1][1].until(lambda p: len(p.datagrams) == 2)
            assert pair[1][1].datagrams == [b'first', b'second']
            for transport, protocol in pair:
                transport.close()
                await protocol.until(lambda p: p.lost)

        pair = self.run(first())
        address = pair[1][0].get_extra_info('sockname')

        def other():
            pair[0][0].sendto(b'first', address)
            pair[0][0].sendto(b'second', address)

        in_thread(other)
        self.run(second(pair))

    @pytest.mark.parametrize('runs_in', ['this thread', 'another'])
    def test_closed_by_another_thread_leaves_nothing(self, runs_in):
        async def main():
            transport, protocol = await endpoint(local_addr=('127.0.0.1', 0))
            address = transport.get_extra_info('sockname')
            transport.sendto(bytes(20_000), address)
            task = asyncio.ensure_future(self.loop.sock_recv(sock, 10))
            await protocol.until(lambda p: p.datagrams)
            task.cancel()
            await asyncio.wait([task])
            transport.abort()
            pending = asyncio.ensure_future(self.loop.sock_recv(sock, 10))
            await asyncio.sleep(0)
            return pending

        with udp() as sock:
            if runs_in == 'this thread':
                pending = self.run(main())
                in_thread(self.loop.close)
            else:
                pending = in_thread(lambda: self.run(main()))
                self.loop.close()
            pending._log_destroy_pending = False
            del pending
        closed, self.loop = self.loop, self.new_loop()
        assert closed.is_closed()
        gc.collect()
        assert_no_leaks(closed)

    def test_a_loop_outlives_its_thread(self):
        before = descriptors()

        def forgetful():
            async def main():
                transport, protocol = await endpoint(local_addr=('127.0.0.1', 0))
                transport.sendto(bytes(20_000), transport.get_extra_info('sockname'))
                await protocol.until(lambda p: p.datagrams)
                return transport

            loop = self.new_loop()
            return loop, loop.run_until_complete(main())

        loop, transport = in_thread(forgetful)
        transport.abort()
        loop.run_until_complete(settle())
        loop.close()
        assert_no_leaks(loop)
        assert descriptors() == before


class _TestConnections(Streams):

    def test_connections_go_on_in_another_thread(self):
        """The connections, paused or not, go on when the loop runs in another thread."""
        accepted = []

        def accept():
            accepted.append(Echo())
            return accepted[-1]

        async def start():
            server = await self.loop.create_server(accept, *LOCAL)
            address = server.sockets[0].getsockname()
            one, two = [
                (await self.loop.create_connection(Recorder, *address))[1] for _ in range(2)]
            one.transport.write(b'first')
            await one.until_length(5)
            two.transport.pause_reading()
            two.transport.write(b'later')
            await turns()
            return server, one, two

        async def go_on():
            one.transport.write(MANY_BYTES[:500_000])
            await one.until_length(500_005)
            two.transport.resume_reading()
            await two.until_length(5)
            _, three = await self.loop.create_connection(
                Recorder, *server.sockets[0].getsockname())
            three.transport.write(b'new')
            await three.until_length(3)
            assert (one.data[5:], two.data) == (MANY_BYTES[:500_000], b'later')
            one.data.clear()
            three.transport.close()
            await three.until_lost()

        async def end():
            one.transport.write(b'back')
            await one.until_length(4)
            server.close()
            for protocol in (one, two):
                protocol.transport.close()
            for protocol in (one, two, *accepted):
                assert await protocol.until_lost() is None
            await turns()

        server, one, two = self.loop.run_until_complete(asyncio.wait_for(start(), 5))
        in_thread(lambda: self.loop.run_until_complete(asyncio.wait_for(go_on(), 5)))
        self.loop.run_until_complete(asyncio.wait_for(end(), 5))


both_sides(globals(), _TestMoving, _TestConnections)
