"""How a stream's bytes come: by one multishot operation, or bulk one by one.

The first pieces are received each by an operation of its own, that is armed when the piece
before has been delivered.  So a protocol that reads a head, pauses at once, and hands the socket
on to somebody else (a duplicate of it, to a thread or a child) has taken no more than it was
given.  (Later in a connection, or by a task, it may have: see docs/differences.md.)
"""
cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_DECREF
from libc.string cimport memcpy

from uringloop._cpython cimport allocate_bytes, bytes_content, resize_bytes
from uringloop.core.loop_core cimport STREAM
from uringloop.ring.abi cimport *
from uringloop.ring.buffers cimport EXPORT_MINIMUM, ReceiveBuffers
from uringloop.ring.features cimport features
from uringloop.ring.operations cimport MEMORY, MULTISHOT, RECEIVE, operation
from uringloop.stream.transport cimport StreamTransport
from uringloop.transport.delivery cimport EOF, RECEIVE_ERROR, received_item
from uringloop.transport.receiver cimport (
    BY_MULTISHOT, LONG, LONG_RUN, ONE_BY_ONE, Receiver)
from uringloop.transport.socket_transport cimport CLOSING

import os
from asyncio.log import logger


cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int, void*, size_t, int)

cdef enum:
    READ_SIZE = 131072        # a StreamReader takes as much before it pauses the transport
    FIRST_PIECES = 16         # of a connection, and after each pause: received one at a time
    BUFFERS = 16              # that a protocol is asked for in a turn
    KEPT_SIZE = 16 * READ_SIZE

# So much one multishot receive brings before it has to be armed again, and so much at most
# waits for a protocol that has paused: Linux 6.17 ends it then.  As much as asyncio reads at once.
cdef unsigned RECEIVE_LIMIT = 131072

cdef enum:
    DATA = RECEIVE_ERROR + 1                  # kind of a received_item


cdef bint heap_is_kept = False


cdef void keep_heap() noexcept:
    """Have what is read next come into memory that the process still has.

    glibc gives back the top of its heap when more is free there than twice the largest block
    that was ever freed, and what it asks for again has to be cleared by the kernel, page by
    page.  (60,000 bytes echoed to 16 connections: half the rate.)  So it is shown a large
    block, which is not touched.  Where the program has set the limit itself that has no effect.
    """
    global heap_is_kept
    heap_is_kept = True
    PyMem_RawFree(PyMem_RawMalloc(KEPT_SIZE))


