"""How a transport receives.

What comes is received by one multishot operation, many pieces a system call.
Long ones are better read one by one: then the memory that one was received
into, and has been answered from, is still in the cache when the next is, and so
is the kernel's own.  (Datagrams of 60,000 bytes echoed on loopback, 8 of them on
the way, medians of twenty runs: 42,000/s with four received at a time, 50,000/s
one by one.)  And a protocol that pauses after each has no operation cancelled.
"""
from libc.stdint cimport uint32_t

from uringloop.ring.abi cimport *
from uringloop.ring.buffers cimport ReceiveBuffers
from uringloop.ring.operations cimport POLL_IN, RECEIVE, operation
from uringloop.transport.delivery cimport RECEIVE_ERROR, received_item
from uringloop.transport.socket_transport cimport CLOSING, LOST, OPEN, SocketTransport

import os


cdef class Receiver:
    """What receives for a transport: a multishot operation, or a poll and system calls."""

    # -- arming --------------------------------------------------------------------------------

    cdef int start(self) except -1:
        """``connection_made`` has been called: receive from now on."""
        return (<SocketTransport>self.transport).flush_later()

    cdef bint wants_arming(self) noexcept:
        transport = <SocketTransport>self.transport
        return (self.armed is NULL and transport.state == OPEN and not transport.delivery.paused
                and transport._sock is not None)

    cdef int arm_or_cancel(self) except -1:
        """Called by ``flush``: cancel what is not to go on, and arm what is wanted."""
        transport = <SocketTransport>self.transport
        if self.cancel_due or transport.state >= LOST:
            transport.cancel_requests()
        if self.wants_arming():
            # Also if the one that was to be cancelled has ended by itself meanwhile.
            self.arm()
        return 0

    cdef int arm(self) except -1:
        """Have the ring receive, or say when there is something to be read."""
        transport = <SocketTransport>self.transport
        cdef ReceiveBuffers buffers
        if transport.delivery.count or self.readable:
            # That first, or a protocol that pauses and resumes would have us collect
            # ever more for it, and a poll would find again what is about to be read.
            # ``all_delivered`` comes back here.
            return 0
        if self.mode == BY_MULTISHOT:
            buffers = self.receive_buffers()
            if buffers is not None:
                return self.arm_multishot(buffers)
            self.mode = ONE_BY_ONE
        self.armed = transport.arm_poll(POLL_IN)
        return 0

    cdef int arm_multishot(self, ReceiveBuffers buffers) except -1:
        """Submit the multishot operation, as ``armed``."""
        raise NotImplementedError

    cdef ReceiveBuffers receive_buffers(self):
        """Those that the multishot operation receives into; None: there is no memory for them."""
        return None

    cdef bint is_multishot_armed(self) noexcept:
        """Whether a multishot receive is armed, or cancelled and not yet gone."""
        return self.armed is not NULL and self.armed.role == RECEIVE

    cdef int set_mode(self, ReceiveMode mode) except -1:
        """Receive so from now on.

        Changes nothing where that can't be: no socket to read from, no memory for buffers.
        """
        transport = <SocketTransport>self.transport
        if mode == self.mode or mode == ONE_BY_ONE and not transport.has_socket() \
                or mode == BY_MULTISHOT and self.receive_buffers() is None:
            return 0
        self.mode = mode
        if self.armed is not NULL and (self.armed.role == POLL_IN) != (mode == ONE_BY_ONE):
            # The one that is armed goes; the other is armed once it is gone.
            self.cancel_due = True
            return transport.flush_later()
        return 0

    # -- completions -----------------------------------------------------------------------------

    cdef int completed(self, operation* op, int res, uint32_t flags) except -1:
        """Something was received, or the operation has ended, or both."""
        transport = <SocketTransport>self.transport
        cdef ReceiveBuffers buffers
        cdef unsigned number = flags >> IORING_CQE_BUFFER_SHIFT
        if not flags & IORING_CQE_F_MORE:
            self.armed = NULL
        if flags & IORING_CQE_F_BUFFER:
            buffers = self.receive_buffers()
            try:
                self.received(buffers, number, res)
            finally:
                buffers.recycle(number)
        if flags & IORING_CQE_F_MORE:
            return 0
        if op.role == POLL_IN:
            return self.poll_ended(res)
        if res == -ENOBUFS:
            self.buffers_exhausted()
        elif res != -EAGAIN:         # it can come through the ring: then it is armed again
            self.ended(res)
        if transport.state >= CLOSING:
            return transport.lose_if_let_go()
        return transport.flush_later_here()

    cdef int received(self, ReceiveBuffers buffers, unsigned number, int res) except -1:
        """``res`` bytes are in buffer ``number``, which the kernel gets back afterwards."""
        return 0

    cdef int ended(self, int res) except -1:
        """The multishot operation has ended: by what has come, an error, or cancellation."""
        return 0

    cdef int buffers_exhausted(self) except -1:
        transport = <SocketTransport>self.transport
        cdef ReceiveBuffers buffers = self.receive_buffers()
        transport.loop.counters.receive_exhausted += 1
        if buffers is None or not buffers.provide_more():
            # Read by itself next.  (With thousands of sockets that all have something, all but
            # as many as there are buffers would be armed in vain, turn after turn.)
            self.mode = ONE_BY_ONE
        return 0

    cdef int poll_ended(self, int res) except -1:
        transport = <SocketTransport>self.transport
        if transport.state >= CLOSING:
            return transport.lose_if_let_go()
        if res >= 0:
            self.readable = True
            return transport.delivery.schedule()
        if res != -ECANCELED:
            self.mode = BY_MULTISHOT
            transport.delivery.post(RECEIVE_ERROR, OSError(-res, os.strerror(-res)), None)
        return transport.flush_later_here()

    # -- delivering ------------------------------------------------------------------------------

    cdef int begin_turn(self) except -1:
        self.enough = False
        return 0

    cdef int hand_over(self, received_item* item) except -1:
        """Give the protocol what ``received`` or ``ended`` has posted."""
        raise NotImplementedError

    cdef int all_delivered(self) except -1:
        """All that was posted is delivered: read on, or have the ring receive more."""
        transport = <SocketTransport>self.transport
        try:
            if self.readable or self.mode == ONE_BY_ONE:
                self.read()
        finally:
            # After a KeyboardInterrupt too: what comes is still to be heard of.
            if self.armed is NULL and transport.state < CLOSING and not transport.delivery.paused:
                transport.flush_later()
        return 0

    cdef int read(self) except -1:
        """Read what is there, and hand it over."""
        return 0

    cdef int read_before_errors(self) except -1:
        return 0
