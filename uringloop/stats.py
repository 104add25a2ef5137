"""``LoopStats``: what a loop has counted."""
from __future__ import annotations

from typing import NamedTuple


class LoopStats(NamedTuple):
    """Counters of one loop since it was made, over all its rings; from ``Loop.stats()``."""

    submissions: int
    completions: int
    syscalls: int
    operations_live: int
    operations_in_flight: int
    bytes_pinned: int
    unknown_completions: int
    datagrams_sent: int
    datagrams_received: int
    datagrams_gathered: int
    datagrams_dropped: int
    datagrams_discarded: int
    datagrams_truncated: int
    datagrams_overflowed: int
    zerocopy_sent: int
    zerocopy_copied: int
    zerocopy_bytes: int
    zerocopy_fell_back: int
    buffers_released: int
    registered_sends: int
    trains_sent: int
    trains_received: int
    pool_leases: int
    pool_leases_high_water: int
    pool_waits: int
    rings_orphaned: int
    cq_overflows: int
    busy_polls: int
    busy_poll_hits: int


# What ``help()`` shows of them.
for _name, _text in {
    'submissions': 'Entries handed to the kernel, by the ring.',
    'completions': 'Entries received from it.',
    'syscalls': 'Calls of io_uring_enter and io_uring_register; plain system calls on sockets are '
                'not counted.',
    'operations_live': 'Operations that exist now: queued, in flight, or waiting for a '
                       'notification.',
    'operations_in_flight': 'Operations that the kernel owes a completion or a notification, now.',
    'bytes_pinned': 'Bytes that zero-copy sends refer to now, until their notifications.',
    'unknown_completions': 'Completions that matched no operation; anything but 0 is a bug.',
    'datagrams_sent': 'Datagrams that the kernel has taken; those that still wait are not in it.',
    'datagrams_received': 'Datagrams received, those of trains one by one.',
    'datagrams_gathered': 'Of datagrams_sent, how many left as parts of segmented sends '
                          '(UDP_SEGMENT).',
    'datagrams_dropped': 'Datagrams not sent: refused by the kernel, aborted, or on a closed '
                         'transport.',
    'datagrams_discarded': 'Datagrams received that nobody was given: the protocol had closed its '
                           'transport.',
    'datagrams_truncated': 'Datagrams received that were longer than a buffer.',
    'datagrams_overflowed': 'Datagrams that came, and that a socket had no room for: of those with '
                            '``drops=True``, as far as a later datagram has told.',
    'zerocopy_sent': 'Sends that were to go zero-copy, and went out.',
    'zerocopy_copied': 'Of zerocopy_sent, how many the kernel copied anyway: it says so when it '
                       'lets go of the memory.',
    'zerocopy_bytes': 'Bytes that left without a copy, counted when the kernel lets go of them '
                      '(Linux 6.2).',
    'zerocopy_fell_back': 'Of zerocopy_sent, how many the kernel refused, and that went out as '
                          'plain sends.',
    'buffers_released': 'Notifications received: buffers that the kernel has let go of.',
    'registered_sends': 'Of zerocopy_sent, how many came from registered memory.',
    'trains_sent': 'Of zerocopy_sent, how many left as several datagrams (UDP_SEGMENT).',
    'trains_received': 'Pieces received that held several datagrams (UDP_GRO); each of those is '
                       'in datagrams_received.',
    'pool_leases': 'Leases of buffer pools that are out now, or that the kernel still reads.',
    'pool_leases_high_water': 'The most that pool_leases was.',
    'pool_waits': 'How often ``acquire`` of a pool had to wait.',
    'rings_orphaned': 'Closed rings that the kernel may not have torn down: what they may touch '
                      'is kept.',
    'cq_overflows': 'How often the completion queue overflowed; nothing is lost, the kernel keeps '
                    'them.',
    'busy_polls': 'How often the loop looked for completions for a moment instead of going to '
                  'sleep.',
    'busy_poll_hits': 'Of busy_polls, how often something came in time.',
}.items():
    getattr(LoopStats, _name).__doc__ = _text
