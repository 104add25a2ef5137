"""How a transport receives: the ring polls its socket, and a system call reads.

Nothing is taken from a socket before the protocol is about to be called with it, but for short
datagrams, of which one call takes a few.  So what a protocol has not been given is still there:
for whoever the socket is handed to, and for the peer to be slowed down by.  (Multishot receives
into provided buffers take it earlier, and are not faster: an echo of 1 KiB to 32 TCP connections
1.02 times as fast, of 64 B datagrams 1.00, of 16 KiB 0.7 to 0.9, for which pieces are still in
the cache when they are answered.)
"""
from uringloop.ring.abi cimport *
from uringloop.ring.operations cimport POLL_IN
from uringloop.transport.delivery cimport RECEIVE_ERROR, received_item
from uringloop.transport.socket_transport cimport CLOSING, LOST, OPEN, SocketTransport

import os


cdef class Receiver:
    """A poll, and what it has told."""

    # -- the poll ------------------------------------------------------------------------------

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
        self.pausing = False
        if self.cancel_due or transport.state >= LOST:
            transport.cancel_requests()
        if self.wants_arming() and not self.readable:
            # If it is, that is read first: a poll would only tell of it again.
            self.armed = transport.arm_poll(POLL_IN, self.lasting)
        return 0

    cdef int pause(self) except -1:
        """The protocol has paused: the poll goes, unless that is only for a few turns."""
        transport = <SocketTransport>self.transport
        self.has_paused = self.cancel_due = True
        if self.armed is NULL or self.pausing:
            return 0
        self.pausing = True
        return transport.loop.flush_when_idle(transport)

    cdef int resume(self) except -1:
        self.cancel_due = False
        return 0

    cdef int polled(self, int res, bint goes_on) except -1:
        """The poll has told something, or has ended, or both."""
        transport = <SocketTransport>self.transport
        if not goes_on:
            self.armed = NULL
        if transport.state >= CLOSING:
            return transport.lose_if_let_go()
        if res >= 0:
            return self.noticed(res)
        if res != -ECANCELED:
            transport.delivery.post(RECEIVE_ERROR, OSError(-res, os.strerror(-res)), None)
            transport.delivery.schedule()
        return transport.flush_later_here()

    cdef int noticed(self, int events) except -1:
        """There is something to be read."""
        transport = <SocketTransport>self.transport
        self.readable = True
        if not transport.delivery.paused:
            return transport.delivery.schedule()
        # It stays in the socket, and need not be told of again until ``resume_reading``.
        self.cancel_due = True
        return transport.flush_later_here()

    cdef int looked_at(self, bint readable) except -1:
        """For one that has asked for it: see ``core.short_reads``."""
        return 0

    # -- reading -------------------------------------------------------------------------------

    cdef int read(self) except -1:
        """Read what is there, and hand it over or post it.

        If more is there ``readable`` says so afterwards: that has the next turn.

        ``readable`` stays until the socket is read: an exception may come first, that goes on.
        """
        raise NotImplementedError

    cdef int read_before_errors(self) except -1:
        return 0

    cdef int hand_over(self, received_item* item) except -1:
        """Give the protocol what ``read`` or ``polled`` has posted."""
        raise NotImplementedError
