"""One future for several sends: done when the kernel has let go of all of them."""
import asyncio

from uringloop.ring.zerocopy import SendReport

class BatchReport:
    """What operations have in place of a future."""

    def __init__(self, future: asyncio.Future[SendReport]) -> None: ...
    @property
    def future(self) -> asyncio.Future[SendReport]: ...
    @property
    def due(self) -> int:
        """Sends that have not been told of."""
    @property
    def nbytes(self) -> int:
        """Sent, as far as they have."""
    def close(self) -> int:
        """All have been added."""
    def fail(self, error: BaseException) -> None:
        """No more are added: one could not be sent."""
    def done(self) -> bool: ...
    def cancel(self) -> bool: ...
    def set_exception(self, error: BaseException) -> None: ...
