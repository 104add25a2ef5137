"""The ``sock_*`` methods, on the user's own sockets."""
import asyncio
import errno
import socket
import ssl
import sys

import pytest

import uringloop
from tests.support.cases import UringCase, both_sides
from tests.support.sockets import Sockets


class _TestDatagramSockets(Sockets):

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

    def test_recvfrom_into(self):
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

    def test_bad_arguments(self):
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

    def test_closed_socket(self):
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

    def test_blocking_socket_in_debug_mode(self):
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

    def test_refused(self):
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

    def test_echo(self):
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

    def test_unix(self, tmp_path):
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

    def test_timeouts(self):
        async def main():
            one, two = self.udp(), self.udp()
            for n in range(5):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(self.loop.sock_recvfrom(two, 100), 0.002)
                await self.loop.sock_sendto(one, b'%d' % n, two.getsockname())
                assert (await self.loop.sock_recvfrom(two, 100))[0] == b'%d' % n

        self.run(main())

    def test_a_full_peer(self):
        async def main():
            one, two = self.pair(socket.SOCK_DGRAM)
            filled = 0
            with pytest.raises(BlockingIOError):
                while True:
                    one.send(b'fill')
                    filled += 1
            two_name = b'\0uringloop-full-%d' % one.fileno()
            two.bind(two_name)
            payload = bytearray(b'waits')
            task = await self.waiting(self.loop.sock_sendto(one, payload, two_name))
            if self.uring:
                payload[:] = b'other'     # what waits is a copy
            for _ in range(filled):
                assert await self.loop.sock_recv(two, 100) == b'fill'
            assert await task == 5
            assert await self.loop.sock_recv(two, 100) == b'waits'

        self.run(main())

    def test_a_full_peer_and_a_cancelled_send(self):
        async def main():
            one, two = self.pair(socket.SOCK_DGRAM)
            filled = 0
            with pytest.raises(BlockingIOError):
                while True:
                    one.send(b'fill')
                    filled += 1
            two_name = b'\0uringloop-full-%d' % one.fileno()
            two.bind(two_name)
            task = await self.waiting(self.loop.sock_sendto(one, b'never', two_name))
            await self.cancelled(task)
            for _ in range(filled):
                assert await self.loop.sock_recv(two, 100) == b'fill'
            with pytest.raises(BlockingIOError):
                two.recv(100)

        self.run(main())

    def test_used_by_a_transport(self):
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


