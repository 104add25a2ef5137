"""Programs of which any call may run any other: by the collector, which begins where it is told to.

Each thing done (``Program.do``) leaves garbage behind whose finalizer does another one, and has
the collector look after so few allocations that it finds that in the midst of a call.  What is sent
is of one letter each, so that what comes tells whether the memory was somebody else's.
"""
from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
from collections.abc import Callable

import uringloop
from tests.support.sockets import LOCAL, udp

DEPTH = 3                   # of what is done within something else
ENDPOINTS = STREAMS = 6
CALLED_SOON = 10            # that wait
ROUND = 5                   # things done a turn, at most
BIG = b'B' * 200_000
REFUSED = (BufferError, ValueError, OSError, RuntimeError, LookupError)


class Garbage:
    def __init__(self, program: Program) -> None:
        self.itself = self
        self.program = program

    def __del__(self) -> None:
        self.program.finalized()


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, program: Program) -> None:
        self.program = program

    def datagram_received(self, data, addr):
        self.program.received(data)

    def error_received(self, exc):
        self.program.do()


class Batches(Datagrams):
    def datagrams_received(self, batch):
        for data, addr in batch:
            self.datagram_received(data, addr)


class Stream(asyncio.Protocol):
    def __init__(self, program: Program) -> None:
        self.program = program

    def connection_made(self, transport):
        self.transport = transport
        self.program.streams.append(transport)

    def data_received(self, data):
        self.program.do()

    def connection_lost(self, exc):
        self.program.streams.remove(self.transport)


