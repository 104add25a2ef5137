"""The ``sock_*`` methods' halves that don't wait."""
import asyncio
from socket import socket
from typing import Any, overload

from _typeshed import ReadableBuffer, WriteableBuffer

from uringloop.core.loop_core import LoopCore
from uringloop.memory.registered import RegisteredBuffer
from uringloop.ring.reports import BatchReport
from uringloop.ring.zerocopy import SendReport
from uringloop.sockets.calls import SocketCall

class SocketCore(LoopCore):
    """The loop with what asyncio's ``sock_*`` methods do before they wait."""

    def _begin_call(self, sock: socket) -> bool: ...
    def _poll_now(self, sock: socket, events: int) -> SocketCall:
        """The call that waits for POLLIN or POLLOUT."""
    def _recv_now(self, sock: socket, n: int) -> bytes | SocketCall | None: ...
    def _recvfrom_now(
            self, sock: socket, bufsize: int) -> tuple[bytes, Any] | SocketCall | None: ...
    def _recv_into_now(self, sock: socket, buf: WriteableBuffer) -> int | SocketCall | None: ...
    def _recvfrom_into_now(
            self, sock: socket, buf: WriteableBuffer,
            nbytes: int) -> tuple[int, Any] | SocketCall | None: ...
    def _send_now(self, sock: socket, data: ReadableBuffer, address: Any) -> int | None:
        """Send a datagram without waiting: the number of bytes, or None if there is no room."""
    def _send_zerocopy_now(
            self, sock: socket, data: ReadableBuffer | RegisteredBuffer,
            address: Any) -> asyncio.Future[SendReport] | BatchReport:
        """A future of ``SendReport``; or a report of it: there is no room."""
    def _send_zerocopy_again(
            self, sock: socket, data: ReadableBuffer | RegisteredBuffer, address: Any,
            report: BatchReport) -> bool:
        """The same for one that had no room before: whether it has left, or is about to."""
    def _send_trains_now(
            self, sock: socket, data: ReadableBuffer | RegisteredBuffer, address: Any, start: int,
            segment_size: int, report: BatchReport) -> tuple[int, int]:
        """Send as datagrams of ``segment_size`` what there is room for, from ``start``.

        Returns where that ends, and where all does.
        """
    @overload
    def _held(self, data: ReadableBuffer) -> ReadableBuffer: ...
    @overload
    def _held(
            self, data: ReadableBuffer | RegisteredBuffer) -> ReadableBuffer | RegisteredBuffer:
        """What is sent later, by a zero-copy call: a lease may be released meanwhile."""
    def _kept(self, data: ReadableBuffer) -> ReadableBuffer:
        """What may be sent later: the caller may change ``data`` meanwhile."""
    def _send_rest(self, sock: socket, data: ReadableBuffer, start: int) -> tuple[int, int]:
        """Send what there is room for, from ``start``: where that ends, and where all does."""
    def _can_connect_now(self, sock: socket, address: Any) -> bool:
        """Whether the ring is for this socket and there is no name to be looked up."""
    def _connect_now(self, sock: socket, address: Any) -> SocketCall | None:
        """Begin to connect to a resolved address: None if that is done, or what waits."""
    def _connect_on(self, sock: socket, address: Any, waited: SocketCall) -> SocketCall | None:
        """Whether the connection that was begun is there: None, or what waits for it."""
    def _numeric_family(self, host: Any, port: Any) -> int:
        """The address family of a host that is a number, or 0."""
    def _accept_now(self, sock: socket) -> tuple[int, Any] | SocketCall:
        """``(descriptor, address)``, or the call that waits for it."""
