"""Sockets that the program closes while a call waits on them, and numbers that change hands."""
import asyncio
import errno
import socket
import sys

import pytest

from tests.support.cases import UringCase, both_sides
from tests.support.features import needs_feature
from tests.support.namespaces import needs_root
from tests.support.process import in_thread
from tests.support.programs import outcome
from tests.support.sockets import Calls, listener, tcp_pair, udp
from tests.support.turns import settle


class _TestClosedUnderACall(Calls):
    """``sock.close()`` is the end for the peer and the port, whoever waits on the socket."""

    def test_peer_sees_the_end(self):
        async def main():
            one, two = tcp_pair()
            with two:
                one.setblocking(False)
                two.setblocking(False)
                task = await self.waiting(self.loop.sock_recv(one, 10))
                one.close()
                assert await self.loop.sock_recv(two, 10) == b''
                await self.given_up(task)

        self.run(main())

    def test_nobody_listens_any_more(self):
        async def main():
            sock = listener()
            address = sock.getsockname()
            task = await self.waiting(self.loop.sock_accept(sock))
            sock.close()
            await asyncio.sleep(0.001)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)
            socket.create_server(address).close()
            await self.given_up(task)

        self.run(main())

    def test_nobody_listens_for_a_server_any_more(self):
        """The program closes the socket that it had given to ``create_server``."""
        async def main():
            sock = listener()
            address = sock.getsockname()
            server = await self.loop.create_server(asyncio.Protocol, sock=sock)
            await settle()
            sock.close()
            await asyncio.sleep(0.001)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)
            socket.create_server(address).close()
            try:
                server.close()
            except ValueError:
                assert not self.uring       # asyncio minds

        self.run(main())

    @pytest.mark.parametrize('name', ['sock_recv', 'sock_recvfrom'])
    def test_datagram_port_is_free(self, name):
        if not self.uring and name == 'sock_recvfrom' and sys.version_info < (3, 11):
            pytest.skip("asyncio's sock_recvfrom is new in 3.11")

        async def main():
            sock = udp()
            address = sock.getsockname()
            task = await self.waiting(getattr(self.loop, name)(sock, 10))
            sock.close()
            await asyncio.sleep(0.001)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
                again.bind(address)
            await self.given_up(task)

        self.run(main())


class TestNumberTakenByAnother(Calls, UringCase):
    """An operation that has yet to be submitted knows a number; a socket was meant."""

    def test_a_receive_that_moves_to_another_ring_fails(self):
        async def first():
            return await self.waiting(self.loop.sock_recv(one, 100))

        async def second():
            with pytest.raises(OSError) as caught:
                await asyncio.wait_for(task, 2)
            assert caught.value.errno == errno.EBADF

        one, two = socket.socketpair()
        one.setblocking(False)
        task = in_thread(lambda: self.run(first()))
        number = one.fileno()
        one.close()
        pair = socket.socketpair()
        mine, other = pair if pair[0].fileno() == number else reversed(pair)
        with two, mine, other:
            assert mine.fileno() == number
            other.send(b'private')
            self.run(second())
            assert mine.recv(100) == b'private'

    @needs_feature('send_zc')
    @needs_root
    def test_a_refused_zerocopy_send_leaves_by_its_own_socket(self):
        """Without memory to lock the datagram is copied, at the call, and not by any socket."""
        assert outcome('''
            import asyncio, os, resource, socket
            import uringloop

            resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
            os.setgroups([])
            os.setgid(65534)
            os.setuid(60000 + os.getpid() % 5000)

            def udp():
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.setblocking(False)
                sock.bind(('127.0.0.1', 0))
                return sock

            async def main():
                loop = asyncio.get_running_loop()
                sock = udp()
                number, mine = sock.fileno(), sock.getsockname()
                future = loop.sock_sendto_zerocopy(sock, bytearray(65_000), sink.getsockname())
                sock.close()
                with udp() as other:
                    assert other.fileno() == number
                    await asyncio.wait([future])
                    assert future.result() == (65_000, True)
                    sink.settimeout(1)
                    assert sink.recvfrom(70_000) == (bytes(65_000), mine)
                assert loop.stats().zerocopy_fell_back == 1

            sink = udp()
            with sink:
                loop = uringloop.new_event_loop(require_uring=True)
                loop.run_until_complete(main())
                loop.close()
        ''', timeout=20) == (0, '')


class TestClosedBefore(UringCase):

    def test_a_send_leaves_by_the_socket_it_was_meant_for(self):
        async def main():
            with udp() as receiver:
                sock = udp()
                mine = sock.getsockname()
                sending = asyncio.ensure_future(
                    self.loop.sock_sendto(sock, bytes(20_000), receiver.getsockname()))
                await asyncio.sleep(0)
                sock.close()
                with udp():
                    data, address = await self.loop.sock_recvfrom(receiver, 65536)
                assert (len(data), address) == (20_000, mine)
                assert await sending == 20_000

        self.run(main())

    def test_a_closed_socket_is_refused(self):
        async def main():
            sock = udp()
            address = sock.getsockname()
            sock.close()
            for sending in (self.loop.sock_sendto(sock, b'x', address),
                            self.loop.sock_recvfrom(sock, 10)):
                with pytest.raises(OSError) as caught:
                    await sending
                assert caught.value.errno == errno.EBADF
            with pytest.raises(OSError) as caught:
                await self.loop.sock_sendto_zerocopy(sock, b'x', address)
            assert caught.value.errno == errno.EBADF

        self.run(main())


both_sides(globals(), _TestClosedUnderACall)
