"""What pipe transports have in common.

They have asyncio's API, and are polled by the ring.  Each poll tells once and is armed again
when it was heeded: so it does not matter whether a read has emptied the pipe (in packet mode
one never does).
"""
from cpython.contextvars cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from libc.stdint cimport uint32_t

from uringloop._cpython cimport attributes_of
from uringloop.core.loop_core cimport LoopCore
from uringloop.ring.abi cimport *
from uringloop.ring.operations cimport POLL_IN, POLL_OUT, Role, operation
from uringloop.ring.watched cimport WatchedSocket

import os
import stat
from asyncio import futures

from uringloop.core.unclosed import warn_of


cdef extern from "<poll.h>":
    enum:
        POLLIN
        POLLOUT

# Kept: a finalizer may run when the interpreter has emptied the modules already.
cdef object warn_of_unclosed = warn_of


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
        attributes_of(self)
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
            try:
                warn_of_unclosed(f'unclosed transport {self!r}', self)
            finally:             # warnings may be errors
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
        """Have ``flush()`` called at the end of the turn; from any thread."""
        if self.flush_scheduled:
            return 0
        self.flush_scheduled = True
        self.loop.flush_soon(self)
        return self.loop.wake_from_elsewhere()

    cdef int schedule(self) except -1:
        if self.scheduled:
            return 0
        self.scheduled = True
        if self.loop.thread:
            return self.loop.push(self)
        self.loop.deliveries_due.append(self)
        return 0

    cdef int schedule_next(self) except -1:
        """The same after the loop has next looked at the kernel, as what asyncio's select finds."""
        if not self.scheduled:
            self.scheduled = True
            self.loop.deliveries_due.append(self)
        return self.loop.wake_from_elsewhere()

    cdef int deliver(self) except -1:
        self.scheduled = False
        if self._closing and self._pipe is None:
            return 0
        context = self.context       # resume_reading() brings another
        PyContext_Enter(context)
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


cdef str describe(PipeTransport end, str state):
    info = [type(end).__name__]
    if end._pipe is None:
        info.append('closed')
    elif end._closing:
        info.append('closing')
    if state and not end.loop.opened:
        state = 'open'
    info.append(f'fd={end.fd}')
    info.append(state)
    return f'<{" ".join(info).rstrip()}>'
