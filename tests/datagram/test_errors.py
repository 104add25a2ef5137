"""Each errno of a send reaches error_received, the future or the coroutine; once."""
import errno
import socket

import pytest

from tests.support.cases import UringCase
from tests.support.namespaces import Namespace, Wire, needs_root
from tests.support.protocols import Recorder, endpoint
from tests.support.sockets import deserted, udp


@pytest.fixture(scope='module')
def empty():
    with Namespace() as namespace:
        yield namespace


class TestErrors(UringCase):
    """Each errno of a send reaches error_received, the future or the coroutine; once."""

    async def refused(self, sock, data, address, code):
        """All four ways to send from ``sock`` fail with ``code``."""
        with pytest.raises(OSError) as caught:
            await self.loop.sock_sendto(sock, data, address)
        assert caught.value.errno == code
        with pytest.raises(OSError) as caught:
            await self.loop.sock_sendto_zerocopy(sock, data, address)
        assert caught.value.errno == code
        transport, protocol = await endpoint(sock=sock)
        transport.sendto(data, address)
        await protocol.until(lambda p: p.errors)
        with pytest.raises(OSError) as caught:
            await transport.sendto_zerocopy(data, address)
        assert caught.value.errno == code
        assert type(caught.value) is type(protocol.errors[0])
        assert [exc.errno for exc in protocol.errors] == [code]
        assert transport.get_write_buffer_size() == 0
        transport.close()
        await protocol.until(lambda p: p.lost)
        assert protocol.lost == [None]
        assert self.loop.stats().datagrams_dropped >= 1
        assert not self.problems

    @pytest.mark.parametrize('data', [b'x', bytes(20_000), bytearray(20_000)])
    def test_broadcast_is_not_permitted(self, data):
        self.run(self.refused(udp(), data, ('127.255.255.255', 9), errno.EACCES))

    @pytest.mark.parametrize('size', [65508, 70000, 1 << 20])
    def test_too_long(self, size):
        self.run(self.refused(udp(), bytes(size), ('127.0.0.1', 9), errno.EMSGSIZE))

    def test_port_0(self):
        self.run(self.refused(udp(), b'x', ('127.0.0.1', 0), errno.EINVAL))

    @needs_root
    @pytest.mark.parametrize('data', [b'x', bytes(20_000)])
    def test_network_unreachable(self, empty, data):
        self.run(self.refused(empty.socket(), data, ('192.0.2.1', 9), errno.ENETUNREACH))

    @needs_root
    def test_host_unreachable(self, empty):
        empty.ip('route', 'replace', 'unreachable', '192.0.2.7')
        try:
            self.run(self.refused(empty.socket(), b'x', ('192.0.2.7', 9), errno.EHOSTUNREACH))
        finally:
            empty.ip('route', 'del', 'unreachable', '192.0.2.7')

    @needs_root
    def test_prohibited(self, empty):
        empty.ip('route', 'replace', 'prohibit', '192.0.2.8')
        try:
            self.run(self.refused(empty.socket(), b'x', ('192.0.2.8', 9), errno.EACCES))
        finally:
            empty.ip('route', 'del', 'prohibit', '192.0.2.8')

    @pytest.mark.parametrize('size', [1, 20_000])
    def test_connection_refused(self, size):
        """The ICMP answer to one datagram is told once, and does not stop those that follow."""
        async def main():
            sock = udp()
            sock.connect(deserted())
            transport, protocol = await endpoint(sock=sock)
            transport.sendto(bytes(size))
            await protocol.until(lambda p: p.errors)
            assert [type(exc) for exc in protocol.errors] == [ConnectionRefusedError]
            with udp(sock.getpeername()) as late:
                transport.sendto(b'now')
                assert (await self.loop.sock_recvfrom(late, 100))[0] == b'now'
                late.sendto(b'you too', sock.getsockname())
                await protocol.until(lambda p: p.datagrams)
                assert protocol.datagrams == [b'you too']
            transport.close()
            await protocol.until(lambda p: p.lost)
            assert len(protocol.errors) == 1

        self.run(main())

    def test_no_such_unix_socket(self, tmp_path):
        async def main():
            transport, protocol = await endpoint(
                local_addr=str(tmp_path / 'here'), family=socket.AF_UNIX)
            transport.sendto(b'x', str(tmp_path / 'nowhere'))
            await protocol.until(lambda p: p.errors)
            assert [type(exc) for exc in protocol.errors] == [FileNotFoundError]
            with pytest.raises(FileNotFoundError):
                await transport.sendto_zerocopy(b'x', str(tmp_path / 'nowhere'))
            transport.close()

        self.run(main())

    def test_nonsense_addresses(self):
        """What cannot be an address is a mistake of the program, as in asyncio."""
        async def main():
            transport, protocol = await endpoint(sock=udp())
            with pytest.raises(TypeError):
                transport.sendto_zerocopy(b'x', 7)
            transport.sendto(b'x', 7)
            await protocol.until(lambda p: p.lost)
            assert type(protocol.lost[0]) is TypeError
            assert len(self.problems) == 1

        self.run(main())