class _TestStreamSockets(Sockets):

    def test_connect_accept_sendall_recv(self):
        async def main():
            listener, client = self.listener(), self.tcp()
            accepting = await self.waiting(self.loop.sock_accept(listener))
            assert await self.loop.sock_connect(client, listener.getsockname()) is None
            server, address = await accepting
            with server:
                assert address == client.getsockname()
                assert server.gettimeout() == 0
                assert not server.get_inheritable()
                assert server.family == socket.AF_INET
                assert server.type == socket.SOCK_STREAM
                assert await self.loop.sock_sendall(client, b'hello') is None
                assert await self.loop.sock_recv(server, 100) == b'hello'
                buffer = bytearray(3)
                await self.loop.sock_sendall(server, bytearray(b'answer'))
                assert await self.loop.sock_recv_into(client, buffer) == 3
                assert buffer == b'ans'
                assert await self.loop.sock_recv(client, 100) == b'wer'
                await self.loop.sock_sendall(server, b'')
            assert await self.loop.sock_recv(client, 100) == b''

        self.run(main())

    def test_host_name(self):
        async def main():
            listener, client = self.listener(), self.tcp()
            await self.loop.sock_connect(client, ('localhost', listener.getsockname()[1]))
            server, _ = await self.loop.sock_accept(listener)
            server.close()

        self.run(main())

    def test_refused(self):
        async def main():
            with socket.socket() as sock:
                sock.bind(('127.0.0.1', 0))
                address = sock.getsockname()
            with pytest.raises(ConnectionRefusedError, match='Connect call failed') as caught:
                await self.loop.sock_connect(self.tcp(), address)
            assert str(address) in str(caught.value)

        self.run(main())

    def test_unix(self, tmp_path):
        async def main():
            path = str(tmp_path / 'listener')
            with socket.socket(socket.AF_UNIX) as listener, \
                    socket.socket(socket.AF_UNIX) as client:
                for sock in (listener, client):
                    sock.setblocking(False)
                with pytest.raises(FileNotFoundError):
                    await self.loop.sock_connect(client, path)
                listener.bind(path)
                with pytest.raises(ConnectionRefusedError):
                    await self.loop.sock_connect(client, path)
                listener.listen()
                await self.loop.sock_connect(client, path)
                server, address = await self.loop.sock_accept(listener)
                with server:
                    assert not address
                    await self.loop.sock_sendall(client, b'hello')
                    assert await self.loop.sock_recv(server, 100) == b'hello'

        self.run(main())

    def test_connect_datagram_socket(self):
        async def main():
            one, two = self.udp(), self.udp()
            await self.loop.sock_connect(one, two.getsockname())
            assert one.getpeername() == two.getsockname()
            await self.loop.sock_sendall(one, b'hello')
            assert await self.loop.sock_recv(two, 100) == b'hello'

        self.run(main())

    @pytest.mark.parametrize('kind', [bytes, bytearray, memoryview])
    def test_sendall_to_a_slow_reader(self, kind):
        async def main():
            one, two = self.pair()
            payload = bytes(range(250)) * 40000      # 10 MB
            task = await self.waiting(self.loop.sock_sendall(one, kind(payload)))
            received = bytearray()
            while len(received) < len(payload):
                received += await self.loop.sock_recv(two, 300001)
            assert received == payload
            await task

        self.run(main())

    def test_sendall_to_a_gone_reader(self):
        async def main():
            one, two = self.pair()
            task = await self.waiting(self.loop.sock_sendall(one, bytes(10 ** 7)))
            two.close()
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                await task
            with pytest.raises(BrokenPipeError):
                await self.loop.sock_sendall(one, b'x')

        self.run(main())

    def test_sendall_cancelled(self):
        async def main():
            one, two = self.pair()
            payload = bytearray(10 ** 7)
            await self.cancelled(await self.waiting(self.loop.sock_sendall(one, payload)))
            payload.append(1)         # lent no more
            one.close()
            while data := await self.loop.sock_recv(two, 10 ** 6):
                assert not any(data)

        self.run(main())

    @pytest.mark.parametrize('method', ['recv', 'recv_into'])
    def test_cancelled_recv_keeps_the_order(self, method):
        async def main():
            one, two = self.pair()
            received = bytearray()
            expected = bytearray()
            for n in range(50):
                argument = bytearray(100) if method.endswith('into') else 100
                task = await self.waiting(getattr(self.loop, f'sock_{method}')(two, argument))
                chunk = b'chunk %d;' % n
                one.send(chunk)
                expected += chunk
                await self.cancelled(task)
                if n % 3 == 0:
                    one.send(b'more;')
                    expected += b'more;'
                # In portions smaller than what came.
                while len(received) < len(expected):
                    received += await self.loop.sock_recv(two, 4)
                assert received == expected

        self.run(main())

    def test_what_a_cancelled_recv_left_is_in_order_over_several(self):
        async def main():
            one, two = self.pair()
            for n in range(3):
                task = await self.waiting(self.loop.sock_recv(two, 100))
                one.send(b'%d' % n)
                await self.cancelled(task)
                one.send(b'+')
                assert await self.loop.sock_recv(two, 1) == b'%d' % n
                assert await self.loop.sock_recv(two, 100) == b'+'

        self.run(main())

    def test_eof_seen_by_a_cancelled_recv(self):
        async def main():
            one, two = self.pair()
            task = await self.waiting(self.loop.sock_recv(two, 100))
            one.close()
            await self.cancelled(task)
            assert await self.loop.sock_recv(two, 100) == b''
            assert await self.loop.sock_recv(two, 100) == b''

        self.run(main())

    def test_cancelled_accept_loses_no_connection(self):
        async def main():
            listener = self.listener()
            for _ in range(20):
                task = await self.waiting(self.loop.sock_accept(listener))
                client = self.tcp()
                client.connect_ex(listener.getsockname())
                await self.cancelled(task)
                server, address = await self.loop.sock_accept(listener)
                with server:
                    assert address == client.getsockname()
                    client.send(b'x')
                    assert await self.loop.sock_recv(server, 1) == b'x'

        self.run(main())

    def test_cancelled_connect(self):
        async def main():
            listener, client = self.listener(), self.tcp()
            task = self.loop.create_task(
                self.loop.sock_connect(client, listener.getsockname()))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            other = self.tcp()
            await self.loop.sock_connect(other, listener.getsockname())

        self.run(main())

    def test_many_connections(self):
        async def main():
            listener = self.listener()

            async def serve():
                for _ in range(50):
                    sock, _ = await self.loop.sock_accept(listener)
                    self.opened.append(sock)
                    await self.loop.sock_sendall(sock, await self.loop.sock_recv(sock, 100))

            async def ask(n):
                sock = self.tcp()
                await self.loop.sock_connect(sock, listener.getsockname())
                await self.loop.sock_sendall(sock, b'%d' % n)
                return int(await self.loop.sock_recv(sock, 100))

            server = self.loop.create_task(serve())
            assert await asyncio.gather(*map(ask, range(50))) == list(range(50))
            await server

        self.run(main())

    def test_timeouts(self):
        async def main():
            one, two = self.pair()
            for call in (lambda: self.loop.sock_recv(two, 10),
                         lambda: self.loop.sock_accept(self.listener())):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(call(), 0.002)
            one.send(b'still here')
            assert await self.loop.sock_recv(two, 10) == b'still here'

        self.run(main())

    def test_closed_socket(self):
        async def main():
            sock = self.tcp()
            sock.close()
            for call in (self.loop.sock_recv(sock, 1), self.loop.sock_sendall(sock, b'x'),
                         self.loop.sock_accept(sock),
                         self.loop.sock_connect(sock, ('127.0.0.1', 1))):
                with pytest.raises(OSError) as caught:
                    await call
                assert caught.value.errno == errno.EBADF

        self.run(main())

    def test_bad_arguments(self):
        async def main():
            one, _ = self.pair()
            with pytest.raises(TypeError):
                await self.loop.sock_sendall(one, 'text')
            with pytest.raises(OSError):
                await self.loop.sock_accept(self.tcp())       # does not listen
            with pytest.raises((TypeError, ValueError)):
                await self.loop.sock_connect(self.tcp(), '127.0.0.1')

        self.run(main())

    def test_ssl_socket(self):
        async def main():
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            one, _ = self.pair()
            with context.wrap_socket(one, do_handshake_on_connect=False) as sock:
                for call in (self.loop.sock_recv(sock, 1), self.loop.sock_sendall(sock, b'x'),
                             self.loop.sock_recv_into(sock, bytearray(1)),
                             self.loop.sock_accept(sock), self.loop.sock_connect(sock, 'x')):
                    with pytest.raises(TypeError, match='Socket cannot be of type SSLSocket'):
                        await call

        self.run(main())

    def test_blocking_socket_in_debug_mode(self):
        async def main():
            self.loop.set_debug(True)
            one, _ = self.pair()
            one.setblocking(True)
            for call in (self.loop.sock_recv(one, 1), self.loop.sock_sendall(one, b'x'),
                         self.loop.sock_recv_into(one, bytearray(1)),
                         self.loop.sock_accept(one), self.loop.sock_connect(one, 'x')):
                with pytest.raises(ValueError, match='the socket must be non-blocking'):
                    await call

        self.run(main())

    def test_sendfile(self, tmp_path):
        async def main():
            path = tmp_path / 'file'
            path.write_bytes(bytes(range(256)) * 1000)
            listener, client = self.listener(), self.tcp()
            await self.loop.sock_connect(client, listener.getsockname())
            server, _ = await self.loop.sock_accept(listener)
            received = bytearray()

            async def read():
                while data := await self.loop.sock_recv(server, 65536):
                    received.extend(data)

            with server, path.open('rb') as file:
                reading = self.loop.create_task(read())
                assert await self.loop.sock_sendfile(client, file) == 256000
                client.close()
                await reading
            assert received == path.read_bytes()

        self.run(main())


