"""The ``sock_*`` methods' halves that don't wait."""
import asyncio
from socket import socket
from typing import Any, Literal

from _typeshed import ReadableBuffer, WriteableBuffer

from uringloop._calls import SocketCall
from uringloop._core import LoopCore
from uringloop._datagrams import SendReport

class SocketCore(LoopCore):
    """The loop with what asyncio's ``sock_*`` methods do before they wait."""

    def _is_native(self, sock: socket) -> bool: ...
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
    def _send_later(self, sock: socket, data: ReadableBuffer, address: Any) -> SocketCall:
        """The call that waits for room for a datagram."""
    def _sent(self, call: SocketCall) -> int | None:
        """The number of bytes, if they have left; None: to be tried again; or raises."""
    def _send_again(self, call: SocketCall) -> None: ...
    def _send_zerocopy(
            self, sock: socket, data: ReadableBuffer,
            address: Any) -> asyncio.Future[SendReport] | None:
        """A future of ``SendReport``; None: AF_UNIX, to be copied."""
    def _copied_report(self, nbytes: int) -> SendReport: ...
    def _sendall_now(self, sock: socket, data: ReadableBuffer) -> Literal[True] | SocketCall: ...
    def _sendall_more(self, call: SocketCall) -> Literal[True] | SocketCall: ...
    def _can_connect_now(self, sock: socket, address: Any) -> bool:
        """Whether the ring is for this socket and there is no name to be looked up."""
    def _connect_now(self, sock: socket, address: Any) -> SocketCall | None:
        """Begin to connect to a resolved address: None if that is done, or what waits."""
    def _connect_on(self, sock: socket, address: Any) -> SocketCall | None:
        """Whether the connection that was begun is there: None, or what waits for it."""
    def _numeric_family(self, host: Any, port: Any) -> int:
        """The address family of a host that is a number, or 0."""
    def _accept_now(self, sock: socket) -> tuple[int, Any] | SocketCall:
        """``(descriptor, address)``, or the call that waits for it."""
