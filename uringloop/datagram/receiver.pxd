"""How datagrams come."""
cimport cython
from libc.stdint cimport uint32_t

from uringloop.transport.receiver cimport Receiver


@cython.final
cdef class DatagramReceiver(Receiver):
    cdef:
        uint32_t name_size         # what the kernel is to leave for an address

    cdef int deliver_datagram(self, object data, object address) except -1
    cdef int update_mode(self, Py_ssize_t length) except -1
    cdef bint read_one(self) except -1
