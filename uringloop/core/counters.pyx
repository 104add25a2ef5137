"""What transports and socket calls count.

What the ring and the operation table count is kept there; ``Loop.stats()`` collects all.
"""
cimport cython


@cython.final
@cython.auto_pickle(False)
cdef class Counters:
    """The counters of one loop."""

    cpdef dict as_dict(self):
        """All of them, by the names of ``Loop.stats()``."""
        return {
            'datagrams_sent': self.datagrams_sent,
            'datagrams_received': self.datagrams_received,
            'datagrams_gathered': self.datagrams_gathered,
            'datagrams_dropped': self.datagrams_dropped,
            'datagrams_discarded': self.datagrams_discarded,
            'datagrams_truncated': self.datagrams_truncated,
            'datagrams_overflowed': self.datagrams_overflowed,
            'zerocopy_sent': self.zerocopy_sent,
            'zerocopy_copied': self.zerocopy_copied,
            'zerocopy_bytes': self.zerocopy_bytes,
            'zerocopy_fell_back': self.zerocopy_fell_back,
            'buffers_released': self.buffers_released,
            'registered_sends': self.registered_sends,
            'trains_sent': self.trains_sent,
            'trains_received': self.trains_received,
            'pool_leases': self.pool_leases,
            'pool_leases_high_water': self.pool_leases_high_water,
            'pool_waits': self.pool_waits,
        }
