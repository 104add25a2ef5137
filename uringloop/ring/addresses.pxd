"""Socket addresses between Python's tuples and the kernel's structures."""
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t

from uringloop.ring.abi cimport sockaddr_storage


cdef struct cached_address:
    PyObject* tuple          # strong; NULL: empty
    uint32_t length
    int family
    uint8_t bytes[28]


cdef class AddressCache:
    cdef cached_address* from_kernel
    cdef cached_address* from_python
    cdef uint32_t places         # of each table, a power of two
    cdef uint32_t displaced      # since the tables were made

    cdef cached_address* kernel_entry(self, const void* address, uint32_t length) noexcept
    cdef cached_address* python_entry(self, object address) noexcept
    cdef void make_tables(self, uint32_t places) noexcept
    cdef void keep_both(self, object made, const void* address, uint32_t length) noexcept
    cdef void clear(self) noexcept
    cdef object to_python(self, const void* address, uint32_t length)
    cdef int to_kernel(
        self, object address, int family, sockaddr_storage* into, uint32_t* length) except -1


cdef bint is_number(int family, str host) except -1
