"""The queue of a datagram sender: operations, each a datagram or a train of them."""
cimport cython
from libc.stdint cimport uint32_t

from uringloop.datagram.segmentation cimport segmentation
from uringloop.ring.abi cimport sockaddr_storage
from uringloop.ring.operations cimport operation
from uringloop.ring.payloads cimport payload
from uringloop.ring.zerocopy cimport PathReports
from uringloop.transport.sender cimport Sender


cdef size_t HEADER            # bytes that count as buffered with each datagram

cdef enum:
    QUEUE_LIMIT = 64          # operations that wait for the end of the turn
    TRAINS_LIMIT = 8          # or trains, but of those that ask for zero-copy


cdef enum Way:
    # ``status`` of a queued operation; -errno once it has failed
    UNDECIDED = 0
    PLAIN = 1                 # zero-copy was refused: it is copied, by whatever way
    BY_CALL = 2               # the ring takes no submissions now: by a system call
    ONE_BY_ONE = 3            # a train that was refused: its datagrams, each by itself


cdef class DatagramQueue(Sender):
    cdef:
        operation* queue
        operation** queue_end
        operation* last       # of the queue, if it is that (see extends_last)
        size_t queued
        segmentation segments
        PathReports refusals  # destinations that take no segments; or None

    @cython.final
    cdef int enqueue(self, object owner, payload* memory, sockaddr_storage* address,
                     uint32_t address_length, object future) except -1

    @cython.final
    cdef int append(self, object owner, payload* memory, size_t segment_size,
                    sockaddr_storage* address, uint32_t address_length, object future) except -1

    @cython.final
    cdef int append_message(self, bytes data, bytes control, int flags,
                            sockaddr_storage* address, uint32_t address_length) except -1

    @cython.final
    cdef bint extends_last(self, object owner, payload* memory, sockaddr_storage* address,
                           uint32_t address_length, object future) except -1

    @cython.final
    cdef int enqueue_trains(self, object owner, payload* memory, size_t segment_size,
                            sockaddr_storage* address, uint32_t address_length,
                            object future) except -1

    @cython.final
    cdef operation* pop_queue(self) noexcept

    @cython.final
    cdef operation* take_front(self, size_t count) noexcept

    @cython.final
    cdef void push_front(self, operation* op) noexcept
