"""Backpressure of streams, both ways: pauses, limits, slow readers, and bounded memory."""
import asyncio
import contextlib
import fcntl
import select
import socket
import sys
import termios
import time

import pytest

from tests.leaks.measure import COUNTS_BLOCKS
from tests.support.cases import Case, UringCase, both_sides
from tests.support.programs import script
from tests.support.sockets import PAIRS, reset
from tests.support.streams import MANY_BYTES, Buffered, Recorder, Streams, both_kinds
from tests.support.turns import turns

MEBIBYTE = 1 << 20


class _TestFlow(Streams):

    def test_new_limits_do_not_pause_what_there_is_room_for(self):
        """Pieces that wait for the end of the turn are no reason to pause."""
        async def main():
            near, peer = await self.half()
            for _ in range(20):
                near.transport.write(bytes(300))
            near.transport.set_write_buffer_limits(high=1000)
            assert near.calls == ['made']
            assert len(await self.read(peer, 6000)) == 6000

        self.run(main())

    def test_no_pause_by_a_write_that_fails(self):
        async def main():
            near, peer = await self.half()
            near.transport.pause_reading()
            await turns()
            reset(peer)
            near.transport.write(bytes(200_000))
            await near.until_lost()
            assert near.calls == ['made', 'lost']

        self.run(main())

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
    def test_nothing_is_delivered_while_paused_in_the_callback(self, kind, base):
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
    def test_nothing_is_delivered_once_closed_in_the_callback(self, base):
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

    def test_nothing_is_delivered_while_paused_from_the_beginning(self):
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

    def test_limits_of_the_write_buffer(self):
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

    @both_kinds
    def test_resumes_in_the_turn_that_finds_room(self, kind):
        async def main():
            near, peer = await self.half(kind=kind)
            while 'pause' not in near.calls:
                near.transport.write(bytes(20_000))
            await turns(5)
            with contextlib.suppress(BlockingIOError):
                while peer.recv(MEBIBYTE):
                    pass
            await turns(2)
            assert near.calls == ['made', 'pause', 'resume']

        self.run(main())

    @both_kinds
    def test_higher_limits_do_not_resume_by_themselves(self, kind):
        async def main():
            near, _ = await self.half(kind=kind)
            near.transport.write(MANY_BYTES)
            near.transport.set_write_buffer_limits(1 << 30)
            await turns(10)
            assert near.calls == ['made', 'pause']

        self.run(main())

    def test_a_limit_of_nothing_pauses_at_once(self):
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
    def test_a_slow_reader_bounds_the_write_buffer(self, kind):
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


class TestBufferedClose(Streams, UringCase):
    """What one receive has brought is no longer delivered after ``close()``."""

    def test_nothing_is_delivered_once_closed_in_buffer_updated(self):
        class Closes(Buffered):
            def received(self, data):
                self.transport.write(MANY_BYTES)
                self.transport.close()
                super().received(data)

        async def main():
            near, peer = await self.half(Closes, kind='tcp')
            await self.loop.sock_sendall(peer, MANY_BYTES[:50_000])
            with contextlib.suppress(ConnectionResetError):      # for what was not read
                await self.read_all(peer)
            await near.until_lost()
            assert near.calls.count('data') == 1

        self.run(main())


class Writer(asyncio.Protocol):
    """Writes in one callback until it is told to pause, ``limit`` bytes at most."""

    size = 65536
    limit = 64 * MEBIBYTE

    def __init__(self) -> None:
        self.paused = False
        self.written = self.most = self.resumes = 0

    def connection_made(self, transport):
        self.transport = transport

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        self.resumes += 1

    def write_until_paused(self):
        while not self.paused and self.written < self.limit:
            self.transport.write(bytes(self.size))
            self.written += self.size
            self.most = max(self.most, self.transport.get_write_buffer_size())


class Counter(asyncio.Protocol):

    def __init__(self) -> None:
        self.received = 0
        self.largest = 0

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received += len(data)
        self.largest = max(self.largest, len(data))


class _TestBothEnds(Case):
    """Both ends in one loop: what is written in one callback, nobody can have read."""

    timeout = 20.0

    async def pair(self, writer, reader):
        server = await self.loop.create_server(lambda: writer, '127.0.0.1', 0)
        await self.loop.create_connection(lambda: reader, *server.sockets[0].getsockname())
        while not hasattr(writer, 'transport'):
            await asyncio.sleep(0)
        return server

    @pytest.mark.parametrize('size', [100, 4000, 65536, 300_000])
    def test_a_writer_is_paused_within_one_callback(self, size):
        async def main():
            writer, reader = Writer(), Counter()
            writer.size = size
            server = await self.pair(writer, reader)
            writer.write_until_paused()
            # The kernel's buffers of both sockets, and the write buffer's limit.
            assert writer.paused
            assert writer.written < 16 * MEBIBYTE
            assert writer.most <= 65536 + size
            assert reader.received == 0
            while writer.written < writer.limit:
                await asyncio.sleep(0)
                writer.write_until_paused()
            while reader.received < writer.written:
                await asyncio.sleep(0)
            assert writer.resumes
            writer.transport.close()
            server.close()
            await turns(5)

        self.run(main())

    def test_a_reader_that_pauses_collects_nothing(self):
        async def main():
            writer, reader = Writer(), Counter()
            server = await self.pair(writer, reader)
            reader.transport.pause_reading()
            await turns(5)
            for _ in range(100):
                writer.write_until_paused()
                await asyncio.sleep(0)
            assert writer.paused
            assert writer.written < 32 * MEBIBYTE
            assert reader.received == 0
            reader.transport.resume_reading()
            while reader.received < writer.written:
                await asyncio.sleep(0)
            writer.transport.abort()
            server.close()
            await turns(5)

        self.run(main())


