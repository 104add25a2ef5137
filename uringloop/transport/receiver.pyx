"""What the receiving halves of datagram and stream transports have in common.

What comes is received by one multishot operation, many pieces a system call.
Long ones are better read one by one: then the memory that one was received
into, and has been answered from, is still in the cache when the next is, and so
is the kernel's own.  (Datagrams of 60,000 bytes echoed on loopback, 8 of them on
the way, medians of twenty runs: 42,000/s with four received at a time, 50,000/s
one by one.)  And a protocol that pauses after each has no operation called back.
"""
from uringloop.ring.buffers cimport ReceiveBuffers
from uringloop.ring.operations cimport operation
from uringloop.ring.abi cimport *
from uringloop.transport.socket_transport cimport SocketTransport

import os


cdef extern from "<poll.h>":
    enum:
        POLLIN

cdef enum Event:
    ERROR = 0                 # as both kinds of transport have it


cdef class Receiver(SocketTransport):
    """Receives by one multishot operation, or one by one."""

    cdef int arm_or_cancel(self) except -1:
        """Before the kernel is entered."""
        if self.cancel_due or self._conn_lost:
            self.cancel_requests()
        if self.reading and self.receiving is NULL and not self._closing \
                and not self.paused_reading:
            # Also if the one that was to be called back has ended by itself meanwhile.
            self.arm()
        return 0

    cdef int arm(self) except -1:
        """Have the ring receive, or say when there is something to be read."""
        if self.inbox_count or self.readable:
            # That first, or a protocol that pauses and resumes would have us collect
            # ever more for it, and a poll would find again what is about to be read.
            # ``inbox_empty`` comes back here.
            return 0
        cdef ReceiveBuffers buffers
        if not self.one_by_one:
            buffers = self.receive_buffers()
            if buffers is not None:
                return self.receive(buffers)
            self.one_by_one = True
        return self.wait_readable()

    cdef int receive(self, ReceiveBuffers buffers) except -1:
        """Arm the multishot operation."""
        return 0

    cdef ReceiveBuffers receive_buffers(self):
        """Those that the multishot operation receives into; None: there is no memory for them."""
        return None

    cdef int exhausted(self) except -1:
        """The receive buffers ran out."""
        cdef ReceiveBuffers buffers = self.receive_buffers()
        self.loop.counters.receive_exhausted += 1
        if buffers is None or not buffers.provide_more():
            # Read by itself next.  (With thousands of sockets that all have something, all but
            # as many as there are buffers would be armed in vain, turn after turn.)
            self.one_by_one = True
        return 0

    cdef int wait_readable(self) except -1:
        cdef operation* op = self.loop.operations.acquire_compact(self)
        cdef io_uring_sqe* sqe
        cdef bint fixed = self.slot >= 0
        op.status = READABLE
        sqe = self.loop.ring.prepare(op, IORING_OP_POLL_ADD, self.slot if fixed else self._sock_fd,
                                     IOSQE_FIXED_FILE if fixed else 0, 0)
        sqe.poll32_events = POLLIN
        self.receiving = op
        return 0

    cdef int poll_ended(self, int res) except -1:
        if self._closing:
            return self.maybe_finish()
        if res >= 0:
            self.readable = True
            return self.schedule_delivery()
        if res != -ECANCELED:
            self.one_by_one = False
            self.post(ERROR, OSError(-res, os.strerror(-res)), None)
        return self.flush_quietly()

    cdef int inbox_empty(self) except -1:
        try:
            if self.readable or self.one_by_one:
                self.read_on()
        finally:
            # After a KeyboardInterrupt too: what comes is still to be heard of.
            if self.receiving is NULL and not self._closing and not self.paused_reading:
                self.flush_later()
        return 0

    cdef int read_on(self) except -1:
        """Read what is there, and hand it over."""
        return 0

    cdef int socket_closed(self) except -1:
        """The program has closed its socket, whose number is not to be used any more."""
        self._fatal_error(OSError(EBADF, os.strerror(EBADF)), 'Fatal error on transport')
        return 0

    cdef int choose_way(self, bint one_by_one) except -1:
        """Receive the next ones so."""
        if one_by_one == self.one_by_one \
                or one_by_one and self._sock.fileno() != self._sock_fd \
                or not one_by_one and self.receive_buffers() is None:
            return 0
        self.one_by_one = one_by_one
        if self.receiving is not NULL and (self.receiving.status == READABLE) != one_by_one:
            # The one that is armed goes; the other way is taken once it is gone.
            self.cancel_due = True
            return self.flush_later()
        return 0
