"""What the receiving halves of datagram and stream transports have in common."""
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from uringloop.ring.buffers cimport ReceiveBuffers
from uringloop.ring.operations cimport operation
from uringloop.transport.socket_transport cimport SocketTransport


cdef enum Role:
    # ``status`` of the operations of a transport that send nothing
    RECEIVE = 16
    READABLE = 17             # a poll that waits for something to read

cdef enum:
    LONG = 32768              # bytes; 16 KiB still gain from coming together
    LONG_RUN = 4              # so many after one another and they are read one by one


cdef class Receiver(SocketTransport):
    cdef:
        unsigned long_run          # long pieces that came one after another
        bint one_by_one            # the way to receive from now on

    cdef int arm(self) except -1
    cdef int arm_or_cancel(self) except -1
    cdef int receive(self, ReceiveBuffers buffers) except -1
    cdef ReceiveBuffers receive_buffers(self)
    cdef int exhausted(self) except -1
    cdef int socket_closed(self) except -1
    cdef int wait_readable(self) except -1
    cdef int poll_ended(self, int res) except -1
    cdef int read_on(self) except -1
    cdef int choose_way(self, bint one_by_one) except -1
