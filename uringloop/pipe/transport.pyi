"""What pipe transports have in common."""
import asyncio
from collections.abc import Mapping
from typing import IO, Any

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
