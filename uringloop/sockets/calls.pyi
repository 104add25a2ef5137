"""What the ring does for the program's own sockets: it waits."""
import asyncio

from uringloop.ring.watched import WatchedSocket

class SocketCall(WatchedSocket):
    """A poll, and the coroutine that waits for it."""

    @property
    def done(self) -> bool: ...
    @property
    def error_alone(self) -> bool: ...
    def begin_to_wait(self) -> asyncio.Future[None]:
        """The future that is done when the socket is ready."""
    def abandon(self) -> None:
        """The caller waits no longer: call the poll back."""
