"""How a stream's bytes come."""
cimport cython
from uringloop.ring.operations cimport flag
from uringloop.tls.records cimport RecordFlow
from uringloop.transport.receiver cimport Receiver


@cython.final
cdef class StreamReceiver(Receiver):
    cdef:
        RecordFlow records         # TLS: None, or the protocol
        flag buffered              # the protocol is a BufferedProtocol
        flag may_last              # polls of it, but for the first, go on until they are cancelled
        flag received_eof          # or an error: nothing more will come
        flag hung_up               # the end, or an error, is on its way
        flag in_doubt              # it may be more is there than the last read has found

    cdef int use_foreign_socket(self) except -1
    cdef bint has_something(self) noexcept
    cdef int read_short(self) except -1
    cdef int read_long(self) except -1
    cdef int read_records(self) except -1
    cdef int read_into_buffer(self) except -1
    cdef int read_by_foreign_socket(self) except -1
    cdef int has_read(self, Py_ssize_t length, Py_ssize_t room) except -1
    cdef int nothing_read(self, ssize_t code) except -1
    cdef int failed(self, object exc) except -1
    cdef int end(self) except -1
    cdef int feed_data(self, object data) except -1
    cdef int feed_eof(self) except -1
    cdef bint ask_for_buffer(self, Py_buffer* view) except -1
    cdef int buffer_updated(self, Py_ssize_t length) except -1