both_sides(globals(), _TestStreamSockets)

if sys.version_info >= (3, 11):
    both_sides(globals(), _TestDatagramSockets)
else:
    # asyncio has sock_sendto and its kin from 3.11 on only; this loop always.
    class TestDatagramSocketsUring(_TestDatagramSockets, UringCase):
        pass


class TestZerocopy(Sockets, UringCase):

    @pytest.mark.parametrize('size', [0, 1, 1200, 20000, 65507])
    def test_report(self, size):
        async def main():
            one, two = self.udp(), self.udp()
            payload = bytearray(size)
            future = self.loop.sock_sendto_zerocopy(one, payload, two.getsockname())
            # On loopback the kernel always copies.
            assert await future == uringloop.SendReport(size, True)
            payload.append(1)
            assert await self.loop.sock_recv(two, 65536) == bytes(size)

        self.run(main())

    def test_errors(self):
        async def main():
            one, two = self.udp(), self.udp()
            with pytest.raises(OSError) as caught:
                await self.loop.sock_sendto_zerocopy(one, bytearray(70000), two.getsockname())
            assert caught.value.errno == errno.EMSGSIZE
            with pytest.raises(TypeError):
                self.loop.sock_sendto_zerocopy(one, 'text', two.getsockname())
            with pytest.raises(TypeError):
                self.loop.sock_sendto_zerocopy(one, b'x', 'not an address')
            one.close()
            with pytest.raises(OSError) as caught:
                await self.loop.sock_sendto_zerocopy(one, b'x', two.getsockname())
            assert caught.value.errno == errno.EBADF

        self.run(main())

    def test_cancelled_future(self):
        async def main():
            one, two = self.udp(), self.udp()
            payload = bytearray(b'c' * 20000)
            future = self.loop.sock_sendto_zerocopy(one, payload, two.getsockname())
            future.cancel()
            assert await self.loop.sock_recv(two, 65536) == b'c' * 20000
            await self.loop.sock_sendto_zerocopy(one, b'next', two.getsockname())
            payload.append(1)

        self.run(main())


