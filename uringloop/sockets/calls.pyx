"""What the ring does for the program's own sockets: it waits, and it sends without copying.

To receive is to wait, by a poll, until there is something, and then to take it by a plain
system call: so a cancelled call has taken nothing that it could lose.  To connect, to
accept and to wait for room is to wait in the same way.

A submission names a descriptor *number*, so zero-copy sends submit at once: what the
program closes and opens later in the turn cannot be meant.
"""
from cpython.ref cimport Py_CLEAR
from libc.stdint cimport uint16_t, uint32_t, uintptr_t

from uringloop.ring.abi cimport *
from uringloop.ring.operations cimport MEMORY, NOTIF_DUE, SEND, ZEROCOPY, OperationOwner, operation
from uringloop.ring.ring cimport Ring
from uringloop.ring.watched cimport WatchedSocket
from uringloop.ring.zerocopy cimport SEND_ZC_FLAGS, is_reported, send_report

import os

cdef extern from "<poll.h>":
    enum:
        POLLOUT
        POLLERR
        POLLHUP

cdef int TRIES = 100


cdef class SocketCall(WatchedSocket):
    """A poll, and the coroutine that waits for it."""

    cdef int start(self) except -1:
        cdef operation* op = self.loop.operations.acquire_compact(self)
        cdef io_uring_sqe* sqe = self.loop.ring.prepare(op, IORING_OP_POLL_ADD, self.fd, 0, 0)
        sqe.poll32_events = self.events
        self.op = op
        return 0

    cdef int result(self, operation* op, int res, uint32_t flags) except -1:
        self.op = NULL
        if res == -ECANCELED and not self.abandoned and not self.socket_gone:
            # Its ring was replaced while the call waited: once more, on the new one.
            return self.loop.flush_soon(self)
        if res > 0 and self.events & POLLOUT and not res & (POLLOUT | POLLERR | POLLHUP):
            self.no_room = True       # see transport.sender.Sender.poll_ended
        # Whatever the poll says: what is tried next tells.
        if self.behind_others:
            self.loop.deliveries_due.append(self)
            return 0
        return self.finish()

    cdef int deliver(self) except -1:
        return self.finish()

    cdef int flush(self) except -1:
        if self.done or self.abandoned:
            return 0
        if self.sock.fileno() != self.fd:
            # The program has closed its socket meanwhile: the number may be another's.
            return self.finish()
        return self.start()

    cdef int finish(self) except -1:
        self.done = True
        self.unwatch()
        if not self.socket_gone and self.future is not None and not self.future.done():
            self.future.set_result(None)
        return 0

    cdef int socket_closed(self) except -1:
        # As with asyncio, nobody hears of it: whoever waits is to be cancelled.
        self.socket_gone = True
        if self.op is not NULL:
            self.loop.ring.cancel(self.op)
        return 0

    cdef int internal_error(self, object exc) except -1:
        """Whoever waits is told."""
        self.done = True
        self.unwatch()
        if self.future is not None and not self.future.done():
            self.future.set_exception(exc)
        return 0

    def begin_to_wait(self):
        """The future that is done when the socket is ready."""
        self.loop._ensure_fd_no_transport(self.fd)
        self.future = self.loop.new_future()
        self.watch(self.loop.watched_sockets)
        return self.future

    def abandon(self):
        """The caller waits no longer: call the poll back."""
        if self.abandoned:
            return
        self.abandoned = True
        self.unwatch()
        if not self.done and not self.socket_gone and self.op is not NULL and self.loop.owns_ring():
            self.loop.ring.cancel(self.op)
            self.loop.ring.submit_and_get_events()


cdef class ZerocopySends(OperationOwner):
    """Owns the zero-copy sends on the program's own sockets.  They don't wait."""

    cdef int result(self, operation* op, int res, uint32_t flags) except -1:
        op.status = res           # a stream may have taken a part
        self.loop.counters.zerocopy_sent += res >= 0
        if op is self.sending:
            self.sending = NULL
            self.res = res
        if op.future is not NULL and not op.due & NOTIF_DUE:
            resolve(op, True)
        return 0

    cdef int notified(self, operation* op) except -1:
        self.loop.counters.buffers_released += 1
        if op.status >= 0 and is_reported(op):
            self.loop.counters.zerocopy_copied += op.copied
            self.loop.paths.record(&op.address, op.address_length, op.length, op.copied)
        if op.future is not NULL:
            resolve(op, op.copied)
        return 0

    cdef int internal_error(self, object exc) except -1:
        # Not now: completions are being settled.
        self.loop.call_soon(self.loop.call_exception_handler, {
            'message': 'A completion could not be dealt with', 'exception': exc})
        return 0

    cdef int orphaned(self, operation* op) except -1:
        if op.future is not NULL and self.loop.closing:
            (<object>op.future).cancel()
        return 0

    cdef ssize_t send(self, operation* op, int fd) except? -1:
        """Send at once; the result is in when this returns.  Errors as ``-errno``."""
        cdef io_uring_sqe* sqe
        cdef Ring ring = self.loop.ring
        cdef int tries = 0
        sqe = ring.prepare(op, IORING_OP_SEND_ZC, fd, 0, MEMORY | SEND | ZEROCOPY)
        sqe.addr = <uintptr_t>op.base
        sqe.len = <uint32_t>op.length
        sqe.addr2 = <uintptr_t>&op.address
        sqe.addr_len = <uint16_t>op.address_length
        sqe.msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL
        sqe.ioprio = SEND_ZC_FLAGS
        self.res = -EAGAIN
        self.sending = op
        ring.submit_sends(self, 1)
        while self.sending is op:
            # The kernel has not taken it: it is short of memory, or wants its overflowed
            # completions fetched first.  What is queued can't be called back.
            tries += 1
            if tries > TRIES:
                self.sending = NULL
                raise OSError(EBUSY, f'{os.strerror(EBUSY)}: the kernel takes no submissions')
            ring.submit_and_get_events()
            ring.settle_sends(self)
        return self.res


cdef int resolve(operation* op, bint copied) except -1:
    """The kernel has let go of the memory.  (Errors have been told at the call.)"""
    future = <object>op.future
    if op.status >= 0 and not future.done():
        future.set_result(send_report(op.status, copied, is_reported(op)))
    Py_CLEAR(op.future)
    return 0
