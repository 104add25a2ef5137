"""Datagrams that leave as one segmented send (UDP_SEGMENT)."""
from libc.stdint cimport uint32_t
from libc.string cimport memcmp, memcpy

from uringloop.ring.abi cimport sockaddr_storage
from uringloop.ring.operations cimport flag, operation


cdef enum:
    LONGEST_SEGMENT = 16384        # of two longer ones, each may as well leave by itself


cdef enum Likeness:
    DIFFERENT = 0
    SAME = 1                       # address and length are those of the datagram before
    SHORTER = 2                    # the same address, and shorter: the last segment of a send


cdef struct segmentation:
    size_t limit                   # longer datagrams are no segments; 0: none is
    size_t last_length             # of the datagram before
    uint32_t last_address_length
    char[28] last_address
    size_t one_by_one_due          # of a segmented send that was refused
    int refusal                    # the errno
    flag allowed                   # the socket's options leave a datagram the same as a segment
    double allowed_until           # when to look at them again


cdef enum:
    SETTINGS = 28


cdef struct settings:              # of a socket, for what it sends next
    uint32_t[SETTINGS] values


cdef inline bint is_last(segmentation* these, sockaddr_storage* address,
                         uint32_t length) noexcept:
    # Those of IPv4 without a call.
    return (memcmp(address, &these.last_address, 16) == 0 if length == 16
            else length == 0 or memcmp(address, &these.last_address, length) == 0)


cdef inline Likeness compare(segmentation* these, size_t length, sockaddr_storage* address,
                             uint32_t address_length) noexcept:
    """Whether this datagram can be a segment of one send with the one before; remembers it."""
    cdef Likeness likeness = DIFFERENT
    if 0 < length <= these.limit and address_length == these.last_address_length \
            and is_last(these, address, address_length):
        if length == these.last_length:
            return SAME
        if length < these.last_length:
            likeness = SHORTER
    these.last_length = length
    # Of AF_UNIX nothing is a segment.
    if address_length == 16:
        these.last_address_length = 16
        memcpy(&these.last_address, address, 16)
        return likeness
    these.last_address_length = min(address_length, <uint32_t>sizeof(these.last_address))
    memcpy(&these.last_address, address, these.last_address_length)
    return likeness


cdef unsigned count_alike(segmentation* these, operation* first) noexcept
cdef bint is_group(const sockaddr_storage* address) noexcept
cdef bint has_changed(settings* these, int fd) noexcept
cdef bint is_allowed(segmentation* these, int fd, bint options_changed) noexcept
cdef int send_segmented(operation* first, unsigned count, int fd) noexcept
cdef unsigned send_together(segmentation* these, operation* first, int fd,
                            unsigned* gathered) noexcept
cdef void refused(segmentation* these, size_t count, int error) noexcept
cdef size_t sent_by_itself(segmentation* these, size_t length, int error) noexcept
