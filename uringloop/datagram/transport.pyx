"""Datagram transports.

    protocol -> sendto -> system call -> kernel                  what is copied
    protocol -> sendto -> queue -> submission -> kernel          what is not

How they come is in ``_datagram_receiving``.

A datagram leaves inside ``sendto``, as with asyncio.  Two kinds are put into the queue
first, to leave with their neighbours: those of one size that a turn sends in bulk to one
address, as one segmented send; and those that go zero-copy, as one submission.

Order: datagrams leave in the order of the calls.  Nothing waits inside the ring: what a
socket has no room for stays in the queue, and so does all that is sent later, until a
poll finds room.  The zero-copy sends of one submission are linked: when one fails the
kernel cancels those behind it, and they are put back, in front.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_INCREF
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcmp, memcpy, memset
from posix.time cimport CLOCK_MONOTONIC_COARSE, clock_gettime, timespec

from uringloop.ring.buffers cimport copy_payload, export_payload, payload
from uringloop.core.loop_core cimport LoopCore
from uringloop.datagram.receiver cimport DatagramReceiver
from uringloop._cpython cimport fd_of, proto_of, type_of
from uringloop.ring.operations cimport (
    EXPLICIT, FOLLOWER, MEMORY, NOTIF_DUE, SEND, ZEROCOPY, operation)
from uringloop.ring.zerocopy cimport (
    SEND_ZC_FLAGS, ZEROCOPY_MINIMUM, CopyReports, is_reported, send_report, zerocopy_pays)
from uringloop.ring.abi cimport *

import os
import sys
from asyncio import DatagramTransport as DatagramTransportBase
from asyncio import selector_events


cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<sys/socket.h>" nogil:
    ssize_t sendto(int, const void*, size_t, int, const sockaddr*, socklen_t)
    ssize_t sendmsg(int, const msghdr*, int)
    int getsockopt(int, int, int, void*, socklen_t*)

cdef extern from "<netinet/in.h>":
    enum:
        IPPROTO_UDP

cdef extern from *:
    """
    #include <asm/socket.h>
    #ifndef UDP_CORK                      /* <linux/udp.h>, whose struct udphdr is glibc's too */
    #define UDP_CORK 1
    #endif
    #ifndef UDP_NO_CHECK6_TX
    #define UDP_NO_CHECK6_TX 101
    #endif
    """
    enum:
        SO_NO_CHECK
        SO_TIMESTAMPING
        UDP_CORK
        UDP_NO_CHECK6_TX

cdef enum:
    CHAIN_LIMIT = 64          # sends of one submission, linked to one another
    QUEUE_LIMIT = 64          # datagrams that wait for the end of the turn
    GATHER_LIMIT = 64         # segments of one send: UDP_MAX_SEGMENTS of older kernels
    GATHER_BYTES = 65000      # with headers it must stay below 64 KiB
    GATHER_SIZE = 16384       # of two longer ones, each may as well leave by itself

cdef double OPTIONS_TRUSTED = 0.01

cdef enum Status:
    UNDECIDED = 0
    PLAIN = 1                 # zero-copy was refused for this one
    BY_CALL = 2               # and so was the ring

# Options with which a datagram is not what it would be as a segment of another.
cdef int[4][2] SEGMENTING_OPTIONS = [
    [SOL_UDP, UDP_SEGMENT], [SOL_UDP, UDP_CORK], [SOL_UDP, UDP_NO_CHECK6_TX],
    [SOL_SOCKET, SO_NO_CHECK]]

# Until 3.12 asyncio did not send empty datagrams; from 3.13 on it does, and
# counts a header with each.
cdef bint EMPTY_ALLOWED = sys.version_info >= (3, 13)
cdef size_t HEADER = 8 if sys.version_info >= (3, 13) else 0

# What isinstance() is to see.  Until 3.11 asyncio's own was no DatagramTransport.
if issubclass(selector_events._SelectorDatagramTransport, DatagramTransportBase):
    AsyncioTransport = selector_events._SelectorDatagramTransport
else:
    class AsyncioTransport(selector_events._SelectorDatagramTransport, DatagramTransportBase):
        """asyncio's transport, as later versions have it."""


