"""What transports and socket calls count."""
from typing import final

@final
class Counters:
    """The counters of one loop."""

    zerocopy_sent: int
    zerocopy_copied: int
    zerocopy_bytes: int
    zerocopy_fell_back: int
    datagrams_sent: int
    datagrams_received: int
    datagrams_gathered: int
    datagrams_dropped: int
    datagrams_discarded: int
    datagrams_truncated: int
    datagrams_overflowed: int
    buffers_released: int
    registered_sends: int
    trains_sent: int
    trains_received: int
    pool_leases: int
    pool_leases_high_water: int
    pool_waits: int
    def as_dict(self) -> dict[str, int]:
        """All of them, by the names of ``Loop.stats()``."""
