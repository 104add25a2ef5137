"""Datagram transports."""
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from uringloop._buffers cimport ReceiveBuffers
from uringloop._core cimport LoopCore
from uringloop._operations cimport Completer, operation
from uringloop._policy cimport CopyMemory


cdef struct event:
    PyObject* payload       # bytes, or an exception; strong
    PyObject* address       # strong; NULL: the payload is an exception


cdef class DatagramTransport(Completer):
    cdef:
        object __weakref__
        LoopCore loop
        readonly object _sock
        readonly object _protocol
        readonly object _address
        readonly dict _extra
        readonly int _sock_fd
        readonly bint _closing
        readonly Py_ssize_t _conn_lost
        object context
        object lost_exc
        int family
        uint32_t name_room         # what the kernel is to leave for an address
        bint connected
        bint paused_reading
        bint reading               # connection_made has been called
        bint finished
        bint aborted
        # the ring's side: valid for the ring number ``era``
        uint32_t era
        int slot                   # registered file, or -1
        operation* receiving
        bint cancel_due
        bint flush_due
        # to be sent
        operation* queue
        operation** queue_end
        size_t queued
        operation* retry           # of the present chain, in order
        operation** retry_end
        size_t retries
        unsigned in_chain          # results outstanding of the present chain
        bint full                  # wait for room before the next chain
        size_t buffered            # bytes not yet accepted by the socket
        size_t high_water
        size_t low_water
        bint protocol_paused
        bint resume_due
        # gathering into segmented sends
        size_t gather_limit        # datagrams longer than this are not gathered
        # zero-copy
        bint zerocopy_able
        CopyMemory paths
        # to be delivered
        event* inbox
        size_t inbox_head
        size_t inbox_count
        size_t inbox_size
        bint delivering

    cdef int start_ring(self) except -1
    cdef int flush_later(self) except -1
    cdef int flush_now(self) except -1
    cdef int enqueue(self, object owner, char* base, size_t length, object addr,
                     object future) except -1
    cdef int receive(self) except -1
    cdef int received(self, operation* op, int res, uint32_t flags) except -1
    cdef int take_datagram(self, ReceiveBuffers buffers, int res, uint32_t flags) except -1
    cdef int send_chain(self) except -1
    cdef int gather(self, operation* leader) except -1
    cdef operation* pop_queue(self) noexcept
    cdef void push_retry(self, operation* op) noexcept
    cdef int accepted(self, operation* op) except -1
    cdef int failed(self, operation* op, int error) except -1
    cdef int retry_members(self, operation* op) except -1
    cdef int resolve(self, operation* op, int error) except -1
    cdef int chain_done(self) except -1
    cdef int post(self, object payload, object address) except -1
    cdef int schedule_delivery(self) except -1
    cdef int deliver_one(self, event* item) except -1
    cdef int maybe_pause(self) except -1
    cdef int maybe_finish(self) except -1
    cdef int drop_queue(self) except -1
