"""Control messages: what a system call takes and gives besides a datagram's bytes (cmsg(3)).

As ``socket.recvmsg`` and ``socket.sendmsg`` have them: lists of ``(level, type, bytes)``.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE)
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from posix.fcntl cimport F_DUPFD_CLOEXEC, fcntl
from posix.unistd cimport close

from uringloop.ring.abi cimport *
from uringloop.ring.trains cimport integer

import operator
import os
import socket


cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<sys/socket.h>" nogil:
    enum:
        MSG_ZEROCOPY
        SCM_RIGHTS
    ssize_t sendmsg(int, const msghdr*, int)
    int getsockopt(int, int, int, void*, socklen_t*)

cdef extern from "<arpa/inet.h>" nogil:
    int inet_pton(int, const char*, void*)

cdef extern from "<netinet/in.h>" nogil:
    struct in_pktinfo:
        int ipi_ifindex
        uint32_t ipi_spec_dst "ipi_spec_dst.s_addr"
    struct in6_pktinfo:
        unsigned char[16] ipi6_addr "ipi6_addr.s6_addr"
    enum:
        IP_TOS
        IP_PKTINFO
        IPV6_TCLASS
        IPV6_PKTINFO

cdef enum:
    LONGEST_CONTROL = 0x7fffffff     # as the socket module: what a socklen_t takes
    SCM_PIDFD = 4                    # Linux 6.5
    ECN_BITS = 3                     # of the traffic class (RFC 3168); the others are the DSCP


# -- received ------------------------------------------------------------------------------------

cdef list received_ancdata(const msghdr* message, bint without_size):
    """What ``socket.recvmsg`` would return.

    ``without_size``: but for the size of a train's datagrams, which the program has not asked for.
    """
    cdef control_walk walk = walk_control(message)
    cdef control_message found
    cdef list ancdata = []
    while next_message(&walk, &found):
        if not (without_size and found.level == SOL_UDP and found.type == UDP_GRO):
            ancdata.append((found.level, found.type,
                            PyBytes_FromStringAndSize(found.data, found.length)))
    return ancdata


cdef void close_descriptors(const msghdr* message) noexcept:
    """Nobody is given the descriptors that have come (unix(7)): they are not to stay open."""
    cdef control_walk walk = walk_control(message)
    cdef control_message found
    cdef size_t place
    cdef int fd
    while next_message(&walk, &found):
        if found.level == SOL_SOCKET and found.type in (SCM_RIGHTS, SCM_PIDFD):
            for place in range(0, found.length // sizeof(fd) * sizeof(fd), sizeof(fd)):
                memcpy(&fd, found.data + place, sizeof(fd))
                close(fd)


# -- to be sent ----------------------------------------------------------------------------------

cdef size_t space_of(size_t length) noexcept:
    return (sizeof(cmsghdr) + length + sizeof(size_t) - 1) // sizeof(size_t) * sizeof(size_t)


cdef char* write_message(char* place, int level, int type, const void* data,
                         size_t length) noexcept:
    """Write a control message; returns where the next one goes."""
    cdef cmsghdr header
    header.cmsg_len = sizeof(header) + length
    header.cmsg_level = level
    header.cmsg_type = type
    memset(place, 0, space_of(length))
    memcpy(place, &header, sizeof(header))
    memcpy(place + sizeof(header), data, length)
    return place + space_of(length)


cpdef bytes packed_ancdata(object ancdata):
    """What ``socket.sendmsg`` makes of it for the kernel; the same exceptions."""
    cdef size_t total = 0
    cdef char* place
    cdef int level, type
    cdef list messages = []
    try:
        items = tuple(ancdata)
    except TypeError:
        raise TypeError('sendmsg() argument 2 must be an iterable') from None
    if not items:
        return b''
    for item in items:
        if not isinstance(item, (tuple, list)) or len(item) != 3:
            raise TypeError('[sendmsg() ancillary data items]() argument must be a sequence of '
                            f'length 3, not {item!r}')
        level, type, data = operator.index(item[0]), operator.index(item[1]), bytes_of(item[2])
        total += space_of(len(data))
        if total > LONGEST_CONTROL:
            raise OSError('too much ancillary data')
        messages.append((level, type, data))
    packed = PyBytes_FromStringAndSize(NULL, total)
    place = PyBytes_AS_STRING(packed)
    for level, type, data in messages:
        place = write_message(place, level, type, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return packed


cpdef list unpacked_ancdata(bytes control):
    """The list that ``packed_ancdata`` was given, or one like it."""
    cdef msghdr message
    message.msg_control = PyBytes_AS_STRING(control)
    message.msg_controllen = PyBytes_GET_SIZE(control)
    return received_ancdata(&message, False)


cdef class PassedFiles:
    """Copies of the descriptors that a message passes, closed with this."""

    def __cinit__(self, size_t most):
        self.fds = <int*>calloc(most, sizeof(int))
        if self.fds is NULL:
            raise MemoryError

    def __dealloc__(self):
        for place in range(self.count):
            close(self.fds[place])
        free(self.fds)


cpdef int checked_flags(object flags) except? -1:
    """The flags of ``sendmsg``.  ValueError: what is sent is memory that is let go of at once."""
    cdef int number = operator.index(flags)
    if number & MSG_ZEROCOPY:
        raise ValueError('MSG_ZEROCOPY is not for sendmsg(): sendto_zerocopy() sends without '
                         'copying, and tells when the memory is free')
    return number


cpdef tuple with_files_held(bytes control):
    """``(control, files)``: for a message that has to wait, as long as ``files`` is kept.

    The program may close, once it has sent, the descriptors that it passes (unix(7)), and their
    numbers may be other files by then.  OSError: there are none left, or what is passed is none.
    """
    cdef msghdr message
    cdef control_walk walk
    cdef control_message found
    cdef size_t place
    cdef int fd
    cdef PassedFiles files = None
    message.msg_control = PyBytes_AS_STRING(control)
    message.msg_controllen = PyBytes_GET_SIZE(control)
    walk = walk_control(&message)
    while next_message(&walk, &found):
        if found.level != SOL_SOCKET or found.type != SCM_RIGHTS:
            continue
        if files is None:
            files = PassedFiles(PyBytes_GET_SIZE(control) // sizeof(fd))
            control = PyBytes_FromStringAndSize(
                PyBytes_AS_STRING(control), PyBytes_GET_SIZE(control))
            walk.place += PyBytes_AS_STRING(control) - <char*>message.msg_control
            found.data += PyBytes_AS_STRING(control) - <char*>message.msg_control
        for place in range(0, found.length // sizeof(fd) * sizeof(fd), sizeof(fd)):
            memcpy(&fd, found.data + place, sizeof(fd))
            fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)
            if fd < 0:
                raise OSError(errno_now, os.strerror(errno_now))
            files.fds[files.count] = fd
            files.count += 1
            memcpy(<char*>found.data + place, &fd, sizeof(fd))
    return control, files


cpdef bytes joined_buffers(object buffers):
    """The datagram that ``socket.sendmsg`` makes of them; the same exceptions."""
    try:
        items = tuple(buffers)
    except TypeError:
        raise TypeError('sendmsg() argument 1 must be an iterable') from None
    if len(items) == 1 and PyBytes_CheckExact(items[0]):
        return items[0]
    # ``join`` itself would take what is not contiguous.
    pieces = []
    for item in items:           # (no comprehension: see CONTRIBUTING.md)
        pieces.append(bytes_of(item))
    return b''.join(pieces)


cdef object bytes_of(object data):
    """A buffer, as ``bytes``; the same exceptions."""
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return PyBytes_FromStringAndSize(<char*>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


cpdef bytes packed_metadata(int fd, int family, object ecn, object source):
    """The control messages for a datagram with that ECN codepoint, from that address.

    ValueError for what is none, or where the family has none.
    """
    cdef char[256] control
    cdef char* place = control
    if ecn is not None:
        place = write_ecn(place, fd, family, ecn)
    if source is not None:
        place = write_source(place, family, source)
    return PyBytes_FromStringAndSize(control, place - control)


cdef char* write_ecn(char* place, int fd, int family, object ecn) except NULL:
    cdef int codepoint
    if family != AF_INET and family != AF_INET6:
        raise ValueError(f'ecn is for IPv4 and IPv6, not for {socket.AddressFamily(family)!r}')
    codepoint = integer(ecn, 'ecn')
    if not 0 <= codepoint <= ECN_BITS:
        raise ValueError(f'ecn must be 0 to 3, not {ecn!r}')
    # A message of the other protocol is no matter to the kernel; which one it is depends on
    # where an IPv6 socket sends to: a mapped address is IPv4's.
    place = write_class(place, fd, IPPROTO_IP, IP_TOS, codepoint)
    if family == AF_INET6:
        place = write_class(place, fd, IPPROTO_IPV6, IPV6_TCLASS, codepoint)
    return place


cdef char* write_class(char* place, int fd, int level, int option, int ecn) noexcept:
    """The socket's DSCP stays: the message is of the whole traffic class."""
    cdef int value = 0
    cdef socklen_t size = sizeof(value)
    getsockopt(fd, level, option, &value, &size)
    value = value & ~ECN_BITS & 0xff | ecn
    return write_message(place, level, option, &value, sizeof(value))


