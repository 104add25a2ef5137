"""Stream transports."""
from cpython.object cimport PyObject

from uringloop.ring.operations cimport operation
from uringloop.stream.receiver cimport StreamReceiver


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
        # to be sent
        chunk* chunks
        size_t first
        size_t count
        size_t room_for
        Py_ssize_t lost_writes

    cdef int enqueue(self, object data) except -1
    cdef int have_sent(self) except -1
    cdef int send_now(self, object data) except -1
    cdef int socket_closed(self) except -1
    cdef int write_failed(self, int error) except -1
    cdef int write_on_failed(self) except -1
    cdef int send_pieces(self) except -1
    cdef int send_by_socket(self) except -1
    cdef int send_zerocopy(self) except -1
    cdef int submit_send(self, bint zerocopy) except -1
    cdef bint is_to_wait(self) noexcept
    cdef bint wants_zerocopy(self) except -1
    cdef int accepted(self, size_t sent) noexcept
    cdef int written(self) except -1
    cdef int has_ended(self) except -1
    cdef refuse_zerocopy(self, operation* op)
