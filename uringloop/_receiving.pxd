"""The receiving half of a datagram transport."""
from libc.stdint cimport uint32_t

from uringloop._buffers cimport ReceiveBuffers
from uringloop._operations cimport operation
from uringloop._transports cimport SocketTransport, event


cdef enum Role:
    # ``status`` of the operations of a datagram transport that send nothing
    RECEIVE = 16
    READABLE = 17             # a poll that waits for a datagram
    ROOM = 18                 # a poll that waits for the socket to have room


cdef class DatagramReceiver(SocketTransport):
    cdef:
        uint32_t name_room         # what the kernel is to leave for an address
        # valid for the ring number ``era``
        uint32_t era
        int slot                   # registered file, or -1
        unsigned long_run          # long datagrams that came one after another
        bint polling               # ``receiving`` is a poll

    cdef int start_ring(self) except -1
    cdef int receive(self) except -1
    cdef int wait_readable(self) except -1
    cdef ReceiveBuffers receive_buffers(self)
    cdef int received(self, operation* op, int res, uint32_t flags) except -1
    cdef int take_datagram(self, ReceiveBuffers buffers, int res, uint32_t flags) except -1
    cdef int hand_over(self, object data, object address) except -1
    cdef int judge(self, Py_ssize_t length) except -1
    cdef int read_on(self) except -1
    cdef bint read_one(self) except -1
    cdef int answered(self) except -1
