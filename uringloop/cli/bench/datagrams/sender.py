"""One sender of datagrams on one loop, in a process of its own.

``python -m uringloop.cli.bench.datagrams.sender JOB`` sends datagrams of random sizes, each of
which begins with its length, to the ports in turn, and says what it has sent, as JSON.
"""
from __future__ import annotations

import asyncio
import json
import random
import struct
import sys
import time
from dataclasses import dataclass
from typing import Any

from uringloop.cli.bench.datagrams.server import HOST, make_socket, run, used

TURN = 64                   # datagrams, between which nothing else runs
DIFFERENT = 1_024           # datagrams, of which the sizes are drawn before
SEED = 1

Turn = list[tuple[bytes, tuple[str, int]]]


@dataclass(frozen=True)
class Job:
    """What one process does."""

    loop: str
    shortest: int
    longest: int
    seconds: float
    ports: list[int]


class Flow(asyncio.DatagramProtocol):
    """Knows when to wait, and when all has left."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.free.set()
        self.lost = asyncio.Event()
        self.error: Exception | None = None

    def pause_writing(self) -> None:
        self.free.clear()

    def resume_writing(self) -> None:
        self.free.set()

    def error_received(self, exc: Exception) -> None:
        self.error = exc

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = self.error or exc
        self.free.set()
        self.lost.set()


def turns_of(job: Job) -> list[Turn]:
    """What is sent, again and again: each datagram goes to the port behind the last one's."""
    draw = random.Random(SEED)
    sizes = [draw.randint(job.shortest, job.longest) for _ in range(DIFFERENT)]
    addresses = [(HOST, port) for port in job.ports]
    datagrams = [(struct.pack('=I', size).ljust(size, b'\0'), addresses[number % len(addresses)])
                 for number, size in enumerate(sizes)]
    return [datagrams[first:first + TURN] for first in range(0, DIFFERENT, TURN)]


async def send(job: Job) -> dict[str, Any]:
    turns = [(turn, sum(len(data) for data, _ in turn)) for turn in turns_of(job)]
    loop: Any = asyncio.get_running_loop()
    transport, flow = await loop.create_datagram_endpoint(Flow, sock=make_socket())
    sendto, sent, length, number = transport.sendto, 0, 0, 0
    before, began = used(), time.monotonic()
    while time.monotonic() < began + job.seconds and not flow.lost.is_set():
        turn, size = turns[number]
        for data, address in turn:
            sendto(data, address)
        number = (number + 1) % len(turns)
        sent += len(turn)
        length += size
        await asyncio.sleep(0)
        if not flow.free.is_set():
            await flow.free.wait()
    transport.close()           # which sends what is still waiting
    await flow.lost.wait()
    done = {'seconds': time.monotonic() - began, 'sent': sent, 'bytes': length,
            'cpu': used() - before}
    if flow.error is not None:
        raise flow.error
    return done


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    run(job.loop, job.seconds, send(job))


if __name__ == '__main__':
    main()
