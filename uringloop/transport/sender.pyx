"""How a transport sends.

What is sent leaves by a system call inside ``sendto`` and ``write``, or waits in a queue: for
the end of the turn, to leave with others; for results; or until the socket has room.  Nothing
waits inside the ring.
"""
cimport cython
from cpython.contextvars cimport PyContext_CopyCurrent

from uringloop.ring.abi cimport *
from uringloop.ring.operations cimport POLL_OUT, RESULT_DUE, operation
from uringloop.transport.bulk cimport counts_as_bulk
from uringloop.transport.socket_transport cimport LOST, SocketTransport


cdef extern from "<poll.h>":
    enum:
        POLLOUT
        POLLERR
        POLLHUP

cdef double RETRY_FIRST = 0.00006    # seconds; a reader that is fast has made room by then
cdef double RETRY_LAST = 0.016


cdef class Sender:
    """The queue of a transport, and whether its socket has room."""

    cdef bint has_queue(self) noexcept:
        return False

    cdef int send_queued(self) except -1:
        """Send what is queued, in order, until the socket is full."""
        return 0

    cdef int drop_queue(self) except -1:
        """Forget what is queued and not yet given to the kernel."""
        return 0

    cdef int look_at_options(self, bint expected) except -1:
        """The program is about to change its socket; ``expected``: it has."""
        return 0

    cdef int completed(self, operation* op, int res) except -1:
        """The result of a submitted send."""
        raise NotImplementedError

    cdef int notified(self, operation* op) except -1:
        """The kernel has let go of the memory of a zero-copy send."""
        return 0

    cdef int orphaned(self, operation* op) except -1:
        """The ring is closed, and nobody knows yet whether the kernel has let go."""
        return 0

    @cython.final
    cdef bint count_send(self) noexcept:
        """Count a send: whether it is to wait for the turn's others, to leave with them."""
        transport = <SocketTransport>self.transport
        return counts_as_bulk(&self.bulk, transport.loop.turns) and self.may_defer()

    @cython.final
    cdef bint may_defer(self) noexcept:
        """Whether what is sent now may wait for the end of the turn.

        Of a socket that the program has made, it may set options between two sends, or send by
        itself, which nobody sees: there only what answers what has just come may.
        """
        transport = <SocketTransport>self.transport
        return (self.batching and (not self.given or transport.delivery.running)
                and transport.loop.runs_here())

    cdef bint waits(self) noexcept:
        """Whether what is sent now has to queue up behind what waits for the kernel."""
        return self.room != ROOM or self.results_due != 0

    @cython.final
    cdef bint may_submit(self) noexcept:
        """Whether this is a moment to submit, and have the results at once."""
        transport = <SocketTransport>self.transport
        return transport.loop.runs_here() and not transport.loop.ring.settling

    # -- room ------------------------------------------------------------------------------------

    cdef int poll_room(self) except -1:
        """Have the ring say when the socket takes more."""
        if self.room == FULL:
            if self.polling is NULL:
                self.polling = (<SocketTransport>self.transport).arm_poll(POLL_OUT, self.lasting)
            self.room = POLLED
        return 0

    cdef int poll_ended(self, operation* op, int res) except -1:
        """A poll for room has told something; one that goes on may tell more."""
        transport = <SocketTransport>self.transport
        cdef bint goes_on = op.due & RESULT_DUE != 0
        if not goes_on:
            self.polling = NULL
        if transport.state >= LOST:
            return transport.lose_if_let_go()
        if self.room != POLLED and self.room != FULL:
            return 0             # nobody waits: it was called back, or tells once more
        if res > 0 and not res & (POLLOUT | POLLERR | POLLHUP):
            # The ring's polls also end when the peer has shut its sending half (EPOLLRDHUP,
            # asked for or not), and would at once each time.  A multishot poll says so once,
            # and then tells of what is new only.
            if goes_on:
                return 0
            self.lasting = True
            self.room = FULL
            return transport.flush_later_here()
        if res > 0 and not res & POLLOUT:
            # An error queue that nobody reads says so at any time: once is enough.
            self.lasting = True
        # If it is not so (an error, another ring), the send tells.  As with asyncio it has its
        # turn among the callbacks, and what is written before it waits behind what is queued.
        self.room = WRITABLE
        return transport.delivery.schedule()

    cdef int start_retry_timer(self) except -1:
        """Try again a little later: a poll would say at any time that there is room."""
        transport = <SocketTransport>self.transport
        self.room = TIMED
        self.retry_delay = min(max(2 * self.retry_delay, RETRY_FIRST), RETRY_LAST)
        transport.loop.call_later(self.retry_delay, transport._retry_sending)
        return 0

    cdef int retry(self) except -1:
        """There may be room by now."""
        transport = <SocketTransport>self.transport
        self.room = ROOM
        if transport.state >= LOST:
            return 0
        try:
            self.send_queued()
            if self.polling is not NULL and self.room != FULL and transport.loop.owns_ring():
                transport.loop.ring.cancel(self.polling)      # one that would go on
        finally:
            if self.room == ROOM and self.has_queue():
                # The program has closed its socket, say, or interrupted this: ``flush`` tells.
                transport.flush_later_here()
        return 0

    # -- flow control ----------------------------------------------------------------------------

    cdef int maybe_pause(self) except -1:
        if self.buffered > self.high_water and not self.protocol_paused:
            transport = <SocketTransport>self.transport
            self.protocol_paused = True
            if not transport.has_context:
                transport.delivery.resume_context = PyContext_CopyCurrent()
            transport.tell_protocol('pause_writing')
        return 0

    cdef int maybe_resume(self) except -1:
        transport = <SocketTransport>self.transport
        if self.protocol_paused and self.buffered <= self.low_water:
            transport.delivery.resume_due = True
            if not transport.delivery.going_on:
                transport.delivery.schedule()
        return 0
