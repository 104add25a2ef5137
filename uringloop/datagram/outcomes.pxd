"""What becomes of the datagrams of a sender."""
cimport cython

from uringloop.datagram.queue cimport DatagramQueue
from uringloop.ring.operations cimport operation
from uringloop.ring.zerocopy cimport PathReports


cdef class DatagramOutcomes(DatagramQueue):
    cdef:
        PathReports paths           # None until a zero-copy send was copied
        unsigned char futile_polls  # since the last datagram that left

    @cython.final
    cdef int accepted(self, operation* op) except -1

    @cython.final
    cdef int tell_of_first(self, size_t count, int error) except -1

    @cython.final
    cdef int tell_of(self, operation** ops, int error) except -1

    @cython.final
    cdef int failed(self, operation* op, int error) except -1

    @cython.final
    cdef int resolve(self, operation* op, int error) except -1

    @cython.final
    cdef int tell_when_both_are_done(self, operation* op, operation* second) except -1

    @cython.final
    cdef object error_of_future(self, operation* op, int error)

    @cython.final
    cdef object error_of(self, int error, size_t length)
