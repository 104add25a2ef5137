"""Socket addresses between Python's tuples and the kernel's structures."""
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy

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
    cdef void make_tables(self, uint32_t places) noexcept
    cdef void keep_both(self, object made, const void* address, uint32_t length) noexcept
    cdef void clear(self) noexcept
    cdef object to_python(self, const void* address, uint32_t length)
    cdef int to_kernel(
        self, object address, int family, sockaddr_storage* into, uint32_t* length) except -1


cdef inline uint32_t mix(uint64_t key) noexcept:
    return <uint32_t>(key * <uint64_t>0x9e3779b97f4a7c15 >> 32)


cdef inline cached_address* python_entry(AddressCache cache, object address) noexcept:
    """The first of the two places of a tuple."""
    return &cache.from_python[mix(<uintptr_t><PyObject*>address >> 4) & (cache.places - 2)]


cdef inline bint recall(AddressCache cache, object address, int family, sockaddr_storage* into,
                        uint32_t* length) noexcept:
    """Fill ``into`` if the tuple is remembered: without a call, for each datagram has one."""
    cdef cached_address* entry = python_entry(cache, address)
    if entry.tuple is not <PyObject*>address:
        entry += 1
    if entry.tuple is not <PyObject*>address or entry.family != family:
        return False
    if entry.length == 16:
        memcpy(into, entry.bytes, 16)
    else:
        memcpy(into, entry.bytes, entry.length)
    length[0] = entry.length
    return True


cdef bint is_number(int family, str host) except -1
