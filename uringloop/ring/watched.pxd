"""Operations on sockets that the program may close at any time."""
from cpython.object cimport PyObject

from uringloop.ring.operations cimport Completer


cdef class Holders:
    cdef:
        PyObject* first            # a SocketHolder; borrowed
        size_t count
        double next_check          # not before that, in seconds of the loop's clock

    cdef double look(self, double now) except -1
    cdef int check(self) except -1


cdef class SocketHolder(Completer):
    cdef:
        PyObject* holders          # the Holders in whose list it is, strong; or NULL
        PyObject* before           # its neighbours there; borrowed
        PyObject* after
        object sock
        int fd

    cdef void hold(self, Holders holders) noexcept
    cdef void let_go(self) noexcept
    cdef int closed_under(self) except -1
