"""Socket addresses between Python's tuples and the kernel's structures."""
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t

from uringloop.ring.abi cimport sockaddr_storage


cdef enum:
    CACHE_SIZE = 512


cdef struct cached_address:
    PyObject* tuple          # strong; NULL: empty
    uint32_t length
    int family
    uint8_t bytes[28]


cdef class AddressCache:
    cdef cached_address from_kernel[CACHE_SIZE]
    cdef cached_address from_python[CACHE_SIZE]

    cdef cached_address* python_entry(self, object address) noexcept
    cdef void clear(self) noexcept
    cdef object to_python(self, const void* address, uint32_t length)
    cdef int to_kernel(
        self, object address, int family, sockaddr_storage* into, uint32_t* length) except -1


cdef bint is_number(int family, str host) except -1
