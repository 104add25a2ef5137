"""How datagrams leave: at the call, or in which order and when from the queue.

    sendto -> system call -> kernel                        the usual one
    sendto -> queue -> segmented system call -> kernel     those of a bulk that are alike
    sendto -> queue -> submission -> kernel                zero-copy

Those of a bulk that lie side by side in memory are one operation, a train: it leaves as one
segmented send, zero-copy if that pays.

A datagram leaves inside ``sendto``, as with asyncio.  Three kinds go into the queue: those
that a turn sends in bulk; those that go zero-copy; and those that the socket has no room
for, with all behind them.  How the queue leaves is in ``system_calls`` and ``submissions``.

Order: datagrams leave in the order of the calls.  Nothing waits inside the ring: what a
socket has no room for stays in the queue, and so does all that is sent later, until a
poll finds room.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t

from uringloop._cpython cimport fd_of
from uringloop.core.clock cimport clock_coarse, monotonic
from uringloop.datagram.control cimport send_at_once
from uringloop.datagram.queue cimport HEADER, QUEUE_LIMIT, TRAINS_LIMIT
from uringloop.datagram.segmentation cimport (
    DIFFERENT, SAME, SHORTER, Likeness, compare, is_group)
from uringloop.datagram.submissions cimport DatagramSubmissions
from uringloop.datagram.system_calls cimport TRUSTED, send_once
from uringloop.datagram.transport cimport DatagramTransport
from uringloop.ring.abi cimport *
from uringloop.ring.operations cimport EXPLICIT, give_back
from uringloop.ring.payloads cimport copied, payload
from uringloop.ring.registered_memory cimport LentMemory
from uringloop.ring.trains cimport SEGMENTED_BYTES
from uringloop.ring.zerocopy cimport ZEROCOPY_MINIMUM
from uringloop.transport.receiver cimport LONG
from uringloop.transport.sender cimport FULL
from uringloop.transport.socket_transport cimport LOST


# Seconds: what answers may wait, and how long none does after they have waited too long.
cdef double ANSWERS_WAIT = 0.0002
cdef double TOO_LONG = 0.002
cdef double MUCH_TOO_LONG = 0.01      # of a bulk, twice in a row
cdef double AT_ONCE = 1.0
cdef double LOOKS_APART = 0.001       # seconds; at a socket of the program's, once it is trusted


@cython.final
cdef class DatagramSender(DatagramSubmissions):
    """Whether a datagram leaves at the call, and when the queue does."""

    # -- one datagram --------------------------------------------------------------------------

    cdef int send(self, object owner, payload* memory, sockaddr_storage* address,
                  uint32_t address_length) except -1:
        """Send a datagram, or queue it; ``owner`` holds the memory."""
        transport = <DatagramTransport>self.transport
        if transport.loop.closing:
            # The socket may outlive the loop, as with asyncio: a last message leaves, at once.
            return self.send_now(owner, memory, address, address_length)
        cdef Likeness likeness = compare(&self.segments, memory.length, address, address_length)
        if likeness == SAME and transport.loop.deferring is transport and memory.immutable \
                and self.bulk.turn == transport.loop.turns and not self.waits():
            # The usual case in a bulk, decided already.
            self.bulk.sends += 1
            self.enqueue(owner, memory, address, address_length, None)
            return self.defer()
        if memory.lent and (self.queue is not NULL or transport.loop.deferring is not None):
            # Those of before leave first, and what is told of them may release this one.
            (<LentMemory>owner).uses += 1
            try:
                return self.send_likely(owner, memory, address, address_length, likeness)
            finally:
                give_back(<LentMemory>owner)
        return self.send_likely(owner, memory, address, address_length, likeness)

    cdef int send_likely(self, object owner, payload* memory, sockaddr_storage* address,
                         uint32_t address_length, Likeness likeness) except -1:
        """``send``, of what is not that far in a bulk."""
        cdef bint zerocopy, bulk, answers
        if likeness == SHORTER and self.queue is NULL:
            likeness = DIFFERENT
        zerocopy = memory.immutable and (memory.lent or memory.length >= ZEROCOPY_MINIMUM) \
            and self.goes_zerocopy(memory.base, memory.length, memory.length, memory.lent,
                                   address, address_length)
        answers = self.answers_many(memory.length)
        bulk = self.is_bulk() and (zerocopy or answers or likeness != DIFFERENT) \
            and self.options_stay(address, address_length)
        self.send_deferred_of_others()
        if not bulk and self.nothing_before() and not zerocopy:
            return self.send_now(owner, memory, address, address_length)
        if not memory.immutable:
            owner = copied(memory)
        self.enqueue(owner, memory, address, address_length, None)
        if answers:
            return self.send_or_defer(bulk and not self.have_waited(), bulk)
        return self.send_or_defer(bulk and likeness != SHORTER, bulk)

    cdef bint answers_many(self, size_t length) noexcept:
        """Whether what is sent now may leave with others that are not like it, by one call.

        (32 peers answered with 1,200 bytes: a tenth less processor time.  It is less the calls:
        one that is answered at once wakes up, to find nothing else.  What is long is answered
        while it is in the cache.)
        """
        return ((<DatagramTransport>self.transport).delivery.running and not self.connected
                and 0 < length <= self.segments.limit and length < LONG
                and (self.at_once_until == 0 or self.may_wait()))

    cdef bint options_stay(self, sockaddr_storage* address, uint32_t length) except -1:
        """Whether what is sent now may leave later, with the options that the socket has then.

        A program sets those of its own socket unseen, for each peer or each answer perhaps, and
        may set them back.  So it is watched for a while, in which all leaves at the call: when it
        sends, and when its callback is over.  Later it is looked at now and then: when something
        leaves, and when something is sent next.  Whom it is connected with next cannot be known,
        nor by which interface, for nobody tells that, what goes to a group of IPv4 is to leave.
        """
        if not self.given:
            return True
        if self.connected or length and is_group(address):
            return False
        if 0 <= self.trust < TRUSTED:
            self.look_again(1)
            self.look_due = True
            (<DatagramTransport>self.transport).flush_later_here()
            return False
        if self.look_due:
            self.look_again(0)
        return self.trust == TRUSTED

    cdef void look_now_and_then(self) noexcept:
        """Something leaves that has waited."""
        cdef double now = clock_coarse()
        if now >= self.next_look:
            self.next_look = now + LOOKS_APART
            self.look_again(0)
            self.look_due = True

    cdef bint is_bulk(self) noexcept:
        """Count a send: whether it may wait for others of a bulk."""
        return self.count_send() and (self.at_once_until == 0 or self.may_wait())

    cdef bint may_wait(self) noexcept:
        """Whether it is long enough ago that something had to wait for what takes long."""
        if monotonic() < self.at_once_until:
            return False
        self.at_once_until = 0
        return True

    cdef bint have_waited(self) noexcept:
        """Whether the first of the queue has waited long enough for a protocol that takes long."""
        cdef double now = monotonic()
        if self.answered_at == 0:
            self.answered_at = now
        return now > self.answered_at + ANSWERS_WAIT

    cdef void note_wait(self) noexcept:
        """The answers leave.  What comes behind an answer may take any time to be handled."""
        cdef double now = monotonic()
        if now > self.answered_at + TOO_LONG:
            self.at_once_until = now + AT_ONCE
        self.answered_at = 0

    cdef void note_delay(self) noexcept:
        """A bulk leaves.  Others of it, or other callbacks, may take any time to come to an end."""
        if clock_coarse() <= self.deferred_at + MUCH_TOO_LONG:
            self.delays = 0
        elif self.delays:
            self.at_once_until = monotonic() + AT_ONCE
        else:
            self.delays = 1          # which may be another program's doing
        self.deferred_at = 0

    cdef bint nothing_before(self) except -1:
        """What was sent before leaves: whether nothing of it waits for room.

        Of what fails the protocol hears later: what it sends then is not to come before what is
        being sent now.
        """
        if self.queue is not NULL and not self.waits():
            self.send_queued()
        return self.queue is NULL and not self.waits()

    cdef int send_or_defer(self, bint deferred, bint bulk) except -1:
        """The queue leaves now, or, its last being of a bulk, with what is sent next."""
        if deferred and not self.waits():
            self.defer()
        else:
            self.send_queued()
            if not bulk:
                (<DatagramTransport>self.transport).delivery.tell_failures(True)
        return self.maybe_pause_full()

    cdef int send_reported(self, object owner, payload* memory, size_t segment_size,
                           sockaddr_storage* address, uint32_t address_length,
                           object future) except -1:
        """Send without copying if that pays; ``future`` tells what became of it.

        ``segment_size``: it leaves as datagrams of that size; 0: as one.
        """
        if memory.lent:
            (<LentMemory>owner).uses += 1         # see ``send``
        try:
            self.send_deferred_of_others()
            if segment_size and memory.length > segment_size:
                self.enqueue_trains(owner, memory, segment_size, address, address_length, future)
            else:
                self.append(owner, memory, 0, address, address_length, future)
        finally:
            if memory.lent:
                give_back(<LentMemory>owner)
        if self.is_bulk() and self.queue is not NULL and not self.waits() \
                and self.options_stay(address, address_length):
            self.defer()
        else:
            self.send_queued()
        return self.maybe_pause_full()

    cdef int send_now(self, object owner, payload* memory, sockaddr_storage* address,
                      uint32_t address_length) except -1:
        """Send by a plain system call, as asyncio does, and tell as it does."""
        transport = <DatagramTransport>self.transport
        cdef int error = EBADF           # the program has closed it: the number may be another's
        if fd_of(transport._sock) == transport._sock_fd:
            error = send_once(transport._sock_fd, memory.base, memory.length, address,
                              address_length)
        if error and self.is_of_before(error):
            error = send_once(transport._sock_fd, memory.base, memory.length, address,
                              address_length)
        if error == 0:
            transport.loop.counters.datagrams_sent += 1
            return 0
        if (error == EAGAIN or error == EINTR) and not transport._conn_lost \
                and not transport.loop.closing:
            if not memory.immutable:
                owner = copied(memory)
            self.enqueue(owner, memory, address, address_length, None)
            self.room = FULL
            self.flush_if_full()
            return self.maybe_pause_full()
        return self.failed_now(error, memory.length)

    cdef int failed_now(self, int error, size_t length) except -1:
        transport = <DatagramTransport>self.transport
        transport.loop.counters.datagrams_dropped += 1
        if error == EAGAIN or error == EINTR:
            return 0             # of one that is closed, for which nothing waits for room
        transport.delivery.tell_failures(False)          # those of before come before
        transport._protocol.error_received(self.error_of(error, length))
        return 0

    cdef int send_message(self, bytes data, bytes control, int flags, bint alone,
                          sockaddr_storage* address, uint32_t address_length) except -1:
        """Send a datagram with control messages, or queue it, behind what was sent before.

        ``alone``: no other has the same ones, and leaves with it.
        """
        transport = <DatagramTransport>self.transport
        cdef Likeness likeness
        cdef bint bulk
        if flags & MSG_MORE:
            # What comes next is its end, and UDP_SEGMENT would not be looked at: all would be one.
            # A zero-copy send that fails would be tried again when the beginning is lost already.
            self.segments.limit = 0
            self.zerocopy_able = False
        if transport.loop.closing:
            return self.send_message_now(data, control, flags, address, address_length)
        likeness = compare(&self.segments, PyBytes_GET_SIZE(data), address, address_length)
        if alone or likeness == SHORTER and self.queue is NULL:
            likeness = DIFFERENT
        bulk = self.is_bulk() and likeness != DIFFERENT \
            and self.options_stay(address, address_length)
        self.send_deferred_of_others()
        if not bulk and self.nothing_before():
            return self.send_message_now(data, control, flags, address, address_length)
        try:
            self.append_message(data, control, flags, address, address_length)
        except OSError as exc:
            return self.failed_now(exc.errno, PyBytes_GET_SIZE(data))
        return self.send_or_defer(bulk and likeness != SHORTER, bulk)

    cdef int send_message_now(self, bytes data, bytes control, int flags,
                              sockaddr_storage* address, uint32_t address_length) except -1:
        transport = <DatagramTransport>self.transport
        cdef int error = EBADF           # the program has closed it: the number may be another's
        if fd_of(transport._sock) == transport._sock_fd:
            for _ in range(2):
                error = send_at_once(
                    transport._sock_fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data),
                    PyBytes_AS_STRING(control), PyBytes_GET_SIZE(control), flags, address,
                    address_length)
                if error == 0 or not self.is_of_before(error):
                    break
        if error == 0:
            transport.loop.counters.datagrams_sent += 1
            return 0
        if (error == EAGAIN or error == EINTR) and not transport._conn_lost \
                and not transport.loop.closing:
            try:
                self.append_message(data, control, flags, address, address_length)
            except OSError as exc:
                return self.failed_now(exc.errno, PyBytes_GET_SIZE(data))
            self.room = FULL
            self.flush_if_full()
            return self.maybe_pause_full()
        return self.failed_now(error, PyBytes_GET_SIZE(data))

    # -- the queue -----------------------------------------------------------------------------

    cdef int drop_queue(self) except -1:
        # What is released, or allocated, while it is sent may run code of the program.
        self.drop_due = self.sending
        while self.queue is not NULL and not self.drop_due:
            self.tell_of_first(self.queued, ECANCELED)
        return 0

    cdef bint has_queue(self) noexcept:
        return self.queue is not NULL

    cdef int defer(self) except -1:
        """What is queued leaves at the end of the turn, or as soon as that is enough of it.

        Only one transport of a loop does so at a time: when another sends, this one's go
        first, so that all leave in the order of the calls.
        """
        assert self.queue is not NULL
        transport = <DatagramTransport>self.transport
        cdef size_t length = self.queue.length
        cdef bint enough = self.queued >= QUEUE_LIMIT
        # What asks for zero-copy is no segment of anything: the longer the chain, the better.
        if not self.queue.traits & EXPLICIT:
            if self.queue.segment_size:
                enough = self.queued > TRAINS_LIMIT
            elif length <= self.segments.limit:
                enough = enough \
                    or self.buffered - self.queued * HEADER + length > SEGMENTED_BYTES
        if enough:
            return self.send_queued()
        if self.deferred_at == 0:
            self.deferred_at = clock_coarse()
        if transport.loop.deferring is not transport:
            self.send_deferred_of_others()
            transport.loop.deferring = transport
        return transport.flush_later()

    cdef int send_deferred_of_others(self) except -1:
        transport = <DatagramTransport>self.transport
        if transport.loop.deferring is not None and transport.loop.deferring is not transport:
            transport.loop.deferring.send_deferred()
        return 0

    cdef int send_queued(self) except -1:
        transport = <DatagramTransport>self.transport
        cdef size_t before = self.buffered
        if self.sending or transport._sock is None or transport.loop.closing:
            return 0
        if self.answered_at:
            self.note_wait()
        if self.deferred_at:
            self.note_delay()
        if self.given and self.trust == TRUSTED:
            self.look_now_and_then()
        self.sending = True
        try:
            if self.may_submit():
                transport.join_ring()
            while self.queue is not NULL and not self.waits() and not self.drop_due:
                if self.goes_by_ring(self.queue):
                    self.send_chain()
                else:
                    self.send_by_calls()
        finally:
            self.sending = False
            self.last = NULL         # what was tried nobody joins
            if self.drop_due:
                self.drop_queue()
            if self.queue is not NULL and not self.waits():
                transport.flush_later()      # an exception leaves: the rest has its turn
            else:
                self.flush_if_full()
        if transport.loop.deferring is transport:
            transport.loop.deferring = None
        if self.buffered < before:
            # The protocol may send more when it is told to resume: so first that.
            self.maybe_resume()
        return transport.lose_if_all_sent()

    # -- room ------------------------------------------------------------------------------------

    cdef int flush_if_full(self) except -1:
        """If the socket is full, have the queue wait for it to have room."""
        transport = <DatagramTransport>self.transport
        # For one that is lost there is nothing to wait for: it would be flushed each turn, and the
        # kernel not be entered for what holds its socket.
        if self.room == FULL and transport.state < LOST:
            return transport.flush_later()
        return 0

    cdef int wait_for_room(self) except -1:
        # An AF_UNIX socket that is not connected is writable at any time, however full its
        # peer is.  (asyncio's loop spins on it.)
        transport = <DatagramTransport>self.transport
        if transport.family == AF_UNIX and not self.connected:
            if self.futile_polls >= 2:
                return self.start_retry_timer()
            self.futile_polls += 1
        return self.poll_room()

    cdef int maybe_pause_full(self) except -1:
        """What is only deferred is no reason to pause: the socket may have room for it."""
        if self.buffered > self.high_water and self.waits():
            return self.maybe_pause()
        return 0
