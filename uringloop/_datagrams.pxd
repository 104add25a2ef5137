"""Datagram transports."""
from uringloop._operations cimport operation
from uringloop._policy cimport CopyMemory
from uringloop._datagram_receiving cimport DatagramReceiver


cdef class DatagramTransport(DatagramReceiver):
    cdef:
        public object _address
        bint connected
        # to be sent
        operation* queue
        operation** queue_end
        size_t queued
        operation* retry           # of the present chain, in order
        operation** retry_end
        size_t retries
        bint full                  # wait for room before the next chain
        # gathering into segmented sends
        size_t gather_limit        # datagrams longer than this are not gathered
        # zero-copy
        bint zerocopy_able
        CopyMemory paths

    cdef int enqueue(self, object owner, char* base, size_t length, object addr,
                     object future) except -1
    cdef int send_chain(self) except -1
    cdef int send_at_once(self) except -1
    cdef int send_plainly(self) except -1
    cdef int gather(self, operation* leader) except -1
    cdef operation* pop_queue(self) noexcept
    cdef void push_retry(self, operation* op) noexcept
    cdef int accepted(self, operation* op) except -1
    cdef int failed(self, operation* op, int error) except -1
    cdef int retry_members(self, operation* op) except -1
    cdef int resolve(self, operation* op, int error) except -1
    cdef int chain_done(self) except -1
    cdef int requeue(self) except -1


cdef object send_report(size_t nbytes, bint copied, bint zerocopy)
