"""Stream transports."""
import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from socket import socket
from typing import Any

from uringloop.core.loop_core import LoopCore
from uringloop.transport.socket_transport import SocketTransport

# At run time not a subclass of asyncio's (their layouts conflict), but an
# instance all the same: isinstance() says so.
class StreamTransport(SocketTransport, asyncio.Transport):
    """asyncio's socket transport on the ring: TCP and AF_UNIX."""

    _start_tls_compatible: bool
    _sendfile_compatible: Any
    def __init__(
            self, loop: LoopCore, sock: socket, protocol: asyncio.BaseProtocol,
            waiter: asyncio.Future[None] | None = None,
            extra: Mapping[str, Any] | None = None,
            server: asyncio.AbstractServer | None = None,
            context: Context | None = None) -> None: ...
    max_size: int
    _empty_waiter: asyncio.Future[None] | None
    _eof: bool
    @property
    def _read_ready_cb(self) -> Callable[[], None] | None: ...
    _server: asyncio.AbstractServer | None
    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send ``data``; never waits.

        Exact ``bytes`` and views of exact ``bytes`` are not copied; anything else is
        before this returns.
        """
    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send all of ``list_of_data``, without joining it."""
    def can_write_eof(self) -> bool:
        """Whether ``write_eof()`` may be called."""
    def write_eof(self) -> None:
        """Close the sending half once everything is sent."""
    def _make_empty_waiter(self) -> asyncio.Future[None]: ...
    def _reset_empty_waiter(self) -> None: ...
