"""The receiving half of a datagram transport."""
from libc.stdint cimport uint32_t

from uringloop.ring.buffers cimport ReceiveBuffers
from uringloop.ring.operations cimport operation
from uringloop.transport.receiver cimport Receiver


cdef class DatagramReceiver(Receiver):
    cdef:
        uint32_t name_room         # what the kernel is to leave for an address
        uint32_t ring_id               # of the ring that has ``slot``

    cdef int start_ring(self) except -1
    cdef int received(self, operation* op, int res, uint32_t flags) except -1
    cdef int take_datagram(self, ReceiveBuffers buffers, int res, uint32_t flags) except -1
    cdef int hand_over(self, object data, object address) except -1
    cdef int judge(self, Py_ssize_t length) except -1
    cdef bint receives(self) noexcept
    cdef bint read_one(self) except -1
