"""The ``sock_*`` methods: one operation a call, on the user's own sockets.

A submission names a descriptor *number*, so these submit at once: what the
program closes and opens later in the turn cannot be meant.  Often the kernel
is done on the spot, and the coroutine returns without waiting.

A cancelled call asks the kernel to give the operation up and looks at once
what became of it.  What it had taken already (data, a connection) is kept
for the next call on the same socket; nothing is lost.
"""
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint16_t, uint32_t, uintptr_t
from libc.string cimport memset
from posix.unistd cimport close

from uringloop._addresses cimport is_number
from uringloop._buffers cimport copy_payload, lend_payload, open_payload, payload
from uringloop._core cimport LoopCore
from uringloop._datagrams cimport send_report
from uringloop._heads cimport family_of, fd_of, is_plain, type_of
from uringloop._operations cimport EXPLICIT, MEMORY, NOTIF_DUE, ZEROCOPY, Completer, operation
from uringloop._policy cimport (
    REPORTS_USAGE, SEND_ZC_FLAGS, ZEROCOPY_MINIMUM, zerocopy_pays)
from uringloop._ring cimport *
from uringloop._uring cimport Ring

import asyncio
import errno
import os
import socket
import weakref

cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<sys/socket.h>" nogil:
    ssize_t sendto(int, const void*, size_t, int, const sockaddr*, socklen_t)

cdef extern from "<poll.h>":
    enum:
        POLLIN
        POLLOUT


try:
    from ssl import SSLSocket
except ImportError:      # a Python without ssl
    SSLSocket = ()

cdef object PlainSocket = socket.socket
cdef size_t NOTIFICATIONS_DUE = 1 << 20     # pinned bytes
cdef int PATIENCE = 100
cdef tuple CONNECT_FAILURES = (
    errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ECONNRESET)


