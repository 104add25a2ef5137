"""Lent memory that is held: a piece of it for later, or several pieces at once."""
cimport cython

from uringloop.ring.operations cimport operation
from uringloop.ring.payloads cimport payload
from uringloop.ring.registered_memory cimport LentMemory


@cython.final
cdef class HeldPayload(LentMemory):
    cdef:
        LentMemory owner
        char* base
        size_t length

    @staticmethod
    cdef HeldPayload of(LentMemory owner, payload* memory)


@cython.final
cdef class HeldTogether(LentMemory):
    cdef list owners


cdef bint hold_too(operation* op, LentMemory memory) except -1
