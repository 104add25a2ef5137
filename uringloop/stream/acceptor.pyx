"""The accepting of connections."""
from cpython.contextvars cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from libc.stdint cimport uint32_t

from uringloop._cpython cimport family_of, fd_of, proto_of, type_of
from uringloop.core.loop_core cimport LoopCore
from uringloop.ring.abi cimport *
from uringloop.ring.operations cimport operation
from uringloop.ring.process cimport this_thread
from uringloop.ring.watched cimport WatchedSocket

import errno
import os
import socket
from asyncio import constants, trsock
from asyncio.log import logger

from uringloop._cpython import PLAIN_SOCKET

cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<sys/socket.h>" nogil:
    int accept4(int, sockaddr*, socklen_t*, int)

cdef extern from "<poll.h>":
    enum:
        POLLIN

cdef object SystemSocket = socket.SocketType
cdef tuple OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


cdef class Acceptor(WatchedSocket):
    """Accepts a listening socket's connections, whenever a poll finds some.

    A multishot accept would save system calls.  But it waits to be woken alone, and
    takes a connection only when its thread next enters the kernel (6.18): among
    processes that share a listening socket one that computes would keep its connection
    waiting while others are idle, and one that hangs would keep it for good.
    """

    def __init__(self, LoopCore loop, sock, factory, backlog, tuple arguments, dict options,
                 server, context=None):
        self.loop = loop
        self.sock = sock
        self.factory = factory
        self.limit = backlog + 1
        self.arguments = arguments
        self.options = options
        self.server = server
        # From Python 3.15 on each connection has a copy of its server's context; before, it is
        # made in a copy of the one that began to serve.
        self.original = context
        self.context = PyContext_CopyCurrent()
        self.fd = sock.fileno()
        self.watch(loop.watched_sockets)
        loop.flush_soon(self)

    cdef int flush(self) except -1:
        cdef operation* op
        cdef io_uring_sqe* sqe
        cdef int fd = self.sock.fileno()
        if self.stopped or self.polling is not NULL or self.loop.closing or fd != self.fd:
            return 0
        op = self.loop.operations.acquire_compact(self)
        sqe = self.loop.ring.prepare(op, IORING_OP_POLL_ADD, fd, 0, 0)
        sqe.poll32_events = POLLIN
        self.polling = op
        return 0

    cdef int result(self, operation* op, int res, uint32_t flags) except -1:
        self.polling = NULL
        if self.stopped or self.loop.closing:
            return 0
        if res == -ECANCELED:
            return self.loop.flush_soon(self)
        self.loop.push(self)
        return 0

    cdef int socket_closed(self) except -1:
        self.stopped = True
        if self.polling is not NULL:
            self.loop.ring.cancel(self.polling)
        return 0

    cdef int deliver(self) except -1:
        cdef Py_ssize_t left = self.limit
        PyContext_Enter(self.context)
        try:
            while left and not self.stopped and self.accept():
                left -= 1
        finally:
            PyContext_Exit(self.context)
            if not self.paused:
                self.loop.flush_soon(self)
        return 0

    cdef bint accept(self) except -1:
        """Whether there may be another connection."""
        cdef sockaddr_storage name
        cdef socklen_t length = sizeof(name)
        cdef int listening = self.sock.fileno()
        cdef int fd
        # Who shares the socket (a dup, another process) may have made it blocking.  Then this
        # waits for the next connection, and other threads go on meanwhile, as with asyncio.
        with nogil:
            fd = accept4(listening, <sockaddr*>&name, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd >= 0:
            known = name.ss_family in (AF_INET, AF_INET6, AF_UNIX)
            self.connected(
                fd, self.loop.addresses.to_python(&name, length) if known else None)
            return True
        if errno_now != EAGAIN and errno_now != EINTR and errno_now != ECONNABORTED:
            self.failed(errno_now)
        return False

    def connected(self, fd, address):
        connection = self.socket_of(fd)
        if address is None:
            try:
                address = connection.getpeername()
            except OSError:
                pass         # gone already; reading will tell
        if self.loop._debug:
            logger.debug('%r got a new connection from %r: %r', self.server, address, connection)
        own = {} if self.original is None else {'context': self.original.copy()}
        # A task each, as with asyncio: a factory may ask which task it is in.
        accepting = self.loop._accept_connection2(
            self.factory, connection, {'peername': address}, *self.arguments, **self.options,
            **own)
        try:
            self.loop.create_task(accepting, **own)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            accepting.close()
            connection.close()
            self.loop.call_exception_handler({
                'message': f'Exception in callback {self.server!r}: a connection is not accepted',
                'exception': exc,
                'socket': trsock.TransportSocket(self.sock),
            })

    cdef object socket_of(self, int fd):
        """The connection's socket, whose ``fd`` is from now on; or nobody's, after an exception."""
        if socket.socket is not PLAIN_SOCKET:
            # One of the program's in its place.  If it raises, it may have the number, or not.
            connection = socket.socket(
                family_of(self.sock), type_of(self.sock), proto_of(self.sock), fileno=fd)
            connection.setblocking(False)
            return connection
        connection = PLAIN_SOCKET.__new__(PLAIN_SOCKET)
        try:
            # So marked it need not be asked whether it blocks.
            connection.__init__(family_of(self.sock), type_of(self.sock) | SOCK_NONBLOCK,
                                proto_of(self.sock), fileno=fd)
        except BaseException:
            if fd_of(connection) != fd:
                os.close(fd)
            else:
                SystemSocket.close(connection)   # an interrupt, behind that
            raise
        return connection

    def failed(self, error):
        exc = OSError(error, os.strerror(error))
        if error not in OUT_OF_RESOURCES:
            self.report(exc, 'socket.accept() failed')
            return
        self.pause_accepting(exc)

    def report(self, exc, message):
        self.loop.call_exception_handler({
            'message': message,
            'exception': exc,
            'socket': trsock.TransportSocket(self.sock),
        })

    def pause_accepting(self, exc):
        """There is nowhere to send the error, so just report it, and try again in a while."""
        # The timer first: if there is no memory for it, ``internal_error`` tries again.
        self.loop.call_later(constants.ACCEPT_RETRY_DELAY, self.resume_accepting)
        self.paused = True
        self.report(exc, 'socket.accept() out of system resource')

    cdef int internal_error(self, object exc) except -1:
        # Not now: completions may be being settled.
        try:
            self.loop.call_soon(self.pause_after_error, exc)
        except MemoryError:
            self.loop.flush_soon(self)       # at once, then: a server never stops for good
        return 0

    def pause_after_error(self, exc):
        try:
            self.pause_accepting(exc)
        finally:
            if not self.paused:
                self.loop.flush_soon(self)

    def resume_accepting(self):
        self.paused = False
        self.loop.flush_soon(self)

    def stop(self):
        """Stop accepting; when this returns the kernel has let go of the socket."""
        self.stopped = True
        self.unwatch()
        if self.polling is not NULL and self.loop.ring is not None \
                and self.loop.ring.is_open_here() \
                and self.loop.ring.thread == this_thread():
            self.loop.ring.cancel(self.polling)
            self.loop.ring.submit_and_get_events()
