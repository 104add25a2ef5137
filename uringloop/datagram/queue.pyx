"""The queue of a datagram sender: operations, each a datagram or a train of them."""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memcmp

from uringloop._cpython cimport of_one_export
from uringloop.datagram.control cimport with_files_held
from uringloop.datagram.transport cimport DatagramTransport
from uringloop.ring.abi cimport AF_UNIX, sockaddr_storage
from uringloop.ring.lent_pieces cimport hold_too
from uringloop.ring.operations cimport EXPLICIT, LENT, MESSAGE, operation
from uringloop.ring.payloads cimport payload
from uringloop.ring.registered_memory cimport LentMemory
from uringloop.ring.reports cimport BatchReport
from uringloop.ring.trains cimport SEGMENTED_BYTES, SEGMENTS, datagrams, longest_train
from uringloop.transport.sender cimport Sender

import sys


# From 3.13 on asyncio counts a header with each datagram.
HEADER = 8 if sys.version_info >= (3, 13) else 0


cdef class DatagramQueue(Sender):
    """What waits to be sent, in order."""

    def __cinit__(self):
        self.queue_end = &self.queue

    @cython.final
    cdef int enqueue(self, object owner, payload* memory, sockaddr_storage* address,
                     uint32_t address_length, object future) except -1:
        """Queue a datagram: as an operation of its own, or as the next of a train."""
        if self.queue is not NULL \
                and self.extends_last(owner, memory, address, address_length, future):
            self.buffered += memory.length + HEADER
            return 0
        return self.append(owner, memory, 0, address, address_length, future)

    @cython.final
    cdef int append(self, object owner, payload* memory, size_t segment_size,
                    sockaddr_storage* address, uint32_t address_length, object future) except -1:
        transport = <DatagramTransport>self.transport
        cdef operation* op = transport.loop.operations.acquire_send(
            transport, owner, memory, address, address_length, future)
        op.segment_size = <uint16_t>segment_size
        if future is not None:
            op.traits |= EXPLICIT
            if type(future) is BatchReport:
                (<BatchReport>future).add()
        self.last = op
        self.queue_end[0] = op
        self.queue_end = &op.next
        self.queued += 1
        self.buffered += op.length + HEADER * datagrams(op)
        return 0

    @cython.final
    cdef int append_message(self, bytes data, bytes control, int flags,
                            sockaddr_storage* address, uint32_t address_length) except -1:
        """Queue a datagram that leaves by itself, with these control messages and flags.

        OSError: it passes descriptors that cannot be kept.
        """
        cdef operation* op
        cdef payload memory
        files = None
        if (<DatagramTransport>self.transport).family == AF_UNIX:     # others pass none
            control, files = with_files_held(control)
        memory.base = PyBytes_AS_STRING(data)
        memory.length = PyBytes_GET_SIZE(data)
        memory.immutable = True
        memory.lent = False
        self.append((data, control, files), &memory, 0, address, address_length, None)
        op = self.last
        op.traits |= MESSAGE
        op.status = BY_CALL
        op.message.msg_control = PyBytes_AS_STRING(control)
        op.message.msg_controllen = PyBytes_GET_SIZE(control)
        op.message.msg_flags = flags
        return 0

    @cython.final
    cdef bint extends_last(self, object owner, payload* memory, sockaddr_storage* address,
                           uint32_t address_length, object future) except -1:
        """If the datagram lies right behind the last of the queue: it is now part of that.

        A train's datagrams are of one size, but the last, which may be shorter.  While the queue
        is being sent nobody joins: ``fileno`` may be the program's, and send.
        """
        cdef operation* op = self.last
        cdef size_t size
        if op is NULL or &op.next != self.queue_end or self.sending \
                or op.base + op.length != memory.base or op.status != UNDECIDED \
                or not (<PyObject*>owner is op.data or memory.lent and op.traits & LENT
                        or of_one_export(<PyObject*>owner, op.data)):
            return False
        size = op.segment_size if op.segment_size else op.length
        if not 0 < memory.length <= size or size > self.segments.limit \
                or op.length % size != 0 or op.length >= SEGMENTS * size \
                or op.length + memory.length > SEGMENTED_BYTES \
                or op.future is not (NULL if future is None else <PyObject*>future) \
                or op.address_length != address_length \
                or address_length != 0 and memcmp(&op.address, address, address_length) != 0:
            return False
        if memory.lent and <PyObject*>owner is not op.data \
                and not hold_too(op, <LentMemory>owner):
            return False
        op.segment_size = <uint16_t>size
        op.length += memory.length
        return True

    @cython.final
    cdef int enqueue_trains(self, object owner, payload* memory, size_t segment_size,
                            sockaddr_storage* address, uint32_t address_length,
                            object future) except -1:
        """Queue a buffer that leaves as datagrams of that size, in as many trains as need be."""
        transport = <DatagramTransport>self.transport
        cdef size_t size = longest_train(segment_size)
        cdef size_t left = memory.length
        cdef payload part = memory[0]
        report = BatchReport(future) if left > size else future
        while True:
            part.length = min(size, left)
            self.append(owner, &part, segment_size, address, address_length, report)
            part.base += part.length
            left -= part.length
            if left == 0:
                break
            if self.queued >= QUEUE_LIMIT and not self.waits():
                self.send_queued()
            if transport._conn_lost:
                # By code of the program in there.
                transport.refuse(
                    report, (left + segment_size - 1) // segment_size, left, 'bytes')
                return 0
        if report is not future:
            (<BatchReport>report).close()
        return 0

    @cython.final
    cdef operation* pop_queue(self) noexcept:
        cdef operation* op = self.queue
        self.queue = op.next
        if self.queue is NULL:
            self.queue_end = &self.queue
        op.next = NULL
        self.queued -= 1
        return op

    @cython.final
    cdef operation* take_front(self, size_t count) noexcept:
        """Take so many out of the queue; they are linked."""
        cdef operation* taken = NULL
        cdef operation** end = &taken
        for _ in range(count):
            end[0] = self.pop_queue()
            end = &end[0].next
        return taken

    @cython.final
    cdef void push_front(self, operation* op) noexcept:
        op.next = self.queue
        if self.queue is NULL:
            self.queue_end = &op.next
        self.queue = op
        self.queued += 1
