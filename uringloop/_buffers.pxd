"""Memory: what a program hands over to be sent, and what the kernel receives into."""
from libc.stdint cimport uint16_t, uint32_t

from uringloop._ring cimport io_uring_buf_ring
from uringloop._uring cimport Ring


cdef struct payload:
    char* base
    size_t length
    bint immutable        # nobody can change it while ``owner`` is referenced


cdef object open_payload(object data, payload* into)
cdef object copy_payload(object data, payload* into)
cdef object lend_payload(object data, payload* into)
cdef unsigned fragments(const void* base, size_t length) noexcept


cdef enum:
    MAX_FRAGMENTS = 17    # MAX_SKB_FRAGS: pages of one zero-copy datagram


cdef class ReceiveBuffers:
    cdef:
        Ring ring
        char* memory
        size_t memory_size
        io_uring_buf_ring* entries
        readonly size_t size          # of one buffer
        readonly unsigned count       # how many there are
        readonly unsigned offered     # how many the kernel has been given so far
        readonly int group

    cdef char* at(self, unsigned number) noexcept
    cdef void give_back(self, unsigned number) noexcept
    cdef bint offer_more(self) noexcept
