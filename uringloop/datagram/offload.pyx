"""Generic receive offload: trains that come in one piece, and are cut here (UDP_GRO).

A socket that has the option gets datagrams that the kernel, or the network card, has put
together: of one size, but the last, which may be shorter, from one sender.  A control message
tells the size; without one it is a single datagram.  (Linux 5.0, udp(7).)
"""
from libc.string cimport memcpy

from uringloop.ring.abi cimport (
    IPPROTO_IP, IPPROTO_IPV6, MSG_CTRUNC, SOL_UDP, UDP_GRO, cmsghdr, msghdr)

cdef extern from "<sys/socket.h>" nogil:
    int setsockopt(int, int, int, const void*, unsigned)


cdef bint switch_on(int fd) noexcept:
    """Have the socket receive trains; False: the kernel does not know them."""
    cdef int on = 1
    return setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof(on)) == 0


cdef ssize_t segment_size_of(const msghdr* message) noexcept:
    """The size of a train's datagrams, of what was received; 0: one datagram; or SIZE_LOST.

    Where control messages were cut off (the program has switched on more of them than there is
    room for) the size is not among those if one of IP's own is there: the kernel writes those of
    the socket first, then the size, then those of IP.
    """
    cdef const char* control = <const char*>message.msg_control
    cdef size_t left = message.msg_controllen, step
    cdef bint may_be_lost = message.msg_flags & MSG_CTRUNC != 0
    cdef cmsghdr header
    cdef int size
    while left >= sizeof(header):
        memcpy(&header, control, sizeof(header))
        if header.cmsg_len < sizeof(header):
            break
        if header.cmsg_level == SOL_UDP and header.cmsg_type == UDP_GRO:
            if header.cmsg_len < sizeof(header) + sizeof(size) or header.cmsg_len > left:
                return SIZE_LOST
            memcpy(&size, control + sizeof(header), sizeof(size))
            return size if size > 0 else 0
        if header.cmsg_level == IPPROTO_IP or header.cmsg_level == IPPROTO_IPV6:
            may_be_lost = False
        if header.cmsg_len >= left:
            break
        step = (header.cmsg_len + sizeof(size_t) - 1) // sizeof(size_t) * sizeof(size_t)
        if step >= left:
            break
        control += step
        left -= step
    return SIZE_LOST if may_be_lost else 0
