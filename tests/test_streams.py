"""Stream transports and servers: what asyncio promises of them."""
import array
import asyncio
import logging
import os
import random
import socket
import ssl
import subprocess
import sys

import pytest

from tests.cases import both_sides
from tests.streams import (
    LOCAL, PAIRS, Buffered, BufferedEcho, Echo, Recorder, Streams, tcp_pair, turns)

SIZES = [1, 100, 4096, 65_537, 1_000_003, 5_000_000]
MANY_BYTES = random.Random(7).randbytes(10_000_000)

both_kinds = pytest.mark.parametrize('kind', PAIRS)
needs_server_clients = pytest.mark.skipif(
    sys.version_info < (3, 13), reason='Server.close_clients() is new in Python 3.13')


@pytest.fixture(scope='module')
def certificate(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1, as ``(certificate, key)``."""
    where = tmp_path_factory.mktemp('certificate')
    names = str(where / 'certificate.pem'), str(where / 'key.pem')
    subprocess.run(
        ['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256',
         '-nodes', '-days', '2', '-subj', '/CN=localhost',
         '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost',
         '-out', names[0], '-keyout', names[1]], check=True, capture_output=True)
    return names


@pytest.fixture
def contexts(certificate):
    """The server's TLS context and the client's."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*certificate)
    return server, ssl.create_default_context(cafile=certificate[0])


class _TestConnect(Streams):

    def test_connection_and_server(self):
        async def main():
            server, address = await self.serve(Echo)
            client = await self.connect(address)
            assert client.calls == ['made']
            transport = client.transport
            assert transport.get_protocol() is client
            assert isinstance(transport, asyncio.Transport)
            assert transport.get_extra_info('peername') == address
            sock = transport.get_extra_info('socket')
            assert sock.family == socket.AF_INET
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert transport.get_extra_info('sockname') == sock.getsockname()
            assert transport.get_extra_info('nothing') is None
            assert transport.get_extra_info('nothing', 1) == 1
            assert not transport.is_closing()
            assert transport.is_reading()
            assert transport.can_write_eof()
            transport.write(b'hello')
            await client.until_length(5)
            assert client.data == b'hello'
            far = self.opened[0]
            assert isinstance(far.transport, asyncio.Transport)
            assert far.transport.get_extra_info('peername') == sock.getsockname()
            transport.close()
            assert transport.is_closing()
            assert not transport.is_reading()
            assert await client.until_lost() is None
            assert await far.until_lost() is None
            assert client.calls == ['made', 'data', 'lost']
            assert far.calls == ['made', 'data', 'eof', 'lost']

        self.run(main())

    def test_local_addr(self):
        async def main():
            _, address = await self.serve()
            client = await self.connect(address, local_addr=LOCAL)
            assert client.transport.get_extra_info('sockname')[0] == '127.0.0.1'

        self.run(main())

    def test_by_name(self):
        async def main():
            _, address = await self.serve(Echo)
            client = await self.connect(('localhost', address[1]), happy_eyeballs_delay=0.25)
            client.transport.write(b'x')
            await client.until_length(1)

        self.run(main())

    def test_unix(self, tmp_path):
        async def main():
            path = str(tmp_path / 'socket')
            server = await self.loop.create_unix_server(self.kept(Echo), path)
            self.servers.append(server)
            _, client = await self.loop.create_unix_connection(self.kept(Recorder), path)
            client.transport.write(MANY_BYTES[:300_000])
            await client.until_length(300_000)
            assert client.data == MANY_BYTES[:300_000]
            assert client.transport.get_extra_info('peername') == path
            client.transport.close()
            assert await self.opened[0].until_lost() is None

        self.run(main())

    @both_kinds
    def test_connect_accepted_socket(self, kind):
        async def main():
            one, two = PAIRS[kind]()
            two.setblocking(False)
            self.sockets.append(two)
            _, protocol = await self.loop.connect_accepted_socket(self.kept(Echo), one)
            await self.loop.sock_sendall(two, b'hello')
            assert await self.read(two, 5) == b'hello'
            assert protocol.data == b'hello'

        self.run(main())

    def test_start_server_and_open_connection(self):
        async def main():
            async def serve(reader, writer):
                while line := await reader.readline():
                    writer.write(line.upper())
                    await writer.drain()
                writer.close()
                await writer.wait_closed()

            server = await asyncio.start_server(serve, *LOCAL)
            async with server:
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                for line in (b'one\n', b'two\n'):
                    writer.write(line)
                    await writer.drain()
                    assert await reader.readline() == line.upper()
                writer.write_eof()
                assert await reader.read() == b''
                writer.close()
                await writer.wait_closed()

        self.run(main())

    def test_written_in_connection_made(self):
        class Greeter(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                transport.write(b'welcome')
                transport.close()

        async def main():
            _, address = await self.serve(Greeter)
            client = await self.connect(address)
            assert await client.until_lost() is None
            assert client.data == b'welcome'
            assert client.calls[-2:] == ['eof', 'lost']

        self.run(main())

    def test_many(self):
        async def main():
            server, address = await self.serve(Echo)
            clients = await asyncio.gather(*(self.connect(address) for _ in range(200)))
            for number, client in enumerate(clients):
                client.transport.write(b'%d' % number)
            for number, client in enumerate(clients):
                await client.until_length(len(b'%d' % number))
                assert client.data == b'%d' % number
                client.transport.close()
            for protocol in self.opened:
                assert await protocol.until_lost() is None
                assert protocol.calls.count('lost') == 1
            assert len(self.opened) == 400

        self.run(main())


class _TestTransfer(Streams):

    @both_kinds
    @pytest.mark.parametrize('size', SIZES)
    @pytest.mark.parametrize('factories', [(Recorder, Echo), (Buffered, BufferedEcho)])
    def test_echo(self, kind, size, factories):
        async def main():
            near, far = await self.pair(*factories, kind=kind)
            near.transport.write(MANY_BYTES[:size])
            await near.until_length(size)
            assert near.data == MANY_BYTES[:size]
            assert far.data == MANY_BYTES[:size]
            assert near.transport.get_write_buffer_size() == 0

        self.run(main())

    @both_kinds
    def test_many_small_writes(self, kind):
        async def main():
            near, far = await self.pair(kind=kind)
            for start in range(0, 20_000, 10):
                near.transport.write(MANY_BYTES[start:start + 10])
                if start % 700 == 0:
                    await asyncio.sleep(0)
            await far.until_length(20_000)
            assert far.data == MANY_BYTES[:20_000]

        self.run(main())

    @both_kinds
    def test_mixed_sizes_keep_their_order(self, kind):
        async def main():
            near, far = await self.pair(kind=kind)
            sizes, start = random.Random(3), 0
            while start < 3_000_000:
                step = sizes.choice((1, 10, 1000, 20_000, 100_000, 300_000))
                near.transport.write(MANY_BYTES[start:start + step])
                start += step
                if step == 1:
                    await asyncio.sleep(0)
            await far.until_length(start)
            assert far.data == MANY_BYTES[:start]

        self.run(main())

    @both_kinds
    @pytest.mark.parametrize('size', [10, 1_000_000])
    def test_mutable_data_is_the_callers_at_once(self, kind, size):
        async def main():
            near, far = await self.pair(kind=kind)
            for wrap in (bytes, memoryview):
                data = bytearray(MANY_BYTES[:size])
                near.transport.write(data if wrap is bytes else wrap(data))
                data[:] = bytes(size)
            data = bytearray(MANY_BYTES[:size])
            near.transport.writelines([data, memoryview(data)])
            data[:] = bytes(size)
            data.clear()        # nothing may hold an export of it
            await far.until_length(4 * size)
            assert far.data == 4 * MANY_BYTES[:size]

        self.run(main())

    def test_views(self):
        async def main():
            near, far = await self.pair()
            numbers = array.array('I', range(1000))
            near.transport.write(memoryview(numbers))
            near.transport.write(memoryview(MANY_BYTES)[5:3000])
            near.transport.write(memoryview(bytearray(range(100)))[::2])
            expected = numbers.tobytes() + MANY_BYTES[5:3000] + bytes(range(0, 100, 2))
            await far.until_length(len(expected))
            assert far.data == expected

        # asyncio hands the strided view to the socket, which refuses it.
        if self.uring:
            self.run(main())

    @both_kinds
    def test_writelines(self, kind):
        async def main():
            near, far = await self.pair(kind=kind)
            pieces = [MANY_BYTES[start:start + 1000] for start in range(0, 300_000, 1000)]
            near.transport.writelines(iter(pieces))
            near.transport.writelines([b'', bytearray(b'a'), memoryview(b'bc'), b''])
            near.transport.writelines([])
            near.transport.write(b'd')
            await far.until_length(300_004)
            assert far.data == MANY_BYTES[:300_000] + b'abcd'

        self.run(main())

    def test_bad_data(self):
        async def main():
            near, far = await self.pair()
            for bad in ('text', 1, None, [b'list']):
                with pytest.raises(TypeError):
                    near.transport.write(bad)
            with pytest.raises(TypeError):
                near.transport.writelines([b'x', 'text'])
            with pytest.raises(TypeError):
                near.transport.writelines(None)
            near.transport.write(b'')
            near.transport.write(b'good')
            await far.until_length(4)
            # 3.12's writelines() keeps what came before the bad one.
            assert far.data.endswith(b'good')
            if self.uring:
                assert far.data == b'good'

        self.run(main())

    def test_set_protocol(self):
        async def main():
            near, far = await self.pair()
            other, buffered = Recorder(), Buffered()
            near.transport.write(b'one')
            await far.until_length(3)
            far.transport.set_protocol(other)
            assert far.transport.get_protocol() is other
            near.transport.write(b'two')
            await other.until_length(3)
            far.transport.set_protocol(buffered)
            near.transport.write(b'three')
            await buffered.until_length(5)
            far.transport.set_protocol(far)
            near.transport.write(b'four')
            await far.until_length(7)
            assert (far.data, other.data, buffered.data) == (b'onefour', b'two', b'three')
            far.transport.set_protocol(other)
            near.transport.close()
            assert await other.until_lost() is None
            assert not far.lost
            self.opened.remove(far)

        self.run(main())

    def test_set_protocol_in_buffer_updated(self):
        class Header(Buffered):
            size = 4

            def received(self, data):
                super().received(data)
                self.transport.set_protocol(body)

        async def main():
            near, far = await self.pair(far=Header)
            near.transport.write(b'headbody')
            await body.until_length(4)
            assert (far.data, body.data) == (b'head', b'body')
            far.transport.set_protocol(far)

        body = Recorder()
        self.run(main())


class _TestEof(Streams):

    @both_kinds
    @pytest.mark.parametrize('size', [0, 1, 3_000_000])
    def test_write_eof(self, kind, size):
        class HalfOpen(Recorder):
            keep_open = True

        async def main():
            near, far = await self.pair(HalfOpen, HalfOpen, kind=kind)
            near.transport.write(MANY_BYTES[:size])
            near.transport.write_eof()
            near.transport.write_eof()
            await far.until(lambda: 'eof' in far.calls)
            assert far.data == MANY_BYTES[:size]
            assert not far.transport.is_closing()
            with pytest.raises(RuntimeError, match='after write_eof'):
                near.transport.write(b'more')
            with pytest.raises(RuntimeError, match='after write_eof'):
                near.transport.writelines([b'more'])
            # The other half is open still.
            far.transport.write(MANY_BYTES[:size + 5])
            await near.until_length(size + 5)
            assert near.data == MANY_BYTES[:size + 5]
            far.transport.close()
            assert await far.until_lost() is None
            await near.until(lambda: 'eof' in near.calls)
            assert not near.lost
            near.transport.close()
            assert await near.until_lost() is None
            assert near.calls.count('eof') == far.calls.count('eof') == 1

        self.run(main())

    def test_write_eof_then_close(self):
        async def main():
            near, peer = await self.half()
            near.transport.write(MANY_BYTES[:3_000_000])
            near.transport.write_eof()
            near.transport.close()
            assert await self.read_all(peer) == MANY_BYTES[:3_000_000]
            assert await near.until_lost() is None

        self.run(main())

    @both_kinds
    def test_eof_closes(self, kind):
        async def main():
            near, peer = await self.half(kind=kind)
            peer.shutdown(socket.SHUT_WR)
            assert await near.until_lost() is None
            assert near.calls == ['made', 'eof', 'lost']
            assert await self.loop.sock_recv(peer, 1) == b''

        self.run(main())

    def test_eof_received_may_write(self):
        class Answer(Recorder):
            def eof_received(self):
                self.transport.write(bytes(self.data[::-1]))
                return super().eof_received()

        async def main():
            near, peer = await self.half(Answer)
            await self.loop.sock_sendall(peer, MANY_BYTES[:100_000])
            peer.shutdown(socket.SHUT_WR)
            assert await self.read_all(peer) == MANY_BYTES[:100_000][::-1]
            assert await near.until_lost() is None

        self.run(main())

    def test_eof_received_raises(self):
        class Fails(Recorder):
            def eof_received(self):
                raise ZeroDivisionError

        async def main():
            near, peer = await self.half(Fails)
            peer.shutdown(socket.SHUT_WR)
            assert isinstance(await near.until_lost(), ZeroDivisionError)
            assert [problem['message'] for problem in self.problems] == [
                'Fatal error: protocol.eof_received() call failed.']
            assert self.problems[0]['protocol'] is near

        self.run(main())


class _TestRaising(Streams):

    @pytest.mark.parametrize('base, method', [
        (Recorder, 'data_received'), (Buffered, 'get_buffer'), (Buffered, 'buffer_updated')])
    def test_fatal(self, base, method):
        def fail(self, argument):
            raise ZeroDivisionError

        async def main():
            near, peer = await self.half(type('Fails', (base,), {method: fail}))
            near.transport.write(b'dropped or not')
            await self.loop.sock_sendall(peer, b'x')
            assert isinstance(await near.until_lost(), ZeroDivisionError)
            assert near.calls == ['made', 'lost']
            assert [problem['message'] for problem in self.problems] == [
                f'Fatal error: protocol.{method}() call failed.']
            assert self.problems[0]['transport'] is near.transport
            assert near.transport.is_closing()

        self.run(main())

    def test_empty_buffer(self):
        class Empty(Buffered):
            size = 0

        async def main():
            near, peer = await self.half(Empty)
            await self.loop.sock_sendall(peer, b'x')
            assert isinstance(await near.until_lost(), RuntimeError)
            assert len(self.problems) == 1

        self.run(main())

    def test_data_received_raises_after_set_protocol(self):
        class Fails(Recorder):
            def data_received(self, data):
                raise ZeroDivisionError

        class Header(Buffered):
            size = 4

            def received(self, data):
                self.transport.set_protocol(body)

        async def main():
            near, peer = await self.half(Header)
            self.opened.append(body)
            self.opened.remove(near)
            body.transport = near.transport
            await self.loop.sock_sendall(peer, b'headbody')
            assert isinstance(await body.until_lost(), ZeroDivisionError)
            assert body.transport.is_closing()
            assert [problem['message'] for problem in self.problems] == [
                'Fatal error: protocol.data_received() call failed.']

        body = Fails()
        self.run(main())

    @pytest.mark.parametrize('method', ['pause_writing', 'resume_writing'])
    def test_flow_control_raises(self, method):
        def fail(self):
            self.note(method)
            raise ZeroDivisionError

        async def main():
            near, peer = await self.half(type('Fails', (Recorder,), {method: fail}))
            near.transport.write(MANY_BYTES)
            assert await self.read(peer, len(MANY_BYTES)) == MANY_BYTES
            await near.until(lambda: method in near.calls)
            assert [problem['message'] for problem in self.problems] == [
                f'protocol.{method}() failed']
            assert not near.transport.is_closing()

        self.run(main())

    def test_connection_made_raises(self):
        class Fails(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                raise ZeroDivisionError

        async def main():
            near, peer = await self.half(Fails)
            assert [type(problem['exception']) for problem in self.problems] == [
                ZeroDivisionError]
            await self.loop.sock_sendall(peer, b'x')
            await near.until_length(1)
            near.transport.close()
            assert await near.until_lost() is None

        self.run(main())

    def test_connection_lost_raises(self):
        class Fails(Recorder):
            def connection_lost(self, exc):
                super().connection_lost(exc)
                raise ZeroDivisionError

        async def main():
            near, peer = await self.half(Fails)
            near.transport.close()
            await near.until_lost()
            await turns()
            assert [type(problem['exception']) for problem in self.problems] == [
                ZeroDivisionError]
            assert await self.loop.sock_recv(peer, 1) == b''

        self.run(main())


both_sides(globals(), _TestConnect, _TestTransfer, _TestEof, _TestRaising)
