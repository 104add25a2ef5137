"""The receiving half of a datagram transport."""
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_DECREF
from libc.stdint cimport uint32_t, uintptr_t
from libc.string cimport memset

from uringloop._cpython cimport allocate_bytes, bytes_content, resize_bytes
from uringloop.ring.buffers cimport EXPORT_MINIMUM, HEAD, ReceiveBuffers
from uringloop.core.loop_core cimport DATAGRAM, LOCAL
from uringloop.ring.operations cimport MEMORY, MULTISHOT, operation
from uringloop.transport.receiver cimport LONG, LONG_RUN, READABLE, RECEIVE, Receiver
from uringloop.ring.abi cimport *
from uringloop.transport.socket_transport cimport event

import os


cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recvmsg(int, msghdr*, int)

cdef enum:
    READ_LIMIT = 32           # datagrams read before others have their turn
    LONGEST = 65536
    LONGEST_LOCAL = 262144    # AF_UNIX; as asyncio

cdef enum Event:
    ERROR = 0
    RECEIVED = 1


cdef class DatagramReceiver(Receiver):
    """Receives by one multishot operation, or long datagrams one by one."""

    cdef int start_ring(self) except -1:
        """The loop has a ring that this transport does not know yet: make oneself at home."""
        cdef bint known = self.ring_id == self.loop.ring.ring_id
        if known and self.slot >= 0:
            return 0
        if self._sock.fileno() != self._sock_fd:
            # The program has closed the socket under us: the number may be another's.
            return 0 if self._closing else self.socket_closed()
        if not known:
            self.ring_id = self.loop.ring.ring_id
            self.slot = self.loop.ring.register_file(self._sock_fd)
        return 0

    cdef int leave_ring(self) except -1:
        if self.slot >= 0 and self.loop.ring is not None and self.ring_id == self.loop.ring.ring_id:
            # Before close(), or the port would stay in use.
            self.loop.ring.unregister_file(self.slot)
        self.slot = -1
        return 0

    cdef int leave_ring_later(self) except -1:
        if self.slot >= 0 and self.loop.ring is not None and self.ring_id == self.loop.ring.ring_id:
            self.loop.slots_to_free.append((self.slot, self.loop.ring))
            self.loop._write_to_self()
        self.slot = -1
        return 0

    # -- by the ring ---------------------------------------------------------------------------

    cdef int receive(self, ReceiveBuffers buffers) except -1:
        cdef operation* op
        cdef io_uring_sqe* sqe
        cdef bint fixed = self.slot >= 0
        op = self.loop.operations.acquire(self)
        op.status = RECEIVE
        memset(&op.message, 0, sizeof(op.message))
        op.message.msg_namelen = self.name_room
        sqe = self.loop.ring.prepare(
            op, IORING_OP_RECVMSG, self.slot if fixed else self._sock_fd,
            IOSQE_BUFFER_SELECT | (IOSQE_FIXED_FILE if fixed else 0), MULTISHOT | MEMORY)
        sqe.addr = <uintptr_t>&op.message
        sqe.len = 1
        sqe.ioprio = IORING_RECV_MULTISHOT
        sqe.buf_group = buffers.group
        self.receiving = op
        return 0

    cdef ReceiveBuffers receive_buffers(self):
        return self.loop.receive_buffers(LOCAL if self.family == AF_UNIX else DATAGRAM)

    cdef int received(self, operation* op, int res, uint32_t flags) except -1:
        cdef ReceiveBuffers buffers
        if not flags & IORING_CQE_F_MORE:
            self.receiving = NULL
        if flags & IORING_CQE_F_BUFFER:
            buffers = self.receive_buffers()
            try:
                if self._closing:
                    self.loop.counters.datagrams_discarded += 1
                else:
                    self.take_datagram(buffers, res, flags)
            finally:
                buffers.recycle(flags >> IORING_CQE_BUFFER_SHIFT)
        if flags & IORING_CQE_F_MORE:
            return 0
        # Multishot ends: after an empty datagram, without buffers, by an error.
        if op.status == READABLE:
            return self.poll_ended(res)
        if res == -ENOBUFS:
            self.exhausted()
        elif res < 0 and res != -ECANCELED and not self._closing:
            self.post(ERROR, OSError(-res, os.strerror(-res)), None)
        if self._closing:
            return self.maybe_finish()
        return self.flush_quietly()

    cdef int take_datagram(self, ReceiveBuffers buffers, int res, uint32_t flags) except -1:
        cdef:
            unsigned number = flags >> IORING_CQE_BUFFER_SHIFT
            io_uring_recvmsg_out* out = <io_uring_recvmsg_out*>buffers.at(number)
            char* name = <char*>(out + 1)
            Py_ssize_t length = res - <Py_ssize_t>(sizeof(io_uring_recvmsg_out) + self.name_room)
        if out.flags & MSG_TRUNC or length > LONGEST_LOCAL:
            self.loop.counters.datagrams_truncated += 1
            length = min(length, LONGEST_LOCAL)       # asyncio's limit, for AF_UNIX
        self.loop.counters.datagrams_received += 1
        address = self.loop.addresses.to_python(name, min(out.namelen, self.name_room))
        if length >= EXPORT_MINIMUM and self.name_room + sizeof(io_uring_recvmsg_out) == HEAD:
            return self.post(RECEIVED, buffers.export_bytes(number, length), address)
        return self.post(RECEIVED, PyBytes_FromStringAndSize(name + self.name_room, length),
                         address)

    # -- one by one ----------------------------------------------------------------------------

    cdef int judge(self, Py_ssize_t length) except -1:
        """Long datagrams are to be read one by one, and others are not."""
        if length < LONG or self.family == AF_UNIX:
            self.long_run = 0
        elif self.long_run < LONG_RUN:
            self.long_run += 1
        return self.choose_way(self.long_run >= LONG_RUN)

    cdef int read_on(self) except -1:
        """Read and hand over, one at a time, while there is something and nobody is kept waiting.

        What a multishot receive may have taken comes first.  With DEFER_TASKRUN it
        takes only while this thread is in the kernel for the ring, so it is in
        the completion queue by now, or in the inbox.
        """
        cdef int left = READ_LIMIT
        self.readable = False
        while left:
            left -= 1
            if self._closing or self.paused_reading or self.inbox_count \
                    or self.receives() and self.loop.ring.has_unsettled():
                return 0
            if self._sock.fileno() != self._sock_fd:
                # The program has closed its socket; the ring still has the file.
                self.choose_way(False)
                return self.socket_closed() if self.one_by_one else 0
            if not self.read_one() or not self.one_by_one:
                return 0
        return 0

    cdef bint receives(self) noexcept:
        """Whether a multishot receive is armed, or called back and not yet gone."""
        return self.receiving is not NULL and self.receiving.status == RECEIVE

    cdef bint read_one(self) except -1:
        """Whether there was one."""
        cdef iovec vector
        cdef msghdr message
        cdef sockaddr_storage name
        cdef ssize_t length
        cdef size_t longest = LONGEST_LOCAL if self.family == AF_UNIX else LONGEST
        cdef PyObject* memory = allocate_bytes(longest)
        vector.iov_base = bytes_content(memory)
        vector.iov_len = longest
        memset(&message, 0, sizeof(message))
        message.msg_iov = &vector
        message.msg_iovlen = 1
        message.msg_name = &name
        message.msg_namelen = sizeof(name)
        length = recvmsg(self._sock_fd, &message, MSG_DONTWAIT)
        if length < 0:
            Py_CLEAR(memory)
            if errno_now != EAGAIN and errno_now != EINTR:
                self.deliver_error(OSError(errno_now, os.strerror(errno_now)))
            return False
        if message.msg_flags & MSG_TRUNC:
            self.loop.counters.datagrams_truncated += 1
        self.loop.counters.datagrams_received += 1
        # Let go before the next is made: it is to get the same memory.
        self.hand_over(resize_bytes(memory, length),
                       self.loop.addresses.to_python(&name, message.msg_namelen))
        return True

    # -- delivering ----------------------------------------------------------------------------

    cdef int deliver_one(self, event* item) except -1:
        what = <object>item.payload
        address = <object>item.address
        Py_DECREF(what)
        Py_DECREF(address)
        if item.kind == ERROR:
            return self.deliver_error(what)
        return self.hand_over(what, address)

    cdef int hand_over(self, object data, object address) except -1:
        self.judge(PyBytes_GET_SIZE(data))
        try:
            if self._closing:
                self.loop.counters.datagrams_discarded += 1
            else:
                self._protocol.datagram_received(data, address)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.report(exc, f'Exception in callback {self!r}')
        return 0

    cdef int deliver_error(self, object exc) except -1:
        try:
            if self._protocol is not None:
                self._protocol.error_received(exc)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as problem:
            self.report(problem, f'Exception in callback {self!r}')
        return 0
