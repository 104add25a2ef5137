"""Datagrams that are sent in bulk: they wait for the end of the turn and leave together."""
import asyncio
import contextlib
import socket
import time

import pytest

import uringloop
from tests.support.cases import UringCase
from tests.support.endpoints import Sending
from tests.support.features import needs_feature
from tests.support.protocols import endpoint
from tests.support.sockets import udp


class TestBulk(Sending, UringCase):

    def test_leaves_by_the_end_of_the_turn(self):
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            for _ in range(3):
                for i in range(50):
                    transport.sendto(b'%03d' % i, self.to)
                assert len(self.arrived()) < 10
                await asyncio.sleep(0)
                assert len(self.arrived()) > 40
            transport.close()

        self.run(main())

    def test_much_does_not_wait(self):
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            for _ in range(1000):
                transport.sendto(bytes(1200), self.to)
            assert len(self.arrived()) > 900
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('sliced', [False, True])
    def test_does_not_wait_for_what_takes_long_each_time(self, sliced):
        """For callbacks that do something else between two sends."""
        content = memoryview(bytes(100_000))
        begin = 0

        def send(transport):
            nonlocal begin
            # Those that lie side by side are one operation.
            transport.sendto(content[begin:begin + 1000] if sliced else bytes(1000), self.to)
            begin += 1000

        async def main():
            nonlocal begin
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            for _ in range(3):
                begin = 0
                for _ in range(8):
                    send(transport)
                    time.sleep(0.005)
                await asyncio.sleep(0)
                self.arrived()
            begin = 0
            for _ in range(8):
                send(transport)
                assert len(self.arrived()) == 1
            transport.close()

        self.run(main())

    def test_leaves_when_asked_how_much_is_buffered(self):
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            for _ in range(50):
                transport.sendto(b'x', self.to)
            assert transport.get_write_buffer_size() == 0
            assert len(self.arrived()) == 50
            transport.close()

        self.run(main())

    def test_answers_leave_together_by_a_socket_of_the_programs_own(self):
        """What else is sent by it leaves at the call: the program may use the socket itself."""
        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, addr):
                self.transport.sendto(data, addr)

        async def main():
            transport, _ = await self.loop.create_datagram_endpoint(Echo, sock=udp())
            with udp() as peer:
                while self.loop.stats().datagrams_gathered <= 300:       # it is watched first
                    for n in range(30):
                        peer.sendto(b'%03d' % n, transport.get_extra_info('sockname'))
                    for n in range(30):
                        assert await self.loop.sock_recv(peer, 100) == b'%03d' % n
                gathered = self.loop.stats().datagrams_gathered
                for n in range(50):
                    transport.sendto(b'%03d' % n, peer.getsockname())
                    assert peer.recv(100) == b'%03d' % n
            assert self.loop.stats().datagrams_gathered == gathered
            transport.close()

        self.run(main())

    def test_answers_leave_at_the_call_once_options_were_seen_to_change(self):
        """Of the program's own socket, unseen: but they are looked at now and then."""
        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, addr):
                self.transport.sendto(data, addr)

        async def turn():
            for n in range(30):
                peer.sendto(b'%03d' % n, sock.getsockname())
            for n in range(30):
                assert await self.loop.sock_recv(peer, 100) == b'%03d' % n
            return self.loop.stats().datagrams_gathered

        async def main():
            transport, _ = await self.loop.create_datagram_endpoint(Echo, sock=sock)
            while await turn() < 30:
                pass
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 33)
            # They are trusted for a moment; then no turn has any that left together.
            gathered, alone = await turn(), 0
            while alone < 20:
                before, gathered = gathered, await turn()
                alone = alone + 1 if gathered == before else 0
            transport.close()

        with udp() as sock, udp() as peer:
            self.run(main())

    @pytest.mark.parametrize('end', ['close', 'abort'])
    def test_leaves_before_the_transport_ends(self, end):
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            for _ in range(50):
                transport.sendto(b'x', self.to)
            getattr(transport, end)()
            assert len(self.arrived()) == 50

        self.run(main())

    def test_a_train_and_its_tail_keep_their_order(self):
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            sent = []
            for turn in range(5):
                for data in [b'%d' % turn * 100] * 15 + [b'tail'] + [b'next' * 20] * 10:
                    transport.sendto(data, self.to)
                    sent.append(data)
                await asyncio.sleep(0)
            assert self.arrived() == sent
            transport.close()

        self.run(main())

    def test_switched_off(self, monkeypatch):
        async def main(**how):
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0), **how)
            for i in range(50):
                transport.sendto(bytes(100), self.to)
                assert len(self.arrived()) == 1, i
            transport.close()

        self.run(main(batch=False))
        for how in {'batch': False}, {}:
            loop = uringloop.new_event_loop(require_uring=True, **how)
            loop.run_until_complete(main())
            loop.close()
            monkeypatch.setenv('URINGLOOP_BATCH', '0')

        async def on_again():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0), batch=True)
            for _ in range(50):
                transport.sendto(bytes(100), self.to)
            assert len(self.arrived()) < 10
            transport.close()

        loop = uringloop.new_event_loop(require_uring=True)
        loop.run_until_complete(on_again())
        loop.close()

    @needs_feature('registered_files')
    def test_leaves_by_a_socket_that_the_program_closes(self):
        """What was sent before leaves by that socket, whatever its number means by then."""
        async def main():
            transport, protocol = await endpoint(
                sock=(sock := socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
            sock.setblocking(False)
            for i in range(50):
                transport.sendto(b'%03d' % i, self.to)
            number, mine = sock.fileno(), sock.getsockname()
            sock.close()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                assert other.fileno() == number
                other.bind(('127.0.0.1', 0))
                await asyncio.sleep(0)
                got = []
                with contextlib.suppress(BlockingIOError):
                    while True:
                        got.append(self.peer.recvfrom(100))
                assert got == [(b'%03d' % i, ('127.0.0.1', mine[1])) for i in range(50)]
                transport.abort()
                await protocol.until(lambda p: p.lost)

        self.run(main())