cdef char* write_source(char* place, int family, object source) except NULL:
    cdef in_pktinfo info
    cdef in6_pktinfo info6
    if family != AF_INET and family != AF_INET6:
        raise ValueError(f'source is for IPv4 and IPv6, not for {socket.AddressFamily(family)!r}')
    if not isinstance(source, str):
        raise TypeError(f'source must be an address as str, not {type(source).__name__}')
    memset(&info, 0, sizeof(info))
    memset(&info6, 0, sizeof(info6))
    text = source.encode()
    if b'\0' not in text:
        if family == AF_INET and inet_pton(AF_INET, text, &info.ipi_spec_dst) == 1:
            return write_message(place, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info))
        if family == AF_INET6 and inet_pton(AF_INET6, text, &info6.ipi6_addr) == 1:
            return write_message(place, IPPROTO_IPV6, IPV6_PKTINFO, &info6, sizeof(info6))
    raise ValueError(f'source must be an address of {socket.AddressFamily(family).name}, '
                     f'not {source!r}')


cdef int send_at_once(int fd, const char* base, size_t length, const char* control,
                      size_t control_length, int flags, const sockaddr_storage* address,
                      uint32_t address_length) noexcept:
    """Send it at once, by copying: 0 or an errno."""
    cdef msghdr message
    cdef iovec whole
    whole.iov_base = <void*>base
    whole.iov_len = length
    memset(&message, 0, sizeof(message))
    message.msg_iov = &whole
    message.msg_iovlen = 1
    if address_length:
        message.msg_name = <void*>address
        message.msg_namelen = address_length
    if control_length:
        message.msg_control = <void*>control
        message.msg_controllen = control_length
    return 0 if sendmsg(fd, &message, flags | MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 else errno_now
