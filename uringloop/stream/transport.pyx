"""Stream transports.

    protocol -> write -> system call -> kernel
    protocol -> write -> chunks, of a bulk or if the socket is full -> one send for all -> kernel
    protocol <- deliver <- inbox <- settled completions of one multishot receive <- kernel

How it comes is in ``_stream_receiving``.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_INCREF
from libc.stdint cimport uint32_t, uintptr_t
from libc.stdlib cimport free, realloc
from libc.string cimport memmove, memset

from uringloop.ring.buffers cimport copy_payload, export_payload, payload
from uringloop.core.loop_core cimport LoopCore
from uringloop._cpython cimport family_of, fd_of, proto_of, type_of
from uringloop.ring.operations cimport MEMORY, SEND, ZEROCOPY, operation
from uringloop.ring.zerocopy cimport (
    REPORTS_USAGE, SEND_ZC_FLAGS, STREAM_MINIMUM, stream_zerocopy_pays)
from uringloop.ring.abi cimport *
from uringloop.stream.receiver cimport StreamReceiver
from uringloop.transport.socket_transport cimport SocketTransport

import errno
import inspect
import os
import socket
from asyncio import base_events, constants, selector_events
from asyncio.log import logger


cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<sys/socket.h>" nogil:
    enum:
        MSG_PEEK
    ssize_t recv(int, void*, size_t, int)
    ssize_t send(int, const void*, size_t, int)
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

    def __init__(self, LoopCore loop, sock, protocol, waiter=None, extra=None, server=None,
                 context=None):
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
        self.set_up(loop, sock, protocol, waiter, extra, context)

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
    def _read_ready_cb(self):
        # What it is nobody asks; but tests ask whether it still is.
        return None if self._closing else self.resume_reading

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
        if self.has_failed():
            self.write_on_failed()
            return
        if type(data) is memoryview and not data.c_contiguous:
            self._fatal_error(BufferError('memoryview: underlying buffer is not C-contiguous'),
                              'Fatal write error on socket transport')
            return
        if self.loop.deferring is not None:
            self.loop.deferring.send_deferred()
        # Pieces that only wait for the end of the turn, to leave with others, are no reason
        # to pause: the socket may have room for them.
        if not self.is_to_wait() and not self.waits():
            self.send_queued()
            if not self.count and not self.waits():
                self.send_now(data)
                return
        self.enqueue(data)
        self.have_sent()

    cdef bint is_to_wait(self) noexcept:
        """Count a write: whether it is to wait for the turn's others, of this or other transports.

        Where several wrote in the turn before, theirs leave by one submission.
        """
        if self.sent_turn != self.loop.turns:
            self.loop.writers += 1
        return self.is_bulk() or self.loop.many_writers and self.batching and self.loop.runs_here()

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
        if self.has_failed():
            self.write_on_failed()
            return
        if self.loop.deferring is not None:
            self.loop.deferring.send_deferred()
        for data in list_of_data:
            if type(data) is memoryview and not data.c_contiguous:
                # Before any of it is sent.
                raise BufferError('memoryview: underlying buffer is not C-contiguous')
        for data in list_of_data:
            if len(data):
                self.enqueue(data)
        if not self.is_to_wait() and not self.waits():
            self.send_queued()
        self.have_sent()

    cdef int have_sent(self) except -1:
        """What is queued leaves by the end of the turn; or now, if it is much."""
        if self.buffered > self.high_water:
            self.send_queued()
            self.maybe_pause()
        if self.count:
            self.flush_later()
        return 0

    cdef int send_now(self, object data) except -1:
        """Send by a plain system call, as asyncio does; what is not taken is queued."""
        cdef payload memory
        cdef ssize_t sent
        cdef int error
        held = export_payload(data, &memory)       # a socket's ``fileno`` may be the program's
        if memory.immutable and memory.length >= STREAM_MINIMUM or self.asks_socket:
            self.enqueue(data)
            self.send_queued()
            return self.have_sent()
        if fd_of(self._sock) != self._sock_fd:
            return self.socket_closed()
        sent = send(self._sock_fd, memory.base, memory.length, MSG_DONTWAIT | MSG_NOSIGNAL)
        error = errno_now
        del held                 # which may change it
        if sent == <ssize_t>memory.length:
            return 0
        if sent < 0:
            if error != EAGAIN and error != EINTR:
                return self.write_failed(error)
            sent = 0
        self.full = True
        self.enqueue(data)
        self.accepted(sent)
        return self.have_sent()

    cdef int enqueue(self, object data) except -1:
        cdef payload memory
        cdef chunk* bigger
        cdef size_t end
        owner = copy_payload(data, &memory)
        if memory.length == 0:
            return 0             # whatever its len() says: there is nothing to send
        if self.first and self.first >= self.count:
            memmove(self.chunks, self.chunks + self.first, self.count * sizeof(chunk))
            self.first = 0
        end = self.first + self.count
        if end == self.room_for:
            bigger = <chunk*>realloc(self.chunks, (2 * end + 1) * sizeof(chunk))
            if bigger is NULL:
                raise MemoryError
            self.chunks = bigger
            self.room_for = 2 * end + 1
        Py_INCREF(owner)
        self.chunks[end].owner = <PyObject*>owner
        self.chunks[end].base = memory.base
        self.chunks[end].length = memory.length
        self.count += 1
        self.buffered += memory.length
        return 0

    def can_write_eof(self):
        """Whether ``write_eof()`` may be called."""
        return True

    def write_eof(self):
        """Close the sending half once everything is sent."""
        if self._closing or self.wrote_eof or self.has_failed():
            return
        if self.loop.deferring is not None:
            self.loop.deferring.send_deferred()
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
        while self.count:
            self.count -= 1
            self.buffered -= self.chunks[self.first].length
            Py_CLEAR(self.chunks[self.first].owner)
            self.first += 1
        return 0

    cdef int flush(self) except -1:
        self.flush_due = False
        if self._sock is None or self.loop.closing:
            return 0
        if not self.asks_socket and self._sock.fileno() != self._sock_fd:
            self.socket_closed()
        else:
            if self.loop.many_writers and self.count == 1 and not self.waits() \
                    and not self.asks_socket and self.may_use_ring() \
                    and self.chunks[self.first].length < STREAM_MINIMUM:
                self.submit_send(False)
            else:
                self.send_queued()
            if self.full and not self._conn_lost:
                self.poll_room()
        return self.arm_or_cancel()

    cdef int socket_closed(self) except -1:
        """The program has closed the socket: the number may be another's."""
        self._fatal_error(OSError(errno.EBADF, os.strerror(errno.EBADF)),
                          'Fatal error on transport')
        return 0

    cdef int send_queued(self) except -1:
        if self.sending or not self.count or self._sock is None or self.loop.closing \
                or not self.asks_socket and self._sock.fileno() != self._sock_fd:
            return 0
        self.sending = True
        try:
            while self.count and not self.waits():
                if self.asks_socket:
                    self.send_by_socket()
                elif self.wants_zerocopy():
                    self.send_zerocopy()
                else:
                    self.send_pieces()
        finally:
            self.sending = False
        if self._conn_lost:
            return 0             # it has failed
        if self.count == 0:
            return self.written()
        if self.full and self.room is NULL and not self.retry_later:
            self.flush_later()
        return self.maybe_resume()

    cdef int write_failed(self, int error) except -1:
        """As asyncio, at once; but what has come is handed over first, for it may be the reason."""
        cdef char byte
        if self.inbox_count or self.loop.runs_here() and self.loop.ring.has_unsettled() \
                or recv(self._sock_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0:
            return self.post_error(error, os.strerror(error))
        return self.deliver_error(OSError(error, os.strerror(error)))

    cdef bint has_failed(self) noexcept:
        return self.errors is not None

    cdef bint waits(self) noexcept:
        return self.full or self.results_due != 0 or self.has_failed()

    cdef int write_on_failed(self) except -1:
        # asyncio counts such writes in ``_conn_lost``.
        self.lost_writes += 1
        if self.lost_writes >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
            logger.warning('socket.send() raised exception.')
        return 0

    cdef int send_by_socket(self) except -1:
        """The socket is an object of the program's own."""
        cdef size_t length = self.chunks[self.first].length
        try:
            sent = self._sock.send(PyBytes_FromStringAndSize(
                self.chunks[self.first].base, length))
            # Whatever it says: no more than there is.  (It may have closed us, too.)
            if self.count:
                self.accepted(max(0, min(sent, length)))
                self.full = sent < length
        except (BlockingIOError, InterruptedError):
            self.full = True
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fatal_error(exc, 'Fatal write error on socket transport')
        return 0

    cdef int send_pieces(self) except -1:
        """Send what there is room for by a plain system call."""
        cdef iovec vectors[GATHER_LIMIT]
        cdef msghdr message
        cdef size_t i, total = 0, pieces = min(self.count, <size_t>GATHER_LIMIT)
        cdef ssize_t sent
        for i in range(pieces):
            vectors[i].iov_base = self.chunks[self.first + i].base
            vectors[i].iov_len = self.chunks[self.first + i].length
            total += vectors[i].iov_len
        memset(&message, 0, sizeof(message))
        message.msg_iov = vectors
        message.msg_iovlen = pieces
        sent = sendmsg(self._sock_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent < 0 and errno_now != EAGAIN and errno_now != EINTR:
            return self.write_failed(errno_now)
        self.full = sent < <ssize_t>total
        return self.accepted(max(sent, 0))

    cdef int send_zerocopy(self) except -1:
        """Send the first piece by the ring; the result is in when this returns."""
        self.submit_send(True)
        return self.loop.ring.submit_sends(self, 1)

    cdef int submit_send(self, bint zerocopy) except -1:
        cdef operation* op = self.loop.operations.acquire(self)
        cdef chunk* first = &self.chunks[self.first]
        cdef io_uring_sqe* sqe
        Py_INCREF(<object>first.owner)
        op.data = first.owner
        op.base = first.base
        op.length = first.length
        sqe = self.loop.ring.prepare(
            op, IORING_OP_SEND_ZC if zerocopy else IORING_OP_SEND, self._sock_fd, 0,
            MEMORY | SEND | ZEROCOPY if zerocopy else MEMORY | SEND)
        sqe.addr = <uintptr_t>op.base
        sqe.len = <uint32_t>min(op.length, <size_t>0x7ffff000)
        if zerocopy:
            sqe.ioprio = SEND_ZC_FLAGS
        sqe.msg_flags = MSG_NOSIGNAL | MSG_DONTWAIT
        self.loop.ring.sends_prepared = not zerocopy
        self.results_due = 1
        return 0

    cdef bint wants_zerocopy(self) except -1:
        cdef chunk* first = &self.chunks[self.first]
        cdef sockaddr_storage peer
        cdef uint32_t length
        if first.length < STREAM_MINIMUM or self.family not in (AF_INET, AF_INET6) \
                or not self.peername or not self.may_use_ring():
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
        if sent:
            self.retry_delay = 0
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
        if op is self.room:
            return self.room_ended(res)
        self.results_due = 0
        if self._conn_lost:
            return self.maybe_finish()
        if res > 0:
            self.loop.counters.zerocopy_sent += op.traits & ZEROCOPY != 0
            self.full = <size_t>res < op.length
            self.accepted(res)
        elif op.traits & ZEROCOPY and -res in (ENOMEM, ENOBUFS, EOPNOTSUPP):
            op.status = res
            self.loop.counters.zerocopy_sent += 1
            self.loop.counters.zerocopy_fell_back += 1
            self.refuse_zerocopy(op)
        elif res == -EAGAIN:
            op.status = res
            self.full = True
        elif res < 0 and res != -ECANCELED:
            op.status = res
            return self.post_error(-res, os.strerror(-res))
        if self.sending:
            return 0               # send_queued() goes on
        return self.flush_quietly() if self.count else self.written()

    cdef int notified(self, operation* op) except -1:
        self.loop.counters.buffers_released += 1
        if op.copied and op.status >= 0 and REPORTS_USAGE:
            self.loop.counters.zerocopy_copied += 1
            self.refuse_zerocopy(op)
        return 0

    cdef refuse_zerocopy(self, operation* op):
        cdef sockaddr_storage peer
        cdef uint32_t length
        self.loop.addresses.to_kernel(self.peername, self.family, &peer, &length)
        peer.__ss_padding[0] = peer.__ss_padding[1] = 0
        self.loop.paths.record(&peer, length, STREAM_MINIMUM, True)

    # -- the end -------------------------------------------------------------------------------

    def _call_connection_lost(self, exc):
        try:
            SocketTransport._call_connection_lost(self, exc)
        finally:
            if self._sock is None:           # else it is to come
                self.has_ended()

    cdef int has_ended(self) except -1:
        if self._empty_waiter is not None and not self._empty_waiter.done():
            self._empty_waiter.set_exception(
                ConnectionError('Connection is closed by peer'))
        server, self.server = self.server, None
        if server is not None:
            if SERVER_KNOWS:
                server._detach(self)
            else:
                server._detach()
        return 0
