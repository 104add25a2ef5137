"""Datagram transports."""
from libc.stdint cimport uint32_t

from uringloop.ring.buffers cimport payload
from uringloop.datagram.receiver cimport DatagramReceiver
from uringloop.ring.operations cimport operation
from uringloop.ring.zerocopy cimport CopyReports
from uringloop.ring.abi cimport sockaddr_storage


cdef enum Likeness:
    DIFFERENT = 0
    SAME = 1                       # address and length are those of the last datagram
    SHORTER = 2                    # the same address: the last of a train


cdef class DatagramTransport(DatagramReceiver):
    cdef:
        public object _address
        bint connected
        # to be sent
        operation* queue
        operation** queue_end
        size_t queued
        unsigned futile_polls      # since the last that left
        # zero-copy sends
        bint zerocopy_able
        CopyReports paths           # None until one was copied
        operation* retry           # of the present chain, in order
        operation** retry_end
        size_t retries
        unsigned chain_limit
        unsigned accepted_of_chain
        # gathering into segmented sends
        size_t gather_limit        # datagrams longer than this are not gathered
        bint may_segment           # the socket's options allow it
        double options_until       # when to look at them again
        size_t last_length
        uint32_t last_address_length
        char[28] last_address
        unsigned one_by_one_due    # of a batch that was refused
        int refusal                # why

    cdef bint is_connected(self, object addr) noexcept
    cdef bint to_kernel(self, object addr, sockaddr_storage* into, uint32_t* length) except -1
    cdef int send(self, object owner, payload* memory, sockaddr_storage* address,
                  uint32_t address_length) except -1
    cdef Likeness compare(self, size_t length, sockaddr_storage* address,
                          uint32_t address_length) noexcept
    cdef int send_now(self, object owner, payload* memory, sockaddr_storage* address,
                      uint32_t address_length) except -1
    cdef bint goes_zerocopy(self, const void* base, size_t length, bint explicit,
                            const void* address, uint32_t address_length) noexcept
    cdef int enqueue(self, object owner, payload* memory, sockaddr_storage* address,
                     uint32_t address_length, object future) except -1
    cdef int defer(self) except -1
    cdef int has_no_room(self) except -1
    cdef int wait_for_room(self) except -1
    cdef int maybe_pause_full(self) except -1
    cdef operation* pop_queue(self) noexcept
    cdef int send_batch(self) except -1
    cdef unsigned count_alike(self) noexcept
    cdef bint segments_as_sent(self) noexcept
    cdef bint look_at_options(self) noexcept
    cdef int send_segmented(self, unsigned count) noexcept
    cdef int not_segmented(self, size_t length) noexcept
    cdef int send_first(self) noexcept
    cdef int sent_plainly(self) except -1
    cdef bint goes_by_ring(self, operation* op) noexcept
    cdef int send_chain(self) except -1
    cdef int chain_done(self) except -1
    cdef int refused(self, operation* op, int error) except -1
    cdef int accepted(self, operation* op) except -1
    cdef int failed(self, operation* op, int error) except -1
    cdef int resolve(self, operation* op, int error) except -1
