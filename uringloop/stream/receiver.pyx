"""The receiving half of a stream transport."""
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_DECREF
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from uringloop._cpython cimport allocate_bytes, bytes_content, resize_bytes
from uringloop.ring.buffers cimport EXPORT_MINIMUM, ReceiveBuffers
from uringloop.core.loop_core cimport STREAM
from uringloop.ring.operations cimport MEMORY, MULTISHOT, operation
from uringloop.transport.receiver cimport LONG, LONG_RUN, READABLE, RECEIVE, Receiver
from uringloop.ring.abi cimport *
from uringloop.transport.socket_transport cimport event

import asyncio
import os
from asyncio.log import logger


cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int, void*, size_t, int)

cdef enum:
    READ_SIZE = 131072        # a StreamReader takes as much before it pauses the transport

cdef enum Event:
    ERROR = 0
    DATA = 1
    EOF = 2


cdef class StreamReceiver(Receiver):
    """Receives by one multishot operation, or bulk one by one."""

    def set_protocol(self, protocol):
        """Call another protocol from now on."""
        self.buffered_protocol = isinstance(protocol, asyncio.BufferedProtocol)
        self.small_buffers = False
        Receiver.set_protocol(self, protocol)

    # -- by the ring ---------------------------------------------------------------------------

    cdef int start_receiving(self) except -1:
        self.one_by_one = self.family == AF_UNIX
        return self.loop.flush_when_idle(self)

    cdef int arm(self) except -1:
        return 0 if self.received_eof else Receiver.arm(self)

    cdef ReceiveBuffers receive_buffers(self):
        return self.loop.receive_buffers(STREAM)

    cdef int receive(self, ReceiveBuffers buffers) except -1:
        cdef operation* op = self.loop.operations.acquire_compact(self)
        cdef io_uring_sqe* sqe
        op.status = RECEIVE
        sqe = self.loop.ring.prepare(
            op, IORING_OP_RECV, self._sock_fd, IOSQE_BUFFER_SELECT, MULTISHOT | MEMORY)
        sqe.ioprio = IORING_RECV_MULTISHOT
        sqe.buf_group = buffers.group
        self.receiving = op
        return 0

    cdef int received(self, operation* op, int res, uint32_t flags) except -1:
        cdef ReceiveBuffers buffers
        cdef unsigned number = flags >> IORING_CQE_BUFFER_SHIFT
        if not flags & IORING_CQE_F_MORE:
            self.receiving = NULL
        if flags & IORING_CQE_F_BUFFER:
            buffers = self.receive_buffers()
            try:
                if res > 0 and not self._closing:
                    if res >= EXPORT_MINIMUM:
                        data = buffers.export_bytes(number, res)
                    else:
                        data = PyBytes_FromStringAndSize(buffers.at(number), res)
                    self.post(DATA, data, None)
            finally:
                buffers.recycle(number)
        if flags & IORING_CQE_F_MORE:
            return 0
        if op.status == READABLE:
            return self.poll_ended(res)
        if res == -ENOBUFS:
            self.exhausted()
        elif res == 0 and not self._closing:
            self.received_eof = True
            self.post(EOF, None, None)
        elif res < 0 and res != -ECANCELED and not self._closing:
            self.received_eof = True       # nothing more will come
            self.post(ERROR, OSError(-res, os.strerror(-res)), None)
        if self._closing:
            return self.maybe_finish()
        return self.flush_quietly()

    # -- one by one ----------------------------------------------------------------------------

    cdef int judge(self, Py_ssize_t length) except -1:
        """Bulk is to be read one by one.  It has short pieces too; but not four in a row."""
        if self.asks_socket:
            return 0
        if self.family == AF_UNIX:
            # Always: a multishot receive that had just emptied the queue of an AF_UNIX socket
            # never hears that the peer has closed meanwhile (6.18).
            return 0
        if self.small_buffers:
            self.long_run = 0
        elif length >= LONG:
            if self.long_run < LONG_RUN:
                self.long_run += 1
        elif self.long_run:
            self.long_run = self.long_run - 1 if self.one_by_one else 0
        if self.long_run == 0 or self.long_run == LONG_RUN:
            return self.choose_way(self.long_run != 0)
        return 0

    cdef int read_on(self) except -1:
        """Read once: others have their turn before the next time."""
        if not self.readable:
            return 0
        self.readable = False
        if self.received_eof:
            # A poll was still armed when the end was read: it is told once.
            return 0
        if self.receiving is not NULL and self.receiving.status == RECEIVE:
            return 0             # what that takes comes first
        if self.asks_socket:
            return self.read_by_socket()
        if self._sock.fileno() != self._sock_fd:
            return self.choose_way(False)
        return self.read_into_buffer() if self.buffered_protocol else self.read_bytes()

    cdef int read_before_errors(self) except -1:
        if self.one_by_one and not self.received_eof:
            self.readable = True
            self.read_on()
        return 0

    cdef int read_bytes(self) except -1:
        cdef PyObject* memory = allocate_bytes(READ_SIZE)
        cdef ssize_t length = recv(self._sock_fd, bytes_content(memory), READ_SIZE, MSG_DONTWAIT)
        if length <= 0:
            Py_CLEAR(memory)
            return self.nothing_read(length)
        data = resize_bytes(memory, length)
        self.has_read(length, READ_SIZE)
        return self.feed_data(data)

    cdef int read_into_buffer(self) except -1:
        cdef Py_buffer view
        cdef ssize_t length
        if not self.ask_for_buffer(&view):
            return 0
        if self._sock is None or self._sock.fileno() != self._sock_fd:
            # The protocol has closed the socket meanwhile: the number may be another's.
            PyBuffer_Release(&view)
            return self.flush_later()
        length = recv(self._sock_fd, view.buf, view.len, MSG_DONTWAIT)
        self.small_buffers = view.len < LONG
        PyBuffer_Release(&view)
        if length <= 0:
            return self.nothing_read(length)
        self.has_read(length, view.len)
        return self.buffer_updated(length)

    cdef int replace_socket(self, object sock) except -1:
        """Tests put an object of their own in the place of the socket: it is to be asked.

        None: the socket is taken away, say for another transport.
        """
        self._sock = sock
        if sock is None:
            self.loop._registry.leave(self._sock_fd, <PyObject*>self)
        if self._closing:
            return 0
        self.asks_socket = self.one_by_one = True
        return self.stop_receiving()

    cdef int read_by_socket(self) except -1:
        try:
            if self.buffered_protocol:
                buffer = self._protocol.get_buffer(-1)
                length = self._sock.recv_into(buffer)
            else:
                data = self._sock.recv(READ_SIZE)
                length = len(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.received_eof = True
            self._fatal_error(exc, 'Fatal read error on socket transport')
            return 0
        if not length:
            return self.nothing_read(0)
        return self.buffer_updated(length) if self.buffered_protocol else self.feed_data(data)

    cdef int has_read(self, Py_ssize_t length, Py_ssize_t room) except -1:
        self.judge(length)
        if length == room:
            # There is more, most likely.
            self.readable = True
            self.schedule_delivery()
        return 0

    cdef int nothing_read(self, ssize_t code) except -1:
        if code == 0:
            self.received_eof = True
            # A reset that a send has reported looks like an end to the receive after it.
            if not self.errors:
                self.feed_eof()
        elif errno_now != EAGAIN and errno_now != EINTR:
            self.received_eof = True
            self._fatal_error(OSError(errno_now, os.strerror(errno_now)),
                              'Fatal read error on socket transport')
        return 0

    # -- delivering ----------------------------------------------------------------------------

    cdef int deliver_one(self, event* item) except -1:
        what = <object>item.payload
        Py_DECREF(what)
        Py_DECREF(<object>item.address)
        if self._conn_lost or self._protocol is None:
            return 0
        if item.kind == ERROR:
            self._fatal_error(what, 'Fatal read error on socket transport')
        elif self._closing:
            return 0
        elif item.kind == EOF:
            # A reset that a send has reported looks like an end to the receive after it.
            if not self.errors:
                self.feed_eof()
        else:
            self.judge(PyBytes_GET_SIZE(what))
            if self.buffered_protocol:
                self.feed_buffered(what)
            else:
                self.feed_data(what)
        return 0

    cdef int feed_data(self, object data) except -1:
        try:
            self._protocol.data_received(data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fatal_error(exc, 'Fatal error: protocol.data_received() call failed.')
        return 0

    cdef int deliver_error(self, object exc) except -1:
        self._fatal_error(exc, 'Fatal write error on socket transport')
        return 0

    def feed_eof(self):
        if self.loop._debug:
            logger.debug('%r received EOF', self)
        try:
            keep_open = self._protocol.eof_received()
        except (SystemExit, KeyboardInterrupt):
            self.post_again(EOF, None)      # once more, as with asyncio
            raise
        except BaseException as exc:
            self._fatal_error(exc, 'Fatal error: protocol.eof_received() call failed.')
            return
        if not keep_open:
            self.close()

    cdef bint ask_for_buffer(self, Py_buffer* view) except -1:
        """The protocol's own buffer; False: it failed to give one, and that was dealt with."""
        try:
            buffer = self._protocol.get_buffer(-1)
            if not len(buffer):
                raise RuntimeError('get_buffer() returned an empty buffer')
            PyObject_GetBuffer(buffer, view, PyBUF_WRITABLE)
            if view.len == 0:            # whatever its len() says
                PyBuffer_Release(view)
                raise RuntimeError('get_buffer() returned an empty buffer')
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fatal_error(exc, 'Fatal error: protocol.get_buffer() call failed.')
            return False
        return True

    cdef int buffer_updated(self, Py_ssize_t length) except -1:
        try:
            self._protocol.buffer_updated(length)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fatal_error(exc, 'Fatal error: protocol.buffer_updated() call failed.')
        return 0

    cdef int feed_buffered(self, object data) except -1:
        """Copy into the protocol's own buffers."""
        cdef Py_buffer view
        cdef Py_ssize_t done = 0, length = PyBytes_GET_SIZE(data), part
        while done < length and not self._closing:
            if self.paused_reading and done or not self.portion:
                # Small buffers take many calls: others have their turn.
                self.enough = not self.portion
                return self.post_again(DATA, data[done:])
            self.portion -= 1
            if not self.buffered_protocol:
                # set_protocol() meanwhile: the rest is the new one's.
                return self.feed_data(data[done:])
            try:
                if not self.ask_for_buffer(&view):
                    return 0
            except BaseException:
                self.post_again(DATA, data[done:])
                raise
            part = min(length - done, view.len)
            memcpy(view.buf, PyBytes_AS_STRING(data) + done, part)
            self.small_buffers = view.len < LONG
            PyBuffer_Release(&view)
            done += part
            try:
                self.buffer_updated(part)
            except BaseException:
                # It goes on: a KeyboardInterrupt, say.  The rest is still to come.
                if done < length:
                    self.post_again(DATA, data[done:])
                raise
        return 0
