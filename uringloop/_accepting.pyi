"""The accepting of connections."""
import asyncio
from collections.abc import Callable
from socket import socket
from typing import Any

from uringloop._core import LoopCore
from uringloop._operations import Completer

class Acceptor(Completer):
    """Accepts a listening socket's connections, by one multishot operation."""

    def __init__(
            self, loop: LoopCore, sock: socket, factory: Callable[[], asyncio.BaseProtocol],
            arguments: tuple[Any, ...], options: dict[str, Any],
            server: asyncio.AbstractServer | None) -> None: ...
    def connected(self, fd: int) -> None: ...
    def failed(self, error: int) -> None: ...
    def again(self) -> None: ...
    def stop(self) -> None:
        """Stop accepting; when this returns the kernel has let go of the socket."""
