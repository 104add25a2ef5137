"""Completions that were taken out of the ring and are not yet settled.

They are copied out first, so that their places in the ring are free again before an owner is
told.  Most are settled at once; what ``Ring.settle_sends`` leaves is kept for the turn.
"""
from cpython.object cimport PyObject
from libc.stdlib cimport realloc
from libc.string cimport memmove

from uringloop.ring.abi cimport io_uring_cqe
from uringloop.ring.interrupts cimport graver
from uringloop.ring.operations cimport (
    SEND, UNTRACKED, OperationOwner, OperationTable, operation)


cdef enum:
    BATCH = 256              # completions taken from the ring at once


cdef int grow(completions* unsettled, size_t room) except -1:
    cdef io_uring_cqe* bigger = <io_uring_cqe*>realloc(
        unsettled.cqes, room * sizeof(io_uring_cqe))
    if bigger is NULL:
        raise MemoryError
    unsettled.cqes = bigger
    unsettled.room = room
    return 0


cdef int allocate(completions* unsettled) except -1:
    """The first allocation; ``cqes`` is to be freed in the end."""
    return grow(unsettled, BATCH)


cdef int settle(completions* unsettled, OperationTable operations) except -1:
    """Settle all, in their order."""
    cdef io_uring_cqe* cqe
    cdef size_t i = 0
    problem = None
    while i < unsettled.count:
        try:
            while i < unsettled.count:
                cqe = &unsettled.cqes[i]
                i += 1
                if cqe.user_data != UNTRACKED:
                    operations.settle(cqe.user_data, cqe.res, cqe.flags)
        except BaseException as exc:
            # An owner's error (MemoryError, or a KeyboardInterrupt that comes just
            # now) must not cost the others their completions.
            problem = graver(problem, exc)
    unsettled.count = 0
    if problem is not None:
        raise problem
    return 0


cdef int settle_sends_of(
        completions* unsettled, OperationTable operations, OperationOwner owner) except -1:
    """Settle what has completed of ``owner``'s sends; the rest stays, in its order."""
    cdef operation* op
    cdef io_uring_cqe cqe
    cdef size_t i = 0, kept = 0, count = unsettled.count
    try:
        while i < count:
            cqe = unsettled.cqes[i]
            i += 1
            op = operations.find(cqe.user_data)
            if op is not NULL and op.traits & SEND and op.owner is <PyObject*>owner:
                operations.settle(cqe.user_data, cqe.res, cqe.flags)
            else:
                unsettled.cqes[kept] = cqe
                kept += 1
    finally:
        # After an exception the rest moves up, too.
        memmove(&unsettled.cqes[kept], &unsettled.cqes[i], (count - i) * sizeof(io_uring_cqe))
        unsettled.count = kept + count - i
    return 0