cdef class SocketCall(Completer):

    cdef int submit(self) except -1:
        """Give the operation to the kernel; it may be done when this returns."""
        if self.loop.ring is None:
            raise RuntimeError('the loop is not running')
        self.start()
        # A connection to this machine is made by the time the submission returns, all but
        # the kernel's deferred work.  And a program that never waits would never see a
        # notification.  So then have the kernel do what is due.
        if self.opcode == IORING_OP_CONNECT \
                or self.zerocopy and self.loop.operations.pinned > NOTIFICATIONS_DUE:
            return self.loop.ring.poll()
        return self.loop.ring.submit_and_collect()

    cdef int take_slot(self) except -1:
        """A fresh operation, with the address in it; raises what a bad address deserves."""
        cdef operation* op = self.loop.operations.acquire(self)
        if self.target is not None:
            try:
                self.loop.addresses.to_kernel(
                    self.target, family_of(self.sock), &op.address, &op.address_length)
            except BaseException:
                self.loop.operations.release(op)
                raise
        if self.explicit:
            op.traits = EXPLICIT
        op.length = self.length
        self.op = op
        return 0

    cdef int start(self) except -1:
        cdef operation* op
        cdef io_uring_sqe* sqe
        cdef unsigned traits = MEMORY
        if self.op is NULL:
            self.take_slot()
        op = self.op
        op.base = self.base
        op.length = self.length
        if self.data is not None and op.data is NULL:
            Py_INCREF(self.data)
            op.data = <PyObject*>self.data
        if self.zerocopy:
            traits |= ZEROCOPY
        self.op = NULL          # if there is no entry for it, it is gone
        sqe = self.loop.ring.prepare(op, self.opcode, self.fd, 0, traits)
        self.op = op
        sqe.msg_flags = self.flags
        if self.opcode == IORING_OP_SENDMSG or self.opcode == IORING_OP_RECVMSG:
            memset(&op.message, 0, sizeof(op.message))
            op.vector.iov_base = self.base
            op.vector.iov_len = self.length
            op.message.msg_iov = &op.vector
            op.message.msg_iovlen = 1
            op.message.msg_name = &op.address
            op.message.msg_namelen = sizeof(op.address)
            sqe.addr = <uintptr_t>&op.message
            sqe.len = 1
        elif self.opcode == IORING_OP_ACCEPT:
            op.address_length = sizeof(op.address)
            sqe.addr = <uintptr_t>&op.address
            sqe.addr2 = <uintptr_t>&op.address_length
            sqe.accept_flags = SOCK_NONBLOCK | SOCK_CLOEXEC
        elif self.opcode == IORING_OP_POLL_ADD:
            sqe.poll32_events = self.flags
        elif self.opcode == IORING_OP_CONNECT:
            sqe.addr = <uintptr_t>&op.address
            sqe.off = op.address_length
        else:
            sqe.addr = <uintptr_t>self.base
            sqe.len = <uint32_t>min(self.length, <size_t>0x7fffffff)
            if op.address_length:
                sqe.addr2 = <uintptr_t>&op.address
                sqe.addr_len = <uint16_t>op.address_length
        if self.zerocopy:
            sqe.ioprio = SEND_ZC_FLAGS
            self.loop.zerocopy_sent += 1
        return 0

    cdef int result(self, operation* op, int res, uint32_t flags) except -1:
        if res == -ECANCELED and not self.abandoned:
            # Its ring was replaced while the call waited: once more, on the new one.
            self.op = self.loop.operations.succeed(op)
            self.loop.flush_soon(self)
            return 0
        self.op = NULL
        self.res = res
        self.done = True
        if res < 0:
            op.status = res
        else:
            if self.opcode == IORING_OP_RECVMSG:
                self.address = self.loop.addresses.to_python(
                    &op.address, op.message.msg_namelen)
            elif self.opcode == IORING_OP_ACCEPT:
                self.address = self.loop.addresses.to_python(&op.address, op.address_length)
        if self.abandoned:
            return self.loop.leave(self)
        if self.explicit:
            if not op.duties & NOTIF_DUE:
                self.resolve(-op.status, True)
        elif self.future is not None and not self.future.done():
            self.future.set_result(None)
        return 0

    cdef int notified(self, operation* op) except -1:
        learn(self.loop, op)
        if self.explicit:
            self.resolve(-op.status, op.copied)
        return 0

    def resolve(self, int error, bint copied):
        if self.future.done():
            return
        if error in (ENOMEM, ENOBUFS, EOPNOTSUPP, EMSGSIZE) and self.zerocopy:
            # The same datagram by plain send.
            self.loop.zerocopy_fell_back += 1
            self.go_plain()
            self.loop.flush_soon(self)
        elif error:
            self.future.set_exception(OSError(error, os.strerror(error)))
        else:
            self.future.set_result(send_report(self.length, copied, self.zerocopy))

    def go_plain(self):
        self.zerocopy = False
        self.opcode = IORING_OP_SEND
        if family_of(self.sock) != AF_UNIX:
            self.flags &= ~MSG_DONTWAIT
        self.done = False

    cdef int flush(self) except -1:
        if not self.done or (self.future is not None and not self.future.done()):
            self.start()
        return 0

    cdef int forget(self) except -1:
        # The loop is closed while the call waited for another ring.
        cdef operation* op = self.op
        if op is not NULL and op.duties == 0:
            self.op = NULL
            self.loop.operations.release(op)
        return 0

    cdef int abandon(self) except -1:
        """The caller waits no longer: call the operation back, and keep what it took."""
        if self.abandoned:
            return 0
        self.abandoned = True
        if self.done:
            return self.loop.leave(self)
        if self.op is not NULL and self.op.duties and self.loop.ring is not None \
                and self.loop.ring.is_open:
            # Deferred work runs in here only: the operation's completion says
            # now whether the cancellation or the data came first.
            self.loop.ring.cancel(self.op)
            self.loop.ring.poll()
        return 0


cdef void learn(LoopCore loop, operation* op) noexcept:
    """What the notification of a zero-copy send has told."""
    loop.buffers_released += 1
    if op.status >= 0 and REPORTS_USAGE:
        loop.zerocopy_copied += op.copied
        loop.paths.learn(&op.address, op.address_length, op.length, op.copied)


