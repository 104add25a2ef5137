"""Groups of provided buffers: the memory that a loop's transports receive into."""
cimport cython

from uringloop.ring.buffers cimport ReceiveBuffers
from uringloop.ring.ring cimport Ring


cdef enum BufferGroup:
    DATAGRAM = 0
    LOCAL = 1         # AF_UNIX datagrams
    STREAM = 2


@cython.final
cdef class BufferGroups:
    cdef:
        ReceiveBuffers datagram
        ReceiveBuffers local
        ReceiveBuffers stream
        double retry_at         # there was no memory for some: not before that

    cdef ReceiveBuffers find(self, BufferGroup group)
    cdef ReceiveBuffers make(self, BufferGroup group, Ring ring)
    cdef object new_reserve(self)
    cdef bint is_short(self) noexcept
    cdef void forget(self) noexcept
