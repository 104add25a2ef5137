"""Buffer pools and their leases."""
cimport cython

from uringloop.core.lender cimport Lender
from uringloop.ring.registered_memory cimport LentMemory, Registration


cdef class PoolCore:
    cdef:
        object __weakref__
        readonly Lender _loop
        Registration registration
        char* base
        size_t mapped
        size_t stride                  # from one buffer to the next
        readonly Py_ssize_t count
        readonly Py_ssize_t size       # of one buffer
        readonly Py_ssize_t free       # buffers that can be had now
        readonly Py_ssize_t held       # released, but the kernel or a view has them still
        unsigned* free_numbers         # a circle: the longest free is the next
        unsigned next_free
        readonly bint closed
        readonly bint hugepages
        object waiters                 # (how many, future) of those who wait, in order
        object closing                 # the future of ``close``, or None

    cdef void guard_all(self) noexcept
    cdef int map_memory(self, bint hugepages) except -1
    cdef Lease new_lease(self)
    cdef list new_leases(self, Py_ssize_t count)
    cdef int give_back(self, unsigned number) except -1
    cdef int serve_waiters(self) except -1
    cdef int check_made(self) except -1
    cdef int refuse_waiters(self, str text) except -1
    cdef int finish_closing(self) except -1


@cython.final
cdef class Lease(LentMemory):
    cdef:
        PoolCore pool
        char* base
        Py_ssize_t length
        Py_ssize_t views               # exports that are alive
        unsigned number
        readonly bint released
        bint given_back

    cdef int check(self) except -1
    cdef str why_not(self)
    cdef int release_now(self) except -1
    cdef void viewed_no_more(self) noexcept


@cython.final
cdef class Acquisition:
    cdef:
        PoolCore pool              # None once it has begun
        object waiting             # a coroutine of Python's own, or None

    cdef object begin(self)
