"""How datagrams come."""
cimport cython

from uringloop.core.receive_area cimport mmsghdr
from uringloop.transport.receiver cimport Receiver


@cython.final
cdef class DatagramReceiver(Receiver):
    cdef int read_batch(self) except -1
    cdef int post_copy(self, mmsghdr* received) except -1
    cdef int read_one_by_one(self) except -1
    cdef bint read_one(self) except -1
    cdef int nothing_read(self, int error) except -1
    cdef int count(self, int flags, Py_ssize_t length) except -1
    cdef int deliver_datagram(self, object data, object address) except -1
