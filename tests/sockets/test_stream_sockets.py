"""``sock_*`` calls on stream sockets."""
import asyncio
import errno
import socket
import ssl

import pytest

from tests.support.cases import both_sides
from tests.support.sockets import Sockets, listener
from tests.support.streams import Streams

SIZE = 3_000_000


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

    def test_host_names_are_resolved(self):
        async def main():
            listener, client = self.listener(), self.tcp()
            await self.loop.sock_connect(client, ('localhost', listener.getsockname()[1]))
            server, _ = await self.loop.sock_accept(listener)
            server.close()

        self.run(main())

    def test_a_refusal_names_the_address(self):
        async def main():
            with socket.socket() as sock:
                sock.bind(('127.0.0.1', 0))
                address = sock.getsockname()
            with pytest.raises(ConnectionRefusedError, match='Connect call failed') as caught:
                await self.loop.sock_connect(self.tcp(), address)
            assert str(address) in str(caught.value)

        self.run(main())

    def test_unix_paths(self, tmp_path):
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

    def test_datagram_sockets_connect_too(self):
        async def main():
            one, two = self.udp(), self.udp()
            await self.loop.sock_connect(one, two.getsockname())
            assert one.getpeername() == two.getsockname()
            await self.loop.sock_sendall(one, b'hello')
            assert await self.loop.sock_recv(two, 100) == b'hello'

        self.run(main())

    @pytest.mark.parametrize('kind', [bytes, bytearray, memoryview])
    def test_sendall_to_a_slow_reader_arrives_whole(self, kind):
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

    def test_sendall_to_a_gone_reader_raises(self):
        async def main():
            one, two = self.pair()
            task = await self.waiting(self.loop.sock_sendall(one, bytes(10 ** 7)))
            two.close()
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                await task
            with pytest.raises(BrokenPipeError):
                await self.loop.sock_sendall(one, b'x')

        self.run(main())

    def test_a_cancelled_sendall_lends_nothing(self):
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

    def test_an_end_seen_by_a_cancelled_recv_is_seen_again(self):
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

    def test_a_cancelled_connect_harms_no_other(self):
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

    def test_many_connections_at_a_time(self):
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

    def test_a_timeout_loses_nothing(self):
        async def main():
            one, two = self.pair()
            for call in (lambda: self.loop.sock_recv(two, 10),
                         lambda: self.loop.sock_accept(self.listener())):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(call(), 0.002)
            one.send(b'still here')
            assert await self.loop.sock_recv(two, 10) == b'still here'

        self.run(main())

    def test_a_closed_socket_is_refused(self):
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

    def test_bad_arguments_are_refused(self):
        async def main():
            one, _ = self.pair()
            with pytest.raises(TypeError):
                await self.loop.sock_sendall(one, 'text')
            with pytest.raises(OSError):
                await self.loop.sock_accept(self.tcp())       # does not listen
            with pytest.raises((TypeError, ValueError)):
                await self.loop.sock_connect(self.tcp(), '127.0.0.1')

        self.run(main())

    def test_an_ssl_socket_is_refused(self):
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

    def test_a_blocking_socket_is_refused_in_debug_mode(self):
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

    def test_sendfile_sends_the_whole_file(self, tmp_path):
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


class _TestPorts(Streams):

    def test_a_port_given_as_a_string_is_taken(self):
        async def main():
            with listener() as sock, socket.socket() as client:
                client.setblocking(False)
                host, port = sock.getsockname()
                await self.loop.sock_connect(client, (host, str(port)))
                assert client.getpeername() == (host, port)

        self.run(main())


class _TestSendfile:

    def test_sendfile_waits_for_room(self, tmp_path):
        path = tmp_path / 'file'
        path.write_bytes(bytes(SIZE))

        async def main():
            one, two = socket.socketpair()
            with one, two, path.open('rb') as file:
                one.setblocking(False)
                two.setblocking(False)
                sending = asyncio.ensure_future(self.loop.sock_sendfile(one, file))
                received = 0
                while received < SIZE:
                    received += len(await self.loop.sock_recv(two, 1 << 18))
                assert await sending == SIZE

        self.run(main())


both_sides(globals(), _TestStreamSockets, _TestPorts, _TestSendfile)
