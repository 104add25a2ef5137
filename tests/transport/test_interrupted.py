"""What is raised through the loop by a callback costs no transport anything that it was due."""
import asyncio
import contextlib
import logging
import os
import socket
from asyncio.log import logger

import pytest

from tests.support.cases import Case, UringCase, both_sides
from tests.support.endpoints import numbered
from tests.support.protocols import Recorder as Datagrams
from tests.support.sockets import LOCAL, PAIRS, bound
from tests.support.streams import Buffered, Recorder, Streams
from tests.support.turns import turns


class _TestInterrupted(Case):
    """What is raised through the loop costs nobody anything once it runs again."""

    @pytest.mark.parametrize('kind', [KeyboardInterrupt, SystemExit])
    def test_no_datagram_is_lost(self, kind):
        class Interrupting(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                got.append(data)
                if len(got) <= 8:
                    raise kind

        async def open_one():
            transport, _ = await self.loop.create_datagram_endpoint(
                Interrupting, local_addr=('127.0.0.1', 0))
            return transport

        async def wait():
            while len(got) < expected:
                await asyncio.sleep(0)

        got = []
        transport = self.loop.run_until_complete(open_one())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for expected in 12, 15:
                for _ in range(expected - len(got)):
                    sender.sendto(b'x', transport.get_extra_info('sockname'))
                for _ in range(20):
                    try:
                        self.run(wait())
                        break
                    except kind:
                        pass
                assert len(got) == expected
        transport.close()
        self.turns(3)

    def test_the_end_of_a_stream_is_told_again(self):
        class Interrupting(Recorder):
            def eof_received(self):
                super().eof_received()
                if self.calls.count('eof') == 1:
                    raise KeyboardInterrupt

        async def main():
            near, far = PAIRS['tcp']()
            with far:
                _, protocol = await self.loop.create_connection(Interrupting, sock=near)
                protocols.append(protocol)
            await until_lost()

        async def until_lost():
            while not protocols[0].lost:
                await asyncio.sleep(0)

        protocols = []
        with pytest.raises(KeyboardInterrupt):
            self.run(main())
        self.run(until_lost())
        assert protocols[0].calls == ['made', 'eof', 'eof', 'lost']


class _TestBuffers(Streams):

    def test_no_byte_is_lost_while_a_buffer_is_filled(self):
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


class TestDatagrams(UringCase):

    @pytest.mark.parametrize(('size', 'count'), [(10, 40), (20_000, 6)])
    def test_those_behind_an_interrupt_come_in_order(self, size, count):
        """Short ones are received many at a time, long ones one by one."""
        class Interrupting(Datagrams):
            def datagram_received(self, data, addr):
                super().datagram_received(data, addr)
                if data == sent[3]:
                    raise KeyboardInterrupt

        async def first():
            transport, protocol = await self.loop.create_datagram_endpoint(
                Interrupting, local_addr=('127.0.0.1', 0))
            pair.extend((transport, protocol))
            with bound() as sock:
                sock.sendto(sent[0], transport.get_extra_info('sockname'))
                await protocol.until(lambda p: p.datagrams)
                for data in sent[1:]:
                    sock.sendto(data, transport.get_extra_info('sockname'))
                await self.loop.create_future()

        async def second():
            await pair[1].until(lambda p: len(p.datagrams) == count)
            assert pair[1].datagrams == sent
            pair[0].close()
            await pair[1].until(lambda p: p.lost)

        pair, sent = [], numbered(count, size)
        task = self.loop.create_task(first())
        with pytest.raises(KeyboardInterrupt):
            self.loop.run_until_complete(task)
        assert pair[1].datagrams == sent[:4]
        task.cancel()
        self.run(second())


class Exiting(Recorder):
    """Its ``eof_received`` fails."""

    def eof_received(self):
        super().eof_received()
        raise LookupError


class Interrupted(logging.Filter):
    """The first record is a Ctrl-C."""

    done = False

    def filter(self, record):
        text = record.getMessage()
        if not self.done and ('EOF' in text or 'by peer' in text):
            self.done = True
            raise KeyboardInterrupt
        return True


class _TestTold(Case):
    """What ends a transport, and is interrupted where it is logged or reported, ends it."""

    def end_of(self, protocol):
        async def until_lost():
            while not protocol.lost:
                await asyncio.sleep(0)

        self.run(until_lost())

    def test_an_exception_handler_that_exits(self):
        async def main():
            near, far = PAIRS['tcp']()
            with far:
                _, protocol = await self.loop.create_connection(Exiting, sock=near)
                protocols.append(protocol)
            await self.loop.create_future()

        def leave(loop, context):
            loop.set_exception_handler(None)
            raise SystemExit

        protocols = []
        self.loop.set_exception_handler(leave)
        with pytest.raises(SystemExit):
            self.run(main())
        self.loop.set_exception_handler(lambda loop, context: None)
        self.end_of(protocols[0])

    @pytest.mark.parametrize('kind', ['stream', 'read pipe', 'write pipe'])
    def test_a_log_that_is_interrupted(self, kind, caplog):
        async def main():
            if kind == 'stream':
                near, far = PAIRS['tcp']()
                _, protocol = await self.loop.create_connection(Recorder, sock=near)
                protocols.append(protocol)
                far.close()
            else:
                reading, writing = os.pipe()
                if kind == 'read pipe':
                    _, protocol = await self.loop.connect_read_pipe(
                        Recorder, os.fdopen(reading, 'rb', 0))
                    gone = writing
                else:
                    _, protocol = await self.loop.connect_write_pipe(
                        Recorder, os.fdopen(writing, 'wb', 0))
                    gone = reading
                protocols.append(protocol)
                await asyncio.sleep(0)
                os.close(gone)
            await self.loop.create_future()

        protocols = []
        self.loop.set_debug(True)
        interrupt = Interrupted()
        logger.addFilter(interrupt)
        try:
            with caplog.at_level(logging.DEBUG, logger='asyncio'), \
                    pytest.raises(KeyboardInterrupt):
                self.run(main())
            self.end_of(protocols[0])
        finally:
            logger.removeFilter(interrupt)
        assert protocols[0].lost == [None]


class TestFileno(UringCase):
    """A socket's class may have its own, which raises."""

    class Socket(socket.socket):
        calls_left = -1
        closed_is = None

        def fileno(self):
            self.calls_left -= 1
            if self.calls_left == -1:
                raise KeyboardInterrupt
            if self.closed_is is not None and self._closed:
                raise self.closed_is
            return super().fileno()

    @pytest.mark.parametrize('calls', [0, 1])
    def test_interrupted_where_something_is_about_to_be_read(self, calls):
        near, far = PAIRS['tcp']()
        sock = self.Socket(fileno=near.detach())
        sock.setblocking(False)

        async def main():
            _, protocol = await self.loop.create_connection(Recorder, sock=sock)
            protocols.append(protocol)
            for expected in range(1, 5):         # until its poll goes on
                far.send(b'x')
                await protocol.until(lambda n=expected: len(protocol.data) == n)
            # Until the loop has looked, by its own timer, whether the last read left something:
            # from then on only what is new is told of.
            await asyncio.sleep(0.5)

        async def until_read():
            await protocols[0].until(lambda: len(protocols[0].data) == 5)
            protocols[0].transport.abort()
            await protocols[0].until(lambda: protocols[0].lost)

        protocols = []
        self.run(main())
        sock.calls_left = calls
        far.send(b'y')
        with contextlib.suppress(KeyboardInterrupt):
            self.turns(20)
        sock.calls_left = -1
        self.run(until_read())
        far.close()

    @pytest.mark.parametrize('kind', ['receives', 'accepts'])
    def test_raises_once_it_is_closed(self, kind):
        """The loop looks after such sockets, and is not ended by that."""
        async def main():
            sock = self.Socket()
            sock.bind(LOCAL)
            sock.setblocking(False)
            sock.closed_is = ValueError
            if kind == 'accepts':
                sock.listen()
                await self.loop.create_server(asyncio.Protocol, sock=sock)
                waiting = None
            else:
                one, two = PAIRS['tcp']()
                sock.close()
                sock = self.Socket(fileno=one.detach())
                sock.setblocking(False)
                sock.closed_is = ValueError
                waiting = self.loop.create_task(self.loop.sock_recv(sock, 10))
            await turns()
            sock.close()
            await asyncio.sleep(0.01)
            if waiting is not None:
                waiting.cancel()
                await asyncio.wait([waiting])
                two.close()

        self.run(main())

    def test_interrupted_as_a_task_begins_to_wait(self):
        """Nothing is waited for by then: there is nobody who would call it back."""
        async def main():
            one, two = PAIRS['tcp']()
            await turns()
            before = self.loop.stats().operations_live
            call = self.loop._recv_now(one, 10)
            assert self.loop.stats().operations_live == before
            del call
            one.close()
            two.close()

        self.run(main())


both_sides(globals(), _TestInterrupted, _TestBuffers, _TestTold)
