"""Which transport has which descriptor."""
from cpython.object cimport PyObject


cdef class Registry:
    cdef:
        PyObject** places      # borrowed, by descriptor
        int size
        object foreign         # asyncio's own transports, weakly
        bint has_foreign

    cdef int enter(self, int fd, object transport) except -1
    cdef void leave(self, int fd, PyObject* transport) noexcept
    cdef object find(self, int fd)
    cdef list own(self)
    cdef object look_up(self, object fd)