@cython.final
cdef class StreamReceiver(Receiver):
    """The ``Receiver`` of a stream."""

    # -- by the ring ---------------------------------------------------------------------------

    cdef int start(self) except -1:
        transport = <StreamTransport>self.transport
        if not heap_is_kept:
            # Before a program's own buffer first grows: what was mapped by itself stays so.
            keep_heap()
        if transport.family == AF_UNIX:
            self.mode = ONE_BY_ONE
        return transport.loop.flush_when_idle(transport)

    cdef int arm(self) except -1:
        return 0 if self.received_eof else Receiver.arm(self)

    cdef ReceiveBuffers receive_buffers(self):
        return (<StreamTransport>self.transport).loop.receive_buffers(STREAM)

    cdef int arm_multishot(self, ReceiveBuffers buffers) except -1:
        transport = <StreamTransport>self.transport
        cdef operation* op = transport.loop.operations.acquire_compact(transport)
        cdef io_uring_sqe* sqe
        cdef bint one = self.pieces < FIRST_PIECES
        op.role = RECEIVE
        sqe = transport.loop.ring.prepare(
            op, IORING_OP_RECV, transport._sock_fd, IOSQE_BUFFER_SELECT,
            MEMORY if one else MULTISHOT | MEMORY)
        if not one:
            sqe.ioprio = IORING_RECV_MULTISHOT
            sqe.file_index = RECEIVE_LIMIT if features.receive_limit else 0
        elif self.pieces:
            # The first of a connection is often there already; an answer's answer is not.
            sqe.ioprio = IORING_RECVSEND_POLL_FIRST
        sqe.buf_group = buffers.group
        self.armed = op
        return 0

    cdef int received(self, ReceiveBuffers buffers, unsigned number, int res) except -1:
        transport = <StreamTransport>self.transport
        if res <= 0 or transport.state >= CLOSING:
            return 0
        if self.pieces < FIRST_PIECES:
            self.pieces += 1
        buffers.average += (res - buffers.average) >> 2
        if res >= EXPORT_MINIMUM:
            data = buffers.export_bytes(number, res)
        else:
            data = PyBytes_FromStringAndSize(buffers.at(number), res)
        return transport.delivery.post(DATA, data, None)

    cdef int ended(self, int res) except -1:
        transport = <StreamTransport>self.transport
        if transport.state >= CLOSING:
            return 0
        if res == 0:
            self.received_eof = True
            return transport.delivery.post(EOF, None, None)
        if res < 0 and res != -ECANCELED:
            self.received_eof = True
            return transport.delivery.post(RECEIVE_ERROR, OSError(-res, os.strerror(-res)), None)
        return 0

    cdef int buffers_exhausted(self) except -1:
        """More of them are for many connections that each have a little.

        Where it is bulk that has used them up, more would only hold more of it before a protocol
        that wants to pause is first called.  It is read one by one, as soon it will be anyway.
        """
        cdef ReceiveBuffers buffers = self.receive_buffers()
        if buffers is None or buffers.average < LONG:
            return Receiver.buffers_exhausted(self)
        (<StreamTransport>self.transport).loop.counters.receive_exhausted += 1
        self.mode = ONE_BY_ONE
        self.long_run = LONG_RUN
        return 0

    # -- one by one ----------------------------------------------------------------------------

    cdef int stay_one_by_one(self) except -1:
        """From now on, whatever comes."""
        self.mode = ONE_BY_ONE
        return 0

    cdef int update_mode(self, Py_ssize_t length) except -1:
        """Bulk is to be read one by one.  It has short pieces too; but not four in a row."""
        transport = <StreamTransport>self.transport
        if transport.foreign_socket or transport.family == AF_UNIX:
            # Always one by one.  A multishot receive that had just emptied the queue of an
            # AF_UNIX socket never hears that the peer has closed meanwhile (6.18).
            return 0
        if self.small_buffers:
            self.long_run = 0
        elif length >= LONG:
            if self.long_run < LONG_RUN:
                self.long_run += 1
        elif self.long_run:
            self.long_run = self.long_run - 1 if self.mode == ONE_BY_ONE else 0
        if self.long_run == 0:
            return self.set_mode(BY_MULTISHOT)
        return self.set_mode(ONE_BY_ONE) if self.long_run == LONG_RUN else 0

    cdef int read(self) except -1:
        """Read once: others have their turn before the next time."""
        transport = <StreamTransport>self.transport
        if not self.readable:
            return 0
        self.readable = False
        if self.received_eof:
            # A poll was still armed when the end was read: it is told once.
            return 0
        if self.is_multishot_armed():
            return 0             # what that takes comes first
        if transport.foreign_socket:
            return self.read_by_foreign_socket()
        if not transport.has_socket():
            return self.set_mode(BY_MULTISHOT)
        return self.read_into_buffer() if self.buffered else self.read_bytes()

    cdef int read_before_errors(self) except -1:
        if self.mode == ONE_BY_ONE and not self.received_eof:
            self.readable = True
            self.read()
        return 0

    cdef int read_bytes(self) except -1:
        cdef PyObject* memory = allocate_bytes(READ_SIZE)
        cdef ssize_t length = recv((<StreamTransport>self.transport)._sock_fd,
                                   bytes_content(memory), READ_SIZE, MSG_DONTWAIT)
        if length <= 0:
            Py_CLEAR(memory)
            return self.nothing_read(length)
        data = resize_bytes(memory, length)
        self.after_read(length, READ_SIZE)
        return self.feed_data(data)

    cdef int read_into_buffer(self) except -1:
        transport = <StreamTransport>self.transport
        cdef Py_buffer view
        cdef ssize_t length
        if not self.ask_for_buffer(&view):
            return 0
        if not transport.has_socket():
            # The protocol has closed the socket meanwhile: the number may be another's.
            PyBuffer_Release(&view)
            return transport.flush_later()
        length = recv(transport._sock_fd, view.buf, view.len, MSG_DONTWAIT)
        self.small_buffers = view.len < LONG
        PyBuffer_Release(&view)
        if length <= 0:
            return self.nothing_read(length)
        self.after_read(length, view.len)
        return self.buffer_updated(length)

    cdef int read_by_foreign_socket(self) except -1:
        """Have the program's own object receive."""
        transport = <StreamTransport>self.transport
        try:
            if self.buffered:
                buffer = transport._protocol.get_buffer(-1)
                length = transport._sock.recv_into(buffer)
            else:
                data = transport._sock.recv(READ_SIZE)
                length = len(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.received_eof = True
            transport._fatal_error(exc, 'Fatal read error on socket transport')
            return 0
        if not length:
            return self.nothing_read(0)
        return self.buffer_updated(length) if self.buffered else self.feed_data(data)

    cdef int after_read(self, Py_ssize_t length, Py_ssize_t room) except -1:
        self.update_mode(length)
        if length == room:
            # There is more, most likely.
            self.readable = True
            (<StreamTransport>self.transport).delivery.schedule()
        return 0

    cdef int nothing_read(self, ssize_t code) except -1:
        transport = <StreamTransport>self.transport
        if code == 0:
            self.received_eof = True
            # A reset that a send has reported looks like an end to the receive after it.
            if not transport.delivery.errors:
                self.feed_eof()
        elif errno_now != EAGAIN and errno_now != EINTR:
            self.received_eof = True
            transport._fatal_error(OSError(errno_now, os.strerror(errno_now)),
                                   'Fatal read error on socket transport')
        return 0

    # -- delivering ----------------------------------------------------------------------------

    cdef int begin_turn(self) except -1:
        self.enough = False
        self.buffers_left = BUFFERS
        return 0

    cdef int hand_over(self, received_item* item) except -1:
        transport = <StreamTransport>self.transport
        what = <object>item.payload
        Py_DECREF(what)
        Py_DECREF(<object>item.address)
        if transport._conn_lost or transport._protocol is None:
            return 0
        if item.kind == RECEIVE_ERROR:
            if transport.state < CLOSING:
                self.ask_in_vain()
            transport._fatal_error(what, 'Fatal read error on socket transport')
        elif transport.state >= CLOSING:
            return 0
        elif item.kind == EOF:
            # A reset that a send has reported looks like an end to the receive after it.
            if not transport.delivery.errors and self.ask_in_vain():
                self.feed_eof()
        else:
            self.update_mode(PyBytes_GET_SIZE(what))
            if self.buffered:
                self.feed_buffered(what)
            else:
                self.feed_data(what)
        return 0

    cdef int feed_data(self, object data) except -1:
        transport = <StreamTransport>self.transport
        try:
            transport._protocol.data_received(data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            transport._fatal_error(exc, 'Fatal error: protocol.data_received() call failed.')
        return 0

    cdef int feed_eof(self) except -1:
        transport = <StreamTransport>self.transport
        if transport.loop._debug:
            logger.debug('%r received EOF', transport)
        try:
            keep_open = transport._protocol.eof_received()
        except (SystemExit, KeyboardInterrupt):
            transport.delivery.post_first(EOF, None)      # once more, as with asyncio
            raise
        except BaseException as exc:
            transport._fatal_error(exc, 'Fatal error: protocol.eof_received() call failed.')
            return 0
        if not keep_open:
            transport.close()
        return 0

    # -- buffered protocols ------------------------------------------------------------------------

    cdef bint ask_for_buffer(self, Py_buffer* view) except -1:
        """The protocol's own buffer; False: it failed to give one, and that was dealt with."""
        transport = <StreamTransport>self.transport
        try:
            buffer = transport._protocol.get_buffer(-1)
            if not len(buffer):
                raise RuntimeError('get_buffer() returned an empty buffer')
            PyObject_GetBuffer(buffer, view, PyBUF_WRITABLE)
            if view.len == 0:            # whatever its len() says
                PyBuffer_Release(view)
                raise RuntimeError('get_buffer() returned an empty buffer')
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            transport._fatal_error(exc, 'Fatal error: protocol.get_buffer() call failed.')
            return False
        return True

    cdef bint ask_in_vain(self) except -1:
        """asyncio asks for a buffer, if the protocol has any, before it finds the end.

        False: the protocol failed to give one.
        """
        cdef Py_buffer view
        if self.buffered:
            if not self.ask_for_buffer(&view):
                return False
            PyBuffer_Release(&view)
        return True

    cdef int buffer_updated(self, Py_ssize_t length) except -1:
        transport = <StreamTransport>self.transport
        try:
            transport._protocol.buffer_updated(length)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            transport._fatal_error(exc, 'Fatal error: protocol.buffer_updated() call failed.')
        return 0

    cdef int feed_buffered(self, object data) except -1:
        """Copy into the protocol's own buffers."""
        transport = <StreamTransport>self.transport
        cdef Py_ssize_t done = 0, part, length = PyBytes_GET_SIZE(data)
        while done < length and transport.state < CLOSING:
            if transport.delivery.paused and done or not self.buffers_left:
                # Small buffers take many calls: others have their turn.
                self.enough = not self.buffers_left
                return transport.delivery.post_first(DATA, data[done:])
            self.buffers_left -= 1
            if not self.buffered:
                # set_protocol() meanwhile: the rest is the new one's.
                return self.feed_data(data[done:])
            part = self.feed_buffer(data, done)
            if part == 0:
                return 0
            done += part
        return 0

    cdef int feed_buffer(self, object data, Py_ssize_t done) except -1:
        """Fill one buffer with what follows ``done`` bytes: how many; 0: there is none.

        After an exception that goes on, a KeyboardInterrupt say, the rest is still to come.
        """
        transport = <StreamTransport>self.transport
        cdef Py_buffer view
        cdef Py_ssize_t part = 0, left = PyBytes_GET_SIZE(data) - done
        try:
            if not self.ask_for_buffer(&view):
                return 0
            part = min(left, view.len)
            memcpy(view.buf, PyBytes_AS_STRING(data) + done, part)
            self.small_buffers = view.len < LONG
            PyBuffer_Release(&view)
            self.buffer_updated(part)
        except BaseException:
            if part < left:
                transport.delivery.post_first(DATA, data[done + part:])
            raise
        return <int>part
