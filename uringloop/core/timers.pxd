"""The timers of a loop."""
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t


cdef struct timer:
    double when
    uint64_t order
    PyObject* handle        # strong


@cython.final
cdef class Timers:
    cdef:
        timer* heap
        size_t count
        size_t size
        uint64_t order
        Py_ssize_t cancelled       # of those in the heap
        list exposed                 # all of them, while a program looks at them; else None

    cdef void drop_all(self) noexcept
    cdef list expose(self)
    cdef int replace(self, list handles) except -1
    cdef int reclaim(self) except -1
    cdef bint any(self) noexcept
    cdef double first(self) except? -1
    cdef int push(self, double when, object handle) except -1
    cdef object pop(self)
    cdef object take(self)
    cdef void sift_up(self, size_t place) noexcept
    cdef void sift_down(self, size_t place) noexcept
    cdef int sweep(self) except -1
    cdef int sweep_all(self) except -1
    cdef int sweep_exposed(self) except -1


cdef bint is_scheduled(object handle) except -1
