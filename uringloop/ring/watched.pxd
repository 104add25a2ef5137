"""Operations on sockets that the program may close at any time."""
from cpython.object cimport PyObject

from uringloop.ring.operations cimport OperationOwner


cdef class WatchedSockets:
    cdef:
        PyObject* first            # a WatchedSocket; borrowed
        size_t count
        double next_check          # not before that, in seconds of the loop's clock

    cdef double check_if_due(self, double now) except -1
    cdef int check_all(self) except -1


cdef class WatchedSocket(OperationOwner):
    cdef:
        PyObject* watched_sockets          # the WatchedSockets in whose list it is, strong; or NULL
        PyObject* before           # its neighbours there; borrowed
        PyObject* after
        object sock
        int fd

    cdef void watch(self, WatchedSockets watched_sockets) noexcept
    cdef void unwatch(self) noexcept
    cdef bint is_open(self) except -1
    cdef int socket_closed(self) except -1
