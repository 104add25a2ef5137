"""Names of asyncio's transports that programs and tests assign, and sockets of their own."""
import asyncio
import os
import socket
import sys
from unittest import mock

import pytest

from tests.support.cases import both_sides
from tests.support.protocols import Recorder as Datagrams
from tests.support.protocols import endpoint
from tests.support.sockets import LOCAL, SO_SNDBUFFORCE, bound, tcp_pair, unix_pair
from tests.support.streams import BufferedEcho, Echo, Recorder, Streams
from tests.support.turns import turns

not_portable = pytest.mark.skipif(os.environ.get('URINGLOOP_BUILD') == 'portable',
                                  reason='the interpreter makes the __dict__ there')


class _TestDatagrams:

    def test_the_address_of_a_connected_socket_is_kept_to(self):
        """asyncio_dgram's ``from_socket`` does that."""
        async def main():
            receiver, received = await endpoint(local_addr=('127.0.0.1', 0))
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.connect(receiver.get_extra_info('sockname'))
            transport, _ = await self.loop.create_datagram_endpoint(Datagrams, sock=sock)
            transport._address = transport.get_extra_info('peername')
            transport.sendto(b'connected')
            transport.sendto(b'named', transport._address)
            with pytest.raises(ValueError, match='Invalid address'):
                transport.sendto(b'elsewhere', ('127.0.0.1', 9))
            await received.until(lambda p: len(p.datagrams) == 2)
            assert received.datagrams == [b'connected', b'named']
            for each in (transport, receiver):
                each.close()
            await received.until(lambda p: p.lost)

        self.run(main())

    def test_the_size_of_reads_can_be_asked_for(self):
        async def main():
            transport, protocol = await endpoint(local_addr=('127.0.0.1', 0))
            assert transport.max_size == 256 * 1024
            transport.max_size = 2048
            assert transport.max_size == 2048
            transport.close()
            await protocol.until(lambda p: p.lost)

        self.run(main())

    def test_the_size_of_reads_is_kept_to(self):
        """Only AF_UNIX has datagrams that are longer, or cut."""
        async def main():
            near, far = unix_pair()
            for sock in near, far:
                sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 4 << 20)
            near.setblocking(False)
            transport, protocol = await endpoint(sock=near)
            for size in 600_000, 1000:
                transport.max_size = size
                far.send(bytes(600_000))
                await protocol.until(lambda p: p.datagrams)
                assert len(protocol.datagrams.pop()) == size
            transport.close()
            await protocol.until(lambda p: p.lost)
            far.close()

        self.run(main())

    def test_the_raw_socket_does_not_overtake(self):
        """Of the object that ``get_extra_info`` gives: programs send by it."""
        async def main():
            peer = bound()
            transport, protocol = await endpoint(local_addr=LOCAL)
            sock = transport.get_extra_info('socket')
            for _ in range(2):
                for number in range(10):
                    transport.sendto(b'%d' % number, peer.getsockname())
                sock._sock.sendto(b'10', peer.getsockname())
                transport.sendto(b'11', peer.getsockname())
                await turns()
                assert [int(peer.recv(10)) for _ in range(12)] == list(range(12))
            transport.close()
            await protocol.until(lambda p: p.lost)
            peer.close()

        self.run(main())

    def test_closes_whatever_was_counted_as_lost(self):
        async def main():
            transport, protocol = await endpoint(local_addr=LOCAL)
            transport._conn_lost = 1
            transport.close()
            await protocol.until(lambda p: p.lost)
            assert protocol.lost == [None]

        self.run(main())

    @pytest.mark.parametrize('name', ['_paused', '_closing'])
    def test_assigned_and_back(self, name):
        async def main():
            receiver, received = await endpoint(local_addr=LOCAL)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for number in range(4):
                    setattr(receiver, name, True)
                    sock.sendto(b'%d' % number, receiver.get_extra_info('sockname'))
                    await turns(number)
                    setattr(receiver, name, False)
                    await received.until(lambda p, n=number: len(p.datagrams) == n + 1)
            receiver.close()
            await received.until(lambda p: p.lost)

        self.run(main())

    def test_closing_assigned_and_back_while_paused(self):
        """It stays paused."""
        self.needs_pausing()

        async def main():
            receiver, received = await endpoint(local_addr=LOCAL)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                receiver.pause_reading()
                receiver._closing = True
                receiver._closing = False
                sock.sendto(b'later', receiver.get_extra_info('sockname'))
                await turns()
                assert receiver._paused
                assert not received.datagrams
                receiver.resume_reading()
                await received.until(lambda p: p.datagrams)
            receiver.close()
            await received.until(lambda p: p.lost)

        self.run(main())

    def test_lost_connections_are_counted(self):
        async def main():
            transport, protocol = await endpoint(local_addr=('127.0.0.1', 0))
            transport._conn_lost = 1
            transport._address = ('127.0.0.1', 9)
            transport.sendto(b'dropped')
            assert transport._conn_lost == 2
            transport._conn_lost = 0
            transport._address = None
            transport.close()
            await protocol.until(lambda p: p.lost)

        self.run(main())


