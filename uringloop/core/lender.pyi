"""What buffer pools and registered memory need of their loop."""
from typing import Any

from uringloop.core.counters import Counters

class Lender:
    """A loop of which memory is borrowed; nothing of io_uring is asked for here."""

    @property
    def _counted(self) -> Counters: ...
    def _content(self, data: Any, of_this_loop: bool = True) -> bytes:
        """What ``data`` has, as ``bytes``; it may be a lease or registered memory.

        ValueError: it was released; or it is of another loop, unless ``of_this_loop`` is false.
        """
    def _close_lender(self) -> None:
        """The loop is being closed: exports are given up, and nobody waits any more."""
