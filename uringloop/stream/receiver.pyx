"""How a stream's bytes come: they are read once a turn, into the objects that the program gets."""
cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_DECREF

from uringloop._cpython cimport allocate_bytes, bytes_content, proto_of, resize_bytes
from uringloop.core.receive_area cimport hide_content, keep_heap, receive_area
from uringloop.ring.abi cimport *
from uringloop.stream.transport cimport StreamTransport
from uringloop.transport.delivery cimport received_item
from uringloop.transport.receiver cimport LONG, Receiver
from uringloop.transport.socket_transport cimport CLOSING

import os
from asyncio.log import logger


cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<netinet/in.h>":
    enum:
        IPPROTO_TCP

cdef extern from "<poll.h>" nogil:
    enum:
        POLLIN
        POLLRDHUP
        POLLHUP
        POLLERR
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd*, unsigned long, int)

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int, void*, size_t, int)

cdef enum:
    READ_SIZE = 131072        # a StreamReader takes as much before it pauses the transport


class NotWritable(Exception):
    """A protocol's buffer can't be received into."""


@cython.final
cdef class StreamReceiver(Receiver):
    """The ``Receiver`` of a stream."""

    # -- the poll ------------------------------------------------------------------------------

    cdef int start(self) except -1:
        transport = <StreamTransport>self.transport
        # Before a program's own buffer first grows: what was mapped by itself stays so.
        keep_heap()
        # Of TCP it is known when a read has emptied the socket.  One of AF_UNIX ends at
        # descriptors that are passed, and other credentials; others, who knows.
        self.may_last = (transport.family != AF_UNIX and not transport.foreign_socket
                         and proto_of(transport._sock) in (0, IPPROTO_TCP))
        # At once: who answers what it has not read, and closes, resets the peer, and that loses the
        # answer.
        return transport.flush_later()

    cdef int use_foreign_socket(self) except -1:
        """The program has put its own in the place of the socket."""
        transport = <StreamTransport>self.transport
        self.lasting = self.may_last = False
        return transport.stop_receiving() if transport.state < CLOSING else 0

    cdef bint wants_arming(self) noexcept:
        return not self.received_eof and Receiver.wants_arming(self)

    cdef int noticed(self, int events) except -1:
        if self.received_eof:
            return 0             # as told, and read: the poll is being cancelled
        if events & (POLLRDHUP | POLLHUP | POLLERR):
            self.hung_up = True
        # The first poll does not last: who closes once it is answered has none to cancel.
        self.lasting = self.may_last
        return Receiver.noticed(self, events)

    cdef int resume(self) except -1:
        return 0 if self.received_eof else Receiver.resume(self)

    cdef int looked_at(self, bint readable) except -1:
        """A while after a read that came back short."""
        self.in_doubt = False
        return self.noticed(0) if readable and self.armed is not NULL else 0

    # -- reading -------------------------------------------------------------------------------

    cdef int read(self) except -1:
        """Read once: others have their turn before the next time."""
        transport = <StreamTransport>self.transport
        # First: it may be code of the program, and raise.
        cdef bint closed = not transport.foreign_socket and not transport.has_socket()
        self.readable = self.buffered and self.records is None and not self.received_eof
        if self.received_eof:
            return 0
        if closed:
            # The program has closed it: the number may be another's.
            return transport.socket_closed()
        if transport.foreign_socket:
            return self.read_by_foreign_socket()
        if self.records is not None:
            return self.read_records()
        if self.buffered:
            return self.read_into_buffer()
        return self.read_long() if self.long_ones else self.read_short()

    cdef int read_before_errors(self) except -1:
        return self.read()

    cdef int read_short(self) except -1:
        """Copy: to give back what is too much for a short piece would take longer."""
        transport = <StreamTransport>self.transport
        cdef receive_area* area = transport.loop.receive_area.get()
        cdef ssize_t length = recv(transport._sock_fd, area.content, READ_SIZE, MSG_DONTWAIT)
        if length <= 0:
            return self.nothing_read(-errno_now if length else 0)
        data = PyBytes_FromStringAndSize(area.content, length)
        hide_content(area)
        self.has_read(length, READ_SIZE)
        return self.feed_data(data)

    cdef int read_long(self) except -1:
        cdef PyObject* memory = allocate_bytes(READ_SIZE)
        cdef ssize_t length = recv((<StreamTransport>self.transport)._sock_fd,
                                   bytes_content(memory), READ_SIZE, MSG_DONTWAIT)
        if length < 0:
            length = -errno_now
        if length <= 0:
            Py_CLEAR(memory)
            return self.nothing_read(length)
        data = resize_bytes(memory, length)
        self.has_read(length, READ_SIZE)
        return self.feed_data(data)

    cdef int read_records(self) except -1:
        """TLS copies what has come itself."""
        transport = <StreamTransport>self.transport
        cdef char* content = transport.loop.receive_area.get().content
        cdef ssize_t length = recv(transport._sock_fd, content, READ_SIZE, MSG_DONTWAIT)
        if length <= 0:
            return self.nothing_read(-errno_now if length else 0)
        self.has_read(length, READ_SIZE)
        records = self.records       # held: the program may put another protocol in its place
        try:
            records.received(content, length)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            transport._fatal_error(exc, 'Fatal error: protocol.buffer_updated() call failed.')
        return 0

    cdef bint has_something(self) noexcept:
        """Whether a read would bring something, the end or an error.

        What a lasting poll has told of may have been read before.
        """
        cdef pollfd polled
        polled.fd = (<StreamTransport>self.transport)._sock_fd
        polled.events = POLLIN
        polled.revents = 0
        return poll(&polled, 1, 0) != 0

    cdef int read_into_buffer(self) except -1:
        transport = <StreamTransport>self.transport
        cdef Py_buffer view
        cdef Py_ssize_t room
        cdef ssize_t length
        if not self.has_something():
            # A protocol that expects nothing more may have no buffer to give.
            self.readable = False
            return 0
        if not self.ask_for_buffer(&view):
            return 0
        room = view.len
        try:
            if transport.state >= CLOSING or not transport.has_socket():
                # The protocol has closed it meanwhile: the number may be another's.
                return 0 if transport.state >= CLOSING else transport.socket_closed()
            self.readable = False
            length = recv(transport._sock_fd, view.buf, room, MSG_DONTWAIT)
            if length < 0:
                length = -errno_now
        finally:
            PyBuffer_Release(&view)
        if length <= 0:
            return self.nothing_read(length)
        self.has_read(length, room)
        return self.buffer_updated(length)

    cdef int read_by_foreign_socket(self) except -1:
        """Have the program's own object receive."""
        transport = <StreamTransport>self.transport
        try:
            if self.buffered:
                buffer = transport._protocol.get_buffer(-1)
                self.readable = False
                length = transport._sock.recv_into(buffer)
            else:
                data = transport._sock.recv(READ_SIZE)
                length = len(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            return self.failed(exc)
        if not length:
            return self.nothing_read(0)
        return self.buffer_updated(length) if self.buffered else self.feed_data(data)

    cdef int has_read(self, Py_ssize_t length, Py_ssize_t room) except -1:
        """So much has come, and there was room for so much."""
        transport = <StreamTransport>self.transport
        self.long_ones = length >= LONG
        if length == room or self.hung_up and self.lasting:
            self.readable = True         # there is more, or the end
        elif self.lasting and not self.in_doubt:
            self.in_doubt = True
            transport.loop.short_reads.note(transport._sock_fd)
        return 0

    cdef int nothing_read(self, ssize_t code) except -1:
        """The end, or an error."""
        if code == -EAGAIN or code == -EINTR:
            return 0
        if code < 0:
            return self.failed(OSError(-code, os.strerror(-code)))
        # A reset that a send has reported looks like an end to the receive after it.
        return 0 if (<StreamTransport>self.transport).delivery.errors else self.feed_eof()

    cdef int failed(self, object exc) except -1:
        self.end()
        (<StreamTransport>self.transport)._fatal_error(
            exc, 'Fatal read error on socket transport')
        return 0

    cdef int end(self) except -1:
        """Nothing more will come."""
        self.received_eof = self.cancel_due = True
        return (<StreamTransport>self.transport).flush_later()

    # -- delivering ----------------------------------------------------------------------------

    cdef int hand_over(self, received_item* item) except -1:
        """The poll has failed: there is nothing else to be posted."""
        transport = <StreamTransport>self.transport
        exc = <object>item.payload
        Py_DECREF(exc)
        Py_DECREF(<object>item.address)
        return self.failed(exc) if transport.state < CLOSING else 0

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
        self.end()
        try:
            if transport.loop._debug:
                logger.debug('%r received EOF', transport)
            keep_open = transport._protocol.eof_received()
        except (SystemExit, KeyboardInterrupt):
            self.received_eof = False
            self.readable = True      # once more, as with asyncio
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
            try:
                PyObject_GetBuffer(buffer, view, PyBUF_WRITABLE)
            except BufferError:
                raise NotWritable from None
            if view.len == 0:            # whatever its len() says
                PyBuffer_Release(view)
                raise RuntimeError('get_buffer() returned an empty buffer')
        except (SystemExit, KeyboardInterrupt):
            raise
        except NotWritable:
            self.failed(TypeError(f'get_buffer() must return a read-write bytes-like object, '
                                  f'not {type(buffer).__name__}'))
            return False
        except BaseException as exc:
            transport._fatal_error(exc, 'Fatal error: protocol.get_buffer() call failed.')
            return False
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
