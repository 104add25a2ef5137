"""A program pauses reading and hands the socket on: nothing was taken but what it was given."""
import asyncio
import itertools
import socket

import pytest

from tests.support.cases import both_sides
from tests.support.sockets import tcp_pair
from tests.support.streams import Buffered, Recorder, Streams, both_kinds
from tests.support.turns import turns


def received_by(sock):
    """All that is left, until the peer has ended."""
    sock.setblocking(True)
    sock.settimeout(10)
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b''.join(parts)


class Small(Buffered):
    """Has room for less than there is."""

    size = 16


class _TestHandover(Streams):

    @pytest.mark.parametrize('exchanges', [0, 1, 5])
    @pytest.mark.parametrize('length', [1, 1000, 100_000, 300_000])
    @pytest.mark.parametrize('end', ['abort', 'close', 'keep'])
    def test_in_the_callback(self, exchanges, length, end):
        body = bytes(range(256)) * (length // 256 + 1)

        class Head(asyncio.Protocol):

            def connection_made(self, transport):
                self.transport = transport

            def data_received(self, data):
                if data == b'question':
                    self.transport.write(b'answer')
                    return
                self.transport.pause_reading()
                self.rest = data
                self.socket = self.transport.get_extra_info('socket').dup()
                if end != 'keep':
                    getattr(self.transport, end)()
                handed.set_result(self)

        async def main():
            nonlocal handed
            handed = self.loop.create_future()
            near, far = tcp_pair()
            near.setblocking(False)
            far.setblocking(False)
            far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            transport, _ = await self.loop.connect_accepted_socket(Head, near)
            for _ in range(exchanges):
                await self.loop.sock_sendall(far, b'question')
                assert await self.loop.sock_recv(far, 100) == b'answer'
            await self.loop.sock_sendall(far, b'head\n' + body)
            far.shutdown(socket.SHUT_WR)
            given = await handed
            await turns()
            try:
                assert given.rest + received_by(given.socket) == b'head\n' + body
            finally:
                given.socket.close()
                far.close()
                transport.abort()
                await turns()

        handed = None
        self.run(main())

    def test_outside_of_it(self):
        """What comes after ``pause_reading`` stays in the socket."""
        async def main():
            near, peer = await self.half()
            await self.loop.sock_sendall(peer, b'first')
            await near.until_length(5)
            await turns()
            near.transport.pause_reading()
            peer.send(b'second')
            await turns()
            with near.transport.get_extra_info('socket').dup() as copy:
                assert copy.recv(100, socket.MSG_PEEK) == b'second'
            near.transport.resume_reading()
            await near.until_length(11)
            assert near.data == b'firstsecond'

        self.run(main())

    @both_kinds
    @pytest.mark.parametrize('factory', [Recorder, Small])
    def test_by_a_task_in_the_midst_of_a_burst(self, kind, factory):
        async def hand_over(near):
            await near.until(lambda: near.calls.count('data') > 20)
            near.transport.pause_reading()
            return bytes(near.data), near.transport.get_extra_info('socket').dup()

        async def main():
            near, peer = await self.half(factory, kind=kind)
            sent = b''
            task = self.loop.create_task(hand_over(near))
            pieces = (b'%08d' % n for n in itertools.count())
            while not task.done():
                for piece in itertools.islice(pieces, 5):
                    sent += piece
                    peer.send(piece)
                await asyncio.sleep(0)
            peer.shutdown(socket.SHUT_WR)
            given, sock = task.result()
            with sock:
                await turns(10)
                assert given + received_by(sock) == sent
                assert near.data == given

        self.run(main())


both_sides(globals(), _TestHandover)
