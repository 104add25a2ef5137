"""A mix of everything for a long time: does anything grow, and is the loop idle afterwards?

    python benchmarks/soak.py --minutes 10

Datagrams (single, in bulk, zero-copy, AF_UNIX), streams (TCP, AF_UNIX; short connections and
bulk), sock_* calls, threads, timers, cancellations and child processes, all in one loop over
loopback.  Every 30 seconds, and at the end: memory, descriptors, what the loop counts, and how
late a timer of 10 ms was at most.  Then it is idle for 5 seconds, and what that costs is told.
Fails if anything has grown, or an idle loop is not idle.
"""
from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import socket
import sys
import time
from collections.abc import Awaitable, Callable

import uringloop

GROWTH = 16 << 20      # bytes, after the first report


class Echo(asyncio.DatagramProtocol):

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)


class Counter(asyncio.DatagramProtocol):
    received = 0

    def datagram_received(self, data, addr):
        self.received += 1


async def datagrams() -> None:
    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(Echo, local_addr=('127.0.0.1', 0))
    client, counter = await loop.create_datagram_endpoint(
        Counter, remote_addr=server.get_extra_info('sockname'))
    for _ in range(20):
        for _ in range(random.choice([1, 1, 2, 30])):
            client.sendto(bytes(random.choice([0, 1, 1200, 1200, 9000, 60_000])))
        await asyncio.sleep(0)
        await client.sendto_zerocopy(bytearray(random.randrange(1, 60_000)))
    await asyncio.sleep(0.01)
    assert counter.received
    client.close()
    random.choice([server.close, server.abort])()


async def streams() -> None:
    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 17):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    for size in (10, 1000, 300_000):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(bytes(size))
        await reader.readexactly(size)
        if size == 1000:
            writer.transport.abort()
        else:
            writer.close()
    server.close()


async def sock_calls() -> None:
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        sending = asyncio.ensure_future(loop.sock_sendall(near, bytes(500_000)))
        left = 500_000
        while left:
            left -= len(await loop.sock_recv(far, 1 << 16))
        await sending
        waiting = asyncio.ensure_future(loop.sock_recv(far, 10))
        await asyncio.sleep(0)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting


async def threads() -> None:
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    for _ in range(20):
        await loop.run_in_executor(None, loop.call_soon_threadsafe, done.set)
        await done.wait()
        done.clear()


async def timers() -> None:
    loop = asyncio.get_running_loop()
    for handle in [loop.call_later(random.random() * 100, int) for _ in range(500)]:
        handle.cancel()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(loop.create_future(), 0.005)


async def children() -> None:
    process = await asyncio.create_subprocess_exec(
        'cat', stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate(bytes(100_000))
    assert len(out) == 100_000
    await asyncio.sleep(0.2)


async def again_and_again(work: Callable[[], Awaitable[None]], end: float) -> None:
    while time.monotonic() < end:
        await work()
        await asyncio.sleep(0.001)


class Report:
    """What may not grow."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.start = time.monotonic()
        self.latest = 0.0
        self.first_memory = 0

    async def watch_timers(self) -> None:
        while True:
            due = self.loop.time() + 0.01
            await asyncio.sleep(0.01)
            self.latest = max(self.latest, self.loop.time() - due)

    def line(self) -> None:
        with open('/proc/self/statm') as statm:
            memory = int(statm.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
        stats = self.loop.stats()
        print(f'{time.monotonic() - self.start:6.0f} s  {memory >> 20:4} MiB  '
              f'{len(os.listdir("/proc/self/fd")):4} descriptors  {stats.operations_live:4} '
              f'operations  {stats.bytes_pinned:8} bytes pinned  {stats.datagrams_sent:10} '
              f'datagrams  timers late by {self.latest * 1000:.0f} ms at most', flush=True)
        self.latest = 0.0
        if not self.first_memory:
            self.first_memory = memory
        assert memory < self.first_memory + GROWTH, 'memory grows'
        assert stats.unknown_completions == 0


async def idle(loop) -> None:
    entered, used = loop.stats().syscalls, time.process_time()
    await asyncio.sleep(5)
    entered, used = loop.stats().syscalls - entered, time.process_time() - used
    print(f'idle for 5 s: {used:.3f} s of the processor, {entered} system calls')
    assert used < 0.1 and entered < 50, 'an idle loop is not idle'


async def main(minutes: float) -> None:
    report = Report()
    watching = asyncio.ensure_future(report.watch_timers())
    end = time.monotonic() + minutes * 60
    works = [asyncio.ensure_future(again_and_again(work, end)) for work in (
        datagrams, datagrams, streams, streams, sock_calls, threads, timers, children)]
    while time.monotonic() < end:
        done, _ = await asyncio.wait(works, timeout=30, return_when=asyncio.FIRST_EXCEPTION)
        for work in done:
            work.result()
        report.line()
    await asyncio.gather(*works)
    watching.cancel()
    await asyncio.sleep(0.5)
    report.line()
    await idle(asyncio.get_running_loop())


if __name__ == '__main__':
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=1)
    options = parser.parse_args()
    loop = uringloop.new_event_loop(require_uring=True)
    try:
        loop.run_until_complete(main(options.minutes))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    stats = loop.stats()
    assert stats.operations_live == stats.bytes_pinned == 0, stats
    print('flat')
    sys.exit(0)
