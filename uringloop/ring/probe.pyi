"""What a loop's ring is like in this process: asked by making one."""
from typing import NamedTuple

FLAGS: dict[str, int]

class RingFacts(NamedTuple):
    """A ring as a loop's: what it has, by the names of the kernel's headers."""

    # Submissions that it takes at a time: fewer than were asked for where memory is short.
    entries: int
    flags: list[str]
    lacking_flags: list[str]
    requests: list[str]
    lacking_requests: list[str]
    restricted: bool
    """To what a loop asks for (IORING_REGISTER_RESTRICTIONS)."""
    reports_copies: bool
    """Linux 6.2: a notification says whether the kernel has copied."""
    registered_trains: bool
    """Linux 6.15: trains may leave from registered memory."""
    no_iowait: bool
    """Linux 6.15: a loop that waits does not count as waiting for a disk."""

def probe_ring(entries: int = 256) -> RingFacts:
    """Make a ring as a loop does, enable it, and close it; raises UringUnavailableError."""
