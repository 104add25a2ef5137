"""Making a ring: its flags, and what to do while locked memory is short."""
from uringloop.ring.abi cimport io_uring

cdef int open_ring(
    io_uring* ring, unsigned entries, unsigned cq_entries, unsigned* setup_flags) except? -1
cdef int ring_was_closed() except -1
