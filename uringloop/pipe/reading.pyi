"""Reading from a pipe."""
import asyncio

from uringloop.pipe.transport import PipeTransport

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