class TestSubclasses(Sockets, UringCase):

    def test_methods_of_a_subclass_are_called(self):
        class Socket(socket.socket):
            def recv(self, *args):
                return super().recv(*args).upper()

            def sendto(self, data, address):
                return super().sendto(data[::-1], address)

        async def main():
            one, two = Socket(socket.AF_INET, socket.SOCK_DGRAM), self.udp()
            self.opened.append(one)
            one.setblocking(False)
            one.bind(('127.0.0.1', 0))
            await self.loop.sock_sendto(one, b'abc', two.getsockname())
            assert await self.loop.sock_recv(two, 10) == b'cba'
            await self.loop.sock_sendto(two, b'abc', one.getsockname())
            assert await self.loop.sock_recv(one, 10) == b'ABC'

        self.run(main())

    def test_a_subclass_that_overrides_nothing_uses_the_ring(self):
        class Socket(socket.socket):
            pass

        async def main():
            one, two = Socket(socket.AF_INET, socket.SOCK_DGRAM), self.udp()
            self.opened.append(one)
            one.setblocking(False)
            one.bind(('127.0.0.1', 0))
            before = self.loop.stats().submissions
            receiving = await self.waiting(self.loop.sock_recv(one, 10))
            two.sendto(b'abc', one.getsockname())
            assert await receiving == b'abc'
            assert self.loop.stats().submissions > before

        self.run(main())


