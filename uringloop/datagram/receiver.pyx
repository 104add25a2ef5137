"""How datagrams come: by one multishot operation, or long ones one by one."""
cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_DECREF
from libc.stdint cimport uintptr_t
from libc.string cimport memset

from uringloop._cpython cimport allocate_bytes, bytes_content, resize_bytes
from uringloop.core.loop_core cimport DATAGRAM, LOCAL
from uringloop.ring.abi cimport *
from uringloop.ring.buffers cimport EXPORT_MINIMUM, HEAD, ReceiveBuffers
from uringloop.ring.operations cimport MEMORY, MULTISHOT, RECEIVE, operation
from uringloop.transport.delivery cimport RECEIVE_ERROR, received_item
from uringloop.transport.receiver cimport (
    BY_MULTISHOT, LONG, LONG_RUN, ONE_BY_ONE, Receiver)
from uringloop.transport.socket_transport cimport CLOSING, SocketTransport

import os


cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recvmsg(int, msghdr*, int)

cdef enum:
    READ_LIMIT = 32           # datagrams read before others have their turn
    LONGEST = 65536
    LONGEST_LOCAL = 262144    # AF_UNIX; as asyncio

cdef enum:
    DATAGRAM_RECEIVED = RECEIVE_ERROR + 1     # kind of a received_item


@cython.final
cdef class DatagramReceiver(Receiver):
    """The ``Receiver`` of datagrams."""

    # -- by the ring ---------------------------------------------------------------------------

    cdef int arm_multishot(self, ReceiveBuffers buffers) except -1:
        transport = <SocketTransport>self.transport
        cdef operation* op = transport.loop.operations.acquire(transport)
        cdef bint fixed = transport.slot >= 0
        cdef io_uring_sqe* sqe
        op.role = RECEIVE
        memset(&op.message, 0, sizeof(op.message))
        op.message.msg_namelen = self.name_size
        sqe = transport.loop.ring.prepare(
            op, IORING_OP_RECVMSG, transport.slot if fixed else transport._sock_fd,
            IOSQE_BUFFER_SELECT | (IOSQE_FIXED_FILE if fixed else 0), MULTISHOT | MEMORY)
        sqe.addr = <uintptr_t>&op.message
        sqe.len = 1
        sqe.ioprio = IORING_RECV_MULTISHOT
        sqe.buf_group = buffers.group
        self.armed = op
        return 0

    cdef ReceiveBuffers receive_buffers(self):
        transport = <SocketTransport>self.transport
        return transport.loop.receive_buffers(
            LOCAL if transport.family == AF_UNIX else DATAGRAM)

    cdef int received(self, ReceiveBuffers buffers, unsigned number, int res) except -1:
        transport = <SocketTransport>self.transport
        cdef:
            io_uring_recvmsg_out* out = <io_uring_recvmsg_out*>buffers.at(number)
            char* name = <char*>(out + 1)
            Py_ssize_t length = res - <Py_ssize_t>(sizeof(io_uring_recvmsg_out) + self.name_size)
        if transport.state >= CLOSING:
            transport.loop.counters.datagrams_discarded += 1
            return 0
        if out.flags & MSG_TRUNC or length > LONGEST_LOCAL:
            transport.loop.counters.datagrams_truncated += 1
            length = min(length, LONGEST_LOCAL)       # asyncio's limit, for AF_UNIX
        transport.loop.counters.datagrams_received += 1
        address = transport.loop.addresses.to_python(name, min(out.namelen, self.name_size))
        if length >= EXPORT_MINIMUM and self.name_size + sizeof(io_uring_recvmsg_out) == HEAD:
            data = buffers.export_bytes(number, length)
        else:
            data = PyBytes_FromStringAndSize(name + self.name_size, length)
        return transport.delivery.post(DATAGRAM_RECEIVED, data, address)

    cdef int ended(self, int res) except -1:
        # An empty datagram ends it too, without an error; it was received, and ``res`` is its own.
        transport = <SocketTransport>self.transport
        if res < 0 and res != -ECANCELED and transport.state < CLOSING:
            transport.delivery.post(RECEIVE_ERROR, OSError(-res, os.strerror(-res)), None)
        return 0

    # -- one by one ----------------------------------------------------------------------------

    cdef int update_mode(self, Py_ssize_t length) except -1:
        """Long datagrams are to be read one by one, and others are not."""
        if length < LONG or (<SocketTransport>self.transport).family == AF_UNIX:
            self.long_run = 0
        elif self.long_run < LONG_RUN:
            self.long_run += 1
        return self.set_mode(ONE_BY_ONE if self.long_run >= LONG_RUN else BY_MULTISHOT)

    cdef int read(self) except -1:
        """Read and hand over, one at a time, while there is something and nobody is kept waiting.

        What a multishot receive may have taken comes first.  With DEFER_TASKRUN it
        takes only while this thread is in the kernel for the ring, so it is in
        the completion queue by now, or posted.
        """
        transport = <SocketTransport>self.transport
        cdef int left = READ_LIMIT
        self.readable = False
        while left:
            left -= 1
            if transport.state >= CLOSING or transport.delivery.paused \
                    or transport.delivery.count \
                    or self.is_multishot_armed() and transport.loop.ring.has_unsettled():
                return 0
            if not transport.has_socket():
                # The program has closed its socket; the ring still has the file.
                self.set_mode(BY_MULTISHOT)
                return transport.socket_closed() if self.mode == ONE_BY_ONE else 0
            if not self.read_one() or self.mode != ONE_BY_ONE:
                return 0
        return 0

    cdef bint read_one(self) except -1:
        """Whether there was one."""
        transport = <SocketTransport>self.transport
        cdef iovec vector
        cdef msghdr message
        cdef sockaddr_storage name
        cdef ssize_t length
        cdef size_t longest = LONGEST_LOCAL if transport.family == AF_UNIX else LONGEST
        cdef PyObject* memory = allocate_bytes(longest)
        vector.iov_base = bytes_content(memory)
        vector.iov_len = longest
        memset(&message, 0, sizeof(message))
        message.msg_iov = &vector
        message.msg_iovlen = 1
        message.msg_name = &name
        message.msg_namelen = sizeof(name)
        length = recvmsg(transport._sock_fd, &message, MSG_DONTWAIT)
        if length < 0:
            Py_CLEAR(memory)
            if errno_now != EAGAIN and errno_now != EINTR:
                transport.deliver_error(OSError(errno_now, os.strerror(errno_now)))
            return False
        if message.msg_flags & MSG_TRUNC:
            transport.loop.counters.datagrams_truncated += 1
        transport.loop.counters.datagrams_received += 1
        # Let go before the next is made: it is to get the same memory.
        self.deliver_datagram(resize_bytes(memory, length),
                              transport.loop.addresses.to_python(&name, message.msg_namelen))
        return True

    # -- delivering ----------------------------------------------------------------------------

    cdef int hand_over(self, received_item* item) except -1:
        what = <object>item.payload
        address = <object>item.address
        Py_DECREF(what)
        Py_DECREF(address)
        if item.kind == RECEIVE_ERROR:
            transport = <SocketTransport>self.transport
            return transport.deliver_error(what) if transport.state < CLOSING else 0
        return self.deliver_datagram(what, address)

    cdef int deliver_datagram(self, object data, object address) except -1:
        transport = <SocketTransport>self.transport
        self.update_mode(PyBytes_GET_SIZE(data))
        try:
            if transport.state >= CLOSING:
                transport.loop.counters.datagrams_discarded += 1
            else:
                transport._protocol.datagram_received(data, address)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            transport.report(exc, f'Exception in callback {transport!r}')
        return 0
