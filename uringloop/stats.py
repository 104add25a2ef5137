"""``LoopStats``: what a loop has counted."""
from __future__ import annotations

from typing import NamedTuple


class LoopStats(NamedTuple):
    """Counters of one loop since it was made, over all its rings; from ``Loop.stats()``."""

    submissions: int
    """Entries handed to the kernel."""
    completions: int
    """Entries received from it."""
    syscalls: int
    """Entries into the kernel on behalf of the ring."""
    operations_live: int
    """Operations that exist now: queued, in flight, or waiting for a notification."""
    operations_in_flight: int
    """Operations that the kernel owes a completion or a notification."""
    bytes_pinned: int
    """Bytes that zero-copy sends refer to, until their notifications."""
    unknown_completions: int
    """Completions that matched no operation; anything but 0 is a bug."""
    datagrams_sent: int
    datagrams_received: int
    datagrams_gathered: int
    """Of those sent, how many left as parts of segmented sends (UDP_SEGMENT)."""
    datagrams_dropped: int
    """Datagrams not sent: refused by the kernel, aborted, or on a closed transport."""
    datagrams_discarded: int
    """Datagrams received that nobody was given: the protocol had closed its transport."""
    datagrams_truncated: int
    """Datagrams received that were longer than a buffer."""
    datagrams_overflowed: int
    """Datagrams that came, and that a socket had no room for: of those with ``drops=True``."""
    zerocopy_sent: int
    """Sends that were to go zero-copy, and went out."""
    zerocopy_copied: int
    """Of those, how many the kernel copied anyway: it says so when it lets go of the memory."""
    zerocopy_bytes: int
    """Bytes that left without a copy, counted when the kernel lets go of them (Linux 6.2)."""
    zerocopy_fell_back: int
    """Of those, how many it refused, and that went out as plain sends."""
    buffers_released: int
    """Notifications received: buffers that the kernel has let go of."""
    registered_sends: int
    """Of those sent zero-copy, how many came from registered memory."""
    trains_sent: int
    """Of those sent zero-copy, how many left as several datagrams (UDP_SEGMENT)."""
    trains_received: int
    """Pieces received that held several datagrams (UDP_GRO); each is in datagrams_received."""
    pool_leases: int
    """Leases of buffer pools that are out now, or that the kernel still reads."""
    pool_leases_high_water: int
    """The most that were."""
    pool_waits: int
    """How often ``acquire`` of a pool had to wait."""
    rings_orphaned: int
    """Closed rings that the kernel may not have torn down: what they may touch is kept."""
    cq_overflows: int
    """How often the completion queue overflowed; nothing is lost, the kernel keeps them."""
    busy_polls: int
    """How often the loop looked for completions for a moment instead of going to sleep."""
    busy_poll_hits: int
    """Of those, how often something came in time."""
