"""How a stream's bytes leave.

    write -> system call -> kernel
    write -> queue, in a bulk or if the socket is full -> one send for all -> kernel
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_CLEAR, Py_INCREF
from libc.stdint cimport uint32_t, uintptr_t
from libc.stdlib cimport free, realloc
from libc.string cimport memmove, memset

from uringloop.ring.abi cimport *
from uringloop.ring.features cimport features
from uringloop.ring.payloads cimport copy_payload, find_payload, payload
from uringloop.ring.operations cimport MEMORY, SEND, ZEROCOPY, operation
from uringloop.ring.zerocopy cimport (
    STREAM_MINIMUM, send_zc_flags, stream_zerocopy_pays)
from uringloop.stream.transport cimport StreamTransport
from uringloop.transport.sender cimport FULL, ROOM, Sender
from uringloop.transport.socket_transport cimport CLOSING, LOST

import os
import socket


cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<netinet/in.h>":
    enum:
        IPPROTO_TCP

cdef extern from "<sys/socket.h>" nogil:
    enum:
        SO_SNDBUF
    int getsockopt(int, int, int, void*, socklen_t*)
    ssize_t recv(int, void*, size_t, int)
    ssize_t send(int, const void*, size_t, int)
    ssize_t sendmsg(int, const msghdr*, int)

cdef extern from "<linux/tcp.h>" nogil:
    enum:
        TCP_INFO
    struct tcp_info:
        uint32_t tcpi_snd_wnd     # bytes that the peer has room for (Linux 5.4)

cdef enum:
    NARROW = 16384                # a window; who has not made its buffer small begins with 64,000
    PIECES = 64                   # of one send
    KEPT_SIZE = PIECES            # that there is room for, once there were more
    SHORT_VIEW = 4096             # is copied: what it is a view of may be very much longer


@cython.final
cdef class StreamSender(Sender):
    """A queue of pieces."""

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.first, self.first + self.count):
            Py_CLEAR(self.pieces[i].owner)
        free(self.pieces)

    # -- writing -------------------------------------------------------------------------------

    cdef int write(self, object data) except -1:
        # Pieces that only wait for the end of the turn, to leave with others, are no reason
        # to pause: the socket may have room for them.
        if not self.count_write() and not self.waits():
            self.send_queued()
            if (<StreamTransport>self.transport).writes_in_vain():
                return 0         # what was queued before has failed
            if not self.count and not self.waits():
                return self.send_now(data)
        self.enqueue(data)
        return self.send_or_flush_later()

    cdef int write_all(self, list pieces) except -1:
        transport = <StreamTransport>self.transport
        if transport.loop.closing:
            # Nothing is flushed any more: each leaves now, or not at all.
            for data in pieces:
                if len(data) and not transport.writes_in_vain():
                    self.write(data)
            return 0
        for data in pieces:
            if len(data):
                self.enqueue(data)
        if not self.count_write() and not self.waits():
            self.send_queued()
        return self.send_or_flush_later()

    cdef bint count_write(self) except -1:
        """Count a write: whether it is to wait for the turn's others, of this or other transports.

        Where several wrote in the turn before, theirs leave by one submission.
        """
        loop = (<StreamTransport>self.transport).loop
        if self.bulk.turn != loop.turns:
            loop.writers += 1
        return (self.count_send() or loop.many_writers and self.may_defer()) and loop.may_wait()

    cdef int send_or_flush_later(self) except -1:
        """What is queued leaves by the end of the turn; or now, if it is much."""
        transport = <StreamTransport>self.transport
        if self.buffered > self.high_water:
            if transport.loop.writers <= 1:
                transport.loop.written_at = 0        # nothing else waits
            self.send_queued()
            if not transport.has_failed():
                self.maybe_pause()
        if self.count:
            transport.flush_later()
        return 0

    cdef int send_now(self, object data) except -1:
        """Send by a plain system call, as asyncio does; what is not taken is queued."""
        transport = <StreamTransport>self.transport
        cdef payload memory
        cdef ssize_t sent
        cdef int error
        held = find_payload(data, &memory)       # a socket's ``fileno`` may be the program's
        if memory.immutable and memory.length >= STREAM_MINIMUM or transport.foreign_socket:
            self.enqueue(data)
            self.send_queued()
            return self.send_or_flush_later()
        if not transport.has_socket():
            return transport.socket_closed()
        sent = send(transport._sock_fd, memory.base, memory.length, MSG_DONTWAIT | MSG_NOSIGNAL)
        error = errno_now
        del held                 # which may change it
        if sent == <ssize_t>memory.length:
            return 0
        if sent < 0:
            if error != EAGAIN and error != EINTR:
                return self.write_failed(error)
            sent = 0
        self.room = FULL
        self.enqueue(data)
        self.strike_off(sent)
        return self.send_or_flush_later()

    # -- the queue -------------------------------------------------------------------------------

    cdef int enqueue(self, object data) except -1:
        cdef payload memory
        cdef piece* bigger
        cdef uint32_t end
        owner = copy_payload(data, &memory)
        if memory.length < SHORT_VIEW and not memory.lent \
                and PyBytes_GET_SIZE(owner) > <Py_ssize_t>memory.length:
            owner = PyBytes_FromStringAndSize(memory.base, memory.length)
            memory.base = PyBytes_AS_STRING(owner)
        if memory.lent:
            owner = memoryview(owner)       # while that is alive the lease is not free
        if memory.length == 0:
            return 0             # whatever its len() says: there is nothing to send
        if self.first and self.first >= self.count:
            memmove(self.pieces, self.pieces + self.first, self.count * sizeof(piece))
            self.first = 0
        end = self.first + self.count
        if end == self.size:
            bigger = <piece*>realloc(self.pieces, (2 * <size_t>end + 1) * sizeof(piece))
            if bigger is NULL:
                raise MemoryError
            self.pieces = bigger
            self.size = 2 * end + 1
        Py_INCREF(owner)
        self.pieces[end].owner = <PyObject*>owner
        self.pieces[end].base = memory.base
        self.pieces[end].length = memory.length
        self.count += 1
        self.buffered += memory.length
        return 0

    cdef int strike_off(self, size_t sent) noexcept:
        """Forget what the socket has taken."""
        cdef piece* first
        while sent and self.count:       # a finalizer may have aborted the transport meanwhile
            first = &self.pieces[self.first]
            if sent < first.length:
                first.base += sent
                first.length -= sent
                self.buffered -= sent
                return 0
            sent -= first.length
            self.forget_first()
        return 0

    cdef int forget_first(self) noexcept:
        cdef PyObject* owner = self.pieces[self.first].owner
        self.buffered -= self.pieces[self.first].length
        self.first += 1
        self.count -= 1
        Py_CLEAR(owner)                  # last: this may run code of the program
        return 0

    cdef bint has_queue(self) noexcept:
        return self.count != 0

    cdef int drop_queue(self) except -1:
        while self.count:
            self.forget_first()
        return 0

    cdef int flush_queue(self) except -1:
        """At the end of the turn: by the ring if many have written, so that all leave at once."""
        transport = <StreamTransport>self.transport
        if transport.loop.many_writers and self.count == 1 and not self.waits() \
                and not transport.foreign_socket and self.may_submit() \
                and self.pieces[self.first].length < STREAM_MINIMUM:
            self.submit_first(False)
        else:
            self.send_queued()
        return self.poll_room() if transport.state < LOST else 0

    cdef int send_queued(self) except -1:
        transport = <StreamTransport>self.transport
        cdef size_t before = self.buffered
        if self.sending or not self.count or transport._sock is None or transport.loop.closing \
                or not transport.foreign_socket and not transport.has_socket():
            return 0
        self.sending = True
        try:
            # Each of these may have failed, and ended the transport.
            while self.count and not self.waits() and not transport._conn_lost:
                if transport.foreign_socket:
                    self.send_by_foreign_socket()
                elif self.wants_zerocopy():
                    self.send_zerocopy()
                else:
                    self.send_by_call()
        finally:
            self.sending = False
        if transport._conn_lost:
            return 0             # it has failed
        if self.count == 0:
            return self.all_written()
        if self.room == FULL:
            transport.flush_later()
        # Only what was sent is a reason to resume, as with asyncio: not limits that were raised.
        return self.maybe_resume() if self.buffered < before else 0

    cdef int send_by_call(self) except -1:
        """Send what there is room for by a plain system call."""
        cdef iovec vectors[PIECES]
        cdef msghdr message
        cdef size_t i, total = 0, pieces = min(self.count, <uint32_t>PIECES)
        cdef ssize_t sent
        cdef bint full
        for i in range(pieces):
            vectors[i].iov_base = self.pieces[self.first + i].base
            vectors[i].iov_len = self.pieces[self.first + i].length
            total += vectors[i].iov_len
        memset(&message, 0, sizeof(message))
        message.msg_iov = vectors
        message.msg_iovlen = pieces
        sent = sendmsg((<StreamTransport>self.transport)._sock_fd, &message,
                       MSG_DONTWAIT | MSG_NOSIGNAL)
        full = sent < 0 and errno_now == EAGAIN
        if sent < 0 and not full and errno_now != EINTR:
            return self.write_failed(errno_now)
        self.room = FULL if full or sent < <ssize_t>total and self.may_be_full() else ROOM
        return self.strike_off(max(sent, 0))

    cdef bint may_be_full(self) noexcept:
        """Whether a send that was cut short is reason enough to poll for room.

        Not where a lasting poll is armed: it tells only what is new, and where there is room
        still, nothing will be.  Then the next send tells.
        """
        return self.polling is NULL

    cdef int send_by_foreign_socket(self) except -1:
        """Have the program's own object send the first piece."""
        transport = <StreamTransport>self.transport
        cdef size_t length = self.pieces[self.first].length
        try:
            sent = transport._sock.send(PyBytes_FromStringAndSize(
                self.pieces[self.first].base, length))
            # Whatever it says: no more than there is.  (It may have closed us, too.)
            if self.count:
                self.strike_off(max(0, min(sent, length)))
                self.room = FULL if sent < length else ROOM
        except (BlockingIOError, InterruptedError):
            self.room = FULL
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            transport._fatal_error(exc, 'Fatal write error on socket transport')
        return 0

    # -- by the ring -------------------------------------------------------------------------------

    cdef int send_zerocopy(self) except -1:
        """Send the first piece by the ring; the result is in when this returns."""
        transport = <StreamTransport>self.transport
        self.submit_first(True)
        return transport.loop.ring.submit_sends(transport, 1)

    cdef int submit_first(self, bint zerocopy) except -1:
        transport = <StreamTransport>self.transport
        cdef operation* op = transport.loop.operations.acquire(transport)
        cdef piece* first = &self.pieces[self.first]
        cdef io_uring_sqe* sqe
        Py_INCREF(<object>first.owner)
        op.data = first.owner
        op.base = first.base
        op.length = first.length
        sqe = transport.loop.ring.prepare(
            op, IORING_OP_SEND_ZC if zerocopy else IORING_OP_SEND, transport._sock_fd, 0,
            MEMORY | SEND | ZEROCOPY if zerocopy else MEMORY | SEND)
        sqe.addr = <uintptr_t>op.base
        sqe.len = <uint32_t>min(op.length, <size_t>0x7ffff000)
        if zerocopy:
            sqe.ioprio = send_zc_flags()
        sqe.msg_flags = MSG_NOSIGNAL | MSG_DONTWAIT
        transport.loop.ring.sends_prepared = not zerocopy
        self.results_due = 1
        return 0

    cdef bint wants_zerocopy(self) except -1:
        transport = <StreamTransport>self.transport
        cdef piece* first = &self.pieces[self.first]
        cdef sockaddr_storage peer
        cdef uint32_t length
        if first.length < STREAM_MINIMUM \
                or transport.family != AF_INET and transport.family != AF_INET6 \
                or not transport.peername or not self.may_submit():
            return False
        self.address_of_peer(&peer, &length)
        return stream_zerocopy_pays(
            &peer, length, first.length, transport.loop.stream_paths,
            transport.loop.operations.pinned) \
            and not self.buffers_are_small(first.length)       # which takes two system calls

    cdef bint buffers_are_small(self, size_t length) noexcept:
        """Whether this socket's buffer, or its peer's, was made small on purpose.

        Pages that the kernel only refers to count in full against a receiver on this machine: a
        small one then advertises less than a segment, and each goes by the persist timer (seen:
        200 ms for 2 KiB, with SO_RCVBUF 4096 there).  Into such is copied.
        """
        cdef int fd = (<StreamTransport>self.transport)._sock_fd
        cdef int room = 0
        cdef tcp_info told
        cdef socklen_t size = sizeof(room)
        if getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, &size) == 0 and <size_t>room < length:
            return True
        size = sizeof(told)
        memset(&told, 0, sizeof(told))
        return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &told, &size) == 0 \
            and told.tcpi_snd_wnd < NARROW

    cdef int address_of_peer(self, sockaddr_storage* into, uint32_t* length) except -1:
        transport = <StreamTransport>self.transport
        transport.loop.addresses.to_kernel(transport.peername, transport.family, into, length)
        return 0

    cdef int expect_copies(self) except -1:
        """The kernel copies what is sent to that host, or refuses to send without copying."""
        cdef sockaddr_storage peer
        cdef uint32_t length
        self.address_of_peer(&peer, &length)
        (<StreamTransport>self.transport).loop.stream_paths.record(
            &peer, length, STREAM_MINIMUM, True)
        return 0

    cdef int completed(self, operation* op, int res) except -1:
        transport = <StreamTransport>self.transport
        self.results_due = 0
        if transport.state >= LOST:
            return transport.lose_if_let_go()
        if res > 0:
            transport.loop.counters.zerocopy_sent += op.traits & ZEROCOPY != 0
            op.status = res
            self.room = FULL if <size_t>res < op.length and self.may_be_full() else ROOM
            self.strike_off(res)
        elif op.traits & ZEROCOPY and -res in (ENOMEM, ENOBUFS, EOPNOTSUPP):
            op.status = res
            transport.loop.counters.zerocopy_sent += 1
            transport.loop.counters.zerocopy_fell_back += 1
            self.expect_copies()
        elif res == -EAGAIN:
            op.status = res
            self.room = FULL
        elif res < 0 and res != -ECANCELED:
            op.status = res
            return transport.delivery.post_error(OSError(-res, os.strerror(-res)))
        if self.sending:
            return 0               # send_queued() goes on
        if not self.count:
            return self.all_written()
        self.maybe_resume()
        return transport.flush_later_here()

    cdef int notified(self, operation* op) except -1:
        transport = <StreamTransport>self.transport
        transport.loop.counters.buffers_released += 1
        if op.status >= 0 and features.report_usage:
            if op.copied:
                transport.loop.counters.zerocopy_copied += 1
                self.expect_copies()
            else:
                transport.loop.counters.zerocopy_bytes += op.status
        return 0

    # -- what became of it -------------------------------------------------------------------------

    cdef int all_written(self) except -1:
        """Everything queued is sent."""
        transport = <StreamTransport>self.transport
        self.first = 0
        if self.size > KEPT_SIZE:
            free(self.pieces)
            self.pieces = NULL
            self.size = 0
        if transport._empty_waiter is not None and not transport._empty_waiter.done():
            if transport.state < CLOSING:
                transport._empty_waiter.set_result(None)
            else:
                # A sendfile would go on by a socket that is about to be closed under it.
                transport._empty_waiter.set_exception(
                    ConnectionError('Connection is closed: nothing more is sent'))
        # The protocol may write more when it is told to resume: so first that.
        self.maybe_resume()
        if transport.state >= CLOSING:
            transport.lose_if_all_sent()
        elif transport.wrote_eof and not self.shut:
            self.shut = True
            try:
                transport._sock.shutdown(socket.SHUT_WR)
            except OSError as exc:
                transport.delivery.post_error(OSError(exc.errno, exc.strerror))
        return 0

    cdef int write_failed(self, int error) except -1:
        """As asyncio, at once; but what has come is handed over first, for it may be the reason."""
        transport = <StreamTransport>self.transport
        cdef char byte
        exc = OSError(error, os.strerror(error))
        if transport.delivery.count \
                or transport.loop.runs_here() and transport.loop.ring.has_unsettled() \
                or recv(transport._sock_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0:
            return transport.delivery.post_error(exc)
        return transport.deliver_error(exc)

    cdef bint waits(self) noexcept:
        return (self.room != ROOM or self.results_due != 0
                or (<StreamTransport>self.transport).delivery.errors is not None)