cdef class Dispatcher(Completer):
    """Owns zero-copy sends that don't wait: only their notification is still to come."""

    cdef int result(self, operation* op, int res, uint32_t flags) except -1:
        op.status = min(res, 0)
        if op is self.sending:
            self.sending = NULL
            self.res = res
        return 0

    cdef int notified(self, operation* op) except -1:
        learn(self.loop, op)
        return 0

    cdef ssize_t send(self, operation* op, int fd) except? -1:
        """Send at once; the result is in when this returns.  Errors as ``-errno``."""
        cdef io_uring_sqe* sqe
        cdef Ring ring = self.loop.ring
        cdef int tries = 0
        sqe = ring.prepare(op, IORING_OP_SEND_ZC, fd, 0, MEMORY | ZEROCOPY)
        sqe.addr = <uintptr_t>op.base
        sqe.len = <uint32_t>op.length
        sqe.addr2 = <uintptr_t>&op.address
        sqe.addr_len = <uint16_t>op.address_length
        sqe.msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL
        sqe.ioprio = SEND_ZC_FLAGS
        self.loop.zerocopy_sent += 1
        self.res = -EAGAIN
        self.sending = op
        if self.loop.operations.pinned > NOTIFICATIONS_DUE:
            # A program that never waits would never see a notification: take what is due.
            ring.poll()
        else:
            ring.submit_and_collect()
        while self.sending is op:
            # The kernel has not taken it: it is short of memory, or wants its overflowed
            # completions fetched first.  What is queued can't be called back.
            tries += 1
            if tries > PATIENCE:
                self.sending = NULL
                raise OSError(EBUSY, f'{os.strerror(EBUSY)}: the kernel takes no submissions')
            ring.poll()
        return self.res


