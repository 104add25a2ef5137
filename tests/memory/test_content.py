"""What arrives is what was sent, however fast buffers are used again.

A buffer is overwritten as soon as the pool hands it out: what the kernel would still read of
it then arrives as poison, and the digests of both ends differ.
"""
import asyncio
import contextlib
import hashlib
import itertools
import mmap
import os
import socket
import struct

import pytest

from tests.support.cases import UringCase
from tests.support.features import needs_feature
from tests.support.namespaces import Hole, needs_root
from tests.support.protocols import endpoint
from tests.support.sockets import LOCAL, SO_RCVBUFFORCE, SO_SNDBUFFORCE
from tests.support.turns import turns_until

SEGMENT = 1200
SEGMENTS = 50
SIZE = SEGMENT * SEGMENTS
POISON = b'\xdd' * SIZE
ALL_SLICES = [slice(begin, begin + SEGMENT) for begin in range(0, SIZE, SEGMENT)]


def by_train(transport, lease, to):
    return transport.sendto_zerocopy(lease, to, segment_size=SEGMENT)


def by_slices(transport, lease, to):
    for part in ALL_SLICES:
        transport.sendto(lease[part], to)


def by_many(transport, lease, to):
    transport.sendto_many([lease[part] for part in ALL_SLICES], to)


def by_many_zerocopy(transport, lease, to):
    return transport.sendto_many_zerocopy([lease[part] for part in ALL_SLICES], to)


WAYS = (by_train, by_slices, by_many, by_many_zerocopy)


class Source:
    """Datagrams that say which they are and are otherwise hard to guess; and their digest."""

    def __init__(self):
        self.numbers = itertools.count()
        self.digest = hashlib.sha256()
        self.random = os.urandom(SIZE + 4096)

    def fill(self, lease):
        lease[:] = POISON
        begin = next(self.numbers)
        lease[:] = self.random[begin % 4096:begin % 4096 + SIZE]
        for i in range(SEGMENTS):
            struct.pack_into('!Q', lease, i * SEGMENT, begin * SEGMENTS + i)
        self.digest.update(lease)


class Sink:
    """The far end: puts what came in order, and its digest."""

    def __init__(self, wire):
        self.sock = wire.far.socket(address=wire.peer)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self.digest = hashlib.sha256()
        self.count = 0

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()

    def drain(self, expected):
        got = []
        with contextlib.suppress(BlockingIOError):
            while True:
                got.append(self.sock.recv(2 * SEGMENT))
        got.sort(key=lambda data: data[:8])
        for data in got:
            self.digest.update(data)
        self.count += len(got)
        assert self.count == expected


def roomy(wire):
    """A socket that takes all that is sent while the kernel holds it back."""
    sock = wire.socket()
    sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 8 << 20)
    return sock


@needs_feature('send_zc', 'registered_buffers')
@needs_root
class TestContent(UringCase):

    timeout = 60.0

    def test_leases_reused_as_fast_as_they_return(self, wire):
        async def main():
            pool = self.loop.create_buffer_pool(3, SIZE)
            transport = None
            for number in range(rounds):
                if number % 16 == 0:
                    # One that has not learned yet that this path copies.
                    if transport is not None:
                        transport.close()
                    transport, protocol = await endpoint(sock=roomy(wire))
                lease = await pool.acquire()
                source.fill(lease)
                WAYS[number % len(WAYS)](transport, lease, wire.peer)
                lease.release()
                if number % 8 == 7:
                    await asyncio.sleep(0)          # bulks leave
                    sink.drain((number + 1) * SEGMENTS)
            assert not protocol.errors
            transport.close()
            assert sink.digest.digest() == source.digest.digest()
            assert self.loop.stats().datagrams_sent == rounds * SEGMENTS
            await turns_until(lambda: pool.free == 3)

        rounds = 20_000                         # a million datagrams, six seconds
        if 'asan' in os.environ.get('URINGLOOP_BUILD', ''):
            rounds //= 5                        # it is five times as slow
        wire.release()
        source = Source()
        with Sink(wire) as sink:
            self.run(main())

    @pytest.mark.parametrize('way', WAYS)
    def test_held_back_by_the_kernel(self, wire, way):
        """Every buffer that the kernel holds is one that the pool does not hand out."""
        async def main():
            pool = self.loop.create_buffer_pool(16, SIZE)
            for number in range(rounds):
                wire.hold()
                transport, _ = await endpoint(sock=roomy(wire))
                for _ in range(8):
                    with await pool.acquire() as lease:
                        source.fill(lease)
                        way(transport, lease, wire.peer)
                # None of it waits for room.
                assert transport.get_write_buffer_size() == 0
                assert self.loop.stats().bytes_pinned > 0
                out = pool.count - pool.free
                assert out > 0
                # Whatever can be had is spoiled meanwhile.
                for lease in await pool.acquire_many(pool.free):
                    lease[:] = POISON
                    lease.release()
                assert pool.count - pool.free == out
                wire.release()
                await turns_until(lambda: pool.free == 16)
                sink.drain((number + 1) * 8 * SEGMENTS)
                transport.close()
            assert sink.digest.digest() == source.digest.digest()

        rounds = 10
        source = Source()
        try:
            with Sink(wire) as sink:
                self.run(main())
        finally:
            wire.release()


class TestMappedFile(UringCase):
    """A file that is mapped for reading goes without a copy, and need not be registered."""

    @pytest.fixture
    def file(self, tmp_path):
        path = tmp_path / 'file'
        path.write_bytes(os.urandom(10 * SIZE))
        with path.open('rb') as file, \
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory, \
                memoryview(memory) as view:
            yield view

    @needs_feature('send_zc', 'report_usage')
    @needs_root
    def test_nothing_is_copied(self, file):
        async def main():
            transport, _ = await endpoint(sock=hole.socket())
            assert await transport.sendto_zerocopy(
                file, hole.peer, segment_size=SEGMENT) == (len(file), False)
            transport.close()

        with Hole(mtu=1500) as hole:
            self.run(main())
        stats = self.loop.stats()
        assert (stats.zerocopy_bytes, stats.registered_sends) == (len(file), 0)

    def test_it_arrives(self, file):
        async def main():
            receiver, received = await endpoint(local_addr=LOCAL)
            for begin in range(0, len(file), SIZE):
                part = file[begin:begin + SIZE]
                await receiver.sendto_zerocopy(
                    part, receiver.get_extra_info('sockname'), segment_size=SEGMENT)
                await received.until(lambda p: len(p.datagrams) == SEGMENTS)
                assert b''.join(received.datagrams) == part
                received.datagrams.clear()
            receiver.close()

        self.run(main())
