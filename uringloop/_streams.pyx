"""Stream transports.

    protocol -> write -> chunks -> one send for all that a turn has written -> kernel
    protocol <- deliver <- inbox <- settled completions of one multishot receive <- kernel

How it comes is in ``_stream_receiving``.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_INCREF
from libc.stdint cimport uint32_t, uintptr_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memmove, memset

from uringloop._buffers cimport copy_payload, payload
from uringloop._core cimport LoopCore
from uringloop._heads cimport family_of, fd_of, proto_of, type_of
from uringloop._operations cimport MEMORY, ZEROCOPY, operation
from uringloop._policy cimport REPORTS_USAGE, SEND_ZC_FLAGS, STREAM_MINIMUM, stream_zerocopy_pays
from uringloop._receiving cimport ROOM
from uringloop._ring cimport *
from uringloop._stream_receiving cimport StreamReceiver
from uringloop._transports cimport SocketTransport

import errno
import inspect
import os
import socket
from asyncio import base_events, constants, selector_events


cdef extern from "<poll.h>":
    enum:
        POLLOUT

cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<sys/socket.h>" nogil:
    ssize_t sendmsg(int, const msghdr*, int)
    int setsockopt(int, int, int, const void*, socklen_t)

cdef extern from "<netinet/in.h>":
    enum:
        IPPROTO_TCP

cdef extern from "<netinet/tcp.h>":
    enum:
        TCP_NODELAY

cdef enum:
    GATHER_LIMIT = 64         # pieces of one send

# Python 3.13's servers want to know their transports; older ones only count them.
cdef bint SERVER_KNOWS = 'transport' in inspect.signature(base_events.Server._attach).parameters

cdef object SystemSocket = socket.SocketType


cdef class StreamTransport(StreamReceiver):
    """asyncio's socket transport on the ring: TCP and AF_UNIX."""

    # What asyncio's own code asks transports for.
    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE

    def __init__(self, LoopCore loop, sock, protocol, waiter=None, extra=None, server=None):
        cdef int one = 1
        self.server = server
        if server is not None:
            if SERVER_KNOWS:
                server._attach(self)
            else:
                server._attach()
        # Small writes go out at once, as asyncio has it.
        if not issubclass(type(sock), SystemSocket):
            base_events._set_nodelay(sock)
        elif family_of(sock) != AF_UNIX and type_of(sock) == SOCK_STREAM \
                and proto_of(sock) == IPPROTO_TCP \
                and setsockopt(fd_of(sock), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0:
            raise OSError(errno_now, os.strerror(errno_now))
        self.set_up(loop, sock, protocol, waiter, extra)

    def __dealloc__(self):
        cdef size_t i
        for i in range(self.first, self.first + self.count):
            Py_CLEAR(self.chunks[i].owner)
        free(self.chunks)

    def __del__(self):
        unclosed = self._sock is not None
        SocketTransport.__del__(self)
        if unclosed and self.server is not None and SERVER_KNOWS:
            # As asyncio's, from 3.13 on.
            self.server._detach(self)

    @property
    def __class__(self):
        # asyncio's class cannot be a base: its slots conflict in layout.
        return selector_events._SelectorSocketTransport

    # Names that asyncio's has, to be read and assigned.

    max_size = 256 * 1024

    @property
    def _server(self):
        return self.server

    @_server.setter
    def _server(self, server):
        self.server = server

    @property
    def _eof(self):
        return self.wrote_eof

    @_eof.setter
    def _eof(self, eof):
        self.wrote_eof = eof

    # -- writing -------------------------------------------------------------------------------

    def write(self, data):
        """Send ``data``; never waits.

        Exact ``bytes`` and views of exact ``bytes`` are not copied; anything else is
        before this returns.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f'data argument must be a bytes-like object, '
                            f'not {type(data).__name__!r}')
        if self.wrote_eof:
            raise RuntimeError('Cannot call write() after write_eof()')
        if self._empty_waiter is not None:
            raise RuntimeError('unable to write; sendfile is in progress')
        if not data:
            return
        if self._conn_lost:
            self._write_on_lost()
            return
        self.enqueue(data)
        if self.buffered > self.high_water:
            self.relieve()

    def writelines(self, list_of_data):
        """Send all of ``list_of_data``, without joining it."""
        if self.wrote_eof:
            raise RuntimeError('Cannot call writelines() after write_eof()')
        if self._empty_waiter is not None:
            raise RuntimeError('unable to writelines; sendfile is in progress')
        list_of_data = [data if isinstance(data, (bytes, bytearray)) else memoryview(data)
                        for data in list_of_data]
        if self._conn_lost:
            self._write_on_lost()
            return
        for data in list_of_data:
            if data:
                self.enqueue(data)
        if self.buffered > self.high_water:
            self.relieve()

    cdef int enqueue(self, object data) except -1:
        cdef payload memory
        cdef chunk* bigger
        cdef size_t end
        owner = copy_payload(data, &memory)
        if self.first and self.first >= self.count:
            memmove(self.chunks, self.chunks + self.first, self.count * sizeof(chunk))
            self.first = 0
        end = self.first + self.count
        if end == self.room:
            bigger = <chunk*>realloc(self.chunks, (2 * end + 1) * sizeof(chunk))
            if bigger is NULL:
                raise MemoryError
            self.chunks = bigger
            self.room = 2 * end + 1
        Py_INCREF(owner)
        self.chunks[end].owner = <PyObject*>owner
        self.chunks[end].base = memory.base
        self.chunks[end].length = memory.length
        self.count += 1
        self.buffered += memory.length
        if self.sending is NULL:
            self.flush_later()
        return 0

    cdef int relieve(self) except -1:
        """Too much to keep until the end of the turn: the socket may take it now."""
        if self.sending is NULL and not self.loop.closing:
            self.flush_now()
        return self.maybe_pause()

    def can_write_eof(self):
        """Whether ``write_eof()`` may be called."""
        return True

    def write_eof(self):
        """Close the sending half once everything is sent."""
        if self._closing or self.wrote_eof:
            return
        self.wrote_eof = True
        if not self.count:
            self.shut = True
            self._sock.shutdown(socket.SHUT_WR)

    def _make_empty_waiter(self):
        if self._empty_waiter is not None:
            raise RuntimeError('Empty waiter is already set')
        self._empty_waiter = self.loop.new_future()
        if not self.count:
            self._empty_waiter.set_result(None)
        return self._empty_waiter

    def _reset_empty_waiter(self):
        self._empty_waiter = None

    cdef bint has_queue(self) noexcept:
        return self.count != 0

    cdef int drop_queue(self) except -1:
        # What is in flight belongs to its operation too.
        while self.count:
            self.count -= 1
            self.buffered -= self.chunks[self.first].length
            Py_CLEAR(self.chunks[self.first].owner)
            self.first += 1
        self.flying = 0
        return 0

    cdef int flush(self) except -1:
        self.flush_due = False
        if self._sock is None or self.loop.closing:
            return 0
        if not self.asks_socket and self._sock.fileno() != self._sock_fd:
            # The program has closed the socket under us: the number may be another's.
            self._fatal_error(OSError(errno.EBADF, os.strerror(errno.EBADF)),
                              'Fatal error on transport')
        elif self.aborted:
            self.cancel_sends()
        elif self.count and self.sending is NULL:
            self.send()
        return self.arm_or_cancel()

    cdef int cancel_sends(self) except -1:
        if self.sending is not NULL:
            self.loop.ring.cancel(self.sending)
        return 0

    cdef int send(self) except -1:
        if self.asks_socket:
            return self.send_by_socket()
        if self.loop.lone_flush and self.buffered < STREAM_MINIMUM:
            return self.send_alone()
        return self.submit_send(GATHER_LIMIT)

    cdef int send_alone(self) except -1:
        """Nothing else leaves this turn: send at once.

        Through the ring the send's own completion would end the wait that
        follows, and the loop would enter the kernel once more to sleep.
        """
        cdef ssize_t sent = self.send_plainly()
        if sent < 0 and sent != -EAGAIN and sent != -EINTR:
            self._fatal_error(OSError(-sent, os.strerror(-sent)),
                              'Fatal write error on socket transport')
            return 0
        if self.count:
            return self.submit_send(GATHER_LIMIT)
        return self.written()

    cdef int send_by_socket(self) except -1:
        """The socket is an object of the program's own."""
        cdef operation* op
        try:
            while self.count and self.sending is NULL:
                self.accepted(self._sock.send(PyBytes_FromStringAndSize(
                    self.chunks[self.first].base, self.chunks[self.first].length)))
        except (BlockingIOError, InterruptedError):
            op = self.loop.operations.acquire_brief(self)
            op.status = ROOM
            self.loop.ring.prepare(op, IORING_OP_POLL_ADD, self._sock_fd, 0, 0).poll32_events = \
                POLLOUT
            self.sending = op
            self.in_chain = 1
            return 0
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fatal_error(exc, 'Fatal write error on socket transport')
            return 0
        return 0 if self.count else self.written()

    cdef int send_at_last(self) except -1:
        if self.asks_socket:
            return 0
        while self.count and self.sending is NULL and not self.loop.closing \
                and self._sock.fileno() == self._sock_fd and self.send_plainly() > 0:
            pass
        return 0

    cdef ssize_t send_plainly(self) noexcept:
        """Send what there is room for by a plain system call: how much, or ``-errno``."""
        cdef iovec vectors[GATHER_LIMIT]
        cdef msghdr message
        cdef size_t i, pieces = min(self.count, <size_t>GATHER_LIMIT)
        cdef ssize_t sent
        for i in range(pieces):
            vectors[i].iov_base = self.chunks[self.first + i].base
            vectors[i].iov_len = self.chunks[self.first + i].length
        memset(&message, 0, sizeof(message))
        message.msg_iov = vectors
        message.msg_iovlen = pieces
        sent = sendmsg(self._sock_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent < 0:
            return -errno_now
        self.accepted(sent)
        return sent

    cdef int submit_send(self, size_t limit) except -1:
        """One send for what is queued."""
        cdef operation* op = self.loop.operations.acquire(self)
        cdef chunk* chunks = self.chunks + self.first
        cdef io_uring_sqe* sqe
        cdef size_t i, pieces = min(self.count, limit)
        cdef bint zerocopy = self.wants_zerocopy()
        if zerocopy:
            pieces = 1
        owners = <object>chunks[0].owner if pieces == 1 \
            else tuple([<object>chunks[i].owner for i in range(pieces)])
        Py_INCREF(owners)
        op.data = <PyObject*>owners
        op.base = chunks[0].base
        op.length = chunks[0].length
        if pieces == 1:
            sqe = self.loop.ring.prepare(
                op, IORING_OP_SEND_ZC if zerocopy else IORING_OP_SEND, self._sock_fd, 0,
                MEMORY | ZEROCOPY if zerocopy else MEMORY)
            sqe.addr = <uintptr_t>op.base
            sqe.len = <uint32_t>min(op.length, <size_t>0x7ffff000)
            if zerocopy:
                sqe.ioprio = SEND_ZC_FLAGS
                self.loop.zerocopy_sent += 1
        else:
            op.vectors = <iovec*>malloc(pieces * sizeof(iovec))
            if op.vectors is NULL:
                self.loop.operations.release(op)
                raise MemoryError
            for i in range(pieces):
                op.vectors[i].iov_base = chunks[i].base
                op.vectors[i].iov_len = chunks[i].length
            memset(&op.message, 0, sizeof(op.message))
            op.message.msg_iov = op.vectors
            op.message.msg_iovlen = pieces
            sqe = self.loop.ring.prepare(op, IORING_OP_SENDMSG, self._sock_fd, 0, MEMORY)
            sqe.addr = <uintptr_t>&op.message
            sqe.len = 1
        sqe.msg_flags = MSG_NOSIGNAL
        self.sending = op
        self.flying = pieces
        self.in_chain = 1
        return 0

    cdef bint wants_zerocopy(self) except -1:
        cdef chunk* first = &self.chunks[self.first]
        cdef sockaddr_storage peer
        cdef uint32_t length
        if first.length < STREAM_MINIMUM or self.family not in (AF_INET, AF_INET6) \
                or not self.peername:
            return False
        # Pages lent count in full against the receiver's buffer on this machine: a small
        # one then advertises less than a segment, and each goes by the persist timer (seen:
        # 200 ms for 2 KiB).  Buffers made small on purpose are copied into.
        if self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < <Py_ssize_t>first.length:
            return False
        self.loop.addresses.to_kernel(self.peername, self.family, &peer, &length)
        peer.__ss_padding[0] = peer.__ss_padding[1] = 0     # any port of that host
        return stream_zerocopy_pays(
            &peer, length, first.length, self.loop.paths, self.loop.operations.pinned)

    cdef int accepted(self, size_t sent) noexcept:
        """Strike off what the socket has taken."""
        cdef chunk* first
        self.buffered -= sent
        while sent:
            first = &self.chunks[self.first]
            if sent < first.length:
                first.base += sent
                first.length -= sent
                return 0
            sent -= first.length
            Py_CLEAR(first.owner)
            self.first += 1
            self.count -= 1
        return 0

    cdef int written(self) except -1:
        """Everything queued is sent."""
        self.first = 0
        if self._empty_waiter is not None and not self._empty_waiter.done():
            self._empty_waiter.set_result(None)
        # The protocol may write more when it is told to resume: so first that.
        self.maybe_resume()
        if self._closing:
            self.all_sent()
        elif self.wrote_eof and not self.shut:
            self.shut = True
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError as exc:
                self.post_error(exc.errno, exc.strerror)
        return 0

    cdef int result(self, operation* op, int res, uint32_t flags) except -1:
        if op is self.receiving:
            return self.received(op, res, flags)
        self.sending = NULL
        self.in_chain = 0
        self.flying = 0
        if self.aborted:
            return self.maybe_finish()
        if op.status == ROOM:
            return self.flush_quietly()
        if res > 0:
            self.accepted(res)
        elif op.traits & ZEROCOPY and -res in (ENOMEM, ENOBUFS, EOPNOTSUPP):
            op.status = res
            self.loop.zerocopy_fell_back += 1
            self.refuse_zerocopy(op)
        elif res < 0 and res != -ECANCELED and res != -EAGAIN:
            op.status = res
            return self.post_error(-res, os.strerror(-res))
        if self.count:
            self.maybe_resume()
            return self.flush_quietly()
        return self.written()

    cdef int notified(self, operation* op) except -1:
        self.loop.buffers_released += 1
        if op.copied and op.status >= 0 and REPORTS_USAGE:
            self.loop.zerocopy_copied += 1
            self.refuse_zerocopy(op)
        return 0

    cdef refuse_zerocopy(self, operation* op):
        cdef sockaddr_storage peer
        cdef uint32_t length
        self.loop.addresses.to_kernel(self.peername, self.family, &peer, &length)
        peer.__ss_padding[0] = peer.__ss_padding[1] = 0
        self.loop.paths.learn(&peer, length, STREAM_MINIMUM, True)

    # -- the end -------------------------------------------------------------------------------

    def _call_connection_lost(self, exc):
        try:
            SocketTransport._call_connection_lost(self, exc)
        finally:
            if self._empty_waiter is not None and not self._empty_waiter.done():
                self._empty_waiter.set_exception(
                    ConnectionError('Connection is closed by peer'))
            server, self.server = self.server, None
            if server is not None:
                if SERVER_KNOWS:
                    server._detach(self)
                else:
                    server._detach()