class Program:
    """Of one seed.  Methods that begin with ``do_`` are what it does."""

    def __init__(self, seed: int, loop: uringloop.Loop) -> None:
        self.random = random.Random(seed)
        self.loop = loop
        self.problems: list[str] = []
        self.left = self.depth = self.letter = self.called_soon = 0
        self.came = self.finalizers = 0
        self.armed = False
        self.ends: list[asyncio.DatagramTransport] = []
        self.streams: list[asyncio.Transport] = []
        self.sockets: list[socket.socket] = []
        self.leases: list[uringloop.Lease] = []
        self.waiting: set[asyncio.Future] = set()
        self.pools = [loop.create_buffer_pool(16, 3000), loop.create_buffer_pool(4, 60_000)]
        self.acts: list[Callable[[], object]] = [
            getattr(self, name) for name in dir(self) if name.startswith('do_')]

    async def run(self, things: int) -> None:
        self.server = await self.loop.create_server(lambda: Stream(self), *LOCAL)
        await self.new_endpoint(Datagrams)
        await self.new_endpoint(Batches)
        self.sockets += [udp() for _ in range(2)]
        thresholds = gc.get_threshold()
        try:
            self.left = things
            while self.left > 0:
                for _ in range(self.random.randint(1, ROUND)):
                    self.do()
                while len(self.leases) > 14:
                    self.do_release()
                await asyncio.sleep(0)
        finally:
            gc.set_threshold(*thresholds)
            self.left = 0
            await self.end()

    async def end(self) -> None:
        self.server.close()
        mine = asyncio.current_task()
        for future in {*self.waiting, *asyncio.all_tasks()} - {mine}:
            future.cancel()
        await asyncio.sleep(0)
        for transport in self.ends + self.streams:
            transport.abort()
        for lease in self.leases:
            lease.release()
        for sock in self.sockets:
            sock.close()
        self.leases.clear()
        self.waiting.clear()
        for _ in range(200):
            gc.collect()
            await asyncio.sleep(0.001)
            if not self.streams and all(pool.free == pool.count for pool in self.pools):
                return
        self.problems.append(f'left: {self.streams}, {self.pools}')

    def do(self) -> None:
        """Something, with the collector after us."""
        if self.left <= 0 or self.depth >= DEPTH:
            return
        self.left -= 1
        if self.depth == 0:
            self.armed = True
            Garbage(self)
            gc.set_threshold(self.random.randint(1, 4))
        self.depth += 1
        try:
            with contextlib.suppress(*REFUSED):
                self.random.choice(self.acts)()
        finally:
            self.depth -= 1
            if self.depth == 0:
                self.armed = False
                gc.set_threshold(10_000)

    def finalized(self) -> None:
        self.finalizers += 1
        if self.random.random() < 0.5:
            self.do()
        if self.armed:
            Garbage(self)

    def received(self, data: bytes) -> None:
        self.came += 1
        if len(set(data)) > 1:
            self.problems.append(f'of several letters: {data[:20]!r} of {len(data)} bytes')
        if self.random.random() < 0.2:
            self.do()

    # -- what there is -------------------------------------------------------------------------

    def content(self, size: int) -> bytes:
        self.letter = (self.letter + 1) % 256
        return bytes([self.letter]) * size

    def lease(self) -> uringloop.Lease:
        if self.leases and self.random.random() < 0.7:
            return self.random.choice(self.leases)
        lease = self.random.choice(self.pools).acquire_nowait()
        lease[:] = self.content(len(lease))
        self.leases.append(lease)
        return lease

    def piece(self):
        size = self.random.choice([0, 10, 100, 1200, 20_000])
        kind = self.random.randrange(5)
        if kind == 0:
            return self.content(size)
        if kind == 1:
            return bytearray(self.content(size))
        if kind == 2:
            start = self.random.randrange(100) * 1200
            return memoryview(BIG)[start:start + 1200]
        return self.lease() if kind == 3 else self.lease()[:1000]

    def pieces(self) -> list:
        return [self.piece() for _ in range(self.random.choice([1, 3, 20]))]

    def address(self):
        odd = self.random.random()
        if odd < 0.1:
            return ('127.0.0.1', 9) if odd < 0.05 else ('127.255.255.255', 9)
        return self.an_end().get_extra_info('sockname')

    def an_end(self):
        return self.random.choice(self.ends)

    def wait_for(self, future: asyncio.Future) -> None:
        self.waiting.add(future)
        future.add_done_callback(self.waiting.discard)
        future.add_done_callback(lambda future: future.cancelled() or future.exception())

    def start(self, coroutine) -> None:
        self.wait_for(self.loop.create_task(coroutine))

    async def new_endpoint(self, kind) -> None:
        transport, _ = await self.loop.create_datagram_endpoint(
            lambda: kind(self), local_addr=LOCAL)
        self.ends.append(transport)

    # -- what is done --------------------------------------------------------------------------

    def do_sendto(self):
        end, address = self.an_end(), self.address()
        for piece in self.pieces():
            end.sendto(piece, address)

    def do_slices(self):
        end, address = self.an_end(), self.address()
        for start in range(0, 24_000, 1200):
            end.sendto(memoryview(BIG)[start:start + 1200], address)

    def do_leases(self):
        end, address = self.an_end(), self.address()
        for _ in range(4):
            end.sendto(self.lease(), address)

    def do_many(self):
        self.an_end().sendto_many(self.pieces(), self.address())

    def do_many_addresses(self):
        self.an_end().sendto_many([(piece, self.address()) for piece in self.pieces()])

    def do_many_zerocopy(self):
        self.wait_for(self.an_end().sendto_many_zerocopy(self.pieces(), self.address()))

    def do_zerocopy(self):
        self.wait_for(self.an_end().sendto_zerocopy(self.piece(), self.address()))

    def do_train(self):
        size = self.random.choice([5000, 150_000])
        self.wait_for(self.an_end().sendto_zerocopy(
            memoryview(BIG)[:size], self.address(), segment_size=1200))

    def do_message(self):
        self.an_end().sendmsg([self.content(50)], (), 0, self.address())

    def do_ecn(self):
        self.an_end().sendto_with(self.content(50), self.address(), ecn=self.random.randrange(4))

    def do_release(self):
        self.leases.pop(self.random.randrange(len(self.leases))).release()

    def do_acquire(self):
        async def acquire():
            pool = self.random.choice(self.pools)
            leases = await pool.acquire_many(self.random.choice([1, 3]))
            for lease in leases:
                lease[:] = self.content(len(lease))
            await asyncio.sleep(0)
            for lease in leases:
                lease.release()

        self.start(acquire())

    def do_cancel(self):
        self.random.choice(list(self.waiting)).cancel()

    def do_soon(self):
        def called():
            self.called_soon -= 1
            self.do()

        if self.called_soon < CALLED_SOON:
            self.called_soon += 1
            self.random.choice([self.loop.call_soon, self.loop.call_soon_threadsafe])(called)

    def do_write(self):
        self.random.choice(self.streams).write(self.piece())

    def do_writelines(self):
        self.random.choice(self.streams).writelines(self.pieces())

    def do_pause(self):
        stream = self.random.choice(self.streams)
        stream.pause_reading()
        self.loop.call_soon(stream.resume_reading)

    def do_end_stream(self):
        if self.random.random() < 0.3:
            getattr(self.random.choice(self.streams),
                    self.random.choice(['close', 'abort', 'write_eof']))()

    def do_connect(self):
        if len(self.streams) < STREAMS:
            self.start(self.loop.create_connection(
                lambda: Stream(self), *self.server.sockets[0].getsockname()))

    def do_endpoint(self):
        if len(self.ends) < ENDPOINTS:
            self.start(self.new_endpoint(self.random.choice([Datagrams, Batches])))
        else:
            end = self.ends.pop(self.random.randrange(len(self.ends)))
            getattr(end, self.random.choice(['close', 'abort']))()

    def do_sock_sendto(self):
        self.start(self.loop.sock_sendto(
            self.random.choice(self.sockets), self.piece(), self.address()))

    def do_sock_zerocopy(self):
        size = self.random.choice([None, 1000])
        self.wait_for(self.loop.sock_sendto_zerocopy(
            self.random.choice(self.sockets), BIG[:50_000], self.address(), segment_size=size))

    def do_sock_receive(self):
        async def receive():
            await asyncio.wait_for(
                self.loop.sock_recvfrom(self.random.choice(self.sockets), 2000), 0.01)

        self.start(receive())

    def do_watch(self):
        sock = self.random.choice(self.sockets)
        self.loop.add_reader(sock, lambda: self.loop.remove_reader(sock))
