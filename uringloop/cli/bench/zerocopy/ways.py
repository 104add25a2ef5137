"""The ways in which Python can send: each is a function that sends one turn's payloads."""
from __future__ import annotations

import asyncio
import errno
import inspect
import mmap
import select
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from uringloop.cli.bench.process import MissingError

Turn = Callable[[list[Any]], Awaitable[None]]

SO_ZEROCOPY = 60
MSG_ZEROCOPY = 0x4000000
# struct sock_extended_err of <linux/errqueue.h>
EXTENDED_ERROR = struct.Struct('=IBBBBII')
SO_EE_ORIGIN_ZEROCOPY = 5
SO_EE_CODE_ZEROCOPY_COPIED = 1
LAST_NOTIFICATIONS = 2.0        # seconds they may take after the last datagram


def memory_of(size: int) -> mmap.mmap:
    """Memory of the program's own, whose pages are there."""
    memory = mmap.mmap(-1, size)
    memory.write(b'u' * size)
    return memory


class Flow(asyncio.DatagramProtocol):
    """Knows whether the transport has enough for now, and whether something went wrong."""

    def __init__(self) -> None:
        self.paused = False
        self.error: Exception | None = None
        self.closed = asyncio.Event()
        self._resumed = asyncio.Event()

    def pause_writing(self) -> None:
        self.paused = True
        self._resumed.clear()

    def resume_writing(self) -> None:
        self.paused = False
        self._resumed.set()

    async def resumed(self) -> None:
        await self._resumed.wait()

    def error_received(self, exc: Exception) -> None:
        self.error = exc

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()


class Endpoint:
    """What a way sends through: a transport or a bare socket, memory, a pool."""

    def __init__(self, loop: Any, address: tuple[str, int], segment: int) -> None:
        self.loop = loop
        self.sock: socket.socket | None = None
        self.address = address
        self.segment = segment
        self.transport: Any = None
        self.flow = Flow()
        self.pool: Any = None
        self.registered: Any = None

    @classmethod
    def none(cls) -> Endpoint:
        """For those who have no loop."""
        return cls(None, ('', 0), 0)

    async def __aenter__(self) -> Endpoint:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        traceback: TracebackType | None) -> None:
        if self.transport is not None:
            self.transport.close()
            await self.flow.closed.wait()
        elif self.sock is not None:
            self.sock.close()
        for memory in (self.registered, self.pool):
            if memory is not None:
                await memory.close()

    async def open(self, way: str) -> None:
        """Make what the way sends through, as a program would."""
        if way.startswith('sock_'):
            self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.sock.setblocking(False)
        else:
            self.transport, _ = await self.loop.create_datagram_endpoint(
                lambda: self.flow, remote_addr=self.address)

    def register(self, memory: Any) -> None:
        self.registered = need(self.loop, 'loop', 'register_buffer')(memory)

    def make_pool(self, count: int, size: int) -> None:
        self.pool = need(self.loop, 'loop', 'create_buffer_pool')(count, size)

    async def drained(self) -> None:
        """Until the transport has handed over all that it was given."""
        while self.transport is not None and self.transport.get_write_buffer_size():
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        if self.flow.error is not None:
            raise self.flow.error

    async def zerocopied(self) -> tuple[int, int, int]:
        """Sends that went zero-copy, those of them that the kernel copied; bytes that went without.

        As the loop has counted them.
        """
        if not hasattr(self.loop, 'stats'):
            return 0, 0, 0
        end = time.monotonic() + LAST_NOTIFICATIONS
        while self.loop.stats().bytes_pinned and time.monotonic() < end:
            await asyncio.sleep(0.001)
        stats = self.loop.stats()
        return (stats.zerocopy_sent - stats.zerocopy_fell_back, stats.zerocopy_copied,
                stats.zerocopy_bytes)


def need(thing: Any, kind: str, name: str) -> Any:
    """A method that not every version, and no other loop, has."""
    method = getattr(thing, name, None)
    if method is None:
        raise MissingError(f'this version has no {kind}.{name}')
    return method


# -- transports ----------------------------------------------------------------------------------

def sendto(endpoint: Endpoint) -> Turn:
    send, flow = endpoint.transport.sendto, endpoint.flow

    async def turn(payloads: list[Any]) -> None:
        for payload in payloads:
            send(payload)
        await asyncio.sleep(0)
        if flow.paused:
            await flow.resumed()
    return turn


def sendto_lease(endpoint: Endpoint) -> Turn:
    send, flow, pool = endpoint.transport.sendto, endpoint.flow, endpoint.pool

    async def turn(payloads: list[Any]) -> None:
        for _ in payloads:
            lease = await pool.acquire()
            send(lease)
            lease.release()
        await asyncio.sleep(0)
        if flow.paused:
            await flow.resumed()
    return turn


def sendto_many(endpoint: Endpoint) -> Turn:
    send, flow = need(endpoint.transport, 'transport', 'sendto_many'), endpoint.flow

    async def turn(payloads: list[Any]) -> None:
        send(payloads)
        await asyncio.sleep(0)
        if flow.paused:
            await flow.resumed()
    return turn