class _TestMemory(Case):

    @pytest.mark.parametrize('before', [0, 300])
    def test_protocols_that_pause_have_nothing_collected_for_them(self, before):
        """No more than asyncio reads at once, whatever came earlier, however much is there."""
        class Pauses(Counter):
            def data_received(self, data):
                super().data_received(data)
                self.transport.pause_reading()

        async def main():
            # Many short pieces at once have the loop receive many at once.
            short = [await self.connection(Counter) for _ in range(before)]
            await turns(10)
            for _, peer, _ in short:
                peer.send(bytes(100))
            while sum(counter.received for counter, _, _ in short) < 100 * before:
                await asyncio.sleep(0)
            paused = [await self.connection(Pauses) for _ in range(20)]
            await turns(10)
            for counter, peer, _ in paused:
                counter.sent = 0
                with contextlib.suppress(BlockingIOError):
                    while True:
                        counter.sent += peer.send(bytes(MEBIBYTE))
            while not all(counter.received for counter, _, _ in paused):
                await asyncio.sleep(0)
            await turns(10)
            for counter, peer, sock in paused:
                collected = counter.sent - counter.received - in_kernel(peer, sock)
                assert collected <= MEBIBYTE // 4
            for counter, peer, _ in short + paused:
                counter.transport.abort()
                peer.close()
            await turns(10)

        self.run(main())

    async def connection(self, factory):
        """A protocol, its peer, and its socket."""
        one, peer = PAIRS['tcp']()
        peer.setblocking(False)
        _, protocol = await self.loop.create_connection(factory, sock=one)
        return protocol, peer, one


class TestWhatWaited(Streams, UringCase):

    @pytest.mark.skipif(not COUNTS_BLOCKS, reason='what a sanitizer frees it keeps')
    def test_what_a_slow_reader_made_wait_is_given_back_to_the_system(self):
        """Nothing that the loop keeps lies above it in the heap."""
        grown = script("""
            import asyncio, os, socket
            from tests.leaks.measure import resident
            import uringloop

            async def main():
                loop = asyncio.get_running_loop()
                one, other = socket.socketpair()
                writer, _ = await loop.create_unix_connection(asyncio.Protocol, sock=one)
                reader, _ = await loop.create_unix_connection(asyncio.Protocol, sock=other)
                before = resident()
                reader.pause_reading()
                for _ in range(1000):
                    writer.write(os.urandom(60_000))
                full = resident()
                reader.resume_reading()
                while writer.get_write_buffer_size():
                    await asyncio.sleep(0.001)
                print(full - before, resident() - before)

            uringloop.run(main())
        """)
        full, after = map(int, grown.split())
        assert full > 50 * MEBIBYTE
        assert after < 30 * MEBIBYTE

    def test_a_short_one_that_waits_does_not_keep_what_it_is_a_view_of(self):
        async def main():
            near, peer = await self.half()
            content = bytes(range(256)) * 4096
            near.transport.write(content)
            while near.transport.get_write_buffer_size() == 0:
                near.transport.write(content)
            before = sys.getrefcount(content)
            near.transport.write(memoryview(content)[5:105])
            assert sys.getrefcount(content) == before
            peer.close()
            await near.until_lost()

        self.run(main())


def in_kernel(sender, receiver):
    """Bytes that one has sent and the other has not read; some count twice until acknowledged."""
    return sum(int.from_bytes(fcntl.ioctl(sock, request, bytes(4)), sys.byteorder)
               for sock, request in ((sender, termios.TIOCOUTQ), (receiver, termios.FIONREAD)))


class TestPausedConnection(Streams, UringCase):

    def test_leaves_the_data_in_the_socket(self):
        """A paused transport must not go on filling memory: the sender has to block."""
        async def main():
            near, peer = await self.half()
            near.transport.pause_reading()
            await turns()
            sent = 0
            while select.select([], [peer], [], 0)[1]:
                sent += peer.send(bytes(100_000))
                await turns(2)
            received = self.loop.stats().bytes_pinned
            assert received == 0
            near.transport.resume_reading()
            await near.until_length(sent)

        self.run(main())

    @both_kinds
    def test_no_poll_wakes_the_loop_while_the_peer_writes_on(self, kind):
        def write_on(peer):
            for _ in range(50):
                peer.send(b'x')
                time.sleep(0.001)

        async def main():
            near, peer = await self.half(kind=kind)
            peer.send(b'x')
            await near.until_length(1)
            near.transport.pause_reading()
            before = self.loop.stats().syscalls
            await self.loop.run_in_executor(None, write_on, peer)
            assert self.loop.stats().syscalls - before <= 5
            assert len(near.data) == 1
            near.transport.resume_reading()
            await near.until_length(51)

        self.run(main())

    @both_kinds
    def test_a_pause_within_a_turn_submits_nothing(self, kind):
        async def main():
            near, peer = await self.half(kind=kind)
            peer.send(b'x')
            await near.until_length(1)
            await turns(10)
            before = self.loop.stats().submissions
            for _ in range(5):
                near.transport.pause_reading()
                near.transport.resume_reading()
                await turns(10)
            assert self.loop.stats().submissions == before
            peer.send(b'y')
            await near.until_length(2)

        self.run(main())


both_sides(globals(), _TestFlow, _TestBothEnds, _TestMemory)
