"""What ``get_extra_info`` tells of a transport's socket."""
from uringloop._cpython cimport fd_of
from uringloop.ring.abi cimport (
    AF_INET, AF_INET6, AF_UNIX, sockaddr, sockaddr_storage, socklen_t)
from uringloop.ring.addresses cimport AddressCache

import weakref
from asyncio import trsock


cdef extern from "<sys/socket.h>" nogil:
    int getsockname(int, sockaddr*, socklen_t*)
    int getpeername(int, sockaddr*, socklen_t*)


cdef object name_of(AddressCache addresses, object sock, int family, bint peer):
    """``sock.getsockname()`` or ``getpeername()``; None if there is none."""
    cdef sockaddr_storage name
    cdef socklen_t length = sizeof(name)
    cdef int code
    if family != AF_INET and family != AF_INET6 and family != AF_UNIX:
        try:
            return sock.getpeername() if peer else sock.getsockname()
        except OSError:
            return None
    if peer:
        code = getpeername(fd_of(sock), <sockaddr*>&name, &length)
    else:
        code = getsockname(fd_of(sock), <sockaddr*>&name, &length)
    return None if code < 0 else addresses.to_python(&name, length)


class TransportSocket(trsock.TransportSocket):
    """What ``get_extra_info('socket')`` gives: what is deferred leaves before it changes.

    So the options of a datagram are those of the moment at which it was sent.
    """

    __slots__ = ('_own', '_transport')

    def __init__(self, sock, transport):
        self._own = sock
        self._transport = weakref.ref(transport)

    def _send_deferred(self):
        transport = self._transport()
        if transport is not None:
            transport._before_socket_changes()
        return transport

    @property
    def _sock(self):
        """What asyncio's methods ask that are not among these: ``dup``, in Python 3.10 ``sendto``.

        And programs.  They have a socket of their own from then on, and may send by it.
        """
        transport = self._send_deferred()
        if transport is not None:
            transport._given()
            transport._descriptor_given()
        return self._own

    def fileno(self):
        transport = self._send_deferred()
        if transport is not None:
            transport._descriptor_given()
        return self._own.fileno()

    def setsockopt(self, *args):
        transport = self._send_deferred()
        self._own.setsockopt(*args)
        if transport is not None:
            transport._socket_has_changed()

    def shutdown(self, how):
        self._send_deferred()
        self._own.shutdown(how)

    def getsockopt(self, *args):
        transport = self._transport()
        if transport is not None:
            transport._before_socket_is_asked()
        return self._own.getsockopt(*args)

    # -- what only asks ------------------------------------------------------------------------

    def __repr__(self):
        return repr(trsock.TransportSocket(self._own))

    @property
    def family(self):
        return self._own.family

    @property
    def type(self):
        return self._own.type

    @property
    def proto(self):
        return self._own.proto

    def get_inheritable(self):
        return self._own.get_inheritable()

    def getpeername(self):
        return self._own.getpeername()

    def getsockname(self):
        return self._own.getsockname()

    def getsockbyname(self):
        return self._own.getsockbyname()
