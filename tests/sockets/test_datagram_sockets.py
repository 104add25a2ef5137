"""``sock_*`` calls on datagram sockets."""
import asyncio
import errno
import socket
import sys

import pytest

from tests.support.cases import UringCase, both_sides
from tests.support.sockets import Sockets


class _TestDatagramSockets(Sockets):

    def full_peer(self):
        """A socket, its peer, the peer's name, and how many datagrams have filled it."""
        one, two = self.pair(socket.SOCK_DGRAM)
        filled = 0
        with pytest.raises(BlockingIOError):
            while True:
                one.send(b'fill')
                filled += 1
        two_name = b'\0uringloop-full-%d' % one.fileno()
        two.bind(two_name)
        return one, two, two_name, filled

    @pytest.mark.parametrize('size', [0, 1, 1200, 16384, 65507])
    def test_sendto_and_recvfrom(self, size):
        async def main():
            one, two = self.udp(), self.udp()
            payload = (bytes(range(251)) * 262)[:size]
            for data in (payload, bytearray(payload), memoryview(payload)):
                assert await self.loop.sock_sendto(one, data, two.getsockname()) == size
                received, address = await self.loop.sock_recvfrom(two, 65536)
                assert type(received) is bytes
                assert (received, address) == (payload, one.getsockname())

        self.run(main())

    def test_recvfrom_waits(self):
        async def main():
            one, two = self.udp(), self.udp()
            task = await self.waiting(self.loop.sock_recvfrom(two, 100))
            assert await self.loop.sock_sendto(one, b'now', two.getsockname()) == 3
            assert await task == (b'now', one.getsockname())

        self.run(main())

    def test_recvfrom_truncates(self):
        async def main():
            one, two = self.udp(), self.udp()
            one.sendto(b'0123456789', two.getsockname())
            one.sendto(b'next', two.getsockname())
            assert await self.loop.sock_recvfrom(two, 4) == (b'0123', one.getsockname())
            assert await self.loop.sock_recvfrom(two, 4) == (b'next', one.getsockname())

        self.run(main())

    def test_recvfrom_into_fills_a_buffer_or_part_of_it(self):
        async def main():
            one, two = self.udp(), self.udp()
            buffer = bytearray(b'.' * 10)
            one.sendto(b'abcd', two.getsockname())
            assert await self.loop.sock_recvfrom_into(two, buffer) == (4, one.getsockname())
            assert buffer == b'abcd......'
            task = await self.waiting(self.loop.sock_recvfrom_into(two, buffer, 2))
            one.sendto(b'wxyz', two.getsockname())
            assert await task == (2, one.getsockname())
            assert buffer == b'wxcd......'
            buffer.append(1)       # lent no more
            one.sendto(b'12345678', two.getsockname())
            view = memoryview(buffer)[2:6]
            assert await self.loop.sock_recvfrom_into(two, view) == (4, one.getsockname())
            assert buffer[:7] == b'wx1234.'

        self.run(main())

    def test_recv_and_recv_into(self):
        async def main():
            one, two = self.udp(), self.udp()
            buffer = bytearray(10)
            one.sendto(b'abc', two.getsockname())
            assert await self.loop.sock_recv(two, 100) == b'abc'
            one.sendto(b'', two.getsockname())
            assert await self.loop.sock_recv(two, 100) == b''
            one.sendto(b'def', two.getsockname())
            assert await self.loop.sock_recv_into(two, buffer) == 3
            assert buffer[:3] == b'def'

        self.run(main())

    def test_bad_arguments_are_refused(self):
        async def main():
            one, two = self.udp(), self.udp()
            loop = self.loop
            with pytest.raises(ValueError):
                await loop.sock_recvfrom(one, -1)
            with pytest.raises(ValueError):
                await loop.sock_recv(one, -1)
            with pytest.raises(ValueError):
                await loop.sock_recvfrom_into(one, bytearray(10), -1)
            with pytest.raises(ValueError):
                await loop.sock_recvfrom_into(one, bytearray(10), 11)
            with pytest.raises((TypeError, BufferError)):
                await loop.sock_recv_into(one, b'read-only')
            with pytest.raises((TypeError, BufferError)):
                await loop.sock_recvfrom_into(one, b'read-only')
            for call in loop.sock_recv_into, loop.sock_recvfrom_into:
                with pytest.raises((TypeError, BufferError)):
                    await call(one, memoryview(bytearray(8))[::2])
            with pytest.raises(TypeError):
                await loop.sock_recv(one, 'ten')
            with pytest.raises(TypeError):
                await loop.sock_recv_into(one, 10)
            with pytest.raises(TypeError):
                await loop.sock_sendto(one, 'text', two.getsockname())
            with pytest.raises(TypeError):
                await loop.sock_sendto(one, b'x', 'not an address')
            with pytest.raises(OverflowError):
                await loop.sock_sendto(one, b'x', ('127.0.0.1', 65536))
            with pytest.raises(socket.gaierror):
                await loop.sock_sendto(one, b'x', ('::1', 9))
            with pytest.raises(OSError) as caught:
                await loop.sock_sendto(one, bytes(65508), two.getsockname())
            assert caught.value.errno == errno.EMSGSIZE
            one.sendto(b'alive', two.getsockname())
            assert await loop.sock_recv(two, 10) == b'alive'

        self.run(main())

    def test_a_closed_socket_is_refused(self):
        async def main():
            one, two = self.udp(), self.udp()
            address = two.getsockname()
            one.close()
            for call in (self.loop.sock_recvfrom(one, 1), self.loop.sock_recv(one, 1),
                         self.loop.sock_recvfrom_into(one, bytearray(1)),
                         self.loop.sock_recv_into(one, bytearray(1)),
                         self.loop.sock_sendto(one, b'x', address)):
                with pytest.raises(OSError) as caught:
                    await call
                assert caught.value.errno == errno.EBADF

        self.run(main())

    def test_a_blocking_socket_is_refused_in_debug_mode(self):
        async def main():
            self.loop.set_debug(True)
            sock = self.udp()
            sock.setblocking(True)
            for call in (self.loop.sock_recvfrom(sock, 1), self.loop.sock_recv(sock, 1),
                         self.loop.sock_recvfrom_into(sock, bytearray(1)),
                         self.loop.sock_sendto(sock, b'x', sock.getsockname())):
                with pytest.raises(ValueError, match='the socket must be non-blocking'):
                    await call

        self.run(main())

    def test_a_refusal_is_told_to_who_receives(self):
        async def main():
            one, two = self.udp(), self.udp()
            one.connect(two.getsockname())
            two.close()
            one.send(b'nobody')
            with pytest.raises(ConnectionRefusedError):
                await self.loop.sock_recv(one, 10)

        self.run(main())

    def test_mutable_payload_may_change_at_once(self):
        async def main():
            one, two = self.udp(), self.udp()
            payload = bytearray(b'a' * 20000)
            await self.loop.sock_sendto(one, payload, two.getsockname())
            payload[:] = b'b' * 20000
            payload.append(1)
            assert await self.loop.sock_recv(two, 65536) == b'a' * 20000

        self.run(main())

    def test_many_echoes_in_order(self):
        async def main():
            one, two = self.udp(), self.udp()

            async def serve():
                for _ in range(200):
                    data, address = await self.loop.sock_recvfrom(two, 2000)
                    await self.loop.sock_sendto(two, data, address)

            server = self.loop.create_task(serve())
            for n in range(200):
                await self.loop.sock_sendto(one, bytes([n]) * n, two.getsockname())
                assert await self.loop.sock_recvfrom(one, 2000) \
                    == (bytes([n]) * n, two.getsockname())
            await server

        self.run(main())

    def test_unix_paths_and_names(self, tmp_path):
        async def main():
            one = self.udp(socket.AF_UNIX, str(tmp_path / 'one'))
            two = self.udp(socket.AF_UNIX, '')
            assert await self.loop.sock_sendto(one, b'hello', two.getsockname()) == 5
            assert await self.loop.sock_recvfrom(two, 100) == (b'hello', str(tmp_path / 'one'))
            assert await self.loop.sock_sendto(two, b'back', str(tmp_path / 'one')) == 4
            assert await self.loop.sock_recvfrom(one, 100) == (b'back', two.getsockname())
            with pytest.raises(FileNotFoundError):
                await self.loop.sock_sendto(two, b'x', str(tmp_path / 'nothing'))

        self.run(main())

    @pytest.mark.parametrize('method', ['recv', 'recvfrom', 'recv_into', 'recvfrom_into'])
    @pytest.mark.parametrize('arrives', ['before the cancellation', 'after it'])
    def test_cancelled_without_loss(self, method, arrives):
        async def main():
            one, two = self.udp(), self.udp()
            argument = bytearray(100) if method.endswith('into') else 100
            for n in range(20):
                payload = b'datagram %d' % n
                task = await self.waiting(
                    getattr(self.loop, f'sock_{method}')(two, argument))
                if arrives == 'before the cancellation':
                    one.sendto(payload, two.getsockname())
                    await self.cancelled(task)
                else:
                    task.cancel()
                    one.sendto(payload, two.getsockname())
                    with pytest.raises(asyncio.CancelledError):
                        await task
                assert await self.loop.sock_recvfrom(two, 100) == (payload, one.getsockname())

        self.run(main())

    def test_a_timeout_loses_nothing(self):
        async def main():
            one, two = self.udp(), self.udp()
            for n in range(5):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(self.loop.sock_recvfrom(two, 100), 0.002)
                await self.loop.sock_sendto(one, b'%d' % n, two.getsockname())
                assert (await self.loop.sock_recvfrom(two, 100))[0] == b'%d' % n

        self.run(main())

    def test_a_send_to_a_full_peer_waits(self):
        async def main():
            one, two, two_name, filled = self.full_peer()
            payload = bytearray(b'waits')
            task = await self.waiting(self.loop.sock_sendto(one, payload, two_name))
            if self.uring:
                payload[:] = b'other'     # what waits is a copy
            for _ in range(filled):
                assert await self.loop.sock_recv(two, 100) == b'fill'
            assert await task == 5
            assert await self.loop.sock_recv(two, 100) == b'waits'

        self.run(main())

    def test_a_cancelled_send_to_a_full_peer_sends_nothing(self):
        async def main():
            one, two, two_name, filled = self.full_peer()
            task = await self.waiting(self.loop.sock_sendto(one, b'never', two_name))
            await self.cancelled(task)
            for _ in range(filled):
                assert await self.loop.sock_recv(two, 100) == b'fill'
            with pytest.raises(BlockingIOError):
                two.recv(100)

        self.run(main())

    def test_a_socket_used_by_a_transport_is_refused(self):
        async def main():
            transport, _ = await self.loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, sock=self.udp())
            sock = transport.get_extra_info('socket')._sock
            with pytest.raises(RuntimeError, match='is used by transport'):
                await self.loop.sock_recvfrom(sock, 100)
            transport.close()
            for _ in range(10):
                await asyncio.sleep(0)

        self.run(main())


if sys.version_info >= (3, 11):
    both_sides(globals(), _TestDatagramSockets)
else:
    # asyncio has sock_sendto and its kin from 3.11 on only; this loop always.
    class TestDatagramSocketsUring(_TestDatagramSockets, UringCase):
        pass
