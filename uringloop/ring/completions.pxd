"""Completions that were taken out of the ring and are not yet settled."""
from libc.stdint cimport uint64_t

from uringloop.ring.abi cimport io_uring, io_uring_cq_ready, io_uring_cqe, ring_take
from uringloop.ring.operations cimport OperationOwner, OperationTable


cdef struct completions:
    io_uring_cqe* cqes
    size_t count
    size_t room
    uint64_t taken          # since the ring was made

cdef int allocate(completions* unsettled) except -1
cdef int grow(completions* unsettled, size_t room) except -1
cdef int settle(completions* unsettled, OperationTable operations) except -1
cdef int settle_sends_of(
    completions* unsettled, OperationTable operations, OperationOwner owner) except -1


cdef inline void fetch(completions* unsettled, io_uring* ring) noexcept:
    """Take completions out of the ring, as many as there is room for."""
    cdef unsigned taken = ring_take(ring, unsettled.cqes + unsettled.count,
                                    <unsigned>(unsettled.room - unsettled.count))
    unsettled.count += taken
    unsettled.taken += taken


cdef inline int fetch_all(completions* unsettled, io_uring* ring) except -1:
    """Take all completions out of the ring."""
    cdef size_t ready = unsettled.count + io_uring_cq_ready(ring)
    if ready > unsettled.room:
        grow(unsettled, 2 * ready)
    fetch(unsettled, ring)
    return 0
