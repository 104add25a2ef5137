"""How datagrams leave."""
cimport cython
from libc.stdint cimport uint32_t

from uringloop.datagram.outcomes cimport DatagramOutcomes
from uringloop.datagram.segmentation cimport settings
from uringloop.ring.abi cimport sockaddr_storage
from uringloop.ring.operations cimport flag, operation
from uringloop.ring.payloads cimport payload


@cython.final
cdef class DatagramSender(DatagramOutcomes):
    cdef:
        # zero-copy sends
        operation* retried          # of the present chain, in order
        operation** retried_end
        size_t retried_count
        unsigned chain_limit
        unsigned accepted_of_chain
        double answered_at          # when the first of the answers that wait was sent; 0: none does
        double at_once_until        # no answer waits so long; 0: they may
        settings seen               # the options of a socket of the program's
        flag drop_due               # the transport was aborted while its queue was being sent
        int trust                   # how often they were seen unchanged; DISTRUSTED: they change
        flag zerocopy_able
        flag connected

    cdef int send(self, object owner, payload* memory, sockaddr_storage* address,
                  uint32_t address_length) except -1
    cdef int send_reported(self, object owner, payload* memory, size_t segment_size,
                           sockaddr_storage* address, uint32_t address_length,
                           object future) except -1
    cdef bint answers_many(self, size_t length) noexcept
    cdef bint options_stay(self) noexcept
    cdef void look_again(self) noexcept
    cdef bint may_wait(self) noexcept
    cdef bint have_waited(self) noexcept
    cdef void note_wait(self) noexcept
    cdef bint nothing_before(self) except -1
    cdef int send_or_defer(self, bint deferred, bint bulk) except -1
    cdef int tell_at_the_call(self) except -1
    cdef int send_now(self, object owner, payload* memory, sockaddr_storage* address,
                      uint32_t address_length) except -1
    cdef int send_message(self, bytes data, bytes control, int flags, bint alone,
                          sockaddr_storage* address, uint32_t address_length) except -1
    cdef int send_message_now(self, bytes data, bytes control, int flags,
                              sockaddr_storage* address, uint32_t address_length) except -1
    cdef bint is_of_before(self, int error) noexcept
    cdef int failed_now(self, int error, size_t length) except -1
    cdef bint goes_zerocopy(self, const void* base, size_t length, size_t datagram,
                            bint any_size, const void* address,
                            uint32_t address_length) noexcept
    cdef bint operation_goes_zerocopy(self, operation* op) noexcept
    cdef int defer(self) except -1
    cdef int send_deferred_of_others(self) except -1
    cdef int flush_if_full(self) except -1
    cdef int wait_for_room(self) except -1
    cdef int maybe_pause_full(self) except -1
    cdef int send_by_calls(self) except -1
    cdef int send_alike(self, unsigned count) except -1
    cdef int send_first(self, size_t length) noexcept
    cdef int try_first(self, size_t length) noexcept
    cdef bint send_mixed(self) except -1
    cdef bint segments_allowed(self) except -1
    cdef int first_failed(self, int error) except -1
    cdef int send_train_by_calls(self) except -1
    cdef bint train_allowed(self, operation* op) except -1
    cdef bint is_refused(self, size_t segment_size, const void* address,
                         uint32_t address_length) noexcept
    cdef int learn(self, operation* op, size_t length, int error) except -1
    cdef void advance(self, operation* op) noexcept
    cdef int first_of_train_failed(self, operation* op, int error) except -1
    cdef int sent_by_call(self) except -1
    cdef bint goes_by_ring(self, operation* op) except -1
    cdef int send_chain(self) except -1
    cdef unsigned prepare_chain(self, operation** chain, unsigned room) except? 0
    cdef int put_back(self, operation** chain, unsigned count, unsigned left) except -1
    cdef int requeue_retried(self) except -1
    cdef int retry_or_fail(self, operation* op, int error) except -1
