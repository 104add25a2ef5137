"""One server of datagrams on one loop, in a process of its own.

``python -m uringloop.cli.bench.datagrams.server JOB`` says its port, serves until its standard
input ends, takes what is still there, and says what it has counted; all of that is JSON.
"""
from __future__ import annotations

import asyncio
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import sys
import termios
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from uringloop.cli.bench.loops import loop_of
from uringloop.cli.bench.process import GRACE, MissingError

HOST = '127.0.0.1'
ROOM = 8 << 20
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
SO_MEMINFO = 55
SK_MEMINFO_DROPS = 8        # its place among them
QUIET = 0.01                # seconds in which nothing comes any more


@dataclass(frozen=True)
class Job:
    """What one process does."""

    loop: str
    way: str                    # one of WAYS
    seconds: float              # in which it is loaded
    port: int | None = None     # that others have too (SO_REUSEPORT), 0 for any; None: its own


class Counts(asyncio.DatagramProtocol):
    """Counts datagrams and bytes."""

    def __init__(self) -> None:
        self.datagrams = 0
        self.bytes = 0
        self.transport: Any = None
        self.error: Exception | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def error_received(self, exc: Exception) -> None:
        self.error = exc


class Echo(Counts):
    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.datagrams += 1
        self.bytes += len(data)
        self.transport.sendto(data, addr)


class Each(Counts):
    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.datagrams += 1
        self.bytes += len(data)


class Batches(Counts):
    def datagrams_received(self, batch: list[tuple[bytes, Any]]) -> None:
        self.datagrams += len(batch)
        for data, _ in batch:
            self.bytes += len(data)


class Trains(Counts):
    def datagram_train_received(self, data: bytes, segment_size: int, addr: Any) -> None:
        self.datagrams += -(-len(data) // segment_size)
        self.bytes += len(data)


# What only this loop takes: UDP_GRO it sets by itself only on sockets that it has made.
WAYS: dict[str, tuple[type[Counts], dict[str, Any]]] = {
    'echo': (Echo, {}),
    'own-echo': (Echo, {'gro': True}),
    'each': (Each, {}),
    'own-each': (Each, {'gro': True}),
    'own-batches': (Batches, {'gro': True}),
    'own-trains': (Trains, {'gro': True}),
    'own-each-no-gro': (Each, {'gro': False}),
}


def make_socket(port: int | None = None) -> socket.socket:
    """One that holds much, so that a pause of the loop loses nothing; of a port as in ``Job``."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if port is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, ROOM)
    except PermissionError:         # not root: as much as there is
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
    sock.bind((HOST, port or 0))
    sock.setblocking(False)
    return sock


async def input_ends() -> None:
    """Waited for by a thread: not every loop can read every kind of file."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def wait() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, daemon=True).start()
    await ended.wait()


def used() -> float:
    """Processor time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def waiting(sock: socket.socket) -> bool:
    """Whether a datagram is in it."""
    size = bytearray(4)
    fcntl.ioctl(sock, termios.FIONREAD, size)
    return any(size)


async def drained(sock: socket.socket, protocol: Counts) -> tuple[float, float]:
    """When the last of what was sent had been taken, by the clock and in processor time."""
    last, seen = (time.monotonic(), used()), protocol.datagrams
    while True:
        # A loop may have some in hand that are not in the socket any more.
        if waiting(sock) or protocol.datagrams != seen:
            last, seen = (time.monotonic(), used()), protocol.datagrams
        elif time.monotonic() > last[0] + QUIET:
            return last
        await asyncio.sleep(0.001)


async def serve(job: Job) -> dict[str, Any]:
    kind, options = WAYS[job.way]
    sock = make_socket(job.port)
    # Some loops close, or take away, the one that they are given.
    observed = sock.dup()
    loop: Any = asyncio.get_running_loop()
    _, protocol = await loop.create_datagram_endpoint(kind, sock=sock, **options)
    print(json.dumps({'port': observed.getsockname()[1]}), flush=True)
    before = used()
    await input_ends()
    ended, cpu = await drained(observed, protocol)
    if protocol.error is not None:
        raise protocol.error
    dropped = struct.unpack_from('=9I', observed.getsockopt(
        socket.SOL_SOCKET, SO_MEMINFO, 64))[SK_MEMINFO_DROPS]
    return {'datagrams': protocol.datagrams, 'bytes': protocol.bytes, 'cpu': cpu - before,
            'ended': ended, 'dropped': dropped}


def run(name: str, seconds: float, main: Coroutine[Any, Any, dict[str, Any]]) -> None:
    """Run it on the loop of that name, print what it has counted, and end the process."""
    signal.alarm(int(seconds) + GRACE)
    try:
        loop = loop_of(name)
        asyncio.set_event_loop(loop)
        counted = loop.run_until_complete(main)
    except MissingError as error:
        counted = {'missing': str(error)}
    except NotImplementedError as error:
        counted = {'missing': f'{name} cannot do that {error}'.strip()}
    print(json.dumps(counted), flush=True)
    # A loop's threads might keep the process.
    os._exit(0)


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    run(job.loop, job.seconds, serve(job))


if __name__ == '__main__':
    main()
