"""How a stream's bytes leave."""
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from uringloop.ring.abi cimport sockaddr_storage
from uringloop.ring.operations cimport flag
from uringloop.transport.sender cimport Sender


cdef struct piece:
    PyObject* owner         # strong
    char* base
    size_t length


@cython.final
cdef class StreamSender(Sender):
    cdef:
        piece* pieces           # the queue
        uint32_t first
        uint32_t count
        uint32_t size
        flag shut               # the sending half, after write_eof()

    cdef int write(self, object data) except -1
    cdef int write_all(self, list pieces) except -1
    cdef bint count_write(self) except -1
    cdef int send_or_flush_later(self) except -1
    cdef int send_now(self, object data) except -1
    cdef int enqueue(self, object data) except -1
    cdef int flush_queue(self) except -1
    cdef int send_by_call(self) except -1
    cdef bint may_be_full(self) noexcept
    cdef int send_by_foreign_socket(self) except -1
    cdef int send_zerocopy(self) except -1
    cdef int submit_first(self, bint zerocopy) except -1
    cdef bint wants_zerocopy(self) except -1
    cdef bint buffers_are_small(self, size_t length) noexcept
    cdef int address_of_peer(self, sockaddr_storage* into, uint32_t* length) except -1
    cdef int expect_copies(self) except -1
    cdef int strike_off(self, size_t sent) noexcept
    cdef int forget_first(self) noexcept
    cdef int all_written(self) except -1
    cdef int write_failed(self, int error) except -1
