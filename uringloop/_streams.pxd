"""Stream transports."""
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from uringloop._buffers cimport ReceiveBuffers
from uringloop._operations cimport operation
from uringloop._ring cimport sockaddr_storage
from uringloop._transports cimport SocketTransport, event


cdef struct chunk:
    PyObject* owner         # strong
    char* base
    size_t length


cdef class StreamTransport(SocketTransport):
    cdef:
        object server
        readonly object _empty_waiter
        bint buffered_protocol
        bint wrote_eof          # write_eof() was called
        bint shut               # and carried out
        bint received_eof
        operation* sending
        # to be sent; the first ``flying`` are in ``sending``
        chunk* chunks
        size_t first
        size_t count
        size_t room
        size_t flying

    cdef int enqueue(self, object data) except -1
    cdef int relieve(self) except -1
    cdef int receive(self) except -1
    cdef int received(self, operation* op, int res, uint32_t flags) except -1
    cdef int send(self) except -1
    cdef int send_alone(self) except -1
    cdef int submit_send(self, size_t pieces) except -1
    cdef bint wants_zerocopy(self) except -1
    cdef int accepted(self, size_t sent) noexcept
    cdef int written(self) except -1
    cdef refuse_zerocopy(self, operation* op)
    cdef int feed_data(self, object data) except -1
    cdef int feed_buffered(self, object data) except -1
