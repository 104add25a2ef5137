"""What a Python socket is, without asking its properties, which make enums."""
from cpython.object cimport PyObject

import socket

cdef object PlainSocket = socket.socket
cdef object SystemSocket = socket.SocketType
cdef object family_getter = socket.SocketType.family.__get__
cdef object type_getter = socket.SocketType.type.__get__
cdef object proto_getter = socket.SocketType.proto.__get__

cdef extern from *:
    """
    /* How every socket object begins (CPython's Modules/socketmodule.h), as of 3.10 to 3.15. */
    struct socket_head {
        PyObject_HEAD
        int fd, family, type, proto;
    };
    """
    struct socket_head:
        int fd
        int family
        int type
        int proto


def heads_are_known():
    """Whether socket objects begin as ``socket_head`` says: looked at, not believed."""
    cdef socket_head* head
    for kind in ((socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP),
                 (socket.AF_UNIX, socket.SOCK_STREAM, 0)):
        with socket.socket(*kind) as sock:
            head = <socket_head*><PyObject*>sock
            if (head.fd, head.family, head.type, head.proto) != (sock.fileno(), *kind):
                return False
    return True


cdef bint HEADS_KNOWN = heads_are_known()


# What a subclass overrides when it wants to see the traffic, or to make some up.
TRAFFIC = ('recv', 'recv_into', 'recvfrom', 'recvfrom_into', 'recvmsg', 'send', 'sendall',
           'sendto', 'sendmsg', 'sendfile', 'accept', 'connect', 'connect_ex')

cdef set plain_kinds = {socket.socket}


def kind_is_plain(kind):
    """Whether sockets of this class are the system's, and nobody wants to be asked for them."""
    if not issubclass(kind, SystemSocket) or not kind.__weakrefoffset__:
        return False          # what cannot be referred to weakly cannot be remembered either
    return all(getattr(kind, name, None) in (getattr(PlainSocket, name), getattr(
        SystemSocket, name, None)) for name in TRAFFIC)


cdef bint is_plain(object sock) except -1:
    """Whether the ring may serve this socket by its descriptor, as if it was the system's own."""
    kind = type(sock)
    if kind in plain_kinds:
        return True
    return kind_is_plain(kind)


def is_plain_socket(sock):
    """Whether the ring may serve it; else asyncio's way, which asks the object."""
    return is_plain(sock)


cdef int fd_of(object sock) except? -1:
    if HEADS_KNOWN and type(sock) is PlainSocket:
        return (<socket_head*><PyObject*>sock).fd
    return sock.fileno()


cdef int family_of(object sock) except? -1:
    if HEADS_KNOWN and type(sock) is PlainSocket:
        return (<socket_head*><PyObject*>sock).family
    # A subclass may say otherwise; what the kernel was told counts.  (And something that
    # only poses as a socket has no head to be read.)
    return family_getter(sock) if issubclass(type(sock), SystemSocket) else sock.family


cdef int type_of(object sock) except? -1:
    if HEADS_KNOWN and type(sock) is PlainSocket:
        return (<socket_head*><PyObject*>sock).type
    return type_getter(sock) if issubclass(type(sock), SystemSocket) else sock.type


cdef int proto_of(object sock) except? -1:
    if HEADS_KNOWN and type(sock) is PlainSocket:
        return (<socket_head*><PyObject*>sock).proto
    return proto_getter(sock) if issubclass(type(sock), SystemSocket) else sock.proto