cdef class DatagramTransport(DatagramReceiver):
    """asyncio's datagram transport on the ring; made by ``create_datagram_endpoint``."""

    def __cinit__(self):
        self.queue_end = &self.queue
        self.retry_end = &self.retry
        self.chain_limit = CHAIN_LIMIT

    def __init__(self, LoopCore loop, sock, protocol, address=None, waiter=None, extra=None):
        self.set_up(loop, sock, protocol, waiter, extra)
        self._address = address
        self.name_room = {AF_INET: 16, AF_INET6: 28, AF_UNIX: 112}[self.family]
        self.connected = bool(self.peername)
        self.zerocopy_able = self.family in (AF_INET, AF_INET6)
        if self.zerocopy_able and type_of(sock) & 0xf == SOCK_DGRAM \
                and proto_of(sock) in (0, IPPROTO_UDP):
            self.gather_limit = GATHER_SIZE

    @property
    def __class__(self):
        # asyncio's class cannot be a base: its slots conflict in layout.
        return AsyncioTransport

    def sendto(self, data, addr=None):
        """Send a datagram; never waits.

        It leaves at the call.  In a bulk, many in one turn, it may wait for the end of
        the turn to leave with the others; and where the socket has no room, for that.
        Exact ``bytes`` and views of exact ``bytes`` are not copied then; anything else is
        before this returns.  Errors of the network reach ``protocol.error_received``.
        """
        cdef payload memory
        cdef sockaddr_storage address
        cdef uint32_t address_length = 0
        cdef bint exact = PyBytes_CheckExact(data)
        if not exact and not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f'data argument must be a bytes-like object, '
                            f'not {type(data).__name__!r}')
        if not EMPTY_ALLOWED and not data:
            return
        if self._address is not None:
            if addr is not None:
                self.check_address(addr)
            addr = self._address
        if self._conn_lost and (self._address or self._sock is None):
            self.dropped()
            return
        if self.loop.closing:
            self.loop.counters.datagrams_dropped += 1       # nothing will leave any more
            return
        # First: an address may be code of the program, and that may move the memory.
        if not self.connected and not self.to_kernel(addr, &address, &address_length):
            return
        if exact:
            memory.base = PyBytes_AS_STRING(data)
            memory.length = PyBytes_GET_SIZE(data)
            memory.immutable = True
            self.send(data, &memory, &address, address_length)
            return
        try:
            # Held: what others have deferred leaves first, and that may run code of the
            # program (``call_soon`` of a subclass, a buffer that is given back).
            owner = export_payload(data, &memory)
        except (BufferError, ValueError) as exc:
            self._fatal_error(exc, 'Fatal write error on datagram transport')
            return
        self.send(owner, &memory, &address, address_length)

    def sendto_zerocopy(self, data, addr=None):
        """Send a datagram without copying it; returns a future of ``SendReport``.

        ``data`` may be any contiguous buffer, mutable too.  Leave it alone until the
        future is done: that is when the kernel has let go of it.  Cancelling
        the future does not call the datagram back.  Errors of the network are the
        future's; a bad address or type raises here.
        """
        cdef payload memory
        cdef sockaddr_storage address
        cdef uint32_t address_length = 0
        owner = export_payload(data, &memory)
        if self._address is not None:
            if addr is not None:
                self.check_address(addr)
            addr = self._address
        future = self.loop.new_future()
        if self._conn_lost or self.loop.closing:
            self.loop.counters.datagrams_dropped += 1
            future.set_exception(ConnectionAbortedError(
                f'{self!r} is closed: {memory.length} bytes were not sent'))
            return future
        if not self.is_connected(addr):
            self.loop.addresses.to_kernel(addr, self.family, &address, &address_length)
        if self.loop.deferring is not None and self.loop.deferring is not self:
            self.loop.deferring.send_deferred()
        self.enqueue(owner, &memory, &address, address_length, future)
        if self.is_bulk() and not self.waits():
            self.defer()
        else:
            self.send_queued()
        self.maybe_pause_full()
        return future

    def check_address(self, addr):
        if self._address and addr is not None and addr != self._address:
            raise ValueError(f'Invalid address: must be None or {self._address}, not {addr!r}')

    def dropped(self):
        self.loop.counters.datagrams_dropped += 1
        self._write_on_lost()

    # -- one datagram --------------------------------------------------------------------------

    cdef bint is_connected(self, object addr) noexcept:
        # An AF_UNIX peer may have no name; asyncio then wants an address.
        return self.connected or addr is None and self.peername is not None

    cdef bint to_kernel(self, object addr, sockaddr_storage* into, uint32_t* length) except -1:
        """The kernel's form of ``addr``.  False: there is none, and that has been told."""
        if self.is_connected(addr):
            return True
        try:
            self.loop.addresses.to_kernel(addr, self.family, into, length)
        except OSError as exc:
            self._protocol.error_received(exc)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fatal_error(exc, 'Fatal write error on datagram transport')
        else:
            return True
        return False

    @cython.final
    cdef int send(self, object owner, payload* memory, sockaddr_storage* address,
                  uint32_t address_length) except -1:
        cdef Likeness likeness = self.compare(memory.length, address, address_length)
        cdef bint zerocopy, bulk
        if likeness == SAME and self.loop.deferring is self and memory.immutable \
                and self.sent_turn == self.loop.turns and not self.waits():
            # The usual case in a bulk, decided already.
            self.sent_count += 1
            self.enqueue(owner, memory, address, address_length, None)
            return self.defer()
        zerocopy = memory.immutable and memory.length >= ZEROCOPY_MINIMUM \
            and self.goes_zerocopy(memory.base, memory.length, False, address, address_length)
        bulk = self.is_bulk() and (zerocopy or likeness != DIFFERENT)
        if self.loop.deferring is not None and self.loop.deferring is not self:
            self.loop.deferring.send_deferred()
        if not self.waits() and not bulk:
            if self.queue is not NULL:
                self.send_queued()
            if self.queue is NULL and not zerocopy:
                return self.send_now(owner, memory, address, address_length)
        if not memory.immutable:
            owner = copy_payload(owner, memory)
        self.enqueue(owner, memory, address, address_length, None)
        if bulk and likeness != SHORTER and not self.waits():
            self.defer()
        else:
            self.send_queued()
            while self.errors and not bulk:
                self.deliver_error(self.errors.pop(0))      # at the call, as asyncio tells it
        return self.maybe_pause_full()

    @cython.final
    cdef Likeness compare(self, size_t length, sockaddr_storage* address,
                          uint32_t address_length) noexcept:
        """Whether this one can be a segment of one send with the last; remembers it."""
        cdef Likeness likeness = DIFFERENT
        if 0 < length <= self.gather_limit and address_length == self.last_address_length \
                and memcmp(address, &self.last_address, address_length) == 0:
            if length == self.last_length:
                return SAME
            if length < self.last_length and self.queue is not NULL:
                likeness = SHORTER
        self.last_length = length
        # Of AF_UNIX nothing is gathered.
        self.last_address_length = min(address_length, <uint32_t>sizeof(self.last_address))
        memcpy(&self.last_address, address, self.last_address_length)
        return likeness

    cdef int send_now(self, object owner, payload* memory, sockaddr_storage* address,
                      uint32_t address_length) except -1:
        """Send by a plain system call, as asyncio does, and tell as it does."""
        cdef int error
        if fd_of(self._sock) != self._sock_fd:
            error = EBADF                # the program has closed it: the number may be another's
        elif sendto(self._sock_fd, memory.base, memory.length, MSG_DONTWAIT | MSG_NOSIGNAL,
                    <sockaddr*>address if address_length else NULL, address_length) >= 0:
            self.loop.counters.datagrams_sent += 1
            return 0
        else:
            error = errno_now
        if (error == EAGAIN or error == EINTR) and not self._conn_lost:
            if not memory.immutable:
                owner = copy_payload(owner, memory)
            self.enqueue(owner, memory, address, address_length, None)
            self.has_no_room()
            return self.maybe_pause_full()
        self.loop.counters.datagrams_dropped += 1
        self._protocol.error_received(OSError(error, self.error_text(error, memory.length)))
        return 0

    cdef bint goes_zerocopy(self, const void* base, size_t length, bint explicit,
                            const void* address, uint32_t address_length) noexcept:
        return (self.zerocopy_able and self.may_use_ring()
                and zerocopy_pays(base, length, explicit, address, address_length, self.paths,
                                  self.loop.operations.pinned))

    # -- the queue -----------------------------------------------------------------------------

    @cython.final
    cdef int enqueue(self, object owner, payload* memory, sockaddr_storage* address,
                     uint32_t address_length, object future) except -1:
        cdef operation* op = self.loop.operations.acquire(self)
        memcpy(&op.address, address, address_length)
        op.address_length = address_length
        Py_INCREF(owner)
        op.data = <PyObject*>owner
        op.base = memory.base
        op.length = memory.length
        if future is not None:
            Py_INCREF(future)
            op.future = <PyObject*>future
            op.traits = EXPLICIT
        self.queue_end[0] = op
        self.queue_end = &op.next
        self.queued += 1
        self.buffered += memory.length + HEADER
        return 0

    @cython.final
    cdef int defer(self) except -1:
        """What is queued leaves at the end of the turn, or as soon as that is enough of it.

        Only one transport of a loop does so at a time: when another sends, this one's go
        first, so that all leave in the order of the calls.
        """
        cdef size_t length = self.queue.length
        if self.queued >= QUEUE_LIMIT or length <= self.gather_limit \
                and self.buffered - self.queued * HEADER + length > GATHER_BYTES:
            return self.send_queued()
        if self.loop.deferring is not self:
            if self.loop.deferring is not None:
                self.loop.deferring.send_deferred()
            self.loop.deferring = self
        return self.flush_later()

    cdef int flush(self) except -1:
        self.flush_due = False
        if self._sock is None or self.loop.closing:
            return 0
        self.start_ring()
        self.arm_or_cancel()
        self.send_queued()
        if self.full and not self._conn_lost and not self.retry_later:
            return self.wait_for_room()
        return 0

    cdef int wait_for_room(self) except -1:
        # An AF_UNIX socket that is not connected is writable at any time, however full its
        # peer is.  (asyncio's loop spins on it.)
        if self.family == AF_UNIX and not self.is_connected(None):
            if self.futile_polls >= 2:
                return self.wait_a_moment()
            self.futile_polls += 1
        return self.poll_room()

    cdef int send_queued(self) except -1:
        if self.sending or self._sock is None or self.loop.closing:
            return 0
        self.sending = True
        try:
            if self.may_use_ring() and self.ring_id != self.loop.ring.ring_id:
                self.start_ring()
            while self.queue is not NULL and not self.waits():
                if self.goes_by_ring(self.queue):
                    self.send_chain()
                else:
                    self.send_batch()
        finally:
            self.sending = False
        if self.loop.deferring is self:
            self.loop.deferring = None
        if self.full:
            self.has_no_room()
        # The protocol may send more when it is told to resume: so first that.
        self.maybe_resume()
        return self.all_sent()

    cdef int has_no_room(self) except -1:
        """The queue waits for the socket to have room."""
        self.full = True
        return self.flush_later() if self.room is NULL and not self.retry_later else 0

    @cython.final
    cdef int maybe_pause_full(self) except -1:
        """What is only deferred is no reason to pause: the socket may have room for it."""
        if self.buffered > self.high_water and self.waits():
            return self.maybe_pause()
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

    # -- by plain system calls -----------------------------------------------------------------

    cdef int send_batch(self) except -1:
        """Send the front of the queue: neighbours that are alike as one segmented send."""
        cdef unsigned count = self.count_alike()
        cdef int error = 0
        if count > 1 and fd_of(self._sock) == self._sock_fd and self.segments_as_sent():
            error = self.send_segmented(count)
            if error == 0:
                self.loop.counters.datagrams_gathered += count
                while count:
                    count -= 1
                    self.sent_plainly()
            elif error == EAGAIN or error == EINTR:
                self.full = True
            else:
                # Nothing of it has left.  One by one they tell whose fault it is.
                self.one_by_one_due = count
                self.refusal = error
            return 0
        error = self.send_first()
        if error == EAGAIN or error == EINTR:
            self.full = True
            return 0
        if self.one_by_one_due:
            self.one_by_one_due -= 1
            if error == 0:
                self.not_segmented(self.queue.length)
            self.refusal = 0
        if error == 0:
            return self.sent_plainly()
        op = self.pop_queue()
        self.failed(op, error)
        self.loop.operations.release(op)
        return 0

    @cython.final
    cdef unsigned count_alike(self) noexcept:
        """How many, from the front of the queue, can leave as segments of one send.

        The last may be shorter, but not empty: an empty one would vanish.
        """
        cdef operation* leader = self.queue
        cdef operation* op = leader.next
        cdef size_t total = leader.length
        cdef unsigned count = 1
        if self.one_by_one_due or not 0 < leader.length <= self.gather_limit \
                or leader.traits & EXPLICIT:
            return 1
        while op is not NULL and count < GATHER_LIMIT and 0 < op.length <= leader.length \
                and total + op.length <= GATHER_BYTES and not op.traits & EXPLICIT \
                and op.address_length == leader.address_length \
                and memcmp(&op.address, &leader.address, op.address_length) == 0:
            total += op.length
            count += 1
            if op.length < leader.length:
                break
            op = op.next
        return count

    cdef bint segments_as_sent(self) noexcept:
        """Whether the socket's options leave a datagram the same as a segment.

        Not if the program cuts or corks its own, wants to hear when each has left, or
        sends without a checksum.  What it sets through ``get_extra_info('socket')`` is seen
        at once; for what it may set on an object of its own they are looked at again after
        a while: five system calls, and each may cost as much as a datagram.
        """
        cdef timespec ts
        cdef double now
        clock_gettime(CLOCK_MONOTONIC_COARSE, &ts)
        now = ts.tv_sec + ts.tv_nsec * 1e-9
        if self.options_changed or now >= self.options_until:
            self.options_changed = False
            self.options_until = now + OPTIONS_TRUSTED
            self.may_segment = self.look_at_options()
        return self.may_segment

    cdef bint look_at_options(self) noexcept:
        cdef int value, i
        cdef int[4] stamps
        cdef socklen_t size
        for i in range(4):
            value = 0
            size = sizeof(value)
            getsockopt(self._sock_fd, SEGMENTING_OPTIONS[i][0], SEGMENTING_OPTIONS[i][1],
                       &value, &size)
            if value:
                return False
        stamps[0] = 0
        size = sizeof(stamps)
        getsockopt(self._sock_fd, SOL_SOCKET, SO_TIMESTAMPING, &stamps, &size)
        return stamps[0] == 0

    cdef int send_segmented(self, unsigned count) noexcept:
        """Send ``count`` datagrams at once (UDP_SEGMENT): 0 or an errno."""
        cdef:
            iovec vectors[GATHER_LIMIT]
            uint64_t control[4]        # aligned
            cmsghdr* header = <cmsghdr*>control
            msghdr message
            operation* op = self.queue
            unsigned i
        for i in range(count):
            vectors[i].iov_base = op.base
            vectors[i].iov_len = op.length
            op = op.next
        op = self.queue
        memset(&message, 0, sizeof(message))
        message.msg_iov = vectors
        message.msg_iovlen = count
        if op.address_length:
            message.msg_name = &op.address
            message.msg_namelen = op.address_length
        header.cmsg_len = sizeof(cmsghdr) + sizeof(uint16_t)
        header.cmsg_level = SOL_UDP
        header.cmsg_type = UDP_SEGMENT
        (<uint16_t*>(header + 1))[0] = <uint16_t>op.length
        message.msg_control = header
        message.msg_controllen = sizeof(cmsghdr) + sizeof(uint64_t)
        return 0 if sendmsg(self._sock_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 \
            else errno_now

    cdef int not_segmented(self, size_t length) noexcept:
        """Segmented it was refused, by itself it went out: remember."""
        if self.refusal == EMSGSIZE or self.refusal == EINVAL:
            self.gather_limit = min(self.gather_limit, length - 1)       # beyond the path's MTU
        elif self.refusal == EIO or self.refusal == EOPNOTSUPP:
            self.gather_limit = 0                        # a device that cannot
        return 0

    cdef int send_first(self) noexcept:
        """Send the first of the queue by itself: 0 or an errno."""
        cdef operation* op = self.queue
        if fd_of(self._sock) != self._sock_fd:
            return EBADF
        return 0 if sendto(self._sock_fd, op.base, op.length, MSG_DONTWAIT | MSG_NOSIGNAL,
                           <sockaddr*>&op.address if op.address_length else NULL,
                           op.address_length) >= 0 else errno_now

    @cython.final
    cdef int sent_plainly(self) except -1:
        cdef operation* op = self.pop_queue()
        self.accepted(op)
        self.loop.operations.release(op)
        return 0

    # -- by the ring ---------------------------------------------------------------------------

    cdef bint goes_by_ring(self, operation* op) noexcept:
        if self.slot < 0 and fd_of(self._sock) != self._sock_fd:
            return False         # the number may be another's
        if op.status == UNDECIDED and (op.traits & EXPLICIT or op.length >= ZEROCOPY_MINIMUM) \
                and self.goes_zerocopy(op.base, op.length, op.traits & EXPLICIT,
                                       &op.address, op.address_length):
            return True
        # The program has closed its socket meanwhile: the ring still has the file.
        return (op.status != BY_CALL and self.slot >= 0
                and fd_of(self._sock) != self._sock_fd and self.may_use_ring())

    cdef int send_chain(self) except -1:
        """Submit the front of the queue, each send linked to the next; take the results."""
        cdef:
            unsigned room = self.loop.ring.sqes_left(self.chain_limit)
            unsigned traits, count = 0
            int fd = self._sock_fd
            unsigned flags = 0
            operation* op
            io_uring_sqe* sqe = NULL
            io_uring_sqe* before
            bint zerocopy
        if room == 0:
            self.queue.status = BY_CALL          # the kernel takes no submissions now
            return 0
        if self.slot >= 0:
            fd = self.slot
            flags = IOSQE_FIXED_FILE
        self.accepted_of_chain = 0
        while count < room and self.queue is not NULL and self.goes_by_ring(self.queue):
            op = self.pop_queue()
            before = sqe
            zerocopy = op.status == UNDECIDED and self.goes_zerocopy(
                op.base, op.length, op.traits & EXPLICIT, &op.address, op.address_length)
            traits = MEMORY | SEND if before is NULL else MEMORY | SEND | FOLLOWER
            sqe = self.loop.ring.prepare(
                op, IORING_OP_SEND_ZC if zerocopy else IORING_OP_SEND, fd, flags,
                traits | ZEROCOPY if zerocopy else traits)
            if zerocopy:
                sqe.ioprio = SEND_ZC_FLAGS
            sqe.addr = <uintptr_t>op.base
            sqe.len = <uint32_t>min(op.length, <size_t>0x7fffffff)
            if op.address_length:
                sqe.addr2 = <uintptr_t>&op.address
                sqe.addr_len = <uint16_t>op.address_length
            sqe.msg_flags = MSG_NOSIGNAL | MSG_DONTWAIT
            if before is not NULL:
                before.flags |= IOSQE_IO_LINK
            self.results_due += 1
            count += 1
        self.loop.ring.submit_sends(self, count)
        return 0

    cdef int result(self, operation* op, int res, uint32_t flags) except -1:
        if op is self.receiving:
            return self.received(op, res, flags)
        if op is self.room:
            return self.room_ended(res)
        self.results_due -= 1
        if res >= 0:
            self.accepted_of_chain += 1
            self.accepted(op)
        else:
            self.refused(op, -res)
        if self.results_due == 0:
            self.chain_done()
        return 0

    cdef int chain_done(self) except -1:
        """All results are in: what has to be tried again goes first."""
        if self.retry is NULL and self.accepted_of_chain:
            self.chain_limit = min(2 * self.chain_limit, <unsigned>CHAIN_LIMIT)
        else:
            # So that many failures don't cost the square of their number.
            self.chain_limit = max(self.accepted_of_chain, <unsigned>1)
        if self.retry is not NULL:
            self.retry_end[0] = self.queue
            if self.queue is NULL:
                self.queue_end = self.retry_end
            self.queue = self.retry
            self.queued += self.retries
            self.retry = NULL
            self.retry_end = &self.retry
            self.retries = 0
        if self.sending:
            return 0               # send_queued() goes on
        if self.queue is not NULL:
            self.flush_quietly()
        self.maybe_resume()
        self.all_sent()
        return self.maybe_finish()

    cdef int refused(self, operation* op, int error) except -1:
        """A send of the chain did not go out: try again, perhaps another way, or tell."""
        cdef operation* second
        cdef bint again = error == ECANCELED
        cdef int status = op.status
        if error == EAGAIN:
            again = self.full = True
        elif op.traits & ZEROCOPY and error in (ENOMEM, ENOBUFS, EOPNOTSUPP, EMSGSIZE):
            # The same datagram by plain send, in its place in the order.
            again = True
            status = PLAIN
            if error == EOPNOTSUPP:
                self.zerocopy_able = False
        if again and not self.aborted:
            second = self.loop.operations.clone_for_retry(op)
            second.status = status
            op.status = -error       # the notification is not to be learnt from
            second.next = NULL
            self.retry_end[0] = second
            self.retry_end = &second.next
            self.retries += 1
            return 0
        return self.failed(op, error)

    # -- what became of it ---------------------------------------------------------------------

    @cython.final
    cdef int accepted(self, operation* op) except -1:
        self.buffered -= op.length + HEADER
        self.futile_polls = 0
        self.retry_delay = 0
        self.loop.counters.datagrams_sent += 1
        if op.traits & ZEROCOPY:
            self.loop.counters.zerocopy_sent += 1
        elif op.status == PLAIN:
            self.loop.counters.zerocopy_sent += 1
            self.loop.counters.zerocopy_fell_back += 1
        if op.future is not NULL and not op.due & NOTIF_DUE:
            op.copied = True
            self.resolve(op, 0)
        return 0

    cdef int failed(self, operation* op, int error) except -1:
        self.buffered -= op.length + HEADER
        self.loop.counters.datagrams_dropped += 1
        op.status = -error
        if op.future is not NULL:
            if not op.due & NOTIF_DUE:
                self.resolve(op, error)
        elif not self.aborted:
            self.post_error(error, self.error_text(error, op.length))
        return 0

    def error_text(self, int error, size_t length):
        text = os.strerror(error)
        return f'{text}: a datagram of {length} bytes' if error == EMSGSIZE else text

    cdef int notified(self, operation* op) except -1:
        self.loop.counters.buffers_released += 1
        if op.status >= 0 and is_reported(op):
            self.loop.counters.zerocopy_copied += op.copied
            if self.paths is None and op.copied:
                self.paths = CopyReports()
            if self.paths is not None:
                self.paths.record(&op.address, op.address_length, op.length, op.copied)
        if op.future is not NULL:
            self.resolve(op, -op.status if op.status < 0 else 0)
        return 0

    cdef int lost(self, operation* op) except -1:
        # A closed loop will not tell when; one that runs on in another thread will.
        if op.future is not NULL and self.loop.closing:
            (<object>op.future).cancel()
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
            future.set_result(send_report(op.length, op.copied, is_reported(op)))
        Py_CLEAR(op.future)
        return 0

    cdef int drop_queue(self) except -1:
        cdef operation* op
        while self.queue is not NULL:
            op = self.pop_queue()
            self.buffered -= op.length + HEADER
            self.loop.counters.datagrams_dropped += 1
            if op.future is not NULL:
                self.resolve(op, ECANCELED)
            self.loop.operations.release(op)
        return 0

    cdef bint has_queue(self) noexcept:
        return self.queue is not NULL
