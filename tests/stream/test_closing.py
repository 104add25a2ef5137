"""Closing streams: flushed or dropped, told in time, and sockets closed by somebody else."""
import asyncio
import errno
import gc
import logging
import socket
import warnings

import pytest

from tests.support.cases import Case, both_sides
from tests.support.sockets import LOCAL, PAIRS, tcp_pair
from tests.support.streams import MANY_BYTES, Echo, Recorder, Streams, both_kinds
from tests.support.turns import turns


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

    def test_writing_afterwards_is_dropped_and_logged(self, caplog):
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

    def test_all_calls_after_the_end_do_nothing(self):
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


    @pytest.mark.parametrize('after', range(1, 7))
    def test_what_had_come_is_read_before(self, after):
        """Or the kernel would reset the peer, which loses what was written."""
        class ClosesSoon(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                transport.write(b'busy')
                loop.call_soon(self.close_after, after)
                made.set()

            def close_after(self, left):
                if left:
                    loop.call_soon(self.close_after, left - 1)
                else:
                    self.transport.close()

        async def main():
            _server, address = await self.serve(ClosesSoon)
            for _ in range(3):
                with socket.create_connection(address) as client:
                    client.sendall(b'request')
                    await made.wait()
                    made.clear()
                    await self.opened[-1].until_lost()
                    assert self.opened[-1].data == b'request'
                    assert client.recv(100) == b'busy'
                    assert client.recv(100) == b''

        loop, made = self.loop, asyncio.Event()
        self.run(main())


class _TestEnd(Case):

    @pytest.mark.parametrize('end', ['close', 'abort'])
    @pytest.mark.parametrize('paused', [False, True])
    @pytest.mark.parametrize('kind', sorted(PAIRS))
    def test_told_in_the_next_turn(self, kind, paused, end):
        """Before what is scheduled behind it."""
        async def main():
            near, far = PAIRS[kind]()
            with far:
                transport, protocol = await self.loop.create_connection(Recorder, sock=near)
                if paused:
                    transport.pause_reading()
                await turns(3)
                getattr(transport, end)()
                self.loop.call_soon(protocol.note, 'soon')
                await turns(2)
                assert protocol.calls[-2:] == ['lost', 'soon']

        self.run(main())


class _TestClosedUnderneath(Streams):

    def test_a_socket_closed_under_the_transport_is_its_end(self):
        async def main():
            one, peer = tcp_pair()
            self.sockets.append(peer)
            near = await self.open(one)
            one.close()
            near.transport.write(b'x')
            exc = await near.until_lost()
            assert isinstance(exc, OSError)
            assert exc.errno == errno.EBADF
            assert near.lost == [exc]

        self.run(main())

    @both_kinds
    @pytest.mark.parametrize('end', ['close', 'shutdown'])
    def test_what_was_written_before_has_left(self, kind, end):
        class Answers(Recorder):
            def data_received(self, data):
                for number in range(10):
                    self.transport.write(b'%d' % number)
                if end == 'close':
                    one.close()
                else:
                    one.shutdown(socket.SHUT_WR)

        async def main():
            nonlocal one
            one, peer = PAIRS[kind]()
            peer.setblocking(False)
            self.sockets.append(peer)
            await self.open(one, Answers)
            peer.send(b'go')
            assert await self.read_all(peer) == b'0123456789'

        one = None
        self.run(main())

    def test_nothing_is_written_to_who_has_the_number_now(self):
        """What is written then must not reach whoever has the descriptor's number now."""
        async def main():
            one, peer = tcp_pair()
            self.sockets.append(peer)
            near = await self.open(one)
            number = one.fileno()
            one.close()
            ends = socket.socketpair()
            self.sockets += ends
            assert number in [end.fileno() for end in ends], 'the lowest number free'
            near.transport.write(b'secret')
            await near.until_lost()
            await turns()
            for end in ends:
                end.setblocking(False)
                with pytest.raises(BlockingIOError):
                    end.recv(100)

        self.run(main())

    @both_kinds
    def test_a_closed_loop_ends_connections_after_what_was_written(self, kind):
        async def main():
            one, peer = PAIRS[kind]()
            peer.settimeout(5)
            _, protocol = await self.loop.create_connection(Recorder, sock=one)
            protocol.transport.write(b'last words')
            await turns()
            return protocol, peer

        protocol, peer = self.loop.run_until_complete(main())
        self.loop.close()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            del protocol
            gc.collect()
        assert any('unclosed transport' in str(warning.message) for warning in caught)
        with peer:
            assert peer.recv(100) == b'last words'
            assert peer.recv(100) == b''

    @both_kinds
    @pytest.mark.parametrize('name', ['write', 'writelines'])
    def test_what_is_written_once_the_loop_is_closed_leaves(self, kind, name):
        async def main():
            one, self.peer = PAIRS[kind]()
            self.peer.settimeout(5)
            return await self.loop.create_connection(Recorder, sock=one)

        transport, protocol = self.loop.run_until_complete(main())
        self.loop.close()
        with self.peer, warnings.catch_warnings():
            warnings.simplefilter('ignore', ResourceWarning)
            getattr(transport, name)(b'late' if name == 'write' else [b'l', b'', b'ate'])
            assert self.peer.recv(4, socket.MSG_WAITALL) == b'late'
            del transport, protocol
            gc.collect()

    def test_a_closed_loop_listens_no_more(self):
        server, address = self.run(self.serve_only())
        self.loop.close()
        server.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)

    async def serve_only(self):
        server = await self.loop.create_server(Echo, *LOCAL)
        await turns()
        self.servers.clear()
        return server, server.sockets[0].getsockname()


both_sides(globals(), _TestClosing, _TestEnd, _TestClosedUnderneath)
