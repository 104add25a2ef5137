"""Trains: datagrams that lie side by side in memory, and leave as one send (UDP_SEGMENT).

They are of one size, but the last, which may be shorter.
"""
from cpython.object cimport PyObject
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from uringloop._cpython cimport family_of, proto_of, type_of
from uringloop.ring.abi cimport *
from uringloop.ring.operations cimport operation

import operator
import socket


cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<netinet/in.h>" nogil:
    enum:
        IP_MTU_DISCOVER
        IP_PMTUDISC_DO
        IP_PMTUDISC_OMIT
        IP_RECVERR
        IPV6_DONTFRAG
        IPV6_MTU_DISCOVER
        IPV6_RECVERR

cdef extern from "<sys/socket.h>" nogil:
    enum:
        SO_DOMAIN
    int getsockopt(int, int, int, void*, socklen_t*)
    ssize_t sendmsg(int, const msghdr*, int)

cdef extern from "Python.h":
    Py_ssize_t PyNumber_AsSsize_t(object, PyObject*) except? -1


cdef object integer(object value, str name):
    """``operator.index``, with a TypeError that says whose value it is."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f'{name} must be an integer, not {type(value).__name__}') from None


cpdef size_t check_segment_size(object value) except? 0:
    """A program's ``segment_size`` as a number; 0 if it gives none."""
    cdef Py_ssize_t size
    if value is None:
        return 0
    # What is beyond is made the longest there is.
    size = PyNumber_AsSsize_t(value if type(value) is int else integer(value, 'segment_size'), NULL)
    if not 1 <= size <= LONGEST_DATAGRAM:
        raise ValueError(f'segment_size must be 1 to {LONGEST_DATAGRAM} bytes, not {value!r}')
    return size


cdef void write_segment_size(msghdr* message, cmsghdr* header, uint16_t size) noexcept:
    header.cmsg_len = sizeof(cmsghdr) + sizeof(uint16_t)
    header.cmsg_level = SOL_UDP
    header.cmsg_type = UDP_SEGMENT
    (<uint16_t*>(header + 1))[0] = size
    message.msg_control = header
    message.msg_controllen = sizeof(cmsghdr) + sizeof(uint64_t)


cdef void write_train_message(operation* op) noexcept:
    """The message of a train, in the operation: the kernel reads it in place."""
    op.vector.iov_base = op.base
    op.vector.iov_len = op.length
    memset(&op.message, 0, sizeof(op.message))
    op.message.msg_iov = &op.vector
    op.message.msg_iovlen = 1
    if op.address_length:
        op.message.msg_name = &op.address
        op.message.msg_namelen = op.address_length
    write_segment_size(&op.message, <cmsghdr*>op.control, op.segment_size)


cdef int send_train(operation* op, int fd) noexcept:
    """Send it at once, by copying: 0 or an errno."""
    cdef iovec whole
    whole.iov_base = op.base
    whole.iov_len = op.length
    return send_pieces(fd, &whole, 1, op.segment_size, &op.address, op.address_length)


cdef int send_pieces(int fd, iovec* pieces, size_t count, size_t segment_size,
                     sockaddr_storage* address, uint32_t address_length) noexcept:
    """Send what is in these pieces of memory as one train, at once, by copying: 0 or an errno."""
    cdef msghdr message
    cdef uint64_t control[3]        # aligned
    memset(&message, 0, sizeof(message))
    message.msg_iov = pieces
    message.msg_iovlen = count
    if address_length:
        message.msg_name = address
        message.msg_namelen = address_length
    write_segment_size(&message, <cmsghdr*>control, <uint16_t>segment_size)
    return 0 if sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 else errno_now


cdef bint is_udp(object sock) except -1:
    """Whether the kernel cuts what this socket sends; others take no notice of UDP_SEGMENT."""
    cdef int family = family_of(sock)
    return (family == AF_INET or family == AF_INET6) and type_of(sock) & 0xf == SOCK_DGRAM \
        and proto_of(sock) in (0, socket.IPPROTO_UDP)


cdef bint is_refusal(int error, int fd, size_t alone) noexcept:
    """Whether it may be the way it was sent that is at fault: then nothing of it has left.

    Anything else, an error that waited in the socket for one, is the first datagram's.  ``alone``
    is the length of what is no train.
    """
    if error == EMSGSIZE and alone:
        # Of too many pages, say.  But one that may not be cut, or is longer than any, is too long
        # whichever way it is sent, and the error queue would have it twice.
        return alone <= longest_of(fd) and not is_kept_whole(fd)
    if error == ENOBUFS:
        # There is no memory for it in one piece.  But where a socket hears of errors a device's
        # full queue says so, too: and of what goes to a group copies have reached the members on
        # this machine by then.
        return not hears_of_errors(fd)
    return error == EIO or error == EINVAL or error == EMSGSIZE or error == EOPNOTSUPP \
        or error == ENOMEM


cdef size_t longest_of(int fd) noexcept:
    """Bytes of the longest datagram that this socket of UDP sends."""
    return LONGEST_DATAGRAM if option_of(fd, SOL_SOCKET, SO_DOMAIN) == AF_INET else LONGEST_OF_IPV6


cdef bint is_kept_whole(int fd) noexcept:
    return forbids_cutting(option_of(fd, IPPROTO_IP, IP_MTU_DISCOVER)) \
        or forbids_cutting(option_of(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER)) \
        or option_of(fd, IPPROTO_IPV6, IPV6_DONTFRAG)


cdef bint forbids_cutting(int discovery) noexcept:
    """What the kernel's ``ip_sk_ignore_df`` says the opposite of; the same of IPv6."""
    return discovery >= IP_PMTUDISC_DO and discovery != IP_PMTUDISC_OMIT


cdef bint hears_of_errors(int fd) noexcept:
    return option_of(fd, IPPROTO_IP, IP_RECVERR) or option_of(fd, IPPROTO_IPV6, IPV6_RECVERR)


cdef int option_of(int fd, int level, int option) noexcept:
    """A socket option; 0 where there is none such."""
    cdef int value = 0
    cdef socklen_t size = sizeof(value)
    getsockopt(fd, level, option, &value, &size)
    return value
