"""Datagram transports."""
import asyncio
from collections.abc import Mapping
from socket import socket
from typing import Any, NamedTuple

from _typeshed import ReadableBuffer

from uringloop._core import LoopCore
from uringloop._operations import Completer

class SendReport(NamedTuple):
    """What became of a zero-copy send.

    ``nbytes`` were sent.  ``copied`` says whether the kernel copied them after
    all; None where it can't tell (before Linux 6.2).
    """

    nbytes: int
    copied: bool | None

# At run time not a subclass of asyncio's (their layouts conflict), but an
# instance all the same: isinstance() says so.
class DatagramTransport(Completer, asyncio.DatagramTransport):
    """asyncio's datagram transport on the ring; made by ``create_datagram_endpoint``."""

    def __init__(
            self, loop: LoopCore, sock: socket, protocol: asyncio.BaseProtocol,
            address: Any = None, waiter: asyncio.Future[None] | None = None,
            extra: Mapping[str, Any] | None = None) -> None: ...
    def sendto(self, data: bytes | bytearray | memoryview, addr: Any = None) -> None:
        """Send a datagram; never waits.

        Exact ``bytes`` and views of exact ``bytes`` are not copied; anything
        else is before this returns.  Errors of the network reach
        ``protocol.error_received``.
        """
    def sendto_zerocopy(
            self, data: ReadableBuffer, addr: Any = None) -> asyncio.Future[SendReport]:
        """Send a datagram without copying it; returns a future of ``SendReport``.

        ``data`` may be any contiguous buffer, mutable too.  Leave it alone until
        the future is done: that is when the kernel has let go of it.
        Cancelling the future does not call the datagram back.
        """
    def close(self) -> None:
        """Stop receiving, send what is queued, then close: ``connection_lost(None)``."""
    def abort(self) -> None:
        """Close without sending what is queued."""
    def is_closing(self) -> bool:
        """Whether the transport is closing or closed."""
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """'socket', 'sockname' or 'peername'; ``default`` for what there is not."""
    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that this transport calls."""
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Call another protocol from now on."""
    def is_reading(self) -> bool:
        """Whether datagrams are being received."""
    def pause_reading(self) -> None:
        """Leave datagrams in the socket until ``resume_reading``."""
    def resume_reading(self) -> None:
        """Receive again."""
    def get_write_buffer_size(self) -> int:
        """Bytes that the socket has not accepted yet."""
    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The pair (low, high)."""
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the bytes at which the protocol is told to pause (high) and resume (low)."""