class Resending(Recorder):
    """Sends again what has failed, which fails again, as often as ``left`` says."""

    def __init__(self, left):
        super().__init__()
        self.left = left
        self.depth = self.deepest = 0

    def error_received(self, exc):
        self.depth += 1
        self.deepest = max(self.deepest, self.depth)
        super().error_received(exc)
        if self.left:
            self.left -= 1
            self.transport.sendto_many([bytes(70_000)], ('127.0.0.1', 9))
        self.depth -= 1


class TestSendsWithinErrorReceived(UringCase):
    """A protocol that sends again when a send has failed is told once each, call after call."""

    @pytest.mark.parametrize('size', [1, 70_000])
    def test_is_not_called_within_its_own_call(self, size):
        async def main():
            transport, protocol = await self.loop.create_datagram_endpoint(
                lambda: Resending(3000), sock=udp())
            transport.sendto_many([bytes(70_000)] * 3000, ('127.0.0.1', 9))
            transport.sendto_many([bytes(size)], ('127.0.0.1', 9))
            await protocol.until(lambda p: len(p.errors) == 6000 + (size > 1))
            assert protocol.deepest == 1
            transport.close()

        self.run(main())
        assert not self.problems

    def test_what_is_sent_behind_failures_is_not_overtaken(self):
        """Of what has failed the protocol hears when that has left."""
        class Noticing(Recorder):
            def error_received(self, exc):
                super().error_received(exc)
                if len(self.errors) == 7:
                    self.transport.sendto(b'notice', peer.getsockname())

        async def main():
            transport, protocol = await self.loop.create_datagram_endpoint(
                Noticing, local_addr=('127.0.0.1', 0))
            for to, count in (peer.getsockname(), 6), (('127.0.0.1', 0), 9):
                for _ in range(count):
                    transport.sendto(bytes(100), to)
            assert 0 < len(protocol.errors) < 7          # at the call, until they became a bulk
            transport.sendto(bytes(50), peer.getsockname())
            transport.sendto(bytes(3000), peer.getsockname())
            await protocol.until(lambda p: len(p.errors) == 9)
            got = [len(await self.loop.sock_recv(peer, 5000)) for _ in range(6 + 2 + 1)]
            assert got == [100] * 6 + [50, 3000, 6]
            transport.close()

        with udp() as peer:
            self.run(main())

    def test_others_have_their_turn(self):
        """One that never gives up has the loop's time shared with others."""
        async def main():
            transport, protocol = await self.loop.create_datagram_endpoint(
                lambda: Resending(-1), sock=udp())
            transport.sendto_many([bytes(70_000)], ('127.0.0.1', 9))
            for errors in range(1, 50):
                await protocol.until(lambda p, least=errors: len(p.errors) >= least)
            transport.close()
            await protocol.until(lambda p: p.lost)

        self.run(main())
        assert not self.problems

    @needs_root
    def test_what_waits_for_room_is_told_of_so_too(self):
        """Errors of a bulk wait to be told when another datagram finds the socket full."""
        class Answering(Recorder):
            depth = deepest = 0

            def error_received(self, exc):
                self.depth += 1
                self.deepest = max(self.deepest, self.depth)
                super().error_received(exc)
                if self.transport.get_write_buffer_size():
                    self.transport.sendto(bytes(200 + len(self.errors) % 997), wire.peer)
                self.depth -= 1

        def burst(transport):
            for _ in range(1028):
                transport.sendto(bytes(100), (wire.peer[0], 0))
            for size in range(1000, 1006):
                transport.sendto(bytes(size), wire.peer)

        async def main():
            with wire.entered():
                transport, protocol = await self.loop.create_datagram_endpoint(
                    Answering, local_addr=('10.98.1.1', 0))
            transport.get_extra_info('socket').setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
            self.loop.call_soon(burst, transport)
            await protocol.until(lambda p: len(p.errors) == 1028)
            assert protocol.deepest == 1
            transport.abort()

        with Wire() as wire:
            self.run(main())
        assert not self.problems
