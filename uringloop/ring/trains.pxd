"""Trains: datagrams that lie side by side in memory, and leave as one send (UDP_SEGMENT)."""
from libc.stdint cimport uint16_t, uint32_t

from uringloop.ring.abi cimport cmsghdr, iovec, msghdr, sockaddr_storage
from uringloop.ring.operations cimport operation


cdef enum:
    SEGMENTS = 64                  # of one send: UDP_MAX_SEGMENTS of older kernels
    SEGMENTED_BYTES = 65000        # with headers it must stay below 64 KiB
    LONGEST_DATAGRAM = 65507       # of UDP: what its 16 bits of length, and IPv4's, leave
    LONGEST_OF_IPV6 = 65527


cdef inline bint is_train(operation* op) noexcept:
    return op.segment_size != 0 and op.length > op.segment_size


cdef inline size_t datagrams(operation* op) noexcept:
    """How many it leaves as."""
    return (op.length + op.segment_size - 1) // op.segment_size if is_train(op) else 1


cdef inline size_t longest_train(size_t segment_size) noexcept:
    """How many bytes one send takes of such datagrams."""
    return max(min(SEGMENTED_BYTES // segment_size, <size_t>SEGMENTS), <size_t>1) * segment_size


cdef object integer(object value, str name)
cpdef size_t check_segment_size(object value) except? 0
cdef void write_segment_size(msghdr* message, cmsghdr* header, uint16_t size) noexcept
cdef void write_train_message(operation* op) noexcept
cdef int send_train(operation* op, int fd) noexcept
cdef int send_pieces(int fd, iovec* pieces, size_t count, size_t segment_size,
                     sockaddr_storage* address, uint32_t address_length) noexcept
cdef bint is_udp(object sock) except -1
cdef size_t longest_of(int fd) noexcept
cdef bint is_refusal(int error, int fd, size_t alone) noexcept