cdef class SocketCore(LoopCore):
    """The loop with asyncio's ``sock_*`` methods on the ring."""

    def __cinit__(self, *args, **kwargs):
        self.leftovers = {}
        self.dispatcher = Dispatcher.__new__(Dispatcher)
        self.dispatcher.loop = self

    cdef int check_socket(self, object sock) except -1:
        if type(sock) is not PlainSocket and isinstance(sock, SSLSocket):
            raise TypeError('Socket cannot be of type SSLSocket')
        if self._debug and sock.gettimeout() != 0:
            raise ValueError('the socket must be non-blocking')
        return 0

    cdef bint native(self, object sock) except -1:
        """Whether the ring is for this socket; else asyncio's way, which asks the object."""
        cdef int family
        self.check_socket(sock)
        if not is_plain(sock):
            return False
        family = family_of(sock)
        return family == AF_INET or family == AF_INET6 or family == AF_UNIX

    cdef SocketCall new_call(self, object sock, int opcode):
        cdef SocketCall call = SocketCall.__new__(SocketCall)
        self.check_socket(sock)
        call.loop = self
        call.sock = sock
        call.fd = fd_of(sock)
        call.opcode = opcode
        call.flags = MSG_NOSIGNAL
        return call

    # -- what cancelled calls had taken --------------------------------------------------------

    cdef int leave(self, SocketCall call) except -1:
        """Keep what a cancelled call has received for the next one on its socket."""
        cdef object item
        if call.res < 0 or call.opcode not in (
                IORING_OP_RECV, IORING_OP_RECVMSG, IORING_OP_ACCEPT):
            return 0
        if call.opcode == IORING_OP_ACCEPT:
            item = (call.res, call.address)
        else:
            item = (PyBytes_FromStringAndSize(call.base, call.res), call.address)
        known = self.leftovers.get(call.fd)
        if known is None or known[0]() is not call.sock:
            self.forget_leftovers(call.fd)
            known = self.leftovers[call.fd] = (weakref.ref(call.sock), [])
        known[1].append(item)
        return 0

    cdef object leftover(self, object sock):
        """What an earlier call on this very socket has left, or None."""
        known = self.leftovers.get(sock.fileno())
        if known is None:
            return None
        if known[0]() is not sock or not known[1]:
            self.forget_leftovers(sock.fileno())
            return None
        return known[1].pop(0)

    def forget_leftovers(self, fd):
        for what, _ in self.leftovers.pop(fd, (None, []))[1]:
            if isinstance(what, int):
                close(what)     # a connection that nobody will accept

    def _close_core(self):
        """As the core's; then connections that nobody will accept are closed."""
        LoopCore._close_core(self)
        for fd in list(self.leftovers):
            self.forget_leftovers(fd)

    def received_before(self, sock, Py_ssize_t limit):
        """``(data, address)`` of at most ``limit`` bytes that were taken before, or None."""
        taken = self.leftover(sock)
        if taken is None:
            return None
        data, address = taken
        if len(data) > limit and type_of(sock) & 0xf == SOCK_STREAM:
            self.leftovers[sock.fileno()][1].insert(0, (data[limit:], address))
        return data[:limit], address

    # -- receiving -----------------------------------------------------------------------------

    async def sock_recv(self, sock, n):
        """Receive up to ``n`` bytes."""
        cdef SocketCall call
        if not self.native(sock):
            return await super().sock_recv(sock, n)
        if self.leftovers:
            before = self.received_before(sock, n)
            if before is not None:
                return before[0]
        call = self.new_call(sock, receive_opcode(sock))
        self.lend_fresh(call, n, 'recv')
        call.submit()
        if not call.done:
            await self.wait_for(call)
        if call.res < 0:
            raise OSError(-call.res, os.strerror(-call.res))
        return call.data if <size_t>call.res == call.length else call.data[:call.res]

    async def sock_recvfrom(self, sock, bufsize):
        """Receive a datagram of up to ``bufsize`` bytes; returns ``(data, address)``."""
        cdef SocketCall call
        if not self.native(sock):
            return await super().sock_recvfrom(sock, bufsize)
        if self.leftovers:
            before = self.received_before(sock, bufsize)
            if before is not None:
                return before
        call = self.new_call(sock, IORING_OP_RECVMSG)
        self.lend_fresh(call, bufsize, 'recvfrom')
        call.submit()
        if not call.done:
            await self.wait_for(call)
        if call.res < 0:
            raise OSError(-call.res, os.strerror(-call.res))
        data = call.data if <size_t>call.res == call.length else call.data[:call.res]
        return data, call.address

    async def sock_recv_into(self, sock, buf):
        """Receive into the writable buffer ``buf``; returns the number of bytes."""
        cdef SocketCall call
        if not self.native(sock):
            return await super().sock_recv_into(sock, buf)
        if self.leftovers:
            before = self.received_before(sock, memoryview(buf).nbytes)
            if before is not None:
                return fill(buf, before[0])
        call = self.new_call(sock, receive_opcode(sock))
        self.lend_writable(call, buf, 0, 'recv_into')
        call.submit()
        if not call.done:
            await self.wait_for(call)
        call.data = None
        if call.res < 0:
            raise OSError(-call.res, os.strerror(-call.res))
        return call.res

    async def sock_recvfrom_into(self, sock, buf, nbytes=0):
        """Receive a datagram into the writable ``buf``; returns ``(number of bytes, address)``."""
        cdef SocketCall call
        if not self.native(sock):
            return await super().sock_recvfrom_into(sock, buf, nbytes)
        if not nbytes:
            nbytes = len(buf)
        if self.leftovers:
            before = self.received_before(sock, nbytes)
            if before is not None:
                return fill(buf, before[0]), before[1]
        call = self.new_call(sock, IORING_OP_RECVMSG)
        self.lend_writable(call, buf, nbytes, 'recvfrom_into')
        call.submit()
        if not call.done:
            await self.wait_for(call)
        call.data = None
        if call.res < 0:
            raise OSError(-call.res, os.strerror(-call.res))
        return call.res, call.address

    def lend_fresh(self, SocketCall call, Py_ssize_t size, name):
        if size < 0:
            raise ValueError(f'negative buffersize in {name}: {size}')
        call.data = PyBytes_FromStringAndSize(NULL, size)
        call.base = PyBytes_AS_STRING(call.data)
        call.length = size

    def lend_writable(self, SocketCall call, buf, Py_ssize_t nbytes, name):
        cdef Py_buffer view
        if nbytes < 0:
            raise ValueError(f'negative buffersize in {name}: {nbytes}')
        try:
            PyObject_GetBuffer(buf, &view, PyBUF_WRITABLE)
        except BufferError:
            raise TypeError(f'{name}() argument 1 must be read-write bytes-like object, '
                            f'not {type(buf).__name__}') from None
        call.base = <char*>view.buf
        call.length = view.len
        PyBuffer_Release(&view)
        if nbytes > view.len:
            raise ValueError(f'nbytes is greater than the length of the buffer: {nbytes}')
        if nbytes:
            call.length = nbytes
        # A view of our own: the memory stays until the kernel's last word on it.
        call.data = PyMemoryView_FromObject(buf)

    async def wait_for(self, SocketCall call):
        """Wait until the operation is done; when cancelled, call it back first."""
        try:
            self._ensure_fd_no_transport(call.fd)
            call.future = self.new_future()
            await call.future
        except BaseException:
            call.abandon()
            raise

    # -- sending -------------------------------------------------------------------------------

    cdef SocketCall new_send(self, object sock, object address, int opcode):
        cdef SocketCall call = self.new_call(sock, opcode)
        cdef sockaddr_storage unused
        cdef uint32_t length
        if address is None:
            # Not "the connected one": as in asyncio, a TypeError.
            self.addresses.to_kernel(None, family_of(sock), &unused, &length)
        call.target = address
        call.take_slot()
        return call

    def _send_now(self, sock, data, address):
        """Send a datagram without waiting: the number of bytes, or None if there is no room."""
        cdef ssize_t sent
        if not self.native(sock):
            return None
        sent = self.send_at_once(sock, data, address)
        if sent < 0:
            return None
        self.datagrams_sent += 1
        return sent

    cdef ssize_t send_at_once(self, object sock, object data, object address) except? -1:
        """Send without waiting.  -EAGAIN: there is no room now."""
        cdef:
            payload memory
            sockaddr_storage destination
            uint32_t length = 0
            ssize_t sent = -EAGAIN
        owner = open_payload(data, &memory)
        if memory.immutable and memory.length >= ZEROCOPY_MINIMUM \
                and family_of(sock) != AF_UNIX and self.is_at_home():
            sent = self.dispatch(sock, owner, &memory, address)
        if sent == -EAGAIN:
            # One system call either way, and the plain one is the shorter.
            self.addresses.to_kernel(address, family_of(sock), &destination, &length)
            sent = sendto(fd_of(sock), memory.base, memory.length, MSG_DONTWAIT | MSG_NOSIGNAL,
                          <sockaddr*>&destination, length)
            if sent < 0:
                sent = -errno_now
        if sent < 0 and sent != -EAGAIN:
            raise OSError(-sent, os.strerror(-sent))
        return sent

    cdef ssize_t dispatch(self, object sock, object owner, payload* memory,
                          object address) except? -1:
        """Send zero-copy, if that pays.  -EAGAIN: it does not, or was refused."""
        cdef operation* op = self.operations.acquire(self.dispatcher)
        cdef ssize_t sent
        try:
            self.addresses.to_kernel(address, family_of(sock), &op.address, &op.address_length)
        except BaseException:
            self.operations.release(op)
            raise
        Py_INCREF(owner)
        op.data = <PyObject*>owner
        op.base = memory.base
        op.length = memory.length
        if not zerocopy_pays(op, self.paths, self.operations.pinned):
            self.operations.release(op)
            return -EAGAIN
        sent = self.dispatcher.send(op, fd_of(sock))
        if sent == -ENOMEM or sent == -ENOBUFS or sent == -EOPNOTSUPP or sent == -EMSGSIZE:
            self.zerocopy_fell_back += 1
            return -EAGAIN
        return sent

    async def _send_later(self, sock, data, address):
        """Send a datagram for which there was no room; returns the number of bytes."""
        cdef SocketCall call
        cdef payload memory
        if not self.native(sock):
            return await super().sock_sendto(sock, data, address)
        owner = open_payload(data, &memory)
        call = self.new_send(sock, address, IORING_OP_SEND)
        call.data = owner
        call.base = call.op.base = memory.base
        call.length = call.op.length = memory.length
        if not memory.immutable or family_of(sock) == AF_UNIX:
            # Neither may wait in the ring: one could change, the other would
            # arrive empty (see DatagramTransport.send_chain).
            call.flags |= MSG_DONTWAIT
        elif memory.length >= ZEROCOPY_MINIMUM:
            self.choose(call)
        while True:
            call.submit()
            if not call.done:
                await self.wait_for(call)
            if call.res >= 0:
                self.datagrams_sent += 1
                return call.res
            if not self.another_way(call, data):
                raise OSError(-call.res, os.strerror(-call.res))
            if call.flags & MSG_DONTWAIT:
                await self.wait_for_room(sock)

    async def wait_ready(self, sock, events):
        """Wait for POLLIN or POLLOUT."""
        cdef SocketCall call = self.new_call(sock, IORING_OP_POLL_ADD)
        call.flags = events
        call.submit()
        if not call.done:
            await self.wait_for(call)

    async def wait_for_room(self, sock):
        """Wait until the socket takes more."""
        await self.wait_ready(sock, POLLOUT)
        # An unconnected AF_UNIX socket is writable at any time: let others run.
        await asyncio.sleep(0)

    cdef int choose(self, SocketCall call) except -1:
        """Zero-copy or not: asks the one predicate."""
        if family_of(call.sock) != AF_UNIX \
                and zerocopy_pays(call.op, self.paths, self.operations.pinned):
            call.zerocopy = True
            call.opcode = IORING_OP_SEND_ZC
        return 0

    def another_way(self, SocketCall call, data):
        """After a failed send: whether to try once more, without what it stumbled over."""
        cdef payload memory
        if call.zerocopy and -call.res in (ENOMEM, ENOBUFS, EOPNOTSUPP, EMSGSIZE):
            self.zerocopy_fell_back += 1
        elif call.flags & MSG_DONTWAIT and call.res == -EAGAIN:
            # No room now, and the memory may change while we wait: wait with a copy.
            call.data = copy_payload(call.data, &memory)
            call.base = memory.base
        else:
            return False
        call.go_plain()
        return True

    def sock_sendto_zerocopy(self, sock, data, address):
        """Send a datagram without copying it; returns a future of ``SendReport``.

        ``data`` may be any contiguous buffer, mutable too.  Leave it alone until the
        future is done: that is when the kernel has let go of it.
        """
        cdef SocketCall call
        cdef payload memory
        if family_of(sock) == AF_UNIX:
            # Never zero-copy (EOPNOTSUPP), and it may have to be tried again.
            self.new_send(sock, address, IORING_OP_SEND).forget()
            return self.create_task(self.send_copied(sock, data, address))
        owner = lend_payload(data, &memory)
        call = self.new_send(sock, address, IORING_OP_SEND)
        call.data = owner
        call.base = call.op.base = memory.base
        call.length = call.op.length = memory.length
        call.op.traits = EXPLICIT
        call.explicit = True
        call.future = self.new_future()
        self.choose(call)
        call.submit()
        return call.future

    async def send_copied(self, sock, data, address):
        return send_report(await self.sock_sendto(sock, data, address), True, False)

    async def sock_sendall(self, sock, data):
        """Send all of ``data`` to a connected socket."""
        cdef SocketCall call
        cdef payload memory
        cdef size_t sent = 0
        if not self.native(sock):
            return await super().sock_sendall(sock, data)
        owner = lend_payload(data, &memory)
        if memory.length == 0:
            sock.send(data)
            return
        while sent < memory.length:
            call = self.new_call(sock, IORING_OP_SEND)
            call.data = owner
            call.base = memory.base + sent
            call.length = memory.length - sent
            if family_of(sock) == AF_UNIX and type_of(sock) & 0xf != SOCK_STREAM:
                call.flags |= MSG_DONTWAIT
            call.submit()
            if not call.done:
                await self.wait_for(call)
            if call.res == -EAGAIN:
                await self.wait_for_room(sock)
                continue
            if call.res < 0:
                raise OSError(-call.res, os.strerror(-call.res))
            sent += call.res

    # -- messages ------------------------------------------------------------------------------

    async def sock_sendmsg(self, sock, buffers, ancdata=(), flags=0, address=None):
        """Send ``buffers`` as one message, with ancillary data, as ``socket.sendmsg``.

        Returns the number of bytes.  The message is the socket module's to build;
        this waits, on the ring, while there is no room for it.
        """
        buffers = list(buffers)
        self.check_socket(sock)
        destination = () if address is None else (address,)
        while True:
            try:
                return sock.sendmsg(buffers, ancdata, flags | MSG_DONTWAIT, *destination)
            except (BlockingIOError, InterruptedError):
                await self.wait_for_room(sock)

    async def sock_recvmsg(self, sock, bufsize, ancbufsize=0, flags=0):
        """Receive a message as ``socket.recvmsg``: ``(data, ancdata, msg_flags, address)``.

        Nothing is taken before it can be returned, so a cancelled call loses nothing.
        """
        self.check_socket(sock)
        if self.leftovers:
            before = self.received_before(sock, bufsize)
            if before is not None:
                return before[0], [], 0, before[1]
        while True:
            try:
                return sock.recvmsg(bufsize, ancbufsize, flags | MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                await self.wait_ready(sock, POLLIN)

    # -- connections ---------------------------------------------------------------------------

    def _is_native(self, sock):
        return self.native(sock)

    def _can_connect_now(self, sock, address):
        """Whether the ring is for this socket and there is no name to be looked up."""
        return self.native(sock) and (
            family_of(sock) == AF_UNIX or self.is_numeric(address, family_of(sock)))

    def _connect_now(self, sock, address):
        """Begin to connect to a resolved address: None, or what is to be waited for."""
        cdef SocketCall call
        try:
            call = self.new_send(sock, address, IORING_OP_CONNECT)
        except (OverflowError, TypeError) as exc:
            raise type(exc)(str(exc).replace('sendto()', 'connect()')) from None
        call.flags = 0
        call.submit()
        if not call.done:
            return call
        if call.res < 0:
            error = -call.res
            if error in CONNECT_FAILURES and family_of(sock) != AF_UNIX:
                raise OSError(error, f'Connect call failed {address}')
            raise OSError(error, os.strerror(error))
        return None

    async def _connect_later(self, SocketCall call, address):
        await self.wait_for(call)
        if call.res < 0:
            raise OSError(-call.res, f'Connect call failed {address}')

    def _numeric_family(self, host, port):
        """The address family of a host that is a number, or 0."""
        if type(host) is not str or type(port) is not int or not 0 <= port <= 0xffff:
            return 0
        for family in (AF_INET, AF_INET6):
            if is_number(family, host):
                return family
        return 0

    cdef bint is_numeric(self, object address, int family) except -1:
        return (type(address) is tuple and len(<tuple>address) >= 2
                and (<tuple>address)[0] and type((<tuple>address)[0]) is str
                and is_number(family, (<tuple>address)[0]))

    async def sock_accept(self, sock):
        """Accept a connection; returns ``(socket, address)``."""
        cdef SocketCall call
        if not self.native(sock):
            return await super().sock_accept(sock)
        before = None
        if self.leftovers:
            before = self.leftover(sock)
        if before is not None:
            fd, address = before
        else:
            call = self.new_call(sock, IORING_OP_ACCEPT)
            call.flags = 0
            call.submit()
            if not call.done:
                await self.wait_for(call)
            if call.res < 0:
                raise OSError(-call.res, os.strerror(-call.res))
            fd, address = call.res, call.address
        connection = socket.socket(sock.family, sock.type, sock.proto, fileno=fd)
        connection.setblocking(False)
        return connection, address


cdef int receive_opcode(object sock) except -1:
    # A datagram that a cancelled call leaves behind must keep its sender.
    return IORING_OP_RECV if type_of(sock) & 0xf == SOCK_STREAM else IORING_OP_RECVMSG


def fill(buf, data):
    memoryview(buf).cast('B')[:len(data)] = data
    return len(data)
