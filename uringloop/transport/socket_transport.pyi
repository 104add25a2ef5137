"""What datagram and stream transports have in common."""
import asyncio
from socket import socket
from typing import Any

from uringloop.ring.operations import OperationOwner

class SocketTransport(OperationOwner):
    """asyncio's transport API, and the life of a transport."""

    def _given(self) -> None:
        """The socket is the program's own, who may use it besides."""

    def _set_batching(self, batching: bool) -> None:
        """Whether the sends of a bulk may wait for the end of the turn."""
    _closing: bool
    _conn_lost: int
    _protocol: asyncio.BaseProtocol | None
    _extra: dict[str, Any]
    _paused: bool
    _protocol_paused: bool
    _high_water: int
    _low_water: int
    @property
    def _loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def _sock(self) -> socket | None: ...
    @property
    def _sock_fd(self) -> int: ...
    def __setattr__(self, name: str, value: object, /) -> None: ...
    def __delattr__(self, name: str, /) -> None: ...
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """'socket', 'sockname', 'peername', ...; ``default`` for what there is not."""
    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that this transport calls."""
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Call another protocol from now on."""
    def is_closing(self) -> bool:
        """Whether the transport is closing or closed."""
    def is_reading(self) -> bool:
        """Whether the protocol is being given what comes."""
    def pause_reading(self) -> None:
        """Give the protocol nothing until ``resume_reading``."""
    def resume_reading(self) -> None:
        """Give the protocol what comes again."""
    def get_write_buffer_size(self) -> int:
        """Bytes that the socket has not accepted yet."""
    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The pair (low, high), in bytes."""
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the bytes at which the protocol is told to pause (high) and resume (low)."""
    def close(self) -> None:
        """Stop receiving, send what is queued, then close: ``connection_lost(None)``."""
    def abort(self) -> None:
        """Close without sending what is queued."""
    def _call_connection_lost(self, exc: BaseException | None) -> None: ...
    def _fatal_error(
            self, exc: BaseException, message: str = 'Fatal error on transport') -> None: ...
    def _force_close(self, exc: BaseException | None) -> None: ...
    def _start_reading(self, waiter: asyncio.Future[None] | None) -> None: ...
    def _write_on_lost(self) -> None: ...
