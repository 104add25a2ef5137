"""What is raised through the loop by a callback costs no transport anything that it was due."""
import asyncio
import socket

import pytest

from tests.support.cases import Case, UringCase, both_sides
from tests.support.endpoints import numbered
from tests.support.protocols import Recorder as Datagrams
from tests.support.sockets import PAIRS, bound
from tests.support.streams import Buffered, Recorder, Streams


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


both_sides(globals(), _TestInterrupted, _TestBuffers)
