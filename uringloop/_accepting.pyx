"""The accepting of connections."""
from cpython.contextvars cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from libc.stdint cimport uint32_t
from posix.unistd cimport close

from uringloop._core cimport LoopCore
from uringloop._heads cimport family_of, proto_of, type_of
from uringloop._operations cimport MULTISHOT, Completer, operation
from uringloop._ring cimport *
from uringloop._uring cimport this_thread

import errno
import os
import socket
from asyncio import constants, trsock
from asyncio.log import logger

cdef tuple OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


cdef class Acceptor(Completer):
    """Accepts a listening socket's connections, by one multishot operation."""

    def __init__(self, LoopCore loop, sock, factory, tuple arguments, dict options, server):
        self.loop = loop
        self.sock = sock
        self.factory = factory
        self.arguments = arguments
        self.options = options
        self.server = server
        self.arrived = []
        # Connections are made in a copy of the context that began to serve, as asyncio has it.
        self.context = PyContext_CopyCurrent()
        loop.flush_soon(self)

    cdef int flush(self) except -1:
        cdef operation* op
        cdef io_uring_sqe* sqe
        if self.stopped or self.accepting is not NULL or self.loop.closing:
            return 0
        op = self.loop.operations.acquire_brief(self)
        sqe = self.loop.ring.prepare(op, IORING_OP_ACCEPT, self.sock.fileno(), 0, MULTISHOT)
        sqe.ioprio = IORING_ACCEPT_MULTISHOT
        sqe.accept_flags = SOCK_NONBLOCK | SOCK_CLOEXEC
        self.accepting = op
        return 0

    cdef int result(self, operation* op, int res, uint32_t flags) except -1:
        if not flags & IORING_CQE_F_MORE:
            self.accepting = NULL
        if self.stopped or self.loop.closing:
            if res >= 0:
                close(res)
            return 0
        if res != -ECANCELED and res != -EAGAIN and res != -ECONNABORTED:
            self.arrived.append(res)
            if not self.delivering:
                self.delivering = True
                self.loop.push(self)
        if self.accepting is NULL and not (res < 0 and -res in OUT_OF_RESOURCES):
            self.loop.flush_soon(self)
        return 0

    cdef int deliver(self) except -1:
        self.delivering = False
        if PyContext_Enter(self.context) < 0:
            return -1
        try:
            while self.arrived:
                res = self.arrived.pop(0)
                if res >= 0:
                    self.connected(res)
                elif not self.stopped:
                    self.failed(-res)
        finally:
            PyContext_Exit(self.context)
            if self.arrived and not self.delivering:
                self.delivering = True
                self.loop.push(self)
        return 0

    def connected(self, fd):
        connection = socket.socket(family_of(self.sock), type_of(self.sock) | SOCK_NONBLOCK,
                                   proto_of(self.sock), fileno=fd)
        try:
            address = connection.getpeername()
        except OSError:
            address = None       # gone already; reading will tell
        if self.loop._debug:
            logger.debug('%r got a new connection from %r: %r', self.server, address, connection)
        # A task each, as with asyncio: a factory may ask which task it is in.
        self.loop.create_task(self.loop._accept_connection2(
            self.factory, connection, {'peername': address}, *self.arguments,
            **self.options))

    def failed(self, error):
        exc = OSError(error, os.strerror(error))
        if error not in OUT_OF_RESOURCES:
            self.loop.call_exception_handler({
                'message': 'socket.accept() failed',
                'exception': exc,
                'socket': trsock.TransportSocket(self.sock),
            })
            return
        # There is nowhere to send the error, so just report it, and try again in a while.
        self.loop.call_exception_handler({
            'message': 'socket.accept() out of system resource',
            'exception': exc,
            'socket': trsock.TransportSocket(self.sock),
        })
        self.loop.call_later(constants.ACCEPT_RETRY_DELAY, self.again)

    def again(self):
        if not self.stopped and self.accepting is NULL:
            self.loop.flush_soon(self)

    def stop(self):
        """Stop accepting; when this returns the kernel has let go of the socket."""
        self.stopped = True
        for res in self.arrived:
            if res >= 0:
                close(res)
        self.arrived = []
        if self.accepting is not NULL and self.loop.ring is not None \
                and self.loop.ring.is_usable() \
                and self.loop.ring.thread == this_thread():
            self.loop.ring.cancel(self.accepting)
            self.loop.ring.poll()
