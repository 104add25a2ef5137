"""Streams whose last read came back short."""
cimport cython

from uringloop.core.registry cimport Registry


@cython.final
cdef class ShortReads:
    cdef:
        Registry registry
        int* fds
        int count
        int size
        double due              # when they are to be looked at again

    cdef int note(self, int fd) except -1
    cdef double check_if_due(self, double now) except -1
    cdef int check(self) except -1
