"""How a stream's bytes come."""
cimport cython
from uringloop.ring.operations cimport flag
from uringloop.transport.receiver cimport Receiver


@cython.final
cdef class StreamReceiver(Receiver):
    cdef:
        int buffers_left           # that the protocol may be asked for in this turn
        flag buffered              # the protocol is a BufferedProtocol
        flag small_buffers         # the protocol's own are too small to read bulk into
        flag received_eof          # or an error: nothing more will come

    cdef int stay_one_by_one(self) except -1
    cdef int update_mode(self, Py_ssize_t length) except -1
    cdef int read_bytes(self) except -1
    cdef int read_into_buffer(self) except -1
    cdef int read_by_foreign_socket(self) except -1
    cdef int after_read(self, Py_ssize_t length, Py_ssize_t room) except -1
    cdef int nothing_read(self, ssize_t code) except -1
    cdef int feed_data(self, object data) except -1
    cdef int feed_eof(self) except -1
    cdef int feed_buffered(self, object data) except -1
    cdef int feed_buffer(self, object data, Py_ssize_t done) except -1
    cdef bint ask_for_buffer(self, Py_buffer* view) except -1
    cdef bint ask_in_vain(self) except -1
    cdef int buffer_updated(self, Py_ssize_t length) except -1
