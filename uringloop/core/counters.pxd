"""What transports and socket calls count."""
cimport cython
from libc.stdint cimport uint64_t


@cython.final
cdef class Counters:
    cdef public:
        uint64_t zerocopy_sent
        uint64_t zerocopy_copied
        uint64_t zerocopy_bytes
        uint64_t zerocopy_fell_back
        uint64_t datagrams_sent
        uint64_t datagrams_received
        uint64_t datagrams_gathered
        uint64_t datagrams_dropped
        uint64_t datagrams_discarded
        uint64_t datagrams_truncated
        uint64_t datagrams_overflowed
        uint64_t buffers_released
        uint64_t registered_sends
        uint64_t trains_sent
        uint64_t trains_received
        uint64_t pool_leases          # out now
        uint64_t pool_leases_high_water
        uint64_t pool_waits

    cpdef dict as_dict(self)