class TestWithoutTheRing(Sockets, UringCase):

    @pytest.mark.parametrize('size', [10, 60_000])
    def test_before_the_loop_runs(self, size):
        self.opened = []
        sender, receiver = self.udp(), self.udp()
        with pytest.raises(StopIteration) as ended:
            self.loop.sock_sendto(sender, b'x' * size, receiver.getsockname()).send(None)
        assert ended.value.value == size == len(receiver.recv(65536))

    @pytest.mark.parametrize('size', [10, 60_000])
    def test_from_another_loop(self, size):
        """The datagram goes out once; what needs the ring says whose thread it wants."""
        other = asyncio.SelectorEventLoop()

        async def main():
            sender, receiver = self.udp(), self.udp()
            address = receiver.getsockname()

            async def elsewhere():
                assert await self.loop.sock_sendto(sender, b'x' * size, address) == size
                with pytest.raises(RuntimeError, match='in another thread'):
                    await self.loop.sock_recv(sender, 100)     # nothing there: must wait

            await self.loop.run_in_executor(None, other.run_until_complete, elsewhere())
            assert len(receiver.recv(65536)) == size
            await asyncio.sleep(0.01)
            with pytest.raises(BlockingIOError):
                receiver.recv(65536)
            await self.loop.shutdown_default_executor()

        try:
            self.run(main())
        finally:
            other.close()


class TestWhatIsThereAlready(Sockets, UringCase):
    """What need not wait costs one plain system call; what must, one submission."""

    async def receive(self, how, sock):
        memory = bytearray(70_000)
        if how == 'sock_recv':
            return await self.loop.sock_recv(sock, 70_000)
        if how == 'sock_recvfrom':
            return (await self.loop.sock_recvfrom(sock, 70_000))[0]
        if how == 'sock_recv_into':
            return memory[:await self.loop.sock_recv_into(sock, memory)]
        return memory[:(await self.loop.sock_recvfrom_into(sock, memory))[0]]

    @pytest.mark.parametrize('how', [
        'sock_recv', 'sock_recvfrom', 'sock_recv_into', 'sock_recvfrom_into'])
    def test_receives(self, how):
        async def main():
            one, two = self.udp(), self.udp()
            sent = [bytes([n]) * size for n, size in enumerate((1, 8191, 8192, 60_000, 0, 3))]
            before = self.loop.stats().submissions
            for data in sent:
                two.sendto(data, one.getsockname())
            assert [await self.receive(how, one) for _ in sent] == sent
            assert self.loop.stats().submissions == before
            receiving = await self.waiting(self.receive(how, one))
            two.sendto(b'waited for', one.getsockname())
            assert await receiving == b'waited for'
            assert self.loop.stats().submissions == before + 1

        self.run(main())

    def test_received_bytes_are_not_received_into_again(self):
        async def main():
            one, two = self.udp(), self.udp()
            received = []
            for size in (10, 20_000, 10, 9000, 10):
                two.sendto(bytes([size % 256]) * size, one.getsockname())
                received.append((size, await self.loop.sock_recv(one, 65536)))
            for size, data in received:
                assert data == bytes([size % 256]) * size

        self.run(main())


class TestConcurrentCalls(Sockets, UringCase):
    """asyncio's calls on one socket replace one another; here each has its turn."""

    def test_receives(self):
        async def main():
            one, two = self.udp(), self.udp()
            receiving = asyncio.gather(
                *(self.loop.sock_recvfrom(two, 100) for _ in range(100)))
            await asyncio.sleep(0)
            for n in range(100):
                assert await self.loop.sock_sendto(one, b'%03d' % n, two.getsockname()) == 3
            received = await receiving
            assert {address for _, address in received} == {one.getsockname()}
            # Which call gets which datagram is not promised.
            assert sorted(data for data, _ in received) == [b'%03d' % n for n in range(100)]

        self.run(main())

    def test_accepts(self):
        async def main():
            listener = self.listener()
            accepting = asyncio.gather(*(self.loop.sock_accept(listener) for _ in range(20)))
            clients = [self.tcp() for _ in range(20)]
            for client in clients:
                await self.loop.sock_connect(client, listener.getsockname())
            accepted = await accepting
            for sock, _ in accepted:
                sock.close()
            assert {address for _, address in accepted} \
                == {client.getsockname() for client in clients}

        self.run(main())
