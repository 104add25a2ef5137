"""What buffer pools and registered memory need of their loop."""
from uringloop.core.counters cimport Counters
from uringloop.ring.operations cimport OperationTable
from uringloop.ring.registered_memory cimport MemoryMap, Registration


cdef class Lender:
    cdef:
        OperationTable operations       # of those that use lent memory; it tells loops apart, too
        Counters counters
        MemoryMap registered_memory     # that programs have registered
        bint closing                    # nothing new is to be given to the ring

    cdef int register_memory(self, Registration memory) except -1
    cdef int forget_memory(self, Registration memory) except -1
    cdef bint runs_elsewhere(self) except -1
