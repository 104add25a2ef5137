"""What transports and socket calls count."""
cimport cython
from libc.stdint cimport uint64_t


@cython.final
cdef class Counters:
    cdef:
        uint64_t zerocopy_sent
        uint64_t zerocopy_copied
        uint64_t zerocopy_fell_back
        uint64_t datagrams_sent
        uint64_t datagrams_received
        uint64_t datagrams_gathered
        uint64_t datagrams_dropped
        uint64_t datagrams_discarded
        uint64_t datagrams_truncated
        uint64_t receive_exhausted
        uint64_t buffers_released

    cdef dict as_dict(self)
