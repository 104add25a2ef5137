"""Generic receive offload: trains that come in one piece, and are cut here (UDP_GRO)."""
from uringloop.ring.abi cimport msghdr

cdef enum:
    SIZE_LOST = -1       # in place of a size: there was no room to tell it


cdef bint switch_on(int fd) noexcept
cdef ssize_t segment_size_of(const msghdr* message) noexcept
