"""What buffer pools and registered memory need of their loop.

This is all of it for a loop without a ring: ``RingOwner`` has the kernel register the memory.
"""
from cpython.bytes cimport PyBytes_CheckExact, PyBytes_FromStringAndSize

from uringloop.core.counters cimport Counters
from uringloop.ring.operations cimport OperationTable
from uringloop.ring.payloads cimport find_payload, payload
from uringloop.ring.registered_memory cimport LentMemory, MemoryMap, Registration

import threading


cdef class Lender:
    """A loop of which memory is borrowed; nothing of io_uring is asked for here."""

    def __cinit__(self):
        self.operations = OperationTable()
        self.counters = Counters()
        self.registered_memory = MemoryMap()

    @property
    def _counted(self):
        return self.counters

    cdef int register_memory(self, Registration memory) except -1:
        """Have the kernel know the memory; ``memory.error`` says why it does not."""
        return 0

    cdef int forget_memory(self, Registration memory) except -1:
        """Have it let go of the memory; any thread may say so."""
        return 0

    cdef bint runs_elsewhere(self) except -1:
        """Whether it runs in another thread than this."""
        return self._thread_id not in (None, threading.get_ident())

    def _content(self, data, bint of_this_loop=True):
        """What ``data`` has, as ``bytes``; it may be a lease or registered memory.

        ValueError: it was released; or it is of another loop, unless ``of_this_loop`` is false.
        """
        cdef payload memory
        owner = find_payload(data, &memory)
        if memory.lent and of_this_loop and (<LentMemory>owner).operations is not self.operations:
            raise ValueError(f'{owner!r} is of another loop')
        if owner is data and PyBytes_CheckExact(data):
            return data
        return PyBytes_FromStringAndSize(memory.base, memory.length)

    def _close_lender(self):
        """The loop is being closed: exports are given up, and nobody waits any more."""
        self.closing = True
        self.registered_memory.loop_closed()
