"""Stream transports and servers: what asyncio promises of them."""
import array
import asyncio
import contextlib
import contextvars
import gc
import logging
import os
import random
import socket
import ssl
import subprocess
import sys
import warnings

import pytest

from tests.support.cases import UringCase, both_sides
from tests.support.sockets import LOCAL, PAIRS
from tests.support.streams import (
    MANY_BYTES,
    Buffered,
    BufferedEcho,
    Echo,
    Recorder,
    Streams,
    both_kinds,
)
from tests.support.turns import turns

SIZES = [1, 100, 4096, 65_537, 1_000_003, 5_000_000]

needs_server_clients = pytest.mark.skipif(
    sys.version_info < (3, 13), reason='Server.close_clients() is new in Python 3.13')


variable = contextvars.ContextVar('variable', default='unset')


class _TestConnect(Streams):

    def test_numeric_ipv6(self):
        async def main():
            server = await self.loop.create_server(self.kept(Echo), '::1', 0)
            self.servers.append(server)
            address = server.sockets[0].getsockname()
            client = await self.connect(address[:2])
            assert client.transport.get_extra_info('peername') == address
            client.transport.write(b'six')
            await client.until(lambda: client.data == b'six')

        if not socket.has_ipv6:
            pytest.skip('this Python has no IPv6')
        self.run(main())

    @pytest.mark.parametrize('host', ['127.0.0.1', 'localhost'])
    def test_refused(self, host):
        async def main():
            with socket.create_server(LOCAL) as listening:
                port = listening.getsockname()[1]
            with pytest.raises(ConnectionRefusedError, match='Connect call failed') as caught:
                await self.loop.create_connection(Recorder, host, port, family=socket.AF_INET)
            with pytest.raises(ConnectionRefusedError) as short:
                await self.loop.create_connection(Recorder, '127.0.0.1', port)
            assert str(short.value) == str(caught.value)

        self.run(main())

    @pytest.mark.parametrize('port', [-1, 65536])
    def test_bad_port(self, port):
        async def main():
            with pytest.raises(OverflowError, match=r'connect\(\): port must be 0-65535'):
                await self.loop.create_connection(Recorder, '127.0.0.1', port)

        self.run(main())

    def test_the_factory_raises(self):
        async def main():
            with socket.create_server(LOCAL) as listening:
                with pytest.raises(ZeroDivisionError):
                    await self.loop.create_connection(lambda: 1 // 0, *listening.getsockname())

        with warnings.catch_warnings():
            warnings.simplefilter('ignore', ResourceWarning)
            self.run(main())
            gc.collect()

    def test_cancelled_while_connecting(self):
        async def main():
            # A full backlog: the handshake is not answered.
            with socket.socket() as listening, contextlib.ExitStack() as stack:
                listening.bind(LOCAL)
                listening.listen(0)
                for _ in range(3):
                    filler = stack.enter_context(socket.socket())
                    filler.setblocking(False)
                    filler.connect_ex(listening.getsockname())
                task = self.loop.create_task(
                    self.loop.create_connection(Recorder, *listening.getsockname()))
                await turns(20)
                assert not task.done()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        self.run(main())

    def test_transports_take_attributes(self):
        async def main():
            _server, address = await self.serve(Echo)
            client = await self.connect(address)
            transport = client.transport
            transport.note = 'mine'
            assert transport.note == 'mine'
            written = []
            transport.write = written.append
            transport.write(b'seen')
            assert written == [b'seen']
            del transport.write
            transport.write(b'sent')
            await client.until_length(4)
            assert client.data == b'sent'
            transport._extra['peername'] = 'behind a proxy'
            assert transport.get_extra_info('peername') == 'behind a proxy'
            assert not transport._paused

        self.run(main())

    def test_sockets_that_want_to_be_asked(self):
        class Socket(socket.socket):
            def recv(self, *args):
                seen.append('recv')
                return super().recv(*args)

            def send(self, *args):
                seen.append('send')
                return super().send(*args)

            def accept(self):
                seen.append('accept')
                return super().accept()

        async def main():
            listening = Socket()
            listening.bind(LOCAL)
            server = await self.loop.create_server(self.kept(Echo), sock=listening)
            self.servers.append(server)
            sock = Socket()
            sock.setblocking(False)
            await self.loop.sock_connect(sock, listening.getsockname())
            client = await self.open(sock)
            client.transport.write(b'ask')
            await client.until_length(3)
            client.transport.close()
            await client.until_lost()

        seen = []
        self.run(main())
        assert {'accept', 'send', 'recv'} <= set(seen)

    def test_extra_info_outlives_the_connection(self):
        async def main():
            _server, address = await self.serve(Echo)
            client = await self.connect(address)
            transport = client.transport
            mine = transport.get_extra_info('sockname')
            transport.close()
            await client.until_lost()
            await turns()
            assert transport.get_extra_info('peername') == address
            assert transport.get_extra_info('sockname') == mine
            assert transport.get_extra_info('socket').fileno() == -1
            assert transport.get_extra_info('nothing', 7) == 7

        self.run(main())

    def test_context_of_accepted_connections(self):
        """What was set before the server was made is seen by its protocols, in a copy each."""
        seen = []

        def factory():
            assert asyncio.current_task() is not None
            seen.append(variable.get())
            variable.set('made here')
            return Looking()

        class Looking(Echo):
            def connection_made(self, transport):
                super().connection_made(transport)
                seen.append(variable.get())
                variable.set('connected')

            def received(self, data):
                seen.append(variable.get())
                variable.set('received')
                super().received(data)

        async def main():
            variable.set('served')
            _server, address = await self.serve(factory)
            variable.set('later')
            for _ in range(2):
                client = await self.connect(address)
                client.transport.write(b'x')
                await client.until_length(1)

        self.run(main())
        # From Python 3.15 on all of a connection is in one context.
        later = 'connected' if sys.version_info >= (3, 15) else 'made here'
        assert seen == ['served', 'made here', later] * 2

    def test_connection_and_server(self):
        async def main():
            _server, address = await self.serve(Echo)
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
            far = self.others(client)[0]
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
            assert await self.others(client)[0].until_lost() is None

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
            _server, address = await self.serve(Echo)
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

    def test_views(self):
        async def main():
            near, far = await self.pair()
            numbers = array.array('I', range(1000))
            near.transport.write(memoryview(numbers))
            near.transport.write(memoryview(MANY_BYTES)[5:3000])
            expected = numbers.tobytes() + MANY_BYTES[5:3000]
            await far.until_length(len(expected))
            assert far.data == expected

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
            # In asyncio of Python 3.15 what came before the error stays, and nobody sends it.
            if self.uring or sys.version_info < (3, 15):
                with pytest.raises(TypeError):
                    near.transport.writelines([b'x', 'text'])
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


class TestMutableData(Streams, UringCase):
    """asyncio keeps a view of what the socket has not taken; here the caller may go on."""

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


class TestBufferedClose(Streams, UringCase):
    """What one receive has brought is no longer delivered after ``close()``."""

    def test_closed_in_buffer_updated(self):
        class Closes(Buffered):
            def received(self, data):
                self.transport.write(MANY_BYTES)
                self.transport.close()
                super().received(data)

        async def main():
            near, peer = await self.half(Closes, kind='tcp')
            await self.loop.sock_sendall(peer, MANY_BYTES[:50_000])
            assert await self.read_all(peer) == MANY_BYTES
            assert await near.until_lost() is None
            assert near.calls.count('data') == 1

        self.run(main())


class _TestFlow(Streams):

    @both_kinds
    def test_pause_and_resume_reading(self, kind):
        async def main():
            near, peer = await self.half(kind=kind)
            near.transport.pause_reading()
            near.transport.pause_reading()
            assert not near.transport.is_reading()
            await self.loop.sock_sendall(peer, b'unheard')
            await turns(20)
            assert near.data == b''
            near.transport.resume_reading()
            near.transport.resume_reading()
            assert near.transport.is_reading()
            await near.until_length(7)
            assert near.data == b'unheard'

        self.run(main())

    @both_kinds
    @pytest.mark.parametrize('base', [Recorder, Buffered])
    def test_paused_in_the_callback(self, kind, base):
        class Pauses(base):
            def received(self, data):
                assert self.transport.is_reading()
                self.transport.pause_reading()
                super().received(data)

        async def main():
            near, peer = await self.half(Pauses, kind=kind)
            size = 400_000
            sending = self.loop.create_task(
                self.loop.sock_sendall(peer, MANY_BYTES[:size]))
            while len(near.data) < size:
                calls = len(near.calls)
                await near.until(lambda: len(near.calls) > calls)   # noqa: B023
                await turns()
                assert len(near.calls) == calls + 1, 'called while paused'
                near.transport.resume_reading()
            await sending
            assert near.data == MANY_BYTES[:size]

        self.run(main())

    @pytest.mark.parametrize('base', [Recorder, Buffered])
    def test_closed_in_the_callback(self, base):
        class Closes(base):
            size = 60_000

            def received(self, data):
                self.transport.write(MANY_BYTES[:3_000_000])
                self.transport.close()
                super().received(data)

        async def main():
            near, peer = await self.half(Closes)
            # All of it fits into one buffer: what is left unread would reset the connection.
            await self.loop.sock_sendall(peer, MANY_BYTES[:near.size])
            assert await self.read(peer, 3_000_000) == MANY_BYTES[:3_000_000]
            await near.until_lost()
            assert near.calls.count('data') == 1

        self.run(main())

    def test_paused_in_connection_made(self):
        self.needs_pausing()

        class Paused(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                transport.pause_reading()

        async def main():
            near, peer = await self.half(Paused)
            await self.loop.sock_sendall(peer, b'x')
            peer.shutdown(socket.SHUT_WR)
            await turns(20)
            assert near.calls == ['made']
            near.transport.resume_reading()
            assert await near.until_lost() is None
            assert near.calls == ['made', 'data', 'eof', 'lost']

        self.run(main())

    def test_limits(self):
        async def main():
            near, _ = await self.half()
            transport = near.transport
            assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
            transport.set_write_buffer_limits(high=1000)
            assert transport.get_write_buffer_limits() == (250, 1000)
            transport.set_write_buffer_limits(low=1000)
            assert transport.get_write_buffer_limits() == (1000, 4000)
            with pytest.raises(ValueError, match='must be >='):
                transport.set_write_buffer_limits(high=1, low=2)
            with pytest.raises(ValueError, match='must be >='):
                transport.set_write_buffer_limits(high=1, low=-1)

        self.run(main())

    @both_kinds
    def test_pause_and_resume_writing(self, kind):
        async def main():
            near, peer = await self.half(kind=kind)
            transport = near.transport
            transport.write(MANY_BYTES)
            assert near.calls == ['made', 'pause']
            assert 64 * 1024 < transport.get_write_buffer_size() <= len(MANY_BYTES)
            assert await self.read(peer, len(MANY_BYTES)) == MANY_BYTES
            await near.until(lambda: 'resume' in near.calls)
            assert near.calls == ['made', 'pause', 'resume']
            assert transport.get_write_buffer_size() <= 16 * 1024

        self.run(main())

    def test_nothing_may_wait(self):
        async def main():
            near, peer = await self.half()
            near.transport.set_write_buffer_limits(0)
            near.transport.write(b'x')
            assert await self.read(peer, 1) == b'x'
            near.transport.write(MANY_BYTES)
            assert 'pause' in near.calls
            assert await self.read(peer, len(MANY_BYTES)) == MANY_BYTES
            await near.until(lambda: near.calls[-1] == 'resume')
            assert near.calls.count('pause') == near.calls.count('resume')
            assert near.transport.get_write_buffer_size() == 0

        self.run(main())

    @both_kinds
    def test_slow_reader(self, kind):
        async def main():
            near, peer = await self.half(kind=kind)
            largest = 0

            async def write():
                nonlocal largest
                for start in range(0, len(MANY_BYTES), 50_000):
                    near.transport.write(MANY_BYTES[start:start + 50_000])
                    largest = max(largest, near.transport.get_write_buffer_size())
                    await near.until(
                        lambda: near.calls.count('pause') == near.calls.count('resume'))
                near.transport.close()

            writing = self.loop.create_task(write())
            data = bytearray()
            while part := await self.loop.sock_recv(peer, 20_000):
                data += part
                await asyncio.sleep(0)
            await writing
            assert data == MANY_BYTES
            assert 64 * 1024 < largest <= 64 * 1024 + 50_000
            assert await near.until_lost() is None

        self.run(main())


class _TestClosing(Streams):

    @both_kinds
    def test_close_flushes(self, kind):
        async def main():
            near, peer = await self.half(kind=kind)
            near.transport.write(MANY_BYTES)
            near.transport.close()
            near.transport.close()
            assert near.transport.is_closing()
            await turns()
            assert not near.lost
            assert await self.read_all(peer) == MANY_BYTES
            assert await near.until_lost() is None
            await turns()
            assert near.lost == [None]

        self.run(main())

    @both_kinds
    @pytest.mark.parametrize('closed_before', [False, True])
    def test_abort_drops(self, kind, closed_before):
        async def main():
            near, peer = await self.half(kind=kind)
            near.transport.write(MANY_BYTES)
            if closed_before:
                near.transport.close()
            near.transport.abort()
            near.transport.abort()
            assert near.transport.is_closing()
            assert near.transport.get_write_buffer_size() == 0
            assert not near.lost
            assert await near.until_lost() is None
            data = await self.read_all(peer)
            assert len(data) < len(MANY_BYTES)
            assert MANY_BYTES.startswith(data)
            assert near.lost == [None]

        self.run(main())

    def test_writing_afterwards(self, caplog):
        async def main():
            near, peer = await self.half()
            near.transport.abort()
            with caplog.at_level(logging.WARNING, 'asyncio'):
                for _ in range(4):
                    near.transport.write(b'x')
                assert not caplog.records
                for _ in range(3):
                    near.transport.write(b'x')
            assert [record.getMessage() for record in caplog.records] == [
                'socket.send() raised exception.'] * 3
            await near.until_lost()
            near.transport.write(b'x')
            assert await self.loop.sock_recv(peer, 1) == b''

        self.run(main())

    def test_everything_after_the_end(self):
        async def main():
            near, _ = await self.half()
            transport = near.transport
            transport.close()
            await near.until_lost()
            await turns()
            transport.close()
            transport.abort()
            transport.pause_reading()
            transport.resume_reading()
            transport.write_eof()
            assert transport.is_closing()
            assert transport.get_write_buffer_size() == 0
            assert 'closed' in repr(transport)
            await turns()
            assert near.lost == [None]

        self.run(main())


class _TestServer(Streams):

    def test_close(self):
        async def main():
            server, address = await self.serve(Echo)
            assert server.is_serving()
            assert server.get_loop() is self.loop
            client = await self.connect(address)
            server.close()
            assert not server.is_serving()
            assert server.sockets == ()
            # At once another may have the port.
            with socket.socket() as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                other.bind(address)
                other.listen()
            # The connections stay.
            client.transport.write(b'still')
            await client.until_length(5)
            client.transport.close()
            await client.until_lost()
            await server.wait_closed()
            with pytest.raises(ConnectionRefusedError):
                await self.connect(address)

        self.run(main())

    def test_again_on_the_same_port(self):
        async def main():
            for _ in range(5):
                server, address = await self.serve(Echo)
                server.close()
                again = await self.loop.create_server(self.kept(Echo), *address)
                self.servers.append(again)
                client = await self.connect(address)
                client.transport.write(b'x')
                await client.until_length(1)
                again.close()

        self.run(main())

    def test_start_serving_later(self):
        async def main():
            server, address = await self.serve(Echo, start_serving=False)
            assert not server.is_serving()
            with pytest.raises(ConnectionRefusedError):
                await self.connect(address)
            await server.start_serving()
            client = await self.connect(address)
            client.transport.write(b'x')
            await client.until_length(1)

        self.run(main())

    def test_serve_forever(self):
        async def main():
            server, address = await self.serve(Echo)
            serving = self.loop.create_task(server.serve_forever())
            client = await self.connect(address)
            client.transport.write(b'x')
            await client.until_length(1)
            client.transport.abort()
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
            assert not server.is_serving()

        self.run(main())

    def test_listening_socket_given(self):
        async def main():
            sock = socket.create_server(LOCAL)
            server = await self.loop.create_server(self.kept(Echo), sock=sock)
            self.servers.append(server)
            client = await self.connect(sock.getsockname())
            client.transport.write(b'x')
            await client.until_length(1)

        self.run(main())

    @needs_server_clients
    @pytest.mark.parametrize('method', ['close_clients', 'abort_clients'])
    def test_clients(self, method):
        async def main():
            server, address = await self.serve(Echo)
            clients = [await self.connect(address) for _ in range(3)]
            for client in clients:
                client.transport.write(b'x')
                await client.until_length(1)
            server.close()
            getattr(server, method)()
            await server.wait_closed()
            for protocol in self.opened:
                await protocol.until_lost()
                assert len(protocol.lost) == 1

        self.run(main())


class _TestTls(Streams):

    @pytest.mark.parametrize('size', [1, 1_000_000])
    def test_echo(self, contexts, size):
        async def main():
            _, address = await self.serve(Echo, ssl=contexts[0])
            client = await self.connect(address, ssl=contexts[1])
            assert client.transport.get_extra_info('ssl_object').version() == 'TLSv1.3'
            assert client.transport.get_extra_info('peername') == address
            client.transport.write(MANY_BYTES[:size])
            await client.until_length(size)
            assert client.data == MANY_BYTES[:size]
            client.transport.close()
            for protocol in self.opened:
                assert await protocol.until_lost() is None
                assert len(protocol.lost) == 1

        self.run(main())

    def test_start_tls(self, contexts):
        async def main():
            near, far = await self.pair(Recorder, Echo)
            near.transport.write(b'plain')
            await near.until_length(5)
            server, client = await asyncio.gather(
                self.loop.start_tls(far.transport, far, contexts[0], server_side=True),
                self.loop.start_tls(near.transport, near, contexts[1],
                                    server_hostname='127.0.0.1'))
            near.transport, far.transport = client, server
            client.write(MANY_BYTES[:1_000_000])
            await near.until_length(1_000_005)
            assert near.data == b'plain' + MANY_BYTES[:1_000_000]
            client.close()
            assert await near.until_lost() is None
            assert await far.until_lost() is None

        self.run(main())

    def test_unknown_certificate(self, contexts):
        async def main():
            _, address = await self.serve(Echo, ssl=contexts[0])
            with pytest.raises(ssl.SSLCertVerificationError):
                await self.connect(address, ssl=ssl.create_default_context())
            self.opened.clear()

        self.run(main())


class _TestSendfile(Streams):

    @both_kinds
    def test_sendfile(self, kind, tmp_path):
        path = tmp_path / 'file'
        path.write_bytes(MANY_BYTES[:3_000_000])

        async def main():
            near, peer = await self.half(kind=kind)
            near.transport.write(MANY_BYTES[:500_000])
            with path.open('rb') as file:
                sending = self.loop.create_task(
                    self.loop.sendfile(near.transport, file, 10, 2_000_000))
                data = await self.read(peer, 2_500_000)
                assert await sending == 2_000_000
                assert file.tell() == 2_000_010
            assert data == MANY_BYTES[:500_000] + MANY_BYTES[10:2_000_010]
            near.transport.write(b'after')
            assert await self.read(peer, 5) == b'after'
            await self.loop.sock_sendall(peer, b'heard')
            await near.until_length(5)

        self.run(main())

    def test_no_writing_meanwhile(self, tmp_path):
        path = tmp_path / 'file'
        path.write_bytes(MANY_BYTES)

        async def main():
            near, peer = await self.half()
            with path.open('rb') as file:
                sending = self.loop.create_task(self.loop.sendfile(near.transport, file))
                await self.read(peer, 1)
                with pytest.raises(RuntimeError, match='sendfile is in progress'):
                    near.transport.write(b'x')
                await self.read(peer, len(MANY_BYTES) - 1)
                assert await sending == len(MANY_BYTES)

        self.run(main())


class _TestPipes(Streams):

    def test_pipe(self):
        async def main():
            read_end, write_end = os.pipe()
            _, reader = await self.loop.connect_read_pipe(
                self.kept(Recorder), os.fdopen(read_end, 'rb', 0))
            _, writer = await self.loop.connect_write_pipe(
                self.kept(Recorder), os.fdopen(write_end, 'wb', 0))
            writer.transport.write(MANY_BYTES[:1_000_000])
            await reader.until_length(1_000_000)
            assert reader.data == MANY_BYTES[:1_000_000]
            writer.transport.write_eof()
            assert await reader.until_lost() is None
            assert await writer.until_lost() is None

        self.run(main())

    def test_subprocess(self):
        async def main():
            process = await asyncio.create_subprocess_exec(
                sys.executable, '-c',
                'import sys; data = sys.stdin.buffer.read(); '
                'sys.stdout.buffer.write(data[::-1]); sys.stderr.write(str(len(data)))',
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            output, errors = await process.communicate(MANY_BYTES[:1_000_000])
            assert output == MANY_BYTES[:1_000_000][::-1]
            assert errors == b'1000000'
            assert process.returncode == 0

        self.run(main())


both_sides(globals(), _TestConnect, _TestTransfer, _TestEof, _TestRaising, _TestFlow,
           _TestClosing, _TestServer, _TestTls, _TestSendfile, _TestPipes)
