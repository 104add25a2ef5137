"""Operations on the program's own sockets."""
import asyncio

from uringloop._holders import SocketHolder
from uringloop._operations import Completer

class SocketCall(SocketHolder):
    """One operation, and the coroutine that may wait for it."""

    @property
    def res(self) -> int: ...
    @property
    def done(self) -> bool: ...
    def begin_to_wait(self) -> asyncio.Future[None]:
        """The future that is done when the operation is."""
    def has_no_room(self) -> bool:
        """Whether it was refused because the socket is full."""
    def may_not_wait(self) -> bool:
        """Whether the socket must have room when this is submitted."""
    def abandon(self) -> None:
        """The caller waits no longer: call the operation back."""
    def check(self) -> None:
        """Raises what the operation has failed with."""

class Dispatcher(Completer):
    """Owns zero-copy sends that don't wait: only their notification is still to come."""
