"""What a program sends and what it does not read: both stay bounded, whatever a callback does."""
import asyncio
import contextlib
import socket
import sys

import pytest

from tests.support.cases import Case, UringCase, both_sides
from tests.support.protocols import Recorder, endpoint
from tests.support.sockets import PAIRS
from tests.support.turns import turns

MEBIBYTE = 1 << 20


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


class _TestStreams(Case):
    """Both ends in one loop: what is written in one callback, nobody can have read."""

    timeout = 20.0

    async def pair(self, writer, reader):
        server = await self.loop.create_server(lambda: writer, '127.0.0.1', 0)
        await self.loop.create_connection(lambda: reader, *server.sockets[0].getsockname())
        while not hasattr(writer, 'transport'):
            await asyncio.sleep(0)
        return server

    @pytest.mark.parametrize('size', [100, 4000, 65536, 300_000])
    def test_paused_within_one_callback(self, size):
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

    def test_others_have_their_turns(self):
        """A coroutine that writes and drains, and a reader and a ticker beside it."""
        async def main():
            async def serve(reader, writer):
                nonlocal received
                while data := await reader.read(MEBIBYTE):
                    received += len(data)
                writer.close()

            async def tick():
                nonlocal ticks
                while True:
                    ticks += 1
                    await asyncio.sleep(0)

            received = ticks = behind = 0
            server = await asyncio.start_server(serve, '127.0.0.1', 0)
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            ticker = asyncio.ensure_future(tick())
            for i in range(1, 501):
                writer.write(bytes(200_000))
                await writer.drain()
                behind = max(behind, i * 200_000 - received)
            assert behind < 32 * MEBIBYTE
            assert ticks > 100
            ticker.cancel()
            writer.close()
            await writer.wait_closed()
            while received < 500 * 200_000:
                await asyncio.sleep(0)
            server.close()
            await turns(5)

        self.run(main())

    @pytest.mark.parametrize('kind', [bytes, bytearray])
    def test_part_of_a_buffer(self, kind):
        """What the socket does not take is the rest of the view, as it was at the call."""
        async def main():
            near, far = socket.socketpair()
            with far:
                far.setblocking(False)
                transport, _ = await self.loop.create_connection(asyncio.Protocol, sock=near)
                sent = bytearray()
                for i in range(200):
                    data = kind(b'<%04d' % i * 1000 + b'not this')
                    view = memoryview(data)[:5000]
                    sent += view
                    transport.write(view)
                    if kind is bytearray:
                        data[:] = bytes(len(data))
                    await asyncio.sleep(0)         # so that it is no bulk
                assert transport.get_write_buffer_size()
                received = bytearray()
                while len(received) < len(sent):
                    received += await self.loop.sock_recv(far, 1 << 16)
                assert received == sent
                transport.close()
                await turns(3)

        if not self.uring and kind is bytearray and sys.version_info >= (3, 12):
            pytest.skip('asyncio sends what the buffer holds by then')
        self.run(main())

    def test_write_has_left(self):
        """A peer that is read by blocking calls, in the same callback."""
        async def main():
            listening = socket.create_server(('127.0.0.1', 0))
            transport, _ = await self.loop.create_connection(
                asyncio.Protocol, *listening.getsockname())
            peer = listening.accept()[0]
            peer.settimeout(5)
            for i in range(20):
                transport.write(b'%02d' % i)
                assert peer.recv(100) == b'%02d' % i
                await asyncio.sleep(0)
            transport.close()
            peer.close()
            listening.close()
            await turns(5)

        self.run(main())


class TestSmallBuffers(UringCase):
    """A protocol of small buffers is slow: what its peer sends waits in the socket."""

    timeout = 20.0

    def test_received_and_not_delivered(self):
        async def main():
            near, far = PAIRS['tcp']()
            with far:
                far.setblocking(False)
                transport, protocol = await self.loop.create_connection(SmallBuffer, sock=near)
                for sock in near, far:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
                sent = most = 0
                for _ in range(2000):
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            sent += far.send(bytes(1 << 16))
                    await asyncio.sleep(0)
                    most = max(most, sent - protocol.received)
                assert most < 2 * MEBIBYTE
                while protocol.received < sent:
                    await asyncio.sleep(0)
                transport.close()
                await turns(3)

        self.run(main())

    @pytest.mark.parametrize('family', [socket.AF_INET, socket.AF_UNIX])
    def test_interrupted_when_asked_for_a_buffer(self, family):
        """Nothing of what has come is lost."""
        class Interrupting(SmallBuffer):
            def get_buffer(self, sizehint):
                nonlocal calls
                calls += 1
                if calls % 7 == 0:
                    raise KeyboardInterrupt
                return super().get_buffer(sizehint)

        async def begin():
            near, far = PAIRS['tcp' if family == socket.AF_INET else 'unix']()
            _, protocol = await self.loop.create_connection(Interrupting, sock=near)
            far.sendall(bytes(60_000))
            return protocol, far

        async def wait():
            while protocol.received < 60_000:
                await asyncio.sleep(0)

        calls = 0
        protocol, far = self.loop.run_until_complete(begin())
        interrupts = 0
        while protocol.received < 60_000:
            try:
                self.run(wait())
            except KeyboardInterrupt:  # noqa: PERF203
                interrupts += 1
        assert interrupts > 10
        protocol.transport.abort()
        far.close()
        self.turns(3)


class SmallBuffer(asyncio.BufferedProtocol):

    def __init__(self) -> None:
        self.buffer = bytearray(256)
        self.received = 0

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.received += nbytes


class TestDatagrams(UringCase):

    def test_received_while_nobody_reads(self):
        """However often a callback sends, nothing is received into memory meanwhile."""
        async def main():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(('127.0.0.1', 0))
            sock.setblocking(False)
            receiver, received = await endpoint(sock=sock)
            sender, _ = await endpoint(remote_addr=sock.getsockname())
            before = self.loop.stats()
            for _ in range(20_000):
                sender.sendto(bytes(1200))
            for _ in range(2000):
                await_nothing = sender.sendto_zerocopy(bytes(20_000))
                del await_nothing
            after = self.loop.stats()
            assert after.datagrams_received == before.datagrams_received
            assert not received.datagrams
            await turns(20)
            assert received.datagrams
            sender.close()
            receiver.close()

        self.run(main())

    def test_sock_calls_that_never_wait(self):
        """Neither do they collect what others receive, nor pin ever more."""
        async def main():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(('127.0.0.1', 0))
            sock.setblocking(False)
            receiver, received = await endpoint(sock=sock)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine:
                mine.setblocking(False)
                for _ in range(3000):
                    await self.loop.sock_sendto(mine, bytes(60_000), sock.getsockname())
                assert not received.datagrams
                assert self.loop.stats().bytes_pinned < 4 * MEBIBYTE
            await received.until(lambda p: p.datagrams)
            receiver.close()

        self.run(main())

    def test_pauses_only_where_there_is_no_room(self):
        async def main():
            receiver, _ = await endpoint(local_addr=('127.0.0.1', 0))
            sender, protocol = await endpoint(remote_addr=receiver.get_extra_info('sockname'))
            for size in (1200, 30_000, 60_000):
                for _ in range(100):
                    sender.sendto(bytes(size))
                await turns(3)
            assert not protocol.pauses
            assert isinstance(protocol, Recorder)
            sender.close()
            receiver.close()

        self.run(main())


both_sides(globals(), _TestStreams)
