"""What has come of a send, as a tuple that can be compared."""
from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

SENT = ('sent',)


def failure(how: str, exc: BaseException) -> tuple:
    """By the exception's type; where the system has said it, by what it has said, too."""
    return how, type(exc).__name__, exc.errno if isinstance(exc, OSError) else None


def of_call(call: Callable[[], object]) -> tuple:
    """Of a plain call."""
    try:
        call()
    except Exception as exc:
        return failure('raised', exc)
    return SENT


class Told(asyncio.DatagramProtocol):
    """Keeps what a transport's protocol was told last."""

    def __init__(self) -> None:
        self.outcome = SENT

    def error_received(self, exc):
        self.outcome = failure('told', exc)

    def connection_lost(self, exc):
        if exc is not None:
            self.outcome = failure('lost', exc)


class Sender:
    """An endpoint that is used until it is lost, and then another one."""

    def __init__(self, make: Callable[[], socket.socket]) -> None:
        self.make = make
        self.transport: asyncio.DatagramTransport | None = None

    async def open(self) -> None:
        self.transport, self.protocol = await asyncio.get_running_loop().create_datagram_endpoint(
            Told, sock=self.make())

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()
            self.transport = None

    async def outcome(self, call: Callable[[asyncio.DatagramTransport], object]) -> tuple:
        """Of ``call(transport)``, whichever way it is told; its future is waited for."""
        if self.transport is None:
            await self.open()
        self.protocol.outcome = SENT
        try:
            future = call(self.transport)
            if asyncio.isfuture(future):
                await future
        except Exception as exc:
            return failure('raised', exc)
        # What waits for the end of the turn leaves, and what it has met is told.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if self.transport.is_closing():
            self.transport = None
        return self.protocol.outcome


def reason(outcome: tuple) -> tuple:
    """An outcome but for the way it was told."""
    return outcome[1:]
