"""Peers that reset the connection or are gone: who reads, writes or closes learns of it."""
import asyncio
import socket

import pytest

from tests.support.cases import Case, UringCase, both_sides
from tests.support.sockets import PAIRS, reset
from tests.support.streams import MANY_BYTES, Buffered, Recorder, Streams, both_kinds
from tests.support.turns import turns


class _TestResets(Streams):

    async def reset_in_the_midst(self, near, peer):
        """The peer reads a part of what is written and resets; the transport learns of it."""
        await self.read(peer, 100_000)
        reset(peer)
        assert isinstance(await near.until_lost(), (ConnectionResetError, BrokenPipeError))

    @pytest.mark.parametrize('factory', [Recorder, Buffered])
    def test_a_reset_is_told_to_who_reads(self, factory):
        async def main():
            near, peer = await self.half(factory)
            reset(peer)
            assert isinstance(await near.until_lost(), ConnectionResetError)
            assert near.calls == ['made', 'lost']
            assert near.transport.is_closing()
            assert not self.problems

        self.run(main())

    def test_who_reads_and_waits_to_write_hears_of_the_reset(self):
        """Not of the broken pipe that writing on would be."""
        async def main():
            near, peer = await self.half(kind='unix')
            near.transport.write(MANY_BYTES)
            await turns()
            peer.close()             # with data unread: a reset, of AF_UNIX too
            assert isinstance(await near.until_lost(), ConnectionResetError)

        self.run(main())

    def test_a_reset_is_told_to_who_writes(self):
        async def main():
            near, peer = await self.half()
            near.transport.write(MANY_BYTES)
            await self.reset_in_the_midst(near, peer)
            assert near.transport.get_write_buffer_size() == 0
            await turns()
            assert near.calls == ['made', 'pause', 'lost']
            assert not self.problems

        self.run(main())

    def test_a_reset_is_told_while_reading_is_paused(self):
        """A program that pauses reading until it has written learns of the reset by writing."""
        async def main():
            near, peer = await self.half()
            near.transport.pause_reading()
            await turns()
            near.transport.write(MANY_BYTES)
            await self.reset_in_the_midst(near, peer)

        self.run(main())

    @both_kinds
    def test_a_reset_is_told_after_close(self, kind):
        async def main():
            near, peer = await self.half(kind=kind)
            near.transport.write(MANY_BYTES)
            near.transport.close()
            await self.reset_in_the_midst(near, peer)
            assert len(near.lost) == 1

        self.run(main())

    def test_a_reset_is_told_after_close_while_reading_is_paused(self):
        async def main():
            near, peer = await self.half()
            near.transport.pause_reading()
            await turns()
            near.transport.write(MANY_BYTES)
            near.transport.close()
            await self.reset_in_the_midst(near, peer)

        self.run(main())

    @both_kinds
    def test_a_peer_that_is_gone_is_told_by_writing(self, kind):
        class Stays(Recorder):
            keep_open = True

        async def main():
            near, peer = await self.half(Stays, kind=kind)
            peer.close()
            await near.until(lambda: 'eof' in near.calls)
            while not near.lost:
                near.transport.write(b'x')
                await asyncio.sleep(0)
            assert isinstance(near.lost[0], (ConnectionResetError, BrokenPipeError))
            assert near.calls == ['made', 'eof', 'lost']

        self.run(main())

    @pytest.mark.parametrize(('kind', 'paused'), [('tcp', True), ('tcp', False), ('unix', False)])
    def test_who_writes_on_while_the_peer_goes_away(self, kind, paused):
        """Also in the very turn in which the socket, which was full, would fail instead."""
        async def main():
            near, peer = await self.half(kind=kind)
            if paused:
                near.transport.pause_reading()
            near.transport.write(MANY_BYTES)
            await turns(20)
            self.loop.call_soon(peer.close)
            while not near.transport.is_closing():
                near.transport.write(bytes(65536))
                await asyncio.sleep(0)
            assert isinstance(await near.until_lost(), (ConnectionResetError, BrokenPipeError))
            assert near.transport.get_write_buffer_size() == 0
            near.transport.write(bytes(65536))

        self.run(main())

    def test_a_reset_is_told_after_data(self):
        async def main():
            near, peer = await self.half()
            await self.loop.sock_sendall(peer, b'last words')
            await near.until_length(10)
            reset(peer)
            assert isinstance(await near.until_lost(), ConnectionResetError)
            assert near.data == b'last words'

        self.run(main())


class _TestFailedWrite(Case):

    def test_the_transport_is_closing_at_once(self):
        """A writer that goes on until the transport is closing ends, and keeps nothing."""
        async def main():
            near, far = PAIRS['tcp']()
            transport, protocol = await self.loop.create_connection(Recorder, sock=near)
            transport.pause_reading()
            reset(far)
            writes = 0
            while not transport.is_closing():
                transport.write(bytes(65536))
                writes += 1
                assert writes < 100
            for _ in range(3):
                transport.write(bytes(65536))
            assert transport.get_write_buffer_size() <= 65536
            assert type(await protocol.until_lost()) in (ConnectionResetError, BrokenPipeError)

        self.run(main())


class TestQueued(Streams, UringCase):

    @pytest.mark.parametrize('data', [b'x', bytes(65536)])
    def test_a_write_behind_what_fails(self, data):
        """What waited for the end of the turn finds the peer gone: so this one is in vain, too."""
        async def main():
            # On a socket of the loop's own: else nothing waits for the end of the turn.
            _, address = await self.serve()
            peer = socket.create_connection(address)
            while not self.opened or self.opened[0].transport is None:
                await asyncio.sleep(0)
            near = self.opened[0]
            near.transport.pause_reading()
            await turns()
            for _ in range(20):
                near.transport.write(bytes(100))
            near.transport._set_batching(False)
            reset(peer)
            near.transport.write(data)
            assert near.transport.is_closing()
            assert near.transport.get_write_buffer_size() == 0
            assert isinstance(await near.until_lost(), (ConnectionResetError, BrokenPipeError))

        self.run(main())


both_sides(globals(), _TestResets, _TestFailedWrite)
