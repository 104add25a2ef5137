"""Operations on the program's own sockets.

A submission names a descriptor *number*, so sends submit at once: what the
program closes and opens later in the turn cannot be meant.  Often the kernel
is done on the spot, and there is nothing to wait for.

Nothing is received by them.  To receive is to wait, by a poll, until there is
something, and then to take it by a plain system call: so a cancelled call has
taken nothing that it could lose.  To connect is to wait in the same way.
"""
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint16_t, uint32_t, uintptr_t

from uringloop._core cimport LoopCore
from uringloop._datagrams cimport send_report
from uringloop._heads cimport family_of
from uringloop._holders cimport SocketHolder
from uringloop._operations cimport EXPLICIT, MEMORY, NOTIF_DUE, ZEROCOPY, Completer, operation
from uringloop._policy cimport REPORTS_USAGE, SEND_ZC_FLAGS
from uringloop._ring cimport *
from uringloop._uring cimport Ring

import os

cdef size_t NOTIFICATIONS_DUE = 1 << 20     # pinned bytes
cdef int PATIENCE = 100


cdef class SocketCall(SocketHolder):
    """One operation, and the coroutine that may wait for it."""

    cdef int submit(self) except -1:
        """Give the operation to the kernel; it may be done when this returns."""
        self.start()
        # A program that never waits would never see a notification.  So then have the
        # kernel do what is due.
        if self.zerocopy and self.loop.operations.pinned > NOTIFICATIONS_DUE:
            return self.loop.ring.poll()
        return self.loop.ring.submit_and_collect()

    cdef int take_slot(self) except -1:
        """A fresh operation, with the address in it; raises what a bad address deserves."""
        cdef operation* op
        if self.loop.ring is None:
            raise RuntimeError('the loop is not running')
        op = self.loop.operations.acquire(self)
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
        if self.opcode == IORING_OP_POLL_ADD:
            sqe.poll32_events = self.flags
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
        if res == -ECANCELED and not self.abandoned and not self.gone:
            # Its ring was replaced while the call waited: once more, on the new one.
            self.op = self.loop.operations.succeed(op)
            self.loop.flush_soon(self)
            return 0
        self.op = NULL
        self.res = res
        self.done = True
        self.let_go()
        if self.gone:
            return 0
        if res < 0:
            op.status = res
        if self.abandoned:
            self.data = None        # a traceback may keep the coroutine's frame, and us
            return 0
        if self.explicit:
            if not op.duties & NOTIF_DUE:
                self.resolve(-op.status, True)
        elif self.polite:
            self.loop.late.append(self)
        else:
            self.wake()
        return 0

    cdef int deliver(self) except -1:
        self.done = True
        self.let_go()
        return self.wake()

    cdef int wake(self) except -1:
        if self.future is not None and not self.future.done():
            self.future.set_result(None)
        return 0

    cdef int notified(self, operation* op) except -1:
        learn(self.loop, op)
        if self.explicit:
            self.resolve(-op.status, op.copied)
        return 0

    cdef int resolve(self, int error, bint copied) except -1:
        if self.future.done():
            return 0
        if error in (ENOMEM, ENOBUFS, EOPNOTSUPP, EMSGSIZE) and self.zerocopy:
            # The same datagram by plain send.
            self.loop.zerocopy_fell_back += 1
            self.go_plain()
            self.loop.flush_soon(self)
        elif error:
            self.future.set_exception(OSError(error, os.strerror(error)))
        else:
            self.future.set_result(send_report(self.length, copied, self.zerocopy))
        return 0

    cdef int go_plain(self) except -1:
        self.zerocopy = False
        self.opcode = IORING_OP_SEND
        if family_of(self.sock) != AF_UNIX:
            self.flags &= ~MSG_DONTWAIT
        self.done = False
        return 0

    cdef int flush(self) except -1:
        if self.done and (self.future is None or self.future.done()):
            return 0
        if self.abandoned:
            return self.forget()
        if self.sock.fileno() != self.fd:
            # The program has closed its socket meanwhile: the number may be another's.
            self.forget()
            return self.finish(-EBADF)
        return self.start()

    cdef int closed_under(self) except -1:
        # As with asyncio, nobody hears of it: whoever waits is to be cancelled.
        self.gone = True
        if self.op is not NULL and self.op.duties:
            self.loop.ring.cancel(self.op)
        return 0

    cdef int finish(self, int res) except -1:
        """There will be no completion: what it would have said."""
        self.res = res
        self.done = True
        self.let_go()
        if self.explicit:
            return self.resolve(-res, False)
        return self.wake()

    cdef int forget(self) except -1:
        # Not to be submitted any more, say because the loop is closed.
        cdef operation* op = self.op
        if op is not NULL and op.duties == 0:
            self.op = NULL
            self.loop.operations.release(op)
        return 0

    def begin_to_wait(self):
        """The future that is done when the operation is."""
        self.loop._ensure_fd_no_transport(self.fd)
        self.future = self.loop.new_future()
        self.hold(self.loop.holders)
        return self.future

    def has_no_room(self):
        """Whether it was refused because the socket is full."""
        return self.res == -EAGAIN

    def may_not_wait(self):
        """Whether the socket must have room when this is submitted."""
        return self.flags & MSG_DONTWAIT != 0

    def abandon(self):
        """The caller waits no longer: call the operation back."""
        if self.abandoned:
            return
        self.abandoned = True
        self.let_go()
        if self.done:
            self.data = None
        elif not self.gone and self.op is not NULL and self.op.duties \
                and self.loop.ring is not None and self.loop.ring.is_open:
            self.loop.ring.cancel(self.op)
            self.loop.ring.poll()

    def check(self):
        """Raises what the operation has failed with."""
        if self.res < 0:
            raise OSError(-self.res, os.strerror(-self.res))


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
