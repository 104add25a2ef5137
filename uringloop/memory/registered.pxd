"""A program's own memory, registered with the ring."""
cimport cython

from uringloop.core.lender cimport Lender
from uringloop.ring.registered_memory cimport LentMemory


@cython.final
cdef class RegisteredBuffer(LentMemory):
    cdef:
        object __weakref__
        Lender loop
        object view                # the export, until it is closed
        readonly size_t nbytes
        object closing             # the future of ``close``, or None

    cdef int finish_closing(self) except -1
