"""Pipe transports: asyncio's, polled by the ring.

A pipe is read into memory that is in the cache, or straight into what the program gets, and
written by a system call at once.  Each poll tells once and is armed again when it was heeded:
so it does not matter whether a read has emptied the pipe (in packet mode one never does).
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.contextvars cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR
from libc.stdint cimport uint32_t

from uringloop._cpython cimport allocate_bytes, bytes_content, resize_bytes
from uringloop.core.loop_core cimport send_deferred_datagrams
from uringloop.core.receive_area cimport keep_heap
from uringloop.core.water_marks cimport water_marks
from uringloop.ring.abi cimport *
from uringloop.ring.operations cimport POLL_IN, POLL_OUT, Role, operation
from uringloop.ring.watched cimport WatchedSocket

import errno
import os
import stat
import warnings
from asyncio import constants, futures, unix_events
from asyncio.log import logger
from collections import deque
from itertools import islice


cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<poll.h>":
    enum:
        POLLIN
        POLLOUT

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int, void*, size_t)

cdef extern from "<sys/uio.h>" nogil:
    ssize_t writev(int, const iovec*, int)

cdef enum:
    READ_SIZE = 262144        # as asyncio
    LONG = 8192               # bytes; shorter ones are copied out
    PIECES = 64               # of one call

cdef object warn = warnings.warn


cdef class PipeTransport(WatchedSocket):
    """What both ends have in common."""

    def __init__(self, LoopCore loop, pipe, protocol, waiter=None, extra=None):
        self.fd = -1
        self._extra = dict(extra) if extra else {}
        self._extra['pipe'] = pipe
        fd = pipe.fileno()
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
            raise ValueError(f'Pipe transport is only for pipes, sockets and character devices, '
                             f'not for {pipe!r}')
        os.set_blocking(fd, False)
        self.fd = fd
        self.loop = loop
        self.sock = self._pipe = pipe
        self._protocol = protocol
        self.context = PyContext_CopyCurrent()
        loop.call_soon(protocol.connection_made, self)
        loop.call_soon(self._start)
        if waiter is not None:
            loop.call_soon(futures._set_result_unless_cancelled, waiter, None)

    def __del__(self):
        if self._pipe is not None:
            warn(f'unclosed transport {self!r}', ResourceWarning, source=self)
            self._pipe.close()

    cdef int check_made(self) except -1:
        if self.loop is None:
            raise RuntimeError(f'{type(self).__name__}.__init__() was not called')
        return 0

    def _start(self):
        self.check_made()
        if not self._closing:
            self.watch(self.loop.watched_sockets)
            self.flush_later()

    @property
    def _loop(self):
        return None if self._pipe is None else self.loop

    @property
    def _fileno(self):
        return self.fd

    def get_extra_info(self, name, default=None):
        """'pipe'; ``default`` for what there is not."""
        return self._extra.get(name, default)

    def get_protocol(self):
        """The protocol that this transport calls."""
        return self._protocol

    def set_protocol(self, protocol):
        """Call another protocol from now on."""
        self._protocol = protocol

    def is_closing(self):
        """Whether the transport is closing or closed."""
        return self._closing

    # -- the ring --------------------------------------------------------------------------------

    cdef int flush(self) except -1:
        self.flush_scheduled = False
        if self._pipe is None or self.loop.closing:
            return 0
        if self.wants_to_read():
            self.poll(POLL_IN, &self.reading)
        if self.wants_to_write():
            self.poll(POLL_OUT, &self.writing)
        return 0

    cdef int poll(self, Role role, operation** place) except -1:
        cdef operation* op
        cdef io_uring_sqe* sqe
        if place[0] is not NULL or not self.is_open():
            return 0
        op = self.loop.operations.acquire_compact(self)
        op.role = role
        sqe = self.loop.ring.prepare(op, IORING_OP_POLL_ADD, self.fd, 0, 0)
        sqe.poll32_events = POLLIN if role == POLL_IN else POLLOUT
        place[0] = op
        return 0

    cdef bint is_open(self) except -1:
        """Whether the program has left its pipe open; if not the number may be another's."""
        try:
            return self._pipe is not None and self._pipe.fileno() == self.fd
        except ValueError:
            return False         # of a closed file
        except Exception:
            return True          # asyncio asks once only

    cdef int socket_closed(self) except -1:
        return self.stop()

    cdef int result(self, operation* op, int res, uint32_t flags) except -1:
        if op.role == POLL_IN:
            self.reading = NULL
        else:
            self.writing = NULL
        if self.loop.closing:
            return 0
        if self.held:
            self.held = self.losing = False
            return self.lose(self.lost_exc)
        if res == -ECANCELED:
            return self.flush_later()       # if it was another ring's
        # Whatever it tells: the system call says more.
        if op.role == POLL_IN:
            self.readable = True
        else:
            self.writable = True
        return self.schedule()

    cdef int flush_later(self) except -1:
        if not self.flush_scheduled:
            self.flush_scheduled = True
            self.loop.flush_soon(self)
        return 0

    cdef int schedule(self) except -1:
        if self.scheduled:
            return 0
        self.scheduled = True
        if self.loop.thread:
            return self.loop.push(self)
        self.loop.deliveries_due.append(self)
        return 0

    cdef int deliver(self) except -1:
        self.scheduled = False
        if self._closing and self._pipe is None:
            return 0
        context = self.context       # resume_reading() brings another
        if PyContext_Enter(context) < 0:
            return -1
        try:
            self.ready()
        finally:
            PyContext_Exit(context)
            if self.wants_to_read() or self.wants_to_write():
                self.flush_later()
        return 0

    cdef int internal_error(self, object exc) except -1:
        if self._pipe is not None and not self._closing:
            self._fatal_error(exc)
        return 0

    cdef bint wants_to_read(self) noexcept:
        return False

    cdef bint wants_to_write(self) noexcept:
        return False

    cdef int ready(self) except -1:
        raise NotImplementedError

    # -- the end ---------------------------------------------------------------------------------

    cdef int stop(self) except -1:
        """Have the polls cancelled; at once if may be: they hold the pipe open."""
        self.check_made()
        self.unwatch()
        if not self.loop.owns_ring() or self.loop.closing \
                or self.reading is NULL and self.writing is NULL:
            return 0
        if self.reading is not NULL:
            self.loop.ring.cancel(self.reading)
        if self.writing is not NULL:
            self.loop.ring.cancel(self.writing)
        return self.loop.ring.submit_and_get_events()

    cdef int lose(self, object exc) except -1:
        """Have ``connection_lost`` called in the next turn, once."""
        if not self.losing:
            self.losing = True
            if self.lost_context is None:
                self.lost_context = PyContext_CopyCurrent()
            self.loop.call_soon(self._call_connection_lost, exc, context=self.lost_context)
        return 0

    def _call_connection_lost(self, exc):
        if self.reading is not NULL or self.writing is not NULL:
            self.held = True
            self.lost_exc = exc
            if self.lost_context is None:
                self.lost_context = PyContext_CopyCurrent()
            self.stop()          # whoever closed in another thread could not
            return
        try:
            self._protocol.connection_lost(exc)
        finally:
            self._pipe.close()
            self._pipe = self.sock = self._protocol = self.lost_exc = self.lost_context = None

    cdef int report(self, object exc, str message) except -1:
        self.loop.call_exception_handler({
            'message': message, 'exception': exc, 'transport': self, 'protocol': self._protocol})
        return 0


