"""Which sockets the ring may serve by their descriptor."""
import socket

from uringloop._cpython import PLAIN_SOCKET

cdef object PlainSocket = PLAIN_SOCKET
cdef object SystemSocket = socket.SocketType

# What a subclass overrides when it wants to see the traffic, or to make some up, or its ends.
TRAFFIC = ('recv', 'recv_into', 'recvfrom', 'recvfrom_into', 'recvmsg', 'send', 'sendall',
           'sendto', 'sendmsg', 'sendfile', 'accept', 'connect', 'connect_ex',
           'getpeername', 'getsockname')


cdef bint is_plain(object sock) except -1:
    """Whether the ring may serve this socket by its descriptor, as if it was the system's own."""
    kind = type(sock)
    if kind is PlainSocket:
        return True
    if not issubclass(kind, SystemSocket) or not kind.__weakrefoffset__:
        return False          # what cannot be referred to weakly cannot be remembered either
    return all(getattr(kind, name, None) in (getattr(PlainSocket, name), getattr(
        SystemSocket, name, None)) for name in TRAFFIC)


def is_plain_socket(sock):
    """Whether the ring may serve it; else asyncio's way, which asks the object."""
    return is_plain(sock)
