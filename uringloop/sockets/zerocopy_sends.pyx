"""Zero-copy sends on the program's own sockets.

A submission names a descriptor *number*, so it is made at once: what the program closes and
opens later in the turn cannot be meant.
"""
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_INCREF
from libc.stdint cimport uint16_t, uint32_t

from uringloop.ring.abi cimport *
from uringloop.ring.operations cimport (
    NOTIF_DUE, REGISTERED, RETRIED, ZEROCOPY, OperationOwner, operation)
from uringloop.ring.payloads cimport payload
from uringloop.ring.process cimport this_thread
from uringloop.ring.reports cimport BatchReport
from uringloop.ring.ring cimport Ring
from uringloop.ring.sends cimport prepare_send
from uringloop.ring.trains cimport is_train
from uringloop.ring.zerocopy cimport is_reported, send_report

import os

cdef int TRIES = 100


cdef class ZerocopySends(OperationOwner):
    """Owns the zero-copy sends on the program's own sockets.  They don't wait."""

    cdef bint may_send(self) noexcept:
        """Whether this is a moment to submit, and have the result at once."""
        return (self.loop.thread == this_thread() and self.loop.owns_ring()
                and not self.loop.ring.settling)

    cdef ssize_t send(self, int fd, object owner, payload* memory, size_t segment_size,
                      sockaddr_storage* address, uint32_t length, object future) except? -1:
        """Send at once; the result is in when this returns.  Errors as ``-errno``.

        ``segment_size``: as datagrams of that size, not more than a train takes; 0: as one.
        """
        cdef operation* op
        cdef int tries = 0
        cdef Ring ring = self.loop.ring
        self.refused = NULL
        if ring.sqes_left(1) == 0:
            return -EAGAIN
        op = self.loop.operations.acquire_send(self, owner, memory, address, length, future)
        op.segment_size = <uint16_t>segment_size
        if type(future) is BatchReport:
            (<BatchReport>future).add()
        if not self.submit(op, fd):
            return -EAGAIN
        while self.sending is op:
            # Its result found no room in the ring: the kernel has it.
            tries += 1
            if tries > TRIES:
                self.sending = NULL
                raise OSError(EBUSY, f'{os.strerror(EBUSY)}: the kernel tells no result')
            ring.submit_and_get_events()
            ring.settle_sends(self)
        return -EAGAIN if self.res == -EINTR else self.res

    cdef bint sent_otherwise(self, ssize_t nbytes) noexcept:
        """What was refused has left by a plain send.

        True: the kernel has not let go of it yet, and when it has, the future is told.
        """
        if self.refused is NULL or self.refused.future is NULL:
            return False
        self.refused.status = nbytes
        self.refused.traits |= RETRIED
        return True

    cdef int report_refused(self, object future, BatchReport report) except -1:
        """What was refused is tried again; ``report`` is of all tries, in place of ``future``."""
        cdef operation* op = self.refused
        if op is NULL or op.future is not <PyObject*>future:
            return 0
        Py_CLEAR(op.future)
        report.add()
        Py_INCREF(report)
        op.future = <PyObject*>report
        return 0

    cdef bint submit(self, operation* op, int fd) except -1:
        """Whether the kernel has taken it: it may be short of memory."""
        cdef unsigned left = 0
        op.traits |= ZEROCOPY
        prepare_send(self.loop.ring, op, fd, 0, 0)
        self.res = -EAGAIN
        self.sending = op
        try:
            self.loop.ring.submit_chain(self, 1, &left)
        finally:
            if left:
                self.take_back(op)
        return left == 0

    cdef int take_back(self, operation* op) except -1:
        """It is out of the queue again, and no send."""
        self.sending = NULL
        try:
            if op.future is not NULL and type(<object>op.future) is BatchReport:
                (<BatchReport>op.future).told(0, False, True, None)
        finally:
            self.loop.operations.take_back(op)
            self.loop.operations.release(op)
        return 0

    cdef int result(self, operation* op, int res, uint32_t flags) except -1:
        op.status = res
        if res >= 0:
            self.loop.counters.zerocopy_sent += 1
            self.loop.counters.trains_sent += is_train(op)
            self.loop.counters.registered_sends += op.traits & REGISTERED != 0
        if op is self.sending:
            self.sending = NULL
            self.res = res
            self.refused = op if res < 0 and op.due & NOTIF_DUE else NULL
        if op.future is not NULL and not op.due & NOTIF_DUE:
            resolve(op, True)
        return 0

    cdef int notified(self, operation* op) except -1:
        self.loop.counters.buffers_released += 1
        if op is self.refused:
            self.refused = NULL
        if op.status >= 0 and is_reported(op) and not op.traits & RETRIED:
            self.loop.counters.zerocopy_copied += op.copied
            self.loop.counters.zerocopy_bytes += 0 if op.copied else op.status
            self.loop.paths.record(&op.address, op.address_length,
                                   op.segment_size if is_train(op) else op.length, op.copied)
        if op.future is not NULL:
            resolve(op, op.copied or op.traits & RETRIED)
        return 0

    cdef int internal_error(self, object exc) except -1:
        # Not now: completions are being settled.
        self.loop.call_soon(self.loop.call_exception_handler, {
            'message': 'A completion could not be dealt with', 'exception': exc})
        return 0

    cdef int orphaned(self, operation* op) except -1:
        if op.future is not NULL and self.loop.closing:
            (<object>op.future).cancel()
        return 0


cdef int resolve(operation* op, bint copied) except -1:
    """The kernel has let go of the memory.  (Errors have been told at the call.)"""
    future = <object>op.future
    # What was refused has been copied, whether or not this kernel tells of others.
    cdef bint reported = is_reported(op) or op.traits & RETRIED
    if type(future) is BatchReport:
        (<BatchReport>future).told(
            max(op.status, 0), copied and op.status >= 0, reported or op.status < 0, None)
    elif op.status >= 0:
        report = send_report(op.status, copied, reported)
        if not future.done():
            future.set_result(report)
    Py_CLEAR(op.future)
    return 0
