"""Stream transports."""
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from uringloop._operations cimport operation
from uringloop._ring cimport sockaddr_storage
from uringloop._stream_receiving cimport StreamReceiver


cdef struct chunk:
    PyObject* owner         # strong
    char* base
    size_t length


cdef class StreamTransport(StreamReceiver):
    cdef:
        object server
        public object _empty_waiter
        bint wrote_eof          # write_eof() was called
        bint shut               # and carried out
        operation* sending
        # to be sent; the first ``flying`` are in ``sending``
        chunk* chunks
        size_t first
        size_t count
        size_t room
        size_t flying

    cdef int enqueue(self, object data) except -1
    cdef int relieve(self) except -1
    cdef int send(self) except -1
    cdef int send_alone(self) except -1
    cdef int send_by_socket(self) except -1
    cdef ssize_t send_plainly(self) noexcept
    cdef int submit_send(self, size_t pieces) except -1
    cdef bint wants_zerocopy(self) except -1
    cdef int accepted(self, size_t sent) noexcept
    cdef int written(self) except -1
    cdef refuse_zerocopy(self, operation* op)
