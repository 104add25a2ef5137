"""The ``sock_*`` methods: one operation a call, on the user's own sockets."""
import asyncio
from collections.abc import Iterable
from socket import socket
from typing import Any

from _typeshed import ReadableBuffer, WriteableBuffer

from uringloop._core import LoopCore
from uringloop._datagrams import SendReport
from uringloop._operations import Completer

class SocketCall(Completer):
    def go_plain(self) -> None: ...

class Dispatcher(Completer):
    """Owns zero-copy sends that don't wait: only their notification is still to come."""

class SocketCore(LoopCore):
    """The loop with asyncio's ``sock_*`` methods on the ring."""

    async def sock_recv(self, sock: socket, n: int) -> bytes:
        """Receive up to ``n`` bytes."""
    async def sock_recvfrom(self, sock: socket, bufsize: int) -> tuple[bytes, Any]:
        """Receive a datagram of up to ``bufsize`` bytes; returns ``(data, address)``."""
    async def sock_recv_into(self, sock: socket, buf: WriteableBuffer) -> int:
        """Receive into the writable buffer ``buf``; returns the number of bytes."""
    async def sock_recvfrom_into(
            self, sock: socket, buf: WriteableBuffer, nbytes: int = 0) -> tuple[int, Any]:
        """Receive a datagram into ``buf``; returns ``(number of bytes, address)``."""
    def _is_native(self, sock: socket) -> bool: ...
    def _can_connect_now(self, sock: socket, address: Any) -> bool: ...
    def _connect_now(self, sock: socket, address: Any) -> SocketCall | None: ...
    async def _connect_later(self, call: SocketCall, address: Any) -> None: ...
    def _numeric_family(self, host: Any, port: Any) -> int: ...
    def _send_now(self, sock: socket, data: ReadableBuffer, address: Any) -> int | None: ...
    async def _send_later(self, sock: socket, data: ReadableBuffer, address: Any) -> int: ...
    def sock_sendto_zerocopy(
            self, sock: socket, data: ReadableBuffer, address: Any) -> asyncio.Future[SendReport]:
        """Send a datagram without copying it; returns a future of ``SendReport``.

        ``data`` may be any contiguous buffer, mutable too.  Leave it alone until
        the future is done: that is when the kernel has let go of it.
        """
    async def sock_sendall(self, sock: socket, data: ReadableBuffer) -> None:
        """Send all of ``data`` to a connected socket."""
    async def sock_sendmsg(
            self, sock: socket, buffers: Iterable[ReadableBuffer],
            ancdata: Iterable[tuple[int, int, ReadableBuffer]] = (), flags: int = 0,
            address: Any = None) -> int:
        """Send ``buffers`` as one message, with ancillary data, as ``socket.sendmsg``."""
    async def sock_recvmsg(
            self, sock: socket, bufsize: int, ancbufsize: int = 0,
            flags: int = 0) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        """Receive a message as ``socket.recvmsg``: ``(data, ancdata, msg_flags, address)``."""
    async def sock_accept(self, sock: socket) -> tuple[socket, Any]:
        """Accept a connection; returns ``(socket, address)``."""
