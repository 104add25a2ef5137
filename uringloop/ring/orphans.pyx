"""What rings that are closed, but not proved dead, may still touch.

A ring is torn down asynchronously, and only when the last of its sends has
let go of its memory, which a neighbour that does not answer can delay for
minutes.  Each ring has a *certificate* among its registered files, one end
of a socket pair; when the ring is dead, the other end, the *witness*, sees the
hang-up.  Until then the memory is kept.  If there is no witness it is kept for
good: that it is safe to let go is never guessed.
"""
from uringloop.ring.operations cimport OperationTable

from posix.unistd cimport close

import os
import select

# (witness descriptor or -1, operation table, era, memory) of rings not proved dead.
graveyard = []


def hung_up(witness, bound):
    """Whether the other end of ``witness`` is closed, within ``bound`` seconds."""
    poller = select.poll()
    poller.register(witness, select.POLLRDHUP)
    return bool(poller.poll(bound * 1000))


def keep(int witness, OperationTable operations, era, list memory):
    """Keep what the ring number ``era`` may touch, until ``witness`` sees the hang-up.

    -1: there is no witness, and it is kept for good.
    """
    kept = -1
    if witness >= 0:
        try:
            kept = os.dup(witness)       # not for children
        except OSError:
            pass                         # no descriptor to spare: as without a witness
    graveyard.append((kept, operations, era, memory))


def bury(OperationTable own=None):
    """Let go of what was kept for rings that are proved dead by now.

    Where futures wait for it, only the loop whose table is ``own`` does, in its thread.
    """
    cdef OperationTable table
    for grave in graveyard[:]:
        witness, table, era, memory = grave
        if witness >= 0 and hung_up(witness, 0) and (table is own or not table.is_awaited(era)):
            if grave not in graveyard:
                continue             # another thread was faster
            graveyard.remove(grave)
            close(witness)
            table.exhume(era)
            memory.clear()


# The memory is the parent's concern; the child's copy goes with the child.
os.register_at_fork(after_in_child=graveyard.clear)
