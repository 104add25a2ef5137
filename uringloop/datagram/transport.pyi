"""Datagram transports."""
import asyncio
from collections.abc import Iterable, Mapping
from socket import socket
from typing import Any

from _typeshed import ReadableBuffer

from uringloop.core.loop_core import LoopCore
from uringloop.memory.leases import Lease
from uringloop.memory.registered import RegisteredBuffer
from uringloop.ring.zerocopy import SendReport
from uringloop.transport.socket_transport import SocketTransport

# What isinstance() sees of a transport: asyncio's class, of its private module.
AsyncioTransport: Any

def check_data(data: object) -> int:
    """TypeError for what ``sendto`` does not take."""

def items_of(buffers: Iterable[Any]) -> tuple[Any, ...]:
    """What ``sendto_many`` is given; TypeError if that is a single buffer."""

def pair(item: tuple[Any, ...]) -> tuple[Any, Any]:
    """A datagram and its address; TypeError if it is something else."""

# At run time not a subclass of asyncio's (their layouts conflict), but an
# instance all the same: isinstance() says so.
class DatagramTransport(SocketTransport, asyncio.DatagramTransport):
    """asyncio's datagram transport on the ring; made by ``create_datagram_endpoint``."""

    def __init__(
            self, loop: LoopCore, sock: socket, protocol: asyncio.BaseProtocol,
            address: Any = None, waiter: asyncio.Future[None] | None = None,
            extra: Mapping[str, Any] | None = None) -> None: ...
    max_size: int
    _address: Any
    def _receive_trains(self) -> None:
        """Have the kernel put together what comes in a row (UDP_GRO), if it knows how."""
    def _receive_metadata(self, asked: int) -> None:
        """Have the kernel tell that (metadata.Asked) with each datagram."""
    def sendto(
            self, data: bytes | bytearray | memoryview | Lease, addr: Any = None) -> None:
        """Send a datagram; never waits.

        It leaves at the call.  In a bulk, many in one turn, it may wait for the
        end of the turn to leave with the others; and where the socket has no
        room, for that.  Exact ``bytes`` and views of exact ``bytes`` are not
        copied then; anything else is before this returns.  Errors of the network
        reach ``protocol.error_received``.
        """
    def sendto_zerocopy(
            self, data: ReadableBuffer | RegisteredBuffer, addr: Any = None, *,
            segment_size: int | None = None) -> asyncio.Future[SendReport]:
        """Send a datagram without copying it; returns a future of ``SendReport``.

        ``data`` may be any contiguous buffer, mutable too.  Leave it alone until
        the future is done: that is when the kernel has let go of it.
        Cancelling the future does not call the datagram back.  Errors of the
        network are the future's; a bad address or type raises here.

        With ``segment_size`` the buffer leaves as datagrams of so many bytes, the last
        may be shorter (UDP_SEGMENT, udp(7)): in trains of up to 64, by one submission
        each.  What a path or a device refuses goes datagram by datagram.
        """
    def sendmsg(
            self, buffers: Iterable[ReadableBuffer],
            ancdata: Iterable[tuple[int, int, ReadableBuffer]] = (), flags: int = 0,
            addr: Any = None) -> None:
        """Send ``buffers`` as one datagram with control messages: as ``socket.sendmsg``.

        It leaves at the call, as by ``sendto``, and in the order of the calls; it is copied
        if it has to wait.  What is no buffer, no control message or no address raises here;
        what the kernel has against it reaches ``protocol.error_received``.
        """
    def sendto_with(
            self, data: bytes | bytearray | memoryview | Lease, addr: Any = None, *,
            ecn: int | None = None, source: str | None = None) -> None:
        """Send a datagram as ``sendto`` does, with what a packet says besides.

        ``ecn`` is the codepoint of RFC 3168 (0 to 3); the DSCP is the socket's.  ``source``
        is the address, of those of this machine, that it comes from:
        ``DatagramInfo.local_address``, for an answer.  What is none, or the family has none
        of, is a ValueError.
        """
    def sendto_many(
            self, buffers: Iterable[ReadableBuffer | tuple[ReadableBuffer, Any]],
            addr: Any = None) -> None:
        """Send many datagrams; never waits, returns None.  What sendmmsg(2) is to sendto(2).

        ``buffers`` are what ``sendto`` takes, or pairs of that and an address; ``addr``
        is for those that come without one.  They leave at the call, in this order, as far
        as the socket has room.  Errors of the network reach ``protocol.error_received``.
        A bad type or address raises here: those before it have left then, and those
        behind it don't.
        """
    def sendto_many_zerocopy(
            self, buffers: Iterable[
                ReadableBuffer | RegisteredBuffer | tuple[ReadableBuffer | RegisteredBuffer, Any]],
            addr: Any = None) -> asyncio.Future[SendReport]:
        """Send many datagrams without copying them; returns one future of ``SendReport`` for all.

        As ``sendto_many``, but any contiguous buffer is referenced, mutable ones too: leave
        them alone until the future is done.  So it tells of a bad type or address, too,
        when the kernel has let go of what has left before.
        """