cdef class ReadPipeTransport(PipeTransport):
    """asyncio's ``ReadTransport`` of a pipe."""

    max_size = READ_SIZE

    def __repr__(self):
        return describe(self, '' if self._pipe is None
                        else 'idle' if self._paused or self._closing else 'polling')

    @property
    def __class__(self):
        return unix_events._UnixReadPipeTransport

    def is_reading(self):
        """Whether the protocol is being given what comes."""
        return not self._paused and not self._closing

    def pause_reading(self):
        """Give the protocol nothing until ``resume_reading``."""
        if not self.is_reading():
            return
        self._paused = True
        self.stop()
        if self.loop._debug:
            logger.debug('%r pauses reading', self)

    def resume_reading(self):
        """Give the protocol what comes again."""
        if self._closing or not self._paused:
            return
        self._paused = False
        self.context = PyContext_CopyCurrent()
        self._start()
        if self.readable:
            self.schedule()
        if self.loop._debug:
            logger.debug('%r resumes reading', self)

    def close(self):
        """Close the pipe; ``connection_lost`` is called in the next turn."""
        if not self._closing:
            self._close(None)

    def _close(self, exc):
        self._closing = True
        self.stop()
        self.lose(exc)

    def _fatal_error(self, exc, message='Fatal error on pipe transport'):
        if not isinstance(exc, OSError) or exc.errno != errno.EIO:      # of a terminal's end
            self.report(exc, message)
        elif self.loop._debug:
            logger.debug('%r: %s', self, message, exc_info=True)
        self._close(exc)

    cdef bint wants_to_read(self) noexcept:
        return not self._paused and not self._closing and not self.readable

    cdef int ready(self) except -1:
        if not self.readable or self._paused or self._closing:
            return 0
        self.readable = False
        if not self.is_open():
            return 0             # the program has closed it: as with asyncio nothing comes
        try:
            data = self.read()
        except OSError as exc:
            self._fatal_error(exc, 'Fatal read error on pipe transport')
            return 0
        if data:
            try:
                self._protocol.data_received(data)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self.report(exc, f'Exception in callback {self!r}')
        elif data is not None:
            if self.loop._debug:
                logger.info('%r was closed by peer', self)
            self._closing = True
            self.stop()
            self.loop.call_soon(self._protocol.eof_received)
            self.lose(None)
        return 0

    cdef object read(self):
        """What has come; empty at the end; None: there is nothing."""
        cdef PyObject* memory = NULL
        cdef char* content
        cdef ssize_t length
        cdef int error
        if self.long_ones:
            keep_heap()
            memory = allocate_bytes(READ_SIZE)
            content = bytes_content(memory)
        else:
            content = self.loop.receive_area.get().content
        with nogil:              # others may have made it one that blocks
            length = read(self.fd, content, READ_SIZE)
            error = errno_now
        if length < 0:
            Py_CLEAR(memory)
            if error == EAGAIN or error == EINTR:
                return None
            raise OSError(error, os.strerror(error))
        self.long_ones = length >= LONG
        if memory is NULL:
            return PyBytes_FromStringAndSize(content, length)
        return resize_bytes(memory, length)


