"""One measurement of one Python sender, in a process of its own.

``python -m uringloop.cli.bench.zerocopy.sender JOB`` prints what it has sent; both are JSON.
"""
from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from uringloop.cli.bench.loops import loop_of
from uringloop.cli.bench.process import GRACE, MissingError
from uringloop.cli.bench.zerocopy import ways
from uringloop.cli.bench.zerocopy.ways import Endpoint

# So many different turns at most, however small the datagrams are.
MOST_TURNS = 1 << 14


@dataclass(frozen=True)
class Job:
    """What one process does."""

    loop: str                   # '': none, plain system calls
    way: str                    # one of ways.WAYS or ways.SOCKET_WAYS
    payload: str                # one of PAYLOADS
    together: int               # sends of a turn
    size: int                   # bytes of a send
    segment: int                # bytes of a datagram, if a send leaves as several; else 0
    memory: int                 # bytes that the payloads walk through
    seconds: float
    address: str
    port: int


@dataclass
class Sent:
    """What it says that it has done; ``zerocopy`` counts the sends that went so, or were to."""

    seconds: float = 0.0
    datagrams: int = 0
    bytes: int = 0
    zerocopy: int = 0
    copied: int = 0             # of those, by the kernel
    zerocopy_bytes: int = 0     # that went without a copy
    missing: str = ''           # why there was nothing to measure


# -- payloads: how many are different is a matter of the memory that they walk through -----------

def _views(memory: Any, size: int) -> list[memoryview]:
    view = memoryview(memory)
    return [view[begin:begin + size] for begin in range(0, len(view) - size + 1, size)]


def _bytes(job: Job, endpoint: Endpoint) -> list[Any]:
    return [bytes([number % 256]) * job.size for number in range(max(1, job.memory // job.size))]


def _bytearrays(job: Job, endpoint: Endpoint) -> list[Any]:
    return [bytearray(each) for each in _bytes(job, endpoint)]


def _slices(job: Job, endpoint: Endpoint) -> list[Any]:
    """Neighbours in one large ``bytes``, as those have who stream a file."""
    return _views(b'u' * max(job.memory, job.together * job.size), job.size)


def _mapped(job: Job, endpoint: Endpoint) -> list[Any]:
    return _views(ways.memory_of(max(job.memory, job.size)), job.size)


def _registered(job: Job, endpoint: Endpoint) -> list[Any]:
    memory = ways.memory_of(max(job.memory, job.size))
    endpoint.register(memory)
    return _views(memory, job.size)


def _leases(job: Job, endpoint: Endpoint) -> list[Any]:
    """Leases are had anew each turn; all that a turn knows beforehand is how many.

    The pool of the largest turns fits into 8 MiB, which is what users may lock.
    """
    endpoint.make_pool(max(job.together * 3 // 2, job.memory // job.size), job.size)
    return [None]


PAYLOADS: dict[str, Callable[[Job, Endpoint], list[Any]]] = {
    'bytes': _bytes, 'bytearray': _bytearrays, 'slices': _slices, 'memory': _mapped,
    'registered': _registered, 'leases': _leases,
}


def turns_of(job: Job, payloads: list[Any]) -> list[list[Any]]:
    """The payloads of each turn, so that choosing them costs nothing when it counts."""
    count = min(MOST_TURNS, -(-len(payloads) // job.together))
    endless = itertools.cycle(payloads)
    return [list(itertools.islice(endless, job.together)) for _ in range(count)]


# -- measuring -----------------------------------------------------------------------------------

def _count(job: Job, sent: Sent, turns: int) -> None:
    each = -(-job.size // job.segment) if job.segment else 1
    sent.datagrams = turns * job.together * each
    sent.bytes = turns * job.together * job.size


async def _on_a_loop(job: Job) -> Sent:
    loop: Any = asyncio.get_running_loop()
    async with Endpoint(loop, (job.address, job.port), job.segment) as endpoint:
        await endpoint.open(job.way)
        turns = itertools.cycle(turns_of(job, PAYLOADS[job.payload](job, endpoint)))
        # Behind the payloads: a pool is made with them.
        turn = (ways.LEASE_WAYS if job.payload == 'leases' else ways.WAYS)[job.way](endpoint)
        sent, count, begin = Sent(), 0, time.perf_counter()
        while time.perf_counter() - begin < job.seconds:
            await turn(next(turns))
            count += 1
        # What still waits in user space is not sent.
        await endpoint.drained()
        sent.seconds = time.perf_counter() - begin
        _count(job, sent, count)
        sent.zerocopy, sent.copied, sent.zerocopy_bytes = await endpoint.zerocopied()
        if job.payload in ('registered', 'leases') and not loop.stats().registered_sends:
            raise MissingError('the ring could not register the memory: raise ulimit -l')
    return sent


def _without_loop(job: Job) -> Sent:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((job.address, job.port))
        turn = ways.SOCKET_WAYS[job.way](sock)
        turns = itertools.cycle(turns_of(job, _bytes(job, Endpoint.none())))
        sent, count, begin = Sent(), 0, time.perf_counter()
        while time.perf_counter() - begin < job.seconds:
            zerocopy, copied = turn(next(turns))
            sent.zerocopy += zerocopy
            sent.copied += copied
            count += 1
        sent.seconds = time.perf_counter() - begin
        _count(job, sent, count)
        sent.zerocopy_bytes = (sent.zerocopy - sent.copied) * job.size
    return sent


def main() -> None:
    signal.alarm(int(float(json.loads(sys.argv[1])['seconds'])) + GRACE)
    job = Job(**json.loads(sys.argv[1]))
    try:
        if job.loop:
            loop = loop_of(job.loop)
            asyncio.set_event_loop(loop)
            sent = loop.run_until_complete(_on_a_loop(job))
        else:
            sent = _without_loop(job)
    except MissingError as error:
        sent = Sent(missing=str(error))
    except NotImplementedError:
        sent = Sent(missing=f'{job.loop} has no {job.way}')
    print(json.dumps(asdict(sent)), flush=True)
    # Gigabytes of payloads need no farewell, and a loop's threads might keep the process.
    os._exit(0)


if __name__ == '__main__':
    main()