class Wrapped:
    """A socket of the program's own, as tests put it into transports."""

    def __init__(self, sock, step=None):
        self.sock = sock
        self.step = step
        self.calls = []
        self.full = False

    def send(self, data):
        self.calls.append('send')
        if self.full:
            self.full = False
            raise BlockingIOError
        return self.sock.send(bytes(data)[:self.step])

    def recv(self, size):
        self.calls.append('recv')
        return self.sock.recv(size)

    def recv_into(self, buffer):
        self.calls.append('recv_into')
        return self.sock.recv_into(buffer)

    def __getattr__(self, name):
        return getattr(self.sock, name)


class _TestStreams(Streams):

    def test_attributes_of_the_programs_own(self):
        async def main():
            near, _ = await self.half()
            near.transport.mark = 'mine'
            assert vars(near.transport)['mark'] == 'mine'
            assert near.transport.__dict__['mark'] == 'mine'
            del near.transport.mark
            assert not hasattr(near.transport, 'mark')

        self.run(main())

    def test_another_protocol_receives(self):
        """Without ``set_protocol``, as before that was there."""
        async def main():
            near, peer = await self.half()
            other = Recorder()
            other.connection_made(near.transport)
            near.transport._protocol = other
            peer.send(b'for the other')
            await other.until_length(13)
            assert not near.data
            near.transport._protocol = near

        self.run(main())

    def test_whether_it_still_reads_is_told(self):
        async def main():
            near, _ = await self.half()
            assert near.transport._read_ready_cb is not None
            near.transport.close()
            # asyncio's own has lost it then since Python 3.13.
            if self.uring or sys.version_info >= (3, 14):
                assert near.transport._read_ready_cb is None

        self.run(main())

    def test_extra_info_is_replaced(self):
        async def main():
            near, _ = await self.half()
            near.transport._extra['mark'] = 'mine'
            assert near.transport.get_extra_info('mark') == 'mine'
            assert near.transport.get_extra_info('peername')
            near.transport._extra = {'mark': 'yours'}
            assert near.transport.get_extra_info('mark') == 'yours'
            assert near.transport.get_extra_info('peername') is None

        self.run(main())

    def test_fields_of_the_flow_control_are_obeyed(self):
        async def main():
            near, _ = await self.half()
            transport = near.transport
            transport.set_write_buffer_limits(high=100, low=10)
            assert (transport._high_water, transport._low_water) == (100, 10)
            transport._high_water, transport._low_water = 50, 5
            assert transport.get_write_buffer_limits() == (5, 50)
            transport._protocol_paused = True
            assert transport._protocol_paused is True
            transport._protocol_paused = False
            transport._conn_lost = 1
            transport.write(b'dropped')
            assert transport._conn_lost == 2
            transport._conn_lost = 0
            transport._closing = True
            assert transport.is_closing()
            transport._closing = False
            assert transport.max_size == 256 * 1024
            transport._eof = True
            with pytest.raises(RuntimeError):
                transport.write(b'after the end')
            transport._eof = False

        self.run(main())

    def test_a_server_put_in_its_place_is_detached(self):
        """Who does that detaches it."""
        async def main():
            server, address = await self.serve()
            client = await self.connect(address)
            [near] = self.others(client)
            assert near.transport._server is server
            detached = mock.Mock()
            near.transport._server = mock.Mock(_detach=detached)
            near.transport.abort()
            await near.until_lost()
            assert detached.call_count == 1
            near.transport._server = None

        self.run(main())

    @pytest.mark.parametrize('factory', [Echo, BufferedEcho])
    def test_another_socket_is_asked(self, factory):
        async def main():
            near, peer = await self.half(factory)
            peer.send(b'before')
            assert await self.read(peer, 6) == b'before'
            own = near.transport._sock = Wrapped(near.transport._sock, step=3)
            assert near.transport._sock is own
            peer.send(b'through')
            assert await self.read(peer, 7) == b'through'
            own.full = True
            near.transport.write(b'once there is room')
            assert await self.read(peer, 18) == b'once there is room'
            assert 'send' in own.calls
            assert {'recv', 'recv_into'} & set(own.calls)
            peer.shutdown(socket.SHUT_WR)
            await near.until_lost()
            assert near.lost == [None]

        self.run(main())

    @pytest.mark.parametrize('method', ['recv', 'send'])
    def test_errors_of_another_socket_end_the_connection(self, method):
        async def main():
            near, peer = await self.half()
            own = near.transport._sock = Wrapped(near.transport._sock)
            setattr(own, method, mock.Mock(side_effect=TimeoutError('timed out')))
            near.transport.write(b'written')
            peer.send(b'sent')
            await near.until_lost()
            assert isinstance(near.lost[0], TimeoutError)

        self.run(main())

    def test_a_socket_that_is_taken_away_has_an_heir(self):
        """And given to another transport."""
        if not self.uring and sys.version_info >= (3, 12):
            pytest.skip('asyncio then refuses a descriptor that a transport had')

        async def main():
            near, peer = await self.half()
            near.transport.pause_reading()
            sock, near.transport._sock = near.transport._sock, None
            self.opened.remove(near)
            heir = Recorder()
            self.opened.append(heir)
            self.loop._make_socket_transport(sock, heir)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            peer.send(b'for the heir')
            await heir.until_length(12)
            assert heir.data == b'for the heir'
            heir.transport.write(b'answer')
            assert await self.read(peer, 6) == b'answer'

        self.run(main())