cdef class WritePipeTransport(PipeTransport):
    """asyncio's ``WriteTransport`` of a pipe."""

    def __init__(self, LoopCore loop, pipe, protocol, waiter=None, extra=None):
        self.pieces = deque()
        self.set_write_buffer_limits()
        PipeTransport.__init__(self, loop, pipe, protocol, waiter, extra)
        # A terminal may have something to be read.
        self.for_hang_up = not stat.S_ISCHR(os.fstat(self.fd).st_mode)

    def __repr__(self):
        if self._pipe is None:
            return describe(self, '')
        return describe(self, f'{"polling" if self.pieces else "idle"} '
                              f'bufsize={self.buffered}')

    @property
    def __class__(self):
        return unix_events._UnixWritePipeTransport

    @property
    def _buffer(self):
        return bytearray(b''.join(self.pieces))[self.offset:]

    # -- writing ---------------------------------------------------------------------------------

    def write(self, data):
        """Write ``data``; never waits.

        Of exact ``bytes`` what the pipe has no room for is not copied.
        """
        cdef Py_buffer view
        cdef iovec memory
        cdef Py_ssize_t written = 0
        assert isinstance(data, (bytes, bytearray, memoryview)), repr(data)
        self.check_made()
        if not data:
            return
        if self._conn_lost or self._closing:
            if self._conn_lost >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
                logger.warning('pipe closed by peer or os.write(pipe, data) raised exception.')
            self._conn_lost += 1
            return
        try:
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        except BufferError as exc:
            if self.pieces:
                raise
            self._conn_lost += 1
            self._fatal_error(exc, 'Fatal write error on pipe transport')
            return
        try:
            send_deferred_datagrams(self.loop)
            if not self.pieces:
                memory.iov_base, memory.iov_len = view.buf, view.len
                written = self.write_now(&memory, 1)
            if written < 0:
                self.write_failed(<int>-written)
                return
            if written == view.len:
                return
            if self.pieces and written:      # of another thread that has written meanwhile
                data = PyBytes_FromStringAndSize(<char*>view.buf + written, view.len - written)
            elif type(data) is not bytes:
                data = PyBytes_FromStringAndSize(<char*>view.buf, view.len)
            if not self.pieces:
                self.flush_later()
                self.context = PyContext_CopyCurrent()      # where it goes on, as with asyncio
                self.offset = written
            self.pieces.append(data)
            self.buffered += view.len - written
        finally:
            PyBuffer_Release(&view)
        self.maybe_pause()

    def writelines(self, list_of_data):
        """Write all of ``list_of_data``."""
        self.write(b''.join(list_of_data))

    cdef Py_ssize_t write_now(self, const iovec* memory, int count) except? -1:
        """How much the pipe has taken; or ``-errno``."""
        cdef ssize_t written
        cdef int error
        if not self.is_open():
            return -<int>errno.EBADF
        with nogil:              # others may have made it one that blocks
            written = writev(self.fd, memory, count)
            error = errno_now
        if written >= 0:
            return written
        return 0 if error == EAGAIN or error == EINTR else -error

    cdef int forget_queue(self) except -1:
        self.pieces.clear()
        self.offset = self.buffered = 0
        return 0

    cdef int write_failed(self, int error) except -1:
        self._conn_lost += 1
        self.forget_queue()
        self._fatal_error(OSError(error, os.strerror(error)),
                          'Fatal write error on pipe transport')
        return 0

    cdef bint wants_to_read(self) noexcept:
        return self.for_hang_up and self._pipe is not None and not self.readable \
            and not (self._closing and not self.buffered)

    cdef bint wants_to_write(self) noexcept:
        return self.buffered != 0

    cdef int ready(self) except -1:
        if self.readable and self._pipe is not None and not (self._closing and not self.buffered):
            self.closed_by_peer()
        elif self.writable and self.buffered:
            self.write_queued()
        self.writable = False
        return 0

    cdef int closed_by_peer(self) except -1:
        if self.loop._debug:
            logger.info('%r was closed by peer', self)
        self._close(BrokenPipeError() if self.buffered else None)
        return 0

    cdef Py_ssize_t write_pieces(self, Py_ssize_t* tried) except? -1:
        """Write the first of the queue; how much the pipe has taken of what it was given."""
        cdef iovec memory[PIECES]
        cdef int count = 0
        # Held, for other threads run meanwhile.
        cdef list pieces = list(islice(self.pieces, <int>PIECES))
        tried[0] = -self.offset
        for piece in pieces:
            memory[count].iov_base = PyBytes_AS_STRING(piece)
            memory[count].iov_len = PyBytes_GET_SIZE(piece)
            tried[0] += PyBytes_GET_SIZE(piece)
            count += 1
        memory[0].iov_base = <char*>memory[0].iov_base + self.offset
        memory[0].iov_len -= self.offset
        return self.write_now(memory, count)

    cdef int strike_off(self, Py_ssize_t written) except -1:
        """So much of the queue is written."""
        cdef Py_ssize_t left
        while written and self.pieces:      # another thread may have dropped it meanwhile
            left = PyBytes_GET_SIZE(self.pieces[0]) - self.offset
            if written < left:
                self.offset += written
                self.buffered -= written
                return 0
            self.pieces.popleft()
            self.offset = 0
            self.buffered -= left
            written -= left
        return 0

    cdef int write_queued(self) except -1:
        cdef Py_ssize_t tried = 0, written = 0
        while self.pieces and written == tried:
            written = self.write_pieces(&tried)
            if written == -EPIPE and self.for_hang_up:
                # Its own poll tells as much, and with asyncio comes first.
                return self.closed_by_peer()
            if written < 0:
                return self.write_failed(<int>-written)
            self.strike_off(written)
        if self.pieces:
            return 0
        if self._protocol_paused:
            self._protocol_paused = False
            self.tell_protocol('resume_writing')      # may write more
        if self._closing and not self.buffered and not self.losing:
            self.losing = True
            self.stop()
            self._call_connection_lost(None)
        return 0

    # -- what asyncio's inherits, and does not do --------------------------------------------------

    def is_reading(self):
        """Nothing is read from it: NotImplementedError."""
        raise NotImplementedError

    def pause_reading(self):
        """Nothing is read from it: NotImplementedError."""
        raise NotImplementedError

    def resume_reading(self):
        """Nothing is read from it: NotImplementedError."""
        raise NotImplementedError

    # -- flow control ----------------------------------------------------------------------------

    def get_write_buffer_size(self):
        """Bytes that the pipe has not accepted yet."""
        return self.buffered

    def get_write_buffer_limits(self):
        """The pair (low, high), in bytes."""
        return (self._low_water, self._high_water)

    def set_write_buffer_limits(self, high=None, low=None):
        """Set the bytes at which the protocol is told to pause (high) and resume (low)."""
        self._high_water, self._low_water = water_marks(high, low)
        if self._protocol is not None:
            self.maybe_pause()

    cdef int maybe_pause(self) except -1:
        if <size_t>self.buffered > self._high_water and not self._protocol_paused:
            self._protocol_paused = True
            self.tell_protocol('pause_writing')
        return 0

    cdef int tell_protocol(self, str name) except -1:
        try:
            getattr(self._protocol, name)()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.report(exc, f'protocol.{name}() failed')
        return 0

    # -- the end ---------------------------------------------------------------------------------

    def can_write_eof(self):
        """Whether ``write_eof()`` may be called."""
        return True

    def write_eof(self):
        """Close once everything is written."""
        if self._closing:
            return
        assert self._pipe
        self._closing = True
        if not self.buffered:
            self.stop()
            self.lose(None)

    def close(self):
        """Close once everything is written: ``connection_lost(None)``."""
        if self._pipe is not None and not self._closing:
            self.write_eof()

    def abort(self):
        """Close without writing what is queued."""
        self._close(None)

    def _close(self, exc=None):
        self._closing = True
        self.forget_queue()
        self.stop()
        self.lose(exc)

    def _fatal_error(self, exc, message='Fatal error on pipe transport'):
        if not isinstance(exc, OSError):
            self.report(exc, message)
        elif self.loop._debug:
            logger.debug('%r: %s', self, message, exc_info=True)
        self._close(exc)


cdef str describe(PipeTransport end, str state):
    info = [type(end).__name__]
    if end._pipe is None:
        info.append('closed')
    elif end._closing:
        info.append('closing')
    if state and end.loop._closed:
        state = 'open'
    return f'<{" ".join([*info, f"fd={end.fd}", state]).rstrip()}>'
