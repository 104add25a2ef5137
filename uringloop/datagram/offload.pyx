"""Generic receive offload: trains that come in one piece, and are cut here (UDP_GRO).

A socket that has the option gets datagrams that the kernel, or the network card, has put
together: of one size, but the last, which may be shorter, from one sender.  A control message
tells the size; without one it is a single datagram.  (Linux 5.0, udp(7).)
"""
from libc.string cimport memcpy

from uringloop.datagram.control cimport (
    control_message, control_walk, next_message, walk_control)
from uringloop.ring.abi cimport (
    IPPROTO_IP, IPPROTO_IPV6, MSG_CTRUNC, SOL_UDP, UDP_GRO, msghdr)

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
    cdef control_walk walk = walk_control(message)
    cdef control_message found
    cdef bint may_be_lost = message.msg_flags & MSG_CTRUNC != 0
    cdef int size
    while next_message(&walk, &found):
        if found.level == SOL_UDP and found.type == UDP_GRO:
            if found.length < sizeof(size):
                return SIZE_LOST
            memcpy(&size, found.data, sizeof(size))
            return size if size > 0 else 0
        if found.level == IPPROTO_IP or found.level == IPPROTO_IPV6:
            may_be_lost = False
    return SIZE_LOST if may_be_lost else 0
