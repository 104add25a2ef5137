"""Writing to a pipe.

It is written by a system call at once; what it has no room for waits in a queue.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.contextvars cimport PyContext_CopyCurrent

from uringloop.core.loop_core cimport LoopCore, send_deferred_datagrams
from uringloop.core.flow_control cimport tell, water_marks
from uringloop.pipe.transport cimport PipeTransport, describe
from uringloop.ring.abi cimport *

import errno
import os
import stat
from asyncio import constants, unix_events
from asyncio.log import logger
from collections import deque
from itertools import islice


cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<sys/uio.h>" nogil:
    ssize_t writev(int, const iovec*, int)

cdef enum:
    PIECES = 64               # of one call


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
        try:
            if self.loop._debug:
                logger.info('%r was closed by peer', self)
        finally:                 # which may be interrupted
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
            # It may write more.
            tell(self.loop, self, self._protocol, 'resume_writing')
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
            tell(self.loop, self, self._protocol, 'pause_writing')
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
        try:
            if not isinstance(exc, OSError):
                self.report(exc, message)
            elif self.loop._debug:
                logger.debug('%r: %s', self, message, exc_info=True)
        finally:                 # the program's exception handler may exit
            self._close(exc)