def sendto_many_leases(endpoint: Endpoint) -> Turn:
    send, flow = need(endpoint.transport, 'transport', 'sendto_many'), endpoint.flow
    pool = endpoint.pool

    async def turn(payloads: list[Any]) -> None:
        leases = await pool.acquire_many(len(payloads))
        send(leases)
        for lease in leases:
            lease.release()
        await asyncio.sleep(0)
        if flow.paused:
            await flow.resumed()
    return turn


def _send_zerocopy(endpoint: Endpoint) -> Callable[[Any], asyncio.Future[Any]]:
    send = need(endpoint.transport, 'transport', 'sendto_zerocopy')
    if not endpoint.segment:
        return send        # type: ignore[no-any-return]
    if 'segment_size' not in inspect.signature(send).parameters:
        raise MissingError('this version has no segment_size of transport.sendto_zerocopy')
    segment = endpoint.segment
    return lambda payload: send(payload, segment_size=segment)


def zerocopy_each(endpoint: Endpoint) -> Turn:
    """Each notification is awaited before the next send."""
    send = _send_zerocopy(endpoint)

    async def turn(payloads: list[Any]) -> None:
        for payload in payloads:
            await send(payload)
    return turn


def zerocopy_bulk(endpoint: Endpoint) -> Turn:
    """A turn's notifications are awaited together."""
    send = _send_zerocopy(endpoint)

    async def turn(payloads: list[Any]) -> None:
        for future in [send(payload) for payload in payloads]:
            await future
    return turn


def many_zerocopy(endpoint: Endpoint) -> Turn:
    """One future for a turn's datagrams."""
    send = need(endpoint.transport, 'transport', 'sendto_many_zerocopy')

    async def turn(payloads: list[Any]) -> None:
        await send(payloads)
    return turn


# -- sockets of the program's own ----------------------------------------------------------------

def sock_sendto(endpoint: Endpoint) -> Turn:
    send = need(endpoint.loop, 'loop', 'sock_sendto')
    sock, address = endpoint.sock, endpoint.address

    async def turn(payloads: list[Any]) -> None:
        for payload in payloads:
            await send(sock, payload, address)
        await asyncio.sleep(0)
    return turn


def sock_sendto_lease(endpoint: Endpoint) -> Turn:
    send = need(endpoint.loop, 'loop', 'sock_sendto')
    sock, address = endpoint.sock, endpoint.address
    pool = endpoint.pool

    async def turn(payloads: list[Any]) -> None:
        for _ in payloads:
            with await pool.acquire() as lease:
                await send(sock, lease, address)
        await asyncio.sleep(0)
    return turn


WAYS: dict[str, Callable[[Endpoint], Turn]] = {
    'sendto': sendto, 'sendto_many': sendto_many, 'zerocopy_each': zerocopy_each,
    'zerocopy_bulk': zerocopy_bulk, 'many_zerocopy': many_zerocopy, 'sock_sendto': sock_sendto,
}
LEASE_WAYS: dict[str, Callable[[Endpoint], Turn]] = {
    'sendto': sendto_lease, 'sendto_many': sendto_many_leases, 'sock_sendto': sock_sendto_lease,
}


# -- no loop: returns how many went zero-copy, and how many of them the kernel copied ------------

def socket_send(sock: socket.socket) -> Callable[[list[Any]], tuple[int, int]]:
    send = sock.send

    def turn(payloads: list[Any]) -> tuple[int, int]:
        for payload in payloads:
            send(payload)
        return 0, 0
    return turn


def _notifications(sock: socket.socket) -> tuple[int, int]:
    found = copied = 0
    while True:
        try:
            _, ancillary, _, _ = sock.recvmsg(0, 128, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return found, copied
        for _, _, data in ancillary:
            _, origin, _, code, _, first, last = EXTENDED_ERROR.unpack_from(data)
            if origin == SO_EE_ORIGIN_ZEROCOPY:
                found += last - first + 1
                copied += (last - first + 1) * (code & SO_EE_CODE_ZEROCOPY_COPIED)


def socket_zerocopy(sock: socket.socket) -> Callable[[list[Any]], tuple[int, int]]:
    """MSG_ZEROCOPY; a turn's notifications are awaited before the next one."""
    sock.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    send = sock.send
    poll = select.poll()
    poll.register(sock, 0)          # POLLERR is always told

    def wait(owed: int) -> tuple[int, int]:
        found = copied = 0
        while found < owed:
            more, of_those = _notifications(sock)
            found, copied = found + more, copied + of_those
            if not more:
                poll.poll(1000)
        return found, copied

    def turn(payloads: list[Any]) -> tuple[int, int]:
        owed = found = copied = 0
        for payload in payloads:
            try:
                send(payload, MSG_ZEROCOPY)
            except OSError as error:
                if error.errno != errno.ENOBUFS or not owed:
                    raise
                # So many notifications do not fit into net.core.optmem_max.
                more, of_those = wait(owed)
                owed, found, copied = 0, found + more, copied + of_those
                send(payload, MSG_ZEROCOPY)
            owed += 1
        more, of_those = wait(owed)
        return found + more, copied + of_those
    return turn


SOCKET_WAYS = {'send': socket_send, 'send_zerocopy': socket_zerocopy}
