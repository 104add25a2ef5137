"""Writing to a pipe."""
import asyncio
from collections.abc import Iterable
from typing import NoReturn

from uringloop.pipe.transport import PipeTransport

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
