"""How what is in the queue leaves by plain system calls: those that are alike by one of them.

Which of the socket's options, and what was refused before, forbid that is known here, too.
"""
cimport cython
from libc.stdint cimport uint32_t

from uringloop._cpython cimport fd_of
from uringloop.datagram.control cimport send_at_once
from uringloop.datagram.outcomes cimport DatagramOutcomes
from uringloop.datagram.queue cimport HEADER, ONE_BY_ONE
from uringloop.datagram.receiver cimport DatagramReceiver
from uringloop.datagram.segmentation cimport (
    count_alike, has_changed, is_allowed, refused, send_segmented, send_together, sent_by_itself)
from uringloop.datagram.transport cimport DatagramTransport
from uringloop.ring.abi cimport *
from uringloop.ring.operations cimport EXPLICIT, MESSAGE, operation
from uringloop.ring.trains cimport datagrams, is_refusal, is_train, send_train
from uringloop.ring.zerocopy cimport PathReports
from uringloop.transport.sender cimport FULL


cdef class DatagramSystemCalls(DatagramOutcomes):
    """Of the front of the queue: one of these calls, and what becomes of it."""

    @cython.final
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
            return self.sent_by_call(1)
        return self.first_failed(error)

    @cython.final
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
        self.sent_by_call(sent)
        return sent != 0

    @cython.final
    cdef int send_alike(self, unsigned count) except -1:
        transport = <DatagramTransport>self.transport
        cdef int error = send_segmented(self.queue, count, transport._sock_fd)
        if error and self.is_of_before(error):
            error = send_segmented(self.queue, count, transport._sock_fd)
        if error == EAGAIN or error == EINTR:
            self.room = FULL
        elif error and is_refusal(error, transport._sock_fd, 0):
            refused(&self.segments, count, error)
        elif error:
            self.first_failed(error)
        else:
            transport.loop.counters.datagrams_gathered += count
            self.sent_by_call(count)
        return 0

    @cython.final
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
                self.sent_by_call(1)
            elif is_refusal(error, transport._sock_fd, 0):
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

    @cython.final
    cdef int send_first(self, size_t length) except -1:
        """Send so much of the first of the queue by itself: 0 or an errno."""
        cdef int error = self.try_first(length)
        return self.try_first(length) if error and self.is_of_before(error) else error

    @cython.final
    cdef int try_first(self, size_t length) except -1:
        transport = <DatagramTransport>self.transport
        cdef operation* op = self.queue
        if fd_of(transport._sock) != transport._sock_fd:
            return EBADF
        if op.traits & MESSAGE:
            return send_at_once(
                transport._sock_fd, op.base, length, <char*>op.message.msg_control,
                op.message.msg_controllen, op.message.msg_flags, &op.address, op.address_length)
        return send_once(transport._sock_fd, op.base, length, &op.address, op.address_length)

    # -- what may leave together ---------------------------------------------------------------

    @cython.final
    cdef bint segments_allowed(self) except -1:
        """Whether the socket's options leave a datagram the same as a segment."""
        transport = <DatagramTransport>self.transport
        if not transport.has_socket():
            return False
        cdef bint changed = self.options_changed
        cdef bint allowed = is_allowed(&self.segments, transport._sock_fd, changed)
        self.options_changed = False
        return allowed

    @cython.final
    cdef void look_again(self, int worth) noexcept:
        """Compare the options with what they were."""
        cdef bint changed = has_changed(&self.seen, (<DatagramTransport>self.transport)._sock_fd)
        self.look_due = False
        if changed and self.trust:
            self.trust = DISTRUSTED
        elif self.trust < TRUSTED:
            self.trust += worth

    cdef int look_at_options(self, bint expected) except -1:
        if self.given and self.trust != DISTRUSTED \
                and has_changed(&self.seen, (<DatagramTransport>self.transport)._sock_fd) \
                and self.trust and not expected:
            self.trust = DISTRUSTED
        return 0

    @cython.final
    cdef bint train_allowed(self, operation* op) except -1:
        """Whether path and socket take the train, as far as is known."""
        # What is longer than LONGEST_SEGMENT is a train only where the caller says so.
        return (self.segments.limit != 0
                and not self.is_refused(op.segment_size, &op.address, op.address_length)
                and (op.traits & EXPLICIT or self.segments_allowed()))

    @cython.final
    cdef bint is_refused(self, size_t segment_size, const void* address,
                         uint32_t address_length) noexcept:
        """Whether that destination was seen to take no such segments."""
        return self.refusals is not None \
            and self.refusals.expects(address, address_length, segment_size)

    @cython.final
    cdef int learn(self, operation* op, size_t length, int error) except -1:
        """A datagram has left, or failed, by itself: was it the segmented send that was refused?"""
        cdef size_t from_size = sent_by_itself(&self.segments, length, error)
        if from_size:
            if self.refusals is None:
                self.refusals = PathReports()
            self.refusals.record(&op.address, op.address_length, from_size, True)
        return 0

    # -- what became of it ---------------------------------------------------------------------

    @cython.final
    cdef int sent_by_call(self, unsigned count) except -1:
        """So many at the front of the queue have left."""
        return self.tell_of_first(count, 0)

    @cython.final
    cdef int first_failed(self, int error) except -1:
        return self.tell_of_first(1, error)

    @cython.final
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

    @cython.final
    cdef void advance(self, operation* op) noexcept:
        """The first datagram of a train is dealt with."""
        cdef size_t size = op.segment_size
        self.buffered -= size + HEADER
        op.base += size
        op.length -= size
        op.sent += size

    @cython.final
    cdef bint is_of_before(self, int error) noexcept:
        """Whether the socket may have told of another datagram, and this one has not been tried.

        The error queue has it, too: where the protocol takes that, nothing is to be lost by it.
        (What a full queue of a device refuses, ENOBUFS, was tried: see ``is_refusal``.)
        """
        return ((<DatagramReceiver>(<DatagramTransport>self.transport).receiver).takes_errors
                and error != EAGAIN and error != EINTR and error != EBADF and error != EMSGSIZE
                and error != ENOBUFS)
