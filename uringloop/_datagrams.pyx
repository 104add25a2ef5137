"""Datagram transports.

    protocol -> sendto -> queue -> chain of submissions -> kernel

How they come is in ``_datagram_receiving``.

Order: datagrams leave in the order of the calls.  Unlinked sends that wait for
room in the socket are overtaken and wake last-in-first-out, so one chain of
linked sends is in flight at a time, and what is sent meanwhile forms the next.
When a send of a chain fails, the kernel cancels those behind it; they are
queued again, in front.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_INCREF
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport malloc
from libc.string cimport memcmp, memset

from uringloop._buffers cimport copy_payload, lend_payload, payload
from uringloop._core cimport LoopCore
from uringloop._operations cimport (
    EXPLICIT, FOLLOWER, GATHERED, MEMORY, NOTIF_DUE, ZEROCOPY, operation)
from uringloop._policy cimport (
    REPORTS_USAGE, SEND_ZC_FLAGS, ZEROCOPY_MINIMUM, CopyMemory, zerocopy_pays)
from uringloop._datagram_receiving cimport DatagramReceiver
from uringloop._receiving cimport ROOM
from uringloop._ring cimport *

import os
import socket
import sys
from asyncio import DatagramTransport as DatagramTransportBase
from asyncio import selector_events
from collections import namedtuple


cdef extern from "<poll.h>":
    enum:
        POLLOUT

cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<sys/socket.h>" nogil:
    ssize_t sendto(int, const void*, size_t, int, const sockaddr*, socklen_t)

cdef enum:
    CHAIN_LIMIT = 64          # sends linked to one another
    EARLY_FLUSH = 64          # queued sends that don't wait for the end of the turn
    FAREWELL = 1024           # that a transport sends at most before it closes
    LONG_ANSWER = 32768       # bytes of answers that don't wait for the end of the turn
    GATHER_LIMIT = 64         # segments of one send: UDP_MAX_SEGMENTS of older kernels
    GATHER_BYTES = 65000      # with headers it must stay below 64 KiB

cdef enum Status:
    UNDECIDED = 0
    PLAIN = 1                 # zero-copy was refused for this one
    ALONE = 2                 # gathering was refused for this one

# Until 3.12 asyncio did not send empty datagrams; from 3.13 on it does, and
# counts a header with each.
cdef bint EMPTY_ALLOWED = sys.version_info >= (3, 13)
cdef size_t HEADER = 8 if sys.version_info >= (3, 13) else 0

SendReport = namedtuple('SendReport', ['nbytes', 'copied'])
SendReport.__doc__ = """What became of a zero-copy send.

``nbytes`` were sent.  ``copied`` says whether the kernel copied them after all: it
does when the receiver is on the same machine, when the device lacks
scatter/gather or checksum offload, and when the datagram exceeds the path's MTU.
None where the kernel can't tell (before Linux 6.2)."""


# What isinstance() is to see.  Until 3.11 asyncio's own was no DatagramTransport.
if issubclass(selector_events._SelectorDatagramTransport, DatagramTransportBase):
    AsyncioTransport = selector_events._SelectorDatagramTransport
else:
    class AsyncioTransport(selector_events._SelectorDatagramTransport, DatagramTransportBase):
        """asyncio's transport, as later versions have it."""


# Its own constructor is Python's, and no signal handler is to run while completions are settled.
cdef object new_tuple = tuple.__new__


cdef object send_report(size_t nbytes, bint copied, bint zerocopy):
    if zerocopy and not REPORTS_USAGE:
        return new_tuple(SendReport, (nbytes, None))
    return new_tuple(SendReport, (nbytes, bool(copied)))


