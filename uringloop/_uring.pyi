"""The ring: made, filled, entered, drained and closed."""
from weakref import WeakSet

from uringloop._operations import OperationTable

class Ring:
    """One io_uring of one thread, for the operations of one table."""

    def __init__(self, operations: OperationTable, entries: int, cq_entries: int,
                 certificate: int, patience: int = 0) -> None: ...
    @property
    def is_open(self) -> bool: ...
    @property
    def era(self) -> int:
        """The number of this ring; no two of a process have the same."""
    @property
    def certified(self) -> bool:
        """Whether its death will be seen."""
    @property
    def slot_count(self) -> int:
        """Room for registered files, the certificate among them."""
    @property
    def slots_used(self) -> int:
        """How many of these have ever been used."""
    @property
    def setup_flags(self) -> int:
        """The IORING_SETUP_* that the kernel took."""
    @property
    def syscalls(self) -> int: ...
    @property
    def submissions(self) -> int: ...
    @property
    def completions(self) -> int: ...
    @property
    def overflows(self) -> int: ...
    @property
    def busy_polls(self) -> int: ...
    @property
    def busy_poll_hits(self) -> int: ...
    def cancel_all(self, bound: float) -> None:
        """Cancel everything; wait at most ``bound`` seconds until nothing is in flight."""
    def close(self, witness: int, bound: float) -> list[Exception]:
        """Close the ring, from any thread; returns the exceptions that owners met.

        ``bound``: how many seconds it may take to prove it dead.
        """
    def close_in_child(self) -> None: ...
    def holds_memory(self) -> bool: ...

open_rings: WeakSet[Ring]

def _close_in_child() -> None: ...
