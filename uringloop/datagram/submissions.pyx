"""How what is in the queue leaves by the ring: zero-copy, one submission for all.

Its sends are linked, a chain: when one fails the kernel cancels those behind it, and they are
put back, in front.
"""
cimport cython
from libc.stdint cimport uint32_t

from uringloop._cpython cimport fd_of
from uringloop.datagram.queue cimport BY_CALL, ONE_BY_ONE, PLAIN, UNDECIDED
from uringloop.datagram.segmentation cimport count_alike
from uringloop.datagram.system_calls cimport DatagramSystemCalls
from uringloop.datagram.transport cimport DatagramTransport
from uringloop.ring.abi cimport *
from uringloop.ring.operations cimport (
    EXPLICIT, FELL_BACK, FOLLOWER, LENT, NOTIF_DUE, ZEROCOPY, operation)
from uringloop.ring.sends cimport prepare_send
from uringloop.ring.trains cimport is_refusal, is_train
from uringloop.ring.zerocopy cimport ZEROCOPY_MINIMUM, zerocopy_pays
from uringloop.transport.sender cimport FULL


cdef enum:
    CHAIN_LIMIT = 64          # sends of one submission, linked to one another
    TRIES = 1000              # to have the results of them all


cdef class DatagramSubmissions(DatagramSystemCalls):
    """Of the front of the queue: a chain, its results, and what is tried again."""

    def __cinit__(self):
        self.retried_end = &self.retried
        self.chain_limit = CHAIN_LIMIT

    @cython.final
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

    @cython.final
    cdef bint operation_goes_zerocopy(self, operation* op) noexcept:
        return (op.status == UNDECIDED
                and (op.length >= ZEROCOPY_MINIMUM or op.traits & (EXPLICIT | LENT))
                and self.goes_zerocopy(
                    op.base, op.length, op.segment_size if op.segment_size else op.length,
                    op.traits & (EXPLICIT | LENT), &op.address, op.address_length))

    @cython.final
    cdef bint goes_zerocopy(self, const void* base, size_t length, size_t datagram,
                            bint any_size, const void* address,
                            uint32_t address_length) noexcept:
        return (self.zerocopy_able and self.may_submit()
                and zerocopy_pays(
                    base, length, datagram, any_size, address, address_length, self.paths,
                    (<DatagramTransport>self.transport).loop.operations.pinned))

    # -- a chain -------------------------------------------------------------------------------

    @cython.final
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

    @cython.final
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

    @cython.final
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
        if left < count and self.results_due == 0:
            self.requeue_retried()
        if transport.aborted:
            self.drop_queue()
        elif left == count:
            self.queue.status = BY_CALL          # it takes no submissions now
        return 0

    # -- its results ---------------------------------------------------------------------------

    cdef int completed(self, operation* op, int res) except -1:
        self.results_due -= 1
        try:
            if res >= 0:
                self.accepted_of_chain += 1
                self.accepted(op)
            else:
                self.retry_or_fail(op, -res)
        finally:
            # Whatever becomes of this one (no memory, ``call_soon`` of a subclass that raises).
            if self.results_due == 0:
                self.requeue_retried()
        return 0

    @cython.final
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

    @cython.final
    cdef int retry_or_fail(self, operation* op, int error) except -1:
        """A send of the chain did not go out: try again, perhaps another way, or tell."""
        transport = <DatagramTransport>self.transport
        cdef operation* second
        cdef bint again = error == ECANCELED
        # Nothing of it has left, then; but who awaits a future is told of what the socket says.
        cdef bint of_before = op.future is NULL and not again and self.is_of_before(error)
        cdef bint refused = is_refusal(
            error, transport._sock_fd, 0 if is_train(op) else op.length)
        cdef int status = op.status
        if error == EAGAIN or error == EINTR:
            again = True
            self.room = FULL
        elif error != ECANCELED and op.traits & ZEROCOPY \
                and (of_before or is_train(op) and op.future is NULL or refused):
            # The same by plain sends, in its place in the order.
            again = True
            status = PLAIN
            if error == EOPNOTSUPP and not is_train(op):
                self.zerocopy_able = False
        if not again or transport.aborted:
            return self.failed(op, error)
        try:
            second = transport.loop.operations.clone_for_retry(op)
        except MemoryError:
            self.failed(op, ENOMEM)
            raise
        second.status = status
        second.next = NULL
        self.retried_end[0] = second
        self.retried_end = &second.next
        self.retried_count += 1
        if status == PLAIN:
            second.traits |= FELL_BACK
        op.status = -error       # its notification tells nothing of the path
        if second.future is not NULL and op.due & NOTIF_DUE:
            self.tell_when_both_are_done(op, second)
        if status == PLAIN and is_train(op) and not (of_before or refused):
            # It waited in the socket for the next send: nothing of the train has left.
            self.first_of_train_failed(second, error)
        return 0
