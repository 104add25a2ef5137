"""The receiving half of a stream transport."""
from libc.stdint cimport uint32_t

from uringloop.ring.operations cimport operation
from uringloop.transport.receiver cimport Receiver


cdef class StreamReceiver(Receiver):
    cdef:
        bint buffered_protocol
        bint small_buffers         # the protocol's own are too small to read bulk into
        bint received_eof
        bint asks_socket           # the program has put its own in the place of ours

    cdef int received(self, operation* op, int res, uint32_t flags) except -1
    cdef int judge(self, Py_ssize_t length) except -1
    cdef int read_bytes(self) except -1
    cdef int read_into_buffer(self) except -1
    cdef int read_by_socket(self) except -1
    cdef int has_read(self, Py_ssize_t length, Py_ssize_t room) except -1
    cdef int nothing_read(self, ssize_t code) except -1
    cdef int feed_data(self, object data) except -1
    cdef int feed_buffered(self, object data) except -1
    cdef bint ask_for_buffer(self, Py_buffer* view) except -1
    cdef int buffer_updated(self, Py_ssize_t length) except -1
