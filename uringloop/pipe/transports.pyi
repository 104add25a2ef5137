"""Pipe transports: asyncio's, polled by the ring."""
import asyncio
from collections.abc import Iterable, Mapping
from typing import IO, Any, NoReturn

from uringloop.core.loop_core import LoopCore
from uringloop.ring.watched import WatchedSocket

class PipeTransport(WatchedSocket):
    """What both ends have in common."""

    _pipe: IO[Any] | None
    _protocol: asyncio.BaseProtocol | None
    _extra: dict[str, Any]
    _closing: bool
    def __init__(
            self, loop: LoopCore, pipe: IO[Any], protocol: asyncio.BaseProtocol,
            waiter: asyncio.Future[None] | None = None,
            extra: Mapping[str, Any] | None = None) -> None: ...
    @property
    def _loop(self) -> LoopCore | None: ...
    @property
    def _fileno(self) -> int: ...
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """'pipe'; ``default`` for what there is not."""
    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that this transport calls."""
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Call another protocol from now on."""
    def is_closing(self) -> bool:
        """Whether the transport is closing or closed."""
    def _start(self) -> None: ...
    def _call_connection_lost(self, exc: BaseException | None) -> None: ...

class ReadPipeTransport(PipeTransport, asyncio.ReadTransport):
    """asyncio's ``ReadTransport`` of a pipe."""

    _paused: bool
    max_size: int
    def is_reading(self) -> bool:
        """Whether the protocol is being given what comes."""
    def pause_reading(self) -> None:
        """Give the protocol nothing until ``resume_reading``."""
    def resume_reading(self) -> None:
        """Give the protocol what comes again."""
    def close(self) -> None:
        """Close the pipe; ``connection_lost`` is called in the next turn."""
    def _close(self, exc: BaseException | None) -> None: ...
    def _fatal_error(self, exc: BaseException, message: str = ...) -> None: ...

class WritePipeTransport(PipeTransport, asyncio.WriteTransport):
    """asyncio's ``WriteTransport`` of a pipe."""

    _conn_lost: int
    _high_water: int
    _low_water: int
    _protocol_paused: bool
    @property
    def _buffer(self) -> bytearray: ...
    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write ``data``; never waits.

        Of exact ``bytes`` what the pipe has no room for is not copied.
        """
    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Write all of ``list_of_data``."""
    def is_reading(self) -> NoReturn:
        """Nothing is read from it: NotImplementedError."""
    def pause_reading(self) -> NoReturn:
        """Nothing is read from it: NotImplementedError."""
    def resume_reading(self) -> NoReturn:
        """Nothing is read from it: NotImplementedError."""
    def get_write_buffer_size(self) -> int:
        """Bytes that the pipe has not accepted yet."""
    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The pair (low, high), in bytes."""
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the bytes at which the protocol is told to pause (high) and resume (low)."""
    def can_write_eof(self) -> bool:
        """Whether ``write_eof()`` may be called."""
    def write_eof(self) -> None:
        """Close once everything is written."""
    def close(self) -> None:
        """Close once everything is written: ``connection_lost(None)``."""
    def abort(self) -> None:
        """Close without writing what is queued."""
    def _close(self, exc: BaseException | None = None) -> None: ...
    def _fatal_error(self, exc: BaseException, message: str = ...) -> None: ...
