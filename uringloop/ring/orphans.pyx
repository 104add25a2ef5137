"""What rings that are closed, but not known to be torn down, may still touch.

A ring is torn down asynchronously, and only when the last of its sends has
let go of its memory, which a neighbour that does not answer can delay for
minutes.  Each ring has a *marker* among its registered files, one end
of a socket pair; when the ring is torn down, the other end, the marker's peer, sees the
hang-up.  Until then the memory is kept.  Without a marker in the ring it is kept for
good: that it is safe to let go is never guessed.
"""
from libc.stdint cimport uint32_t
from posix.unistd cimport close

from uringloop.ring.interrupts cimport graver
from uringloop.ring.operations cimport ORPHANED, OperationOwner, OperationTable, operation

import os
import select

# (descriptor of the marker's peer or -1, operation table, ring_id) of each such ring.
orphaned_rings = []


def hung_up(marker_peer, bound):
    """Whether the marker is closed, or will be within ``bound`` seconds: its peer tells."""
    poller = select.poll()
    poller.register(marker_peer, select.POLLRDHUP)
    return bool(poller.poll(bound * 1000))


def keep_until_torn_down(int marker_peer, OperationTable operations, ring_id):
    """Keep what the operations of the ring number ``ring_id`` hold, until ``marker_peer`` sees
    the hang-up.

    -1: the ring has no marker, and what it may touch is kept for good.
    """
    kept = -1
    if marker_peer >= 0:
        try:
            kept = os.dup(marker_peer)       # not for children
        except OSError:
            pass                         # no descriptor to spare: as without a marker
    orphaned_rings.append((kept, operations, ring_id))


def release_torn_down(OperationTable own=None):
    """Let go of what was kept for rings that are known to be torn down by now.

    Where futures wait for it, only the loop whose table is ``own`` does, in its thread.
    """
    cdef OperationTable table
    for orphaned in orphaned_rings[:]:
        marker_peer, table, ring_id = orphaned
        if marker_peer >= 0 and hung_up(marker_peer, 0) \
                and (table is own or not table.orphans_awaited(ring_id)):
            if orphaned not in orphaned_rings:
                continue             # another thread was faster
            orphaned_rings.remove(orphaned)
            close(marker_peer)
            table.release_orphans(ring_id)


def owners_close(OperationTable own):
    """The loop whose table is ``own`` is closed: its owners never hear what becomes of what is
    kept, of a ring that it has left before either."""
    cdef uint32_t i
    cdef operation* op
    problem = None
    for i in range(own.capacity):
        op = own.slots[i]
        if op.due & ORPHANED:
            try:
                (<OperationOwner>op.owner).orphaned(op)
            except BaseException as exc:
                problem = graver(problem, exc)
    if problem is not None:
        raise problem


# The memory is the parent's concern; the child's copy goes with the child.
os.register_at_fork(after_in_child=orphaned_rings.clear)
