"""Reading from a pipe.

It is read into memory that is in the cache, or straight into what the program gets.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.contextvars cimport PyContext_CopyCurrent
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR

from uringloop._cpython cimport allocate_bytes, bytes_content, resize_bytes
from uringloop.core.receive_area cimport keep_heap
from uringloop.pipe.transport cimport PipeTransport, describe
from uringloop.ring.abi cimport *

import errno
import os
from asyncio import unix_events
from asyncio.log import logger


cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int, void*, size_t)

cdef enum:
    READ_SIZE = 262144        # as asyncio
    LONG = 8192               # bytes; shorter ones are copied out


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
            self.schedule_next()
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
        try:
            if not isinstance(exc, OSError) or exc.errno != errno.EIO:      # of a terminal's end
                self.report(exc, message)
            elif self.loop._debug:
                logger.debug('%r: %s', self, message, exc_info=True)
        finally:                 # the program's exception handler may exit
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
            try:
                if self.loop._debug:
                    logger.info('%r was closed by peer', self)
            finally:             # which may be interrupted
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
