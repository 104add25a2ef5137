"""The end of what a peer sends: half-open connections, and told once."""
import asyncio
import socket

import pytest

from tests.support.cases import both_sides
from tests.support.sockets import PAIRS, reset
from tests.support.streams import MANY_BYTES, Buffered, Recorder, Streams, both_kinds
from tests.support.turns import turns, turns_until


def shut(sock):
    """End a socket's sending half."""
    sock.shutdown(socket.SHUT_WR)


class _TestEof(Streams):

    @both_kinds
    @pytest.mark.parametrize('size', [0, 1, 3_000_000])
    def test_write_eof_ends_one_half(self, kind, size):
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

    def test_write_eof_then_close_loses_nothing(self):
        async def main():
            near, peer = await self.half()
            near.transport.write(MANY_BYTES[:3_000_000])
            near.transport.write_eof()
            near.transport.close()
            assert await self.read_all(peer) == MANY_BYTES[:3_000_000]
            assert await near.until_lost() is None

        self.run(main())

    @both_kinds
    def test_eof_closes_the_transport(self, kind):
        async def main():
            near, peer = await self.half(kind=kind)
            peer.shutdown(socket.SHUT_WR)
            assert await near.until_lost() is None
            assert near.calls == ['made', 'eof', 'lost']
            assert await self.loop.sock_recv(peer, 1) == b''

        self.run(main())

    @both_kinds
    @pytest.mark.parametrize('ended_by', [shut, reset])
    def test_a_buffer_is_asked_for_before_the_end(self, kind, ended_by):
        class Asked(Buffered):
            def get_buffer(self, sizehint):
                self.calls.append('ask')
                return super().get_buffer(sizehint)

        async def main():
            near, peer = await self.half(Asked, kind=kind)
            peer.send(b'x')
            await near.until_length(1)
            if ended_by is reset and kind == 'unix':
                near.transport.write(b'unread: a reset')
            ended_by(peer)
            await near.until_lost()
            end = [] if ended_by is reset else ['eof']
            assert near.calls == ['made', 'ask', 'data', 'ask', *end, 'lost']

        self.run(main())

    @pytest.mark.parametrize('kind', PAIRS)
    def test_the_end_is_told_a_turn_after_what_came_before_it(self, kind):
        """asyncio reads once a turn: whoever was told of data has one turn before the end."""
        async def main():
            here, there = PAIRS[kind]()
            here.setblocking(False)
            with there:
                there.sendall(b'data')
                shut(there)
                transport, _ = await self.loop.create_connection(Told, sock=here)
                await turns_until(lambda: 'eof' in told)
                transport.abort()
                await turns(2)

        class Told(asyncio.Protocol):
            def data_received(self, data):
                told.extend(['data', 'in its turn'])
                loop.call_soon(told.append, 'in the next')

            def eof_received(self):
                told.append('eof')

        loop, told = self.loop, []
        self.run(main())
        assert told == ['data', 'in its turn', 'in the next', 'eof']

    @pytest.mark.parametrize(('kind', 'ended_by'), [('tcp', shut), ('unix', shut), ('tcp', reset)])
    def test_the_end_is_told_a_turn_after_what_came_with_it(self, kind, ended_by):
        """And no later: who waits for data is told of both at once."""
        class Counting(Recorder):
            def received(self, data):
                super().received(data)
                self.count_turns(3)

            def count_turns(self, left):
                if left:
                    self.note('turn')
                    loop.call_soon(self.count_turns, left - 1)

        async def main():
            near, peer = await self.half(Counting, kind=kind)
            peer.send(b'first')
            await near.until_length(5)
            await turns(10)
            near.calls.clear()
            peer.send(b'last')
            ended_by(peer)
            await near.until_lost()
            end = [] if ended_by is reset else ['eof']
            assert near.calls == ['data', 'turn', 'turn', *end, 'turn', 'lost']

        loop = self.loop
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

    def test_eof_received_that_raises_is_fatal(self):
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


class _TestHalfOpen(Streams):

    @both_kinds
    def test_answers_after_the_peers_end_arrive(self, kind):
        class Stays(Recorder):
            keep_open = True

        async def main():
            near, peer = await self.half(Stays, kind=kind)
            await self.loop.sock_sendall(peer, b'question')
            peer.shutdown(socket.SHUT_WR)
            await near.until(lambda: 'eof' in near.calls)
            assert near.data == b'question'
            near.transport.write(MANY_BYTES[:2_000_000])
            assert await self.read(peer, 2_000_000) == MANY_BYTES[:2_000_000]
            near.transport.write_eof()
            assert await self.loop.sock_recv(peer, 1) == b''
            near.transport.close()
            assert await near.until_lost() is None
            assert near.calls.count('eof') == 1

        self.run(main())


class _TestToldOnce(Streams):
    """A protocol that keeps its sending half open hears of the end once."""

    class Answering(Recorder):
        keep_open = True

        def eof_received(self):
            self.transport.write(b'answer')
            return super().eof_received()

    class BufferedAnswering(Buffered):
        keep_open = True
        size = 128 * 1024

        def eof_received(self):
            self.transport.write(b'answer')
            return super().eof_received()

    @both_kinds
    @pytest.mark.parametrize('factory', [Answering, BufferedAnswering])
    def test_after_a_read_that_filled_the_buffer(self, kind, factory):
        """The end comes when another read was due anyway."""
        size = 128 * 1024

        async def main():
            near, peer = await self.half(factory, kind=kind)
            if kind == 'tcp':
                near.transport.get_extra_info('socket').setsockopt(
                    socket.SOL_SOCKET, socket.SO_RCVBUF, 400_000)
            pieces = 8 if kind == 'tcp' else 1      # what its socket has room for
            for piece in range(1, pieces + 1):
                near.transport.pause_reading()
                await self.loop.sock_sendall(peer, bytes(size))
                await turns(2)
                near.transport.resume_reading()
                while len(near.data) < piece * size:
                    await asyncio.sleep(0)
            # The turns are not waited through: a poll may be on its way.
            peer.shutdown(socket.SHUT_WR)
            await near.until(lambda: 'eof' in near.calls)
            assert await self.read(peer, 6) == b'answer'
            await turns(10)
            assert near.calls.count('eof') == 1
            near.transport.abort()
            await near.until_lost()
            assert await self.read_all(peer) == b''
            assert near.lost == [None]

        self.run(main())


both_sides(globals(), _TestEof, _TestHalfOpen, _TestToldOnce)
