"""What the ring does for the program's own sockets: it waits.

To receive is to wait, by a poll, until there is something, and then to take it by a plain
system call: so a cancelled call has taken nothing that it could lose.  To connect, to
accept and to wait for room is to wait in the same way.
"""
from libc.stdint cimport uint32_t

from uringloop.ring.abi cimport *
from uringloop.ring.operations cimport MULTISHOT, RESULT_DUE, operation
from uringloop.ring.watched cimport WatchedSocket

cdef extern from "<poll.h>":
    enum:
        POLLOUT
        POLLERR
        POLLHUP

cdef class SocketCall(WatchedSocket):
    """A poll, and the coroutine that waits for it."""

    cdef int start(self) except -1:
        cdef operation* op = self.loop.operations.acquire_compact(self)
        cdef io_uring_sqe* sqe = self.loop.ring.prepare(
            op, IORING_OP_POLL_ADD, self.fd, 0, MULTISHOT if self.lasting else 0)
        sqe.poll32_events = self.events
        sqe.len = IORING_POLL_ADD_MULTI if self.lasting else 0
        self.op = op
        return 0

    cdef int result(self, operation* op, int res, uint32_t flags) except -1:
        cdef bint goes_on = op.due & RESULT_DUE != 0
        if not goes_on:
            self.op = NULL
        if self.done:
            return 0
        self.error_alone = res > 0 and not res & self.events & ~POLLERR
        if res == -ECANCELED and not self.abandoned and not self.socket_gone:
            # Its ring was replaced while the call waited: once more, on the new one.
            return self.loop.flush_soon(self)
        if res > 0 and self.events & POLLOUT and not res & (POLLOUT | POLLERR | POLLHUP):
            # There is no room: see transport.sender.Sender.poll_ended.
            if goes_on:
                return 0
            self.lasting = True
            return self.loop.flush_soon(self)
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
        if self.done:
            return 0
        self.done = True
        self.unwatch()
        if self.op is not NULL and self.loop.owns_ring():
            self.loop.ring.cancel(self.op)       # one that would go on
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
        # Not before somebody looks after it: an interrupt may come.  With the turn's other
        # submissions: what is polled by mistake, because the program has closed its socket and
        # the number is another's by then, comes to no harm.
        if self.events:          # not one that is done in the next turn anyway
            self.start()
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
