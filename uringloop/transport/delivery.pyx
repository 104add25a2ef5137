"""How a transport calls its protocol.

Completions are settled where no code of the program may run: what they tell is kept.  The
transport then waits in the loop's ready queue; when its turn comes it reads, and the protocol
is called, in the transport's context.
"""
cimport cython
from cpython.contextvars cimport PyContext_Enter, PyContext_Exit
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_INCREF
from libc.stdlib cimport free, realloc

from uringloop.core.clock cimport clock_coarse
from uringloop.transport.sender cimport WRITABLE
from uringloop.transport.socket_transport cimport CLOSING, SocketTransport

from collections import deque


cdef double LONG_ENOUGH = 0.005        # seconds that the datagrams of one turn may take


@cython.final
cdef class Delivery:
    """What is to be told to a transport's protocol."""

    def __dealloc__(self):
        while self.count:
            self.count -= 1
            Py_CLEAR(self.items[self.first + self.count].payload)
            Py_CLEAR(self.items[self.first + self.count].address)
        free(self.items)

    # -- what is to be delivered -----------------------------------------------------------------

    cdef int post(self, int kind, object payload, object address) except -1:
        """Have ``run`` call the receiver's ``hand_over`` with this."""
        cdef received_item* item
        cdef uint32_t end = self.first + self.count
        if end == self.size:
            item = <received_item*>realloc(self.items, (2 * end + 2) * sizeof(received_item))
            if item is NULL:
                raise MemoryError
            self.items = item
            self.size = 2 * end + 2
        item = &self.items[end]
        Py_INCREF(payload)
        Py_INCREF(address)
        item.kind = kind
        item.payload = <PyObject*>payload
        item.address = <PyObject*>address
        self.count += 1
        return 0

    cdef received_item take(self) noexcept:
        """The oldest, whose references are the caller's now; there is one."""
        cdef received_item item = self.items[self.first]
        self.first += 1
        self.count -= 1
        if self.count == 0:
            self.first = 0
        return item

    cdef int post_error(self, object exc) except -1:
        """A send has failed: tell, even while reading is paused."""
        if self.errors is None:
            self.errors = deque()
        self.errors.append(exc)
        return self.schedule()

    cdef int post_internal_error(self, object exc) except -1:
        """What our own code has met, say a MemoryError, ends the transport and not the loop.

        As with asyncio; but not now, for completions may be being settled.
        """
        if self.internal_error is None:
            self.internal_error = exc
        if isinstance(exc, MemoryError):
            (<SocketTransport>self.transport).loop.receive_area.give_up_reserve()
        return self.schedule()

    cdef int schedule(self) except -1:
        """Have ``run`` called in the loop's next turn."""
        transport = <SocketTransport>self.transport
        if not self.scheduled:
            if transport.loop.thread:
                transport.loop.push(transport)
            else:
                # What was waiting when the loop starts to run goes first.
                transport.loop.deliveries_due.append(transport)
            self.scheduled = True
        return 0

    cdef int schedule_next(self) except -1:
        """The same after the loop has next looked at the kernel, as what asyncio's select finds."""
        if not self.scheduled:
            (<SocketTransport>self.transport).loop.deliveries_due.append(
                <SocketTransport>self.transport)
            self.scheduled = True
        return 0

    # -- delivering ------------------------------------------------------------------------------

    cdef int run(self) except -1:
        """Read, and call the protocol, in the transport's context; then send on."""
        transport = <SocketTransport>self.transport
        context = self.context       # resume_reading() brings another
        self.scheduled = False
        try:
            PyContext_Enter(context)
            self.running = True
            try:
                self.call_protocol()
            finally:
                self.running = False
                PyContext_Exit(context)
            if transport.loop.deferring is transport:
                transport.send_deferred()        # answers don't wait for other callbacks
            if self.resume_due or transport.sender.room == WRITABLE:
                self.go_on_writing()
        finally:
            self.schedule_rest()
        return 0

    cdef int call_protocol(self) except -1:
        transport = <SocketTransport>self.transport
        receiver = transport.receiver
        self.until = clock_coarse() + LONG_ENOUGH
        if self.internal_error is not None:
            try:
                transport.end_by_internal_error(self.internal_error)
            finally:
                self.internal_error = None
        if self.count:
            # What a pause, an exception that went on, or the end of the last turn has left.
            self.hand_over()
            if self.errors:
                self.deliver_errors()
            return 0
        if self.errors:
            self.deliver_errors()
        if receiver.readable and not self.count and not self.paused and transport.state < CLOSING:
            receiver.read()
            self.hand_over()
        return 0

    cdef int hand_over(self) except -1:
        """All that was posted, until the protocol pauses, or others have waited long enough."""
        cdef received_item item
        while self.count and not self.paused:
            item = self.take()
            (<SocketTransport>self.transport).receiver.hand_over(&item)
            if self.is_time_up():
                break
        return 0

    cdef int discard(self) except -1:
        """The transport is lost: the receiver counts what a pause has left undelivered."""
        cdef received_item item
        while self.count:
            item = self.take()
            (<SocketTransport>self.transport).receiver.hand_over(&item)
        return 0

    cdef bint is_time_up(self) noexcept:
        """Whether what is delivered in this turn has taken long enough."""
        return clock_coarse() >= self.until

    cdef int go_on_writing(self) except -1:
        """There is room: send what waits for it, and tell the protocol, in one go.

        As asyncio has it, in a copy of the context of the call that was told to pause.
        """
        transport = <SocketTransport>self.transport
        context = self.context if self.resume_context is None else self.resume_context
        PyContext_Enter(context)
        try:
            if transport.sender.room == WRITABLE:
                self.going_on = True
                try:
                    transport.sender.retry()
                finally:
                    self.going_on = False
                transport.tell_errors()
            if self.resume_due:
                self.resume_due = False
                self.resume_context = None
                transport.resume_writing()
        finally:
            PyContext_Exit(context)
            transport.lose_if_all_sent()
        return 0

    cdef int deliver_errors(self) except -1:
        # What had come before a send failed is heard of first; it may be the reason.
        transport = <SocketTransport>self.transport
        if not self.count and not self.paused and transport.state < CLOSING:
            transport.receiver.read_before_errors()
        if not self.count or self.paused:
            self.tell_failures(False)
        return 0

    cdef int tell_failures(self, bint at_the_call) except -1:
        """Tell of the sends that have failed so far; of those that fail meanwhile, in another turn.

        Not within itself: a protocol that sends again would be called once within each call.
        ``at_the_call``: as asyncio does within ``sendto``, whose caller gets what it raises.
        """
        transport = <SocketTransport>self.transport
        if self.errors is None or self.telling:
            return 0
        self.telling = True
        try:
            for _ in range(len(self.errors)):
                exc = self.errors.popleft()
                if not at_the_call:
                    transport.deliver_error(exc)
                elif transport._protocol is not None and not transport.aborted:
                    transport._protocol.error_received(exc)
        finally:
            self.telling = False
        return 0

    cdef int schedule_rest(self) except -1:
        """Whatever is left, also by an exception that goes on (KeyboardInterrupt), has its turn."""
        transport = <SocketTransport>self.transport
        receiver = transport.receiver
        if self.internal_error is not None or self.errors or self.resume_due \
                or transport.sender.room == WRITABLE or not self.paused and (
                    self.count or receiver.readable and transport.state < CLOSING):
            return self.schedule_next()
        if receiver.wants_arming():
            transport.flush_later_here()
        return 0
