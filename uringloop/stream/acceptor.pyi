"""The accepting of connections."""
import asyncio
from collections.abc import Callable
from contextvars import Context
from socket import socket
from typing import Any

from uringloop.core.loop_core import LoopCore
from uringloop.ring.watched import WatchedSocket

class Acceptor(WatchedSocket):
    """Accepts a listening socket's connections, whenever a poll finds some."""

    def __init__(
            self, loop: LoopCore, sock: socket, factory: Callable[[], asyncio.BaseProtocol],
            backlog: int, arguments: tuple[Any, ...], options: dict[str, Any],
            server: asyncio.AbstractServer | None, context: Context | None = None) -> None: ...
    def connected(self, fd: int, address: Any) -> None: ...
    def report(self, exc: BaseException, message: str) -> None: ...
    def pause_accepting(self, exc: BaseException) -> None:
        """There is nowhere to send the error, so just report it, and try again in a while."""
    def pause_after_error(self, exc: BaseException) -> None: ...
    def failed(self, error: int) -> None: ...
    def resume_accepting(self) -> None: ...
    def stop(self) -> None:
        """Stop accepting; when this returns the kernel has let go of the socket."""