class _TestAttributes(Streams):

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

    @not_portable
    def test_patches_end(self):
        """unittest.mock puts back what it finds in the ``__dict__``."""
        async def main():
            _server, address = await self.serve(Echo)
            client = await self.connect(address)
            reading, writing = os.pipe()
            pipe, _ = await self.loop.connect_read_pipe(Recorder, os.fdopen(reading, 'rb', 0))
            os.close(writing)
            datagrams, _ = await endpoint(local_addr=LOCAL)
            for transport in client.transport, pipe, datagrams:
                transport.mark = 'mine'
                for name in '_protocol', '_extra', '_closing':
                    before = getattr(transport, name)
                    with mock.patch.object(transport, name, before):
                        pass
                    assert getattr(transport, name) is before
                assert transport.mark == vars(transport)['mark'] == 'mine'
                assert 'nothing' not in vars(transport)
            with mock.patch.object(client.transport, '_conn_lost', 3):
                assert client.transport._conn_lost == 3
            assert client.transport._conn_lost == 0
            client.transport.write(b'goes on')
            await client.until_length(7)
            pipe.close()
            datagrams.close()
            with mock.patch.object(self.loop, 'call_at'):
                self.loop.call_at(0)
            for name, value in ('_clock_resolution', 0.001), ('_debug', True):
                before = getattr(self.loop, name)
                with mock.patch.object(self.loop, name, new=value):
                    assert getattr(self.loop, name) == value
                assert getattr(self.loop, name) == before
            await asyncio.sleep(0.001)

        self.run(main())

    def test_a_descriptor_that_was_told_sends_behind_what_was_written(self):
        class Server(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport
                repr(transport.get_extra_info('socket'))
                self.fd = transport.get_extra_info('socket').fileno()

            def data_received(self, data):
                self.transport.write(b'head')
                os.write(self.fd, b'body')

        async def main():
            server = await self.loop.create_server(Server, *LOCAL)
            self.servers.append(server)
            clients = [await self.connect(server.sockets[0].getsockname()) for _ in range(16)]
            for turn in range(1, 10):
                for client in clients:
                    client.transport.write(b'x')
                for client in clients:
                    await client.until_length(8 * turn)
                    assert client.data == b'headbody' * turn

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
            await turns()                # it is forgotten then: nobody has what comes now
            client.transport.write(b'more')

        seen = []
        self.run(main())
        assert {'accept', 'send', 'recv'} <= set(seen)

    def test_sockets_that_tell_other_names(self):
        """As those behind a proxy."""
        class Socket(socket.socket):
            def getpeername(self):
                return '192.0.2.1', 1

            def getsockname(self):
                return '192.0.2.2', 2

        async def main():
            one, peer = tcp_pair()
            with peer:
                client = await self.open(Socket(fileno=one.detach()))
                names = [client.transport.get_extra_info(name) for name in ('peername', 'sockname')]
                assert names == [('192.0.2.1', 1), ('192.0.2.2', 2)]
                client.transport.write(b'something')
                peer.setblocking(False)
                assert await self.loop.sock_recv(peer, 100) == b'something'
            sock = Socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(LOCAL)
            transport, _ = await endpoint(sock=sock)
            assert transport.get_extra_info('sockname') == ('192.0.2.2', 2)
            transport.close()
            client.transport.close()
            await client.until_lost()

        self.run(main())


both_sides(globals(), _TestDatagrams, _TestStreams, _TestAttributes)