cdef class DatagramTransport(DatagramReceiver):
    """asyncio's datagram transport on the ring; made by ``create_datagram_endpoint``."""

    def __cinit__(self):
        self.queue_end = &self.queue
        self.retry_end = &self.retry

    def __init__(self, LoopCore loop, sock, protocol, address=None, waiter=None, extra=None):
        self.set_up(loop, sock, protocol, waiter, extra)
        self._address = address
        self.name_room = {AF_INET: 16, AF_INET6: 28, AF_UNIX: 112}[self.family]
        self.connected = bool(self.peername)
        self.zerocopy_able = self.family in (AF_INET, AF_INET6)
        if self.zerocopy_able and sock.proto in (0, socket.IPPROTO_UDP):
            self.gather_limit = GATHER_BYTES
        self.paths = CopyMemory()

    @property
    def __class__(self):
        # asyncio's class cannot be a base: its slots conflict in layout.
        return AsyncioTransport

    def sendto(self, data, addr=None):
        """Send a datagram; never waits.

        Exact ``bytes`` and views of exact ``bytes`` are not copied; anything else
        is before this returns.  They leave with the turn's other datagrams.
        Errors of the network reach ``protocol.error_received``.
        """
        cdef payload memory
        if PyBytes_CheckExact(data):
            memory.base = PyBytes_AS_STRING(data)
            memory.length = PyBytes_GET_SIZE(data)
            owner = data
        else:
            if not isinstance(data, (bytes, bytearray, memoryview)):
                raise TypeError(f'data argument must be a bytes-like object, '
                                f'not {type(data).__name__!r}')
            if not EMPTY_ALLOWED and not data:
                return
            self.check_address(addr)
            try:
                owner = copy_payload(data, &memory)
            except (BufferError, ValueError) as exc:
                self._fatal_error(exc, 'Fatal write error on datagram transport')
                return
        if memory.length == 0 and not EMPTY_ALLOWED:
            return
        if self._address is not None:
            if addr is not None:
                self.check_address(addr)
            addr = self._address
        if self._conn_lost:
            self.dropped()
            return
        if self.loop.closing:
            self.loop.datagrams_dropped += 1       # nothing will leave any more
            return
        self.enqueue(owner, memory.base, memory.length, addr, None)

    def sendto_zerocopy(self, data, addr=None):
        """Send a datagram without copying it; returns a future of ``SendReport``.

        ``data`` may be any contiguous buffer, mutable too.  Leave it alone until the
        future is done: that is when the kernel has let go of it.  Cancelling
        the future does not call the datagram back.  Errors are the future's.
        """
        cdef payload memory
        owner = lend_payload(data, &memory)
        if self._address is not None:
            if addr is not None:
                self.check_address(addr)
            addr = self._address
        future = self.loop.new_future()
        if self._conn_lost or self.loop.closing:
            future.set_exception(ConnectionAbortedError(
                f'{self!r} is closed: {memory.length} bytes were not sent'))
        else:
            self.enqueue(owner, memory.base, memory.length, addr, future)
        return future

    def check_address(self, addr):
        if self._address and addr is not None and addr != self._address:
            raise ValueError(f'Invalid address: must be None or {self._address}, not {addr!r}')

    def dropped(self):
        self.loop.datagrams_dropped += 1
        self._write_on_lost()

    # -- sending -------------------------------------------------------------------------------

    cdef int enqueue(self, object owner, char* base, size_t length, object addr,
                     object future) except -1:
        cdef operation* op = self.loop.operations.acquire(self)
        if not self.connected:
            try:
                self.loop.addresses.to_kernel(addr, self.family, &op.address, &op.address_length)
            except BaseException as exc:
                self.loop.operations.release(op)
                if future is not None:
                    raise
                if isinstance(exc, OSError):
                    self._protocol.error_received(exc)
                elif isinstance(exc, (SystemExit, KeyboardInterrupt)):
                    raise
                else:
                    self._fatal_error(exc, 'Fatal write error on datagram transport')
                return 0
        Py_INCREF(owner)
        op.data = <PyObject*>owner
        op.base = base
        op.length = length
        if future is not None:
            Py_INCREF(future)
            op.future = <PyObject*>future
            op.traits = EXPLICIT
        self.queue_end[0] = op
        self.queue_end = &op.next
        self.queued += 1
        self.buffered += length + HEADER
        if not self.flush_due:
            self.flush_later()
        if self.queued >= EARLY_FLUSH and self.in_chain == 0:
            self.flush_now()
        if self.buffered > self.high_water and not self.protocol_paused:
            self.maybe_pause()
        return 0

    cdef int flush(self) except -1:
        self.flush_due = False
        if self._sock is None or self.loop.closing:
            return 0
        self.start_ring()
        self.arm_or_cancel()
        if self.aborted:
            self.cancel_sends()
        elif self.queue is not NULL and self.in_chain == 0:
            self.send_chain()
        return 0

    cdef operation* pop_queue(self) noexcept:
        cdef operation* op = self.queue
        self.queue = op.next
        if self.queue is NULL:
            self.queue_end = &self.queue
        op.next = NULL
        self.queued -= 1
        return op

    cdef int send_chain(self) except -1:
        """Turn the front of the queue into submissions, each linked to the next."""
        cdef:
            unsigned room = self.loop.ring.reserve(CHAIN_LIMIT)
            unsigned traits, flags = 0
            int fd = self._sock_fd
            operation* op = NULL
            io_uring_sqe* sqe = NULL
            io_uring_sqe* before
        if room == 0:
            return self.flush_quietly()
        if self.slot >= 0:
            fd = self.slot
            flags = IOSQE_FIXED_FILE
        if self.full:
            self.full = False
            op = self.loop.operations.acquire_brief(self)
            op.status = ROOM
            sqe = self.loop.ring.prepare(op, IORING_OP_POLL_ADD, fd, flags, 0)
            sqe.poll32_events = POLLOUT
            self.in_chain += 1
            self.loop.ring.linked += 1
            room -= 1
        while room and self.queue is not NULL:
            op = self.pop_queue()
            before = sqe
            traits = MEMORY if before is NULL else MEMORY | FOLLOWER
            if self.queue is not NULL and op.length <= self.gather_limit:
                self.gather(op)
            if op.traits & GATHERED:
                sqe = self.loop.ring.prepare(op, IORING_OP_SENDMSG, fd, flags, traits)
                sqe.addr = <uintptr_t>&op.message
                sqe.len = 1
            elif self.zerocopy_able and op.status != PLAIN \
                    and zerocopy_pays(op, self.paths, self.loop.operations.pinned):
                sqe = self.loop.ring.prepare(
                    op, IORING_OP_SEND_ZC, fd, flags, traits | ZEROCOPY)
                sqe.ioprio = SEND_ZC_FLAGS
                self.loop.zerocopy_sent += 1
            else:
                sqe = self.loop.ring.prepare(op, IORING_OP_SEND, fd, flags, traits)
            if not op.traits & GATHERED:
                sqe.addr = <uintptr_t>op.base
                sqe.len = <uint32_t>min(op.length, <size_t>0x7fffffff)
                if op.address_length:
                    sqe.addr2 = <uintptr_t>&op.address
                    sqe.addr_len = <uint16_t>op.address_length
            sqe.msg_flags = MSG_NOSIGNAL
            if self.family == AF_UNIX:
                # A send that waits inside the ring for a full receiver later delivers
                # an empty datagram and reports success (6.18).  So none waits.
                sqe.msg_flags |= MSG_DONTWAIT
            if before is not NULL:
                before.flags |= IOSQE_IO_LINK
            self.in_chain += 1
            self.loop.ring.linked += 1
            room -= 1
        if self.in_chain == 1 and op.status != ROOM and not op.traits & ZEROCOPY \
                and op.future is NULL and not self.protocol_paused and not self._closing:
            # Nobody waits to hear that it went out.
            self.loop.ring.hush(op, sqe)
        return 0

    cdef int answered(self) except -1:
        if self.buffered < LONG_ANSWER or self.in_chain or self.queue is NULL:
            return 0
        # A long answer: the peer can be at it while the next is made.
        if self.queue.next is NULL and self.queue.future is NULL and self.family != AF_UNIX \
                and self._sock.fileno() == self._sock_fd \
                and not zerocopy_pays(self.queue, self.paths, self.loop.operations.pinned):
            return self.send_at_once()
        return self.flush_now()

    cdef int send_at_last(self) except -1:
        cdef int left = FAREWELL
        while left and self.queue is not NULL and self.queue.future is NULL and self.in_chain == 0 \
                and not self.full and not self.loop.closing \
                and self._sock.fileno() == self._sock_fd:
            left -= 1
            self.send_plainly()
        return self.requeue()

    cdef int send_at_once(self) except -1:
        """Send the only one that is queued by a plain system call, without the ring."""
        self.send_plainly()
        return self.chain_done()

    cdef int send_plainly(self) except -1:
        cdef operation* op = self.pop_queue()
        if sendto(self._sock_fd, op.base, op.length, MSG_DONTWAIT | MSG_NOSIGNAL,
                  <sockaddr*>&op.address if op.address_length else NULL, op.address_length) >= 0:
            self.accepted(op)
        else:
            self.failed(op, errno_now)
        self.loop.operations.release(op)
        return 0

    cdef int gather(self, operation* leader) except -1:
        """Let datagrams of one size to one address leave as one segmented send (UDP_SEGMENT).

        The last may be shorter, but not empty: an empty one would vanish.
        """
        cdef:
            operation* op = self.queue
            operation** end = &leader.members
            size_t size = leader.length, total = leader.length
            unsigned count = 1, i
            cmsghdr* header
        if size == 0 or leader.status != UNDECIDED or leader.traits & EXPLICIT \
                or size >= ZEROCOPY_MINIMUM and self.zerocopy_able \
                and zerocopy_pays(leader, self.paths, self.loop.operations.pinned):
            return 0
        while op is not NULL and count < GATHER_LIMIT and 0 < op.length <= size \
                and total + op.length <= GATHER_BYTES and op.status == UNDECIDED \
                and not op.traits & EXPLICIT and op.address_length == leader.address_length \
                and memcmp(&op.address, &leader.address, op.address_length) == 0:
            total += op.length
            count += 1
            self.pop_queue()
            end[0] = op
            end = &op.next
            if op.length < size:
                break
            op = self.queue
        if count == 1:
            return 0
        leader.vectors = <iovec*>malloc(count * sizeof(iovec))
        if leader.vectors is NULL:
            raise MemoryError
        op = leader
        for i in range(count):
            leader.vectors[i].iov_base = op.base
            leader.vectors[i].iov_len = op.length
            op = leader.members if i == 0 else op.next
        memset(&leader.message, 0, sizeof(leader.message))
        leader.message.msg_iov = leader.vectors
        leader.message.msg_iovlen = count
        if leader.address_length:
            leader.message.msg_name = &leader.address
            leader.message.msg_namelen = leader.address_length
        header = <cmsghdr*>leader.control
        header.cmsg_len = sizeof(cmsghdr) + sizeof(uint16_t)
        header.cmsg_level = SOL_UDP
        header.cmsg_type = UDP_SEGMENT
        (<uint16_t*>(header + 1))[0] = <uint16_t>size
        leader.message.msg_control = header
        leader.message.msg_controllen = sizeof(cmsghdr) + sizeof(uint64_t)
        leader.traits |= GATHERED
        return 0

    cdef int result(self, operation* op, int res, uint32_t flags) except -1:
        if op is self.receiving:
            return self.received(op, res, flags)
        self.in_chain -= 1
        if op.era == self.loop.ring.era:
            self.loop.ring.linked -= 1
        if op.status == ROOM:
            pass        # a failed poll has cancelled the chain: it starts anew
        elif res >= 0:
            self.accepted(op)
        else:
            self.failed(op, -res)
        if self.in_chain == 0:
            self.chain_done()
        return 0

    cdef int accepted(self, operation* op) except -1:
        cdef operation* member = op.members
        self.buffered -= op.length + HEADER
        self.loop.datagrams_sent += 1
        self.loop.datagrams_gathered += member is not NULL
        while member is not NULL:
            self.buffered -= member.length + HEADER
            self.loop.datagrams_sent += 1
            self.loop.datagrams_gathered += 1
            member = member.next
        if op.future is not NULL and not op.duties & NOTIF_DUE:
            op.copied = True
            self.resolve(op, 0)
        return 0

    cdef int failed(self, operation* op, int error) except -1:
        """A send of the chain did not go out: try again, another way, or tell."""
        cdef operation* heir
        cdef int status = UNDECIDED
        cdef bint again = error == ECANCELED
        if error == EAGAIN:
            again = self.full = True
        elif op.traits & ZEROCOPY and error in (ENOMEM, ENOBUFS, EOPNOTSUPP, EMSGSIZE):
            # The same datagram by plain send, in its place in the order.
            again = True
            status = PLAIN
            self.loop.zerocopy_fell_back += 1
            if error == EOPNOTSUPP:
                self.zerocopy_able = False
        elif op.traits & GATHERED and error in (EMSGSIZE, EINVAL, EIO, EOPNOTSUPP):
            # Too large for the path, or not to be segmented at all: nothing was sent.
            again = True
            self.gather_limit = min(self.gather_limit, op.length - 1) \
                if error in (EMSGSIZE, EINVAL) else 0
        if self.aborted:
            again = False
        if again:
            heir = self.loop.operations.succeed(op)
            heir.status = status
            op.status = -error
            self.push_retry(heir)
            self.retry_members(op)
            return 0
        self.buffered -= op.length + HEADER
        op.status = -error       # the notification is not to be learnt from
        if self.aborted:
            while op.members is not NULL:
                heir = op.members
                op.members = heir.next
                self.buffered -= heir.length + HEADER
                self.loop.operations.release(heir)
                self.loop.datagrams_dropped += 1
            self.loop.datagrams_dropped += 1
        else:
            self.retry_members(op)
        if op.future is not NULL:
            if not op.duties & NOTIF_DUE:
                self.resolve(op, error)
        elif not self.aborted:
            self.loop.datagrams_dropped += 1
            self.post_error(error, self.error_text(error, op.length))
        return 0

    def error_text(self, int error, size_t length):
        text = os.strerror(error)
        return f'{text}: a datagram of {length} bytes' if error == EMSGSIZE else text

    cdef int retry_members(self, operation* op) except -1:
        cdef operation* member
        while op.members is not NULL:
            member = op.members
            op.members = member.next
            self.push_retry(member)
        return 0

    cdef void push_retry(self, operation* op) noexcept:
        op.next = NULL
        self.retry_end[0] = op
        self.retry_end = &op.next
        self.retries += 1

    cdef int notified(self, operation* op) except -1:
        self.loop.buffers_released += 1
        if op.status >= 0 and REPORTS_USAGE:
            self.loop.zerocopy_copied += op.copied
            self.paths.learn(&op.address, op.address_length, op.length, op.copied)
        if op.future is not NULL:
            self.resolve(op, -op.status if op.status < 0 else 0)
        return 0

    cdef int resolve(self, operation* op, int error) except -1:
        future = <object>op.future
        if future.done():
            return 0         # cancelled by the caller; the datagram went its way
        if error == ECANCELED and self.loop.closing:
            future.cancel()
        elif error == ECANCELED:
            future.set_exception(ConnectionAbortedError(
                f'{self!r} was aborted: {op.length} bytes were not sent'))
        elif error:
            future.set_exception(OSError(error, self.error_text(error, op.length)))
        else:
            future.set_result(send_report(op.length, op.copied, op.traits & ZEROCOPY))
        Py_CLEAR(op.future)
        return 0

    cdef int chain_done(self) except -1:
        """All results of the chain are in."""
        self.requeue()
        if self.queue is not NULL:
            self.flush_quietly()
        # The protocol may send more when it is told to resume: so first that.
        self.maybe_resume()
        self.all_sent()
        return self.maybe_finish()

    cdef int requeue(self) except -1:
        """What has to be tried again goes first."""
        if self.retry is not NULL:
            self.retry_end[0] = self.queue
            if self.queue is NULL:
                self.queue_end = self.retry_end
            self.queue = self.retry
            self.queued += self.retries
            self.retry = NULL
            self.retry_end = &self.retry
            self.retries = 0
        return 0

    cdef int drop_queue(self) except -1:
        cdef operation* op
        while self.queue is not NULL:
            op = self.pop_queue()
            self.buffered -= op.length + HEADER
            self.loop.datagrams_dropped += 1
            if op.future is not NULL:
                self.resolve(op, ECANCELED)
            self.loop.operations.release(op)
        return 0

    cdef bint has_queue(self) noexcept:
        return self.queue is not NULL
