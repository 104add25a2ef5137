"""How datagrams leave.

    sendto -> system call -> kernel                        the usual one
    sendto -> queue -> segmented system call -> kernel     those of a bulk that are alike
    sendto -> queue -> submission -> kernel                zero-copy

Those of a bulk that lie side by side in memory are one operation, a train: it leaves as one
segmented send, zero-copy if that pays.

A datagram leaves inside ``sendto``, as with asyncio.  Three kinds go into the queue: those
that a turn sends in bulk; those that go zero-copy; and those that the socket has no room
for, with all behind them.

Order: datagrams leave in the order of the calls.  Nothing waits inside the ring: what a
socket has no room for stays in the queue, and so does all that is sent later, until a
poll finds room.  The zero-copy sends of one submission are linked, a chain: when one fails
the kernel cancels those behind it, and they are put back, in front.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t

from uringloop._cpython cimport fd_of
from uringloop.core.clock cimport monotonic
from uringloop.datagram.control cimport send_at_once
from uringloop.datagram.outcomes cimport DatagramOutcomes
from uringloop.datagram.queue cimport (
    BY_CALL, HEADER, ONE_BY_ONE, PLAIN, QUEUE_LIMIT, TRAINS_LIMIT, UNDECIDED)
from uringloop.datagram.receiver cimport DatagramReceiver
from uringloop.datagram.segmentation cimport (
    DIFFERENT, SAME, SHORTER, Likeness, compare, count_alike, has_changed, is_allowed, refused,
    send_segmented, send_together, sent_by_itself)
from uringloop.datagram.transport cimport DatagramTransport
from uringloop.ring.abi cimport *
from uringloop.ring.operations cimport (
    EXPLICIT, FELL_BACK, FOLLOWER, LENT, MESSAGE, NOTIF_DUE, ZEROCOPY, operation)
from uringloop.ring.payloads cimport copy_payload, payload
from uringloop.ring.sends cimport prepare_send
from uringloop.ring.trains cimport (
    SEGMENTED_BYTES, datagrams, is_refusal, is_train, send_train)
from uringloop.ring.zerocopy cimport ZEROCOPY_MINIMUM, PathReports, zerocopy_pays
from uringloop.transport.receiver cimport LONG
from uringloop.transport.sender cimport FULL
from uringloop.transport.socket_transport cimport LOST


cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<sys/socket.h>" nogil:
    ssize_t sendto(int, const void*, size_t, int, const sockaddr*, socklen_t)

# Seconds: what answers may wait, and how long none does after they have waited too long.
cdef double ANSWERS_WAIT = 0.0002
cdef double TOO_LONG = 0.002
cdef double AT_ONCE = 1.0

cdef enum:
    CHAIN_LIMIT = 64          # sends of one submission, linked to one another
    TRIES = 1000              # to have the results of them all
    TRUSTED = 64              # looks, between which no option has changed
    DISTRUSTED = -1


@cython.final
cdef class DatagramSender(DatagramOutcomes):
    """How what is in the queue leaves."""

    def __cinit__(self):
        self.retried_end = &self.retried
        self.chain_limit = CHAIN_LIMIT

    # -- one datagram --------------------------------------------------------------------------

    cdef int send(self, object owner, payload* memory, sockaddr_storage* address,
                  uint32_t address_length) except -1:
        """Send a datagram, or queue it; ``owner`` holds the memory."""
        transport = <DatagramTransport>self.transport
        if transport.loop.closing:
            # The socket may outlive the loop, as with asyncio: a last message leaves, at once.
            return self.send_now(owner, memory, address, address_length)
        cdef Likeness likeness = compare(&self.segments, memory.length, address, address_length)
        cdef bint zerocopy, bulk, answers
        if likeness == SAME and transport.loop.deferring is transport and memory.immutable \
                and self.bulk.turn == transport.loop.turns and not self.waits():
            # The usual case in a bulk, decided already.
            self.bulk.sends += 1
            self.enqueue(owner, memory, address, address_length, None)
            return self.defer()
        if likeness == SHORTER and self.queue is NULL:
            likeness = DIFFERENT
        zerocopy = memory.immutable and (memory.lent or memory.length >= ZEROCOPY_MINIMUM) \
            and self.goes_zerocopy(memory.base, memory.length, memory.length, memory.lent,
                                   address, address_length)
        answers = self.answers_many(memory.length)
        bulk = self.count_send() and (zerocopy or answers or likeness != DIFFERENT) \
            and self.options_stay()
        self.send_deferred_of_others()
        if not bulk and self.nothing_before() and not zerocopy:
            return self.send_now(owner, memory, address, address_length)
        if not memory.immutable:
            owner = copy_payload(owner, memory)
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

    cdef bint options_stay(self) noexcept:
        """Whether what is sent now may leave later, with the options that the socket has then.

        A program sets those of its own socket unseen, for each peer or each answer perhaps.  So it
        is watched for a while, in which all leaves at the call, and looked at now and then later.
        """
        if not self.given or self.trust == TRUSTED:
            return True
        if self.trust != DISTRUSTED:
            self.look_again()
        return False

    cdef void look_again(self) noexcept:
        """Compare the options with what they were; but for what the loop has seen being set."""
        cdef bint changed = has_changed(&self.seen, (<DatagramTransport>self.transport)._sock_fd)
        if changed and self.trust and not self.options_changed:
            self.trust = DISTRUSTED
        elif self.trust < TRUSTED:
            self.trust += 1

    cdef bint may_wait(self) noexcept:
        """Whether it is long enough ago that answers had to wait for a protocol that takes long."""
        if monotonic() < self.at_once_until:
            return False
        self.at_once_until = 0
        return True

    cdef bint have_waited(self) noexcept:
        """Whether the first of the queue has waited long enough for a protocol that takes long."""
        cdef double now = monotonic()
        if self.queued == 1:
            self.answered_at = now
        return now > self.answered_at + ANSWERS_WAIT

    cdef void note_wait(self) noexcept:
        """The answers leave.  What comes behind an answer may take any time to be handled."""
        cdef double now = monotonic()
        if now > self.answered_at + TOO_LONG:
            self.at_once_until = now + AT_ONCE
        self.answered_at = 0

    cdef bint nothing_before(self) except -1:
        """What was sent before leaves, and is told of: whether nothing of it waits for room."""
        transport = <DatagramTransport>self.transport
        if self.queue is not NULL and not self.waits():
            self.send_queued()
            while transport.delivery.errors:
                transport.deliver_error(transport.delivery.errors.popleft())
        return self.queue is NULL and not self.waits()

    cdef int send_or_defer(self, bint deferred, bint bulk) except -1:
        """The queue leaves now, or, its last being of a bulk, with what is sent next."""
        if deferred and not self.waits():
            self.defer()
        else:
            self.send_queued()
            if not bulk:
                self.tell_at_the_call()
        return self.maybe_pause_full()

    cdef int tell_at_the_call(self) except -1:
        """What has failed, as asyncio tells it: what ``error_received`` raises is the caller's."""
        transport = <DatagramTransport>self.transport
        while transport.delivery.errors:
            exc = transport.delivery.errors.popleft()
            if transport._protocol is not None and not transport.aborted:
                transport._protocol.error_received(exc)
        return 0

    cdef int send_reported(self, object owner, payload* memory, size_t segment_size,
                           sockaddr_storage* address, uint32_t address_length,
                           object future) except -1:
        """Send without copying if that pays; ``future`` tells what became of it.

        ``segment_size``: it leaves as datagrams of that size; 0: as one.
        """
        self.send_deferred_of_others()
        if segment_size and memory.length > segment_size:
            self.enqueue_trains(owner, memory, segment_size, address, address_length, future)
        else:
            self.append(owner, memory, 0, address, address_length, future)
        if self.count_send() and not self.waits() and self.options_stay():
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
                owner = copy_payload(owner, memory)
            self.enqueue(owner, memory, address, address_length, None)
            self.room = FULL
            self.flush_if_full()
            return self.maybe_pause_full()
        return self.failed_now(error, memory.length)

    cdef bint is_of_before(self, int error) noexcept:
        """Whether the socket may have told of another datagram, and this one has not been tried.

        The error queue has it, too: where the protocol takes that, nothing is to be lost by it.
        """
        return ((<DatagramReceiver>(<DatagramTransport>self.transport).receiver).takes_errors
                and error != EAGAIN and error != EINTR and error != EBADF and error != EMSGSIZE)

    cdef int failed_now(self, int error, size_t length) except -1:
        transport = <DatagramTransport>self.transport
        transport.loop.counters.datagrams_dropped += 1
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
            self.segments.limit = 0
        if transport.loop.closing:
            return self.send_message_now(data, control, flags, address, address_length)
        likeness = compare(&self.segments, PyBytes_GET_SIZE(data), address, address_length)
        if alone or likeness == SHORTER and self.queue is NULL:
            likeness = DIFFERENT
        bulk = self.count_send() and likeness != DIFFERENT and self.options_stay()
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

    cdef bint goes_zerocopy(self, const void* base, size_t length, size_t datagram,
                            bint any_size, const void* address,
                            uint32_t address_length) noexcept:
        return (self.zerocopy_able and self.may_submit()
                and zerocopy_pays(
                    base, length, datagram, any_size, address, address_length, self.paths,
                    (<DatagramTransport>self.transport).loop.operations.pinned))

    cdef bint operation_goes_zerocopy(self, operation* op) noexcept:
        return (op.status == UNDECIDED
                and (op.length >= ZEROCOPY_MINIMUM or op.traits & (EXPLICIT | LENT))
                and self.goes_zerocopy(
                    op.base, op.length, op.segment_size if op.segment_size else op.length,
                    op.traits & (EXPLICIT | LENT), &op.address, op.address_length))

    # -- the queue -----------------------------------------------------------------------------

    cdef int drop_queue(self) except -1:
        transport = <DatagramTransport>self.transport
        cdef operation* op
        # What is released, or allocated, while it is sent may run code of the program.
        self.drop_due = self.sending
        while self.queue is not NULL and not self.drop_due:
            op = self.pop_queue()
            self.buffered -= op.length + HEADER * datagrams(op)
            transport.loop.counters.datagrams_dropped += datagrams(op)
            if op.future is not NULL:
                self.resolve(op, ECANCELED)
            transport.loop.operations.release(op)
        return 0

    cdef bint has_queue(self) noexcept:
        return self.queue is not NULL

    cdef int defer(self) except -1:
        """What is queued leaves at the end of the turn, or as soon as that is enough of it.

        Only one transport of a loop does so at a time: when another sends, this one's go
        first, so that all leave in the order of the calls.
        """
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
            if self.drop_due:
                self.drop_queue()
        if transport.loop.deferring is transport:
            transport.loop.deferring = None
        self.flush_if_full()
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
        if transport.family == AF_UNIX and not self.connected and transport.peername is None:
            if self.futile_polls >= 2:
                return self.start_retry_timer()
            self.futile_polls += 1
        return self.poll_room()

    cdef int maybe_pause_full(self) except -1:
        """What is only deferred is no reason to pause: the socket may have room for it."""
        if self.buffered > self.high_water and self.waits():
            return self.maybe_pause()
        return 0

    # -- by plain system calls -----------------------------------------------------------------

    cdef int send_by_calls(self) except -1:
        """Send the front of the queue: neighbours that are alike as one segmented send."""
        cdef unsigned count
        cdef int error
        if is_train(self.queue):
            return self.send_train_by_calls()
        count = count_alike(&self.segments, self.queue)
        if count < self.queued and self.send_mixed():
            return 0
        if count > 1 and not self.is_refused(
                self.queue.length, &self.queue.address, self.queue.address_length) \
                and self.segments_allowed():
            return self.send_alike(count)
        error = self.send_first(self.queue.length)
        if error == EAGAIN or error == EINTR:
            self.room = FULL
            return 0
        self.learn(self.queue, self.queue.length, error)
        if error == 0:
            return self.sent_by_call()
        return self.first_failed(error)

    cdef bint send_mixed(self) except -1:
        """Send those of the queue that are not alike by one call; False: that has sent none.

        What stops it, an error or a full socket, is met again by the one that it stops at.  But
        for an error of another datagram, which that would be told of for this one.
        """
        transport = <DatagramTransport>self.transport
        cdef unsigned sent, gathered
        if self.connected or self.refusals is not None or self.segments.one_by_one_due \
                or self.segments.limit == 0 or not self.segments_allowed():
            return False
        sent = send_together(&self.segments, self.queue, transport._sock_fd, &gathered)
        transport.loop.counters.datagrams_gathered += gathered if sent else 0
        for _ in range(sent):
            self.sent_by_call()
        return sent != 0

    cdef bint segments_allowed(self) except -1:
        """Whether the socket's options leave a datagram the same as a segment."""
        transport = <DatagramTransport>self.transport
        if not transport.has_socket():
            return False
        cdef bint changed = self.options_changed
        cdef double until = self.segments.allowed_until
        cdef bint allowed = is_allowed(&self.segments, transport._sock_fd, changed)
        if self.trust == TRUSTED and self.segments.allowed_until != until:
            self.look_again()
        self.options_changed = False
        return allowed

    cdef int first_failed(self, int error) except -1:
        cdef operation* op = self.pop_queue()
        self.failed(op, error)
        (<DatagramTransport>self.transport).loop.operations.release(op)
        return 0

    cdef int send_train_by_calls(self) except -1:
        """Send the train at the front of the queue; of one that was refused, one datagram."""
        transport = <DatagramTransport>self.transport
        cdef operation* op = self.queue
        cdef int error
        if op.status != ONE_BY_ONE and self.train_allowed(op) and transport.has_socket():
            error = send_train(op, transport._sock_fd)
            if error and self.is_of_before(error):
                error = send_train(op, transport._sock_fd)
            if error == EAGAIN or error == EINTR:
                self.room = FULL
            elif error == 0:
                self.sent_by_call()
            elif is_refusal(error):
                refused(&self.segments, datagrams(op), error)
                op.status = ONE_BY_ONE
            else:
                self.first_of_train_failed(op, error)
            return 0
        op.status = ONE_BY_ONE
        error = self.send_first(op.segment_size)
        if error == EAGAIN or error == EINTR:
            self.room = FULL
            return 0
        self.learn(op, op.segment_size, error)
        if error:
            return self.first_of_train_failed(op, error)
        transport.loop.counters.datagrams_sent += 1
        self.futile_polls = 0
        self.retry_delay = 0
        self.advance(op)
        return 0

    cdef bint train_allowed(self, operation* op) except -1:
        """Whether path and socket take the train, as far as is known."""
        # What is longer than LONGEST_SEGMENT is a train only where the caller says so.
        return (self.segments.limit != 0
                and not self.is_refused(op.segment_size, &op.address, op.address_length)
                and (op.traits & EXPLICIT or self.segments_allowed()))

    cdef bint is_refused(self, size_t segment_size, const void* address,
                         uint32_t address_length) noexcept:
        """Whether that destination was seen to take no such segments."""
        return self.refusals is not None \
            and self.refusals.expects(address, address_length, segment_size)

    cdef int learn(self, operation* op, size_t length, int error) except -1:
        """A datagram has left, or failed, by itself: was it the segmented send that was refused?"""
        cdef size_t from_size = sent_by_itself(&self.segments, length, error)
        if from_size:
            if self.refusals is None:
                self.refusals = PathReports()
            self.refusals.record(&op.address, op.address_length, from_size, True)
        return 0

    cdef void advance(self, operation* op) noexcept:
        """The first datagram of a train is dealt with."""
        cdef size_t size = op.segment_size
        self.buffered -= size + HEADER
        op.base += size
        op.length -= size
        op.sent += size

    cdef int first_of_train_failed(self, operation* op, int error) except -1:
        """Of a train that has a future, that is told, and the rest does not leave."""
        transport = <DatagramTransport>self.transport
        if op.future is not NULL:
            return self.first_failed(error)
        transport.loop.counters.datagrams_dropped += 1
        if not transport.aborted:
            transport.delivery.post_error(self.error_of(error, op.segment_size))
        self.advance(op)
        return 0

    cdef int send_alike(self, unsigned count) except -1:
        transport = <DatagramTransport>self.transport
        cdef int error = send_segmented(self.queue, count, transport._sock_fd)
        if error and self.is_of_before(error):
            error = send_segmented(self.queue, count, transport._sock_fd)
        if error == EAGAIN or error == EINTR:
            self.room = FULL
        elif error and is_refusal(error):
            refused(&self.segments, count, error)
        elif error:
            self.first_failed(error)
        else:
            transport.loop.counters.datagrams_gathered += count
            while count:
                count -= 1
                self.sent_by_call()
        return 0

    cdef int send_first(self, size_t length) noexcept:
        """Send so much of the first of the queue by itself: 0 or an errno."""
        cdef int error = self.try_first(length)
        return self.try_first(length) if error and self.is_of_before(error) else error

    cdef int try_first(self, size_t length) noexcept:
        transport = <DatagramTransport>self.transport
        cdef operation* op = self.queue
        if fd_of(transport._sock) != transport._sock_fd:
            return EBADF
        if op.traits & MESSAGE:
            return send_at_once(
                transport._sock_fd, op.base, length, <char*>op.message.msg_control,
                op.message.msg_controllen, op.message.msg_flags, &op.address, op.address_length)
        return send_once(transport._sock_fd, op.base, length, &op.address, op.address_length)

    cdef int sent_by_call(self) except -1:
        cdef operation* op = self.pop_queue()
        self.accepted(op)
        (<DatagramTransport>self.transport).loop.operations.release(op)
        return 0

    # -- by the ring ---------------------------------------------------------------------------

    cdef bint goes_by_ring(self, operation* op) except -1:
        """Whether to submit it; its trait ZEROCOPY says how."""
        transport = <DatagramTransport>self.transport
        cdef bint open_here = fd_of(transport._sock) == transport._sock_fd
        op.traits &= ~ZEROCOPY
        if transport.slot < 0 and not open_here:
            return False         # the number may be another's
        if self.operation_goes_zerocopy(op):
            if is_train(op) and not self.train_allowed(op):
                op.status = ONE_BY_ONE
            elif op.length >= ZEROCOPY_MINIMUM or op.traits & EXPLICIT \
                    or count_alike(&self.segments, op) == 1:
                op.traits |= ZEROCOPY
                return True
        # The program has closed its socket meanwhile: the ring still has the file.
        return (op.status != BY_CALL and transport.slot >= 0 and not open_here
                and self.may_submit())

    cdef int send_chain(self) except -1:
        """Submit the front of the queue, each send linked to the next; take the results."""
        transport = <DatagramTransport>self.transport
        cdef operation* chain[CHAIN_LIMIT]
        cdef unsigned count, left = 0, tries = 0
        cdef unsigned room = transport.loop.ring.sqes_left(self.chain_limit)
        if room == 0:
            self.queue.status = BY_CALL          # the kernel takes no submissions now
            return 0
        self.accepted_of_chain = 0
        count = self.prepare_chain(chain, room)
        try:
            transport.loop.ring.submit_chain(transport, count, &left)
        finally:
            self.put_back(chain, count, left)
        while self.results_due and tries < TRIES:
            # Notifications of earlier sends have come in meanwhile, which count as completions
            # too: so the kernel has stopped short of the end of the chain.
            tries += 1
            transport.loop.ring.submit_sends(transport, self.results_due + 1)
        return 0

    cdef unsigned prepare_chain(self, operation** chain, unsigned room) except? 0:
        """Prepare up to ``room`` sends; returns how many."""
        transport = <DatagramTransport>self.transport
        cdef bint fixed = transport.slot >= 0
        cdef:
            unsigned count = 0
            io_uring_sqe* sqe = NULL
            io_uring_sqe* before
        while count < room and self.queue is not NULL and self.goes_by_ring(self.queue):
            before = sqe
            chain[count] = self.pop_queue()
            sqe = prepare_send(
                transport.loop.ring, chain[count],
                transport.slot if fixed else transport._sock_fd,
                IOSQE_FIXED_FILE if fixed else 0, 0 if before is NULL else FOLLOWER)
            if before is not NULL:
                before.flags |= IOSQE_IO_LINK
            self.results_due += 1
            count += 1
        return count

    cdef int put_back(self, operation** chain, unsigned count, unsigned left) except -1:
        """So many of the chain's end the kernel has not taken: they go first, behind those of
        its beginning that have to be tried again."""
        transport = <DatagramTransport>self.transport
        cdef unsigned i
        if left == 0:
            return 0
        for i in range(count, count - left, -1):
            transport.loop.operations.take_back(chain[i - 1])
            self.push_front(chain[i - 1])
        self.results_due -= left
        if transport.aborted:
            self.drop_queue()
        elif left == count:
            self.queue.status = BY_CALL          # it takes no submissions now
        elif self.results_due == 0:
            self.requeue_retried()
        return 0

    cdef int completed(self, operation* op, int res) except -1:
        self.results_due -= 1
        if res >= 0:
            self.accepted_of_chain += 1
            self.accepted(op)
        else:
            self.retry_or_fail(op, -res)
        if self.results_due == 0:
            self.requeue_retried()
        return 0

    cdef int requeue_retried(self) except -1:
        """All results are in: what has to be tried again goes first."""
        transport = <DatagramTransport>self.transport
        if self.retried is NULL and self.accepted_of_chain:
            self.chain_limit = min(2 * self.chain_limit, <unsigned>CHAIN_LIMIT)
        else:
            # So that many failures don't cost the square of their number.
            self.chain_limit = max(self.accepted_of_chain, <unsigned>1)
        if self.retried is not NULL:
            self.retried_end[0] = self.queue
            if self.queue is NULL:
                self.queue_end = self.retried_end
            self.queue = self.retried
            self.queued += self.retried_count
            self.retried = NULL
            self.retried_end = &self.retried
            self.retried_count = 0
        if self.sending:
            return 0               # send_queued() goes on
        if self.queue is not NULL:
            transport.flush_later_here()
        self.maybe_resume()
        transport.lose_if_all_sent()
        return transport.lose_if_let_go()

    cdef int retry_or_fail(self, operation* op, int error) except -1:
        """A send of the chain did not go out: try again, perhaps another way, or tell."""
        transport = <DatagramTransport>self.transport
        cdef operation* second
        cdef bint again = error == ECANCELED
        # Nothing of it has left, then; but who awaits a future is told of what the socket says.
        cdef bint of_before = op.future is NULL and not again and self.is_of_before(error)
        cdef int status = op.status
        if error == EAGAIN:
            again = True
            self.room = FULL
        elif error != ECANCELED and op.traits & ZEROCOPY \
                and (of_before or is_train(op) and op.future is NULL or is_refusal(error)):
            # The same by plain sends, in its place in the order.
            again = True
            status = PLAIN
            if error == EOPNOTSUPP and not is_train(op):
                self.zerocopy_able = False
        if not again or transport.aborted:
            return self.failed(op, error)
        second = transport.loop.operations.clone_for_retry(op)
        second.status = status
        if status == PLAIN:
            second.traits |= FELL_BACK
        if second.future is not NULL and op.due & NOTIF_DUE:
            self.tell_when_both_are_done(op, second)
        if status == PLAIN and is_train(op) and not (of_before or is_refusal(error)):
            # It waited in the socket for the next send: nothing of the train has left.
            self.first_of_train_failed(second, error)
        op.status = -error       # its notification tells nothing of the path
        second.next = NULL
        self.retried_end[0] = second
        self.retried_end = &second.next
        self.retried_count += 1
        return 0


cdef inline int send_once(int fd, const char* base, size_t length, sockaddr_storage* address,
                          uint32_t address_length) noexcept:
    """By a plain system call: 0 or an errno."""
    return 0 if sendto(fd, base, length, MSG_DONTWAIT | MSG_NOSIGNAL,
                       <sockaddr*>address if address_length else NULL,
                       address_length) >= 0 else errno_now
