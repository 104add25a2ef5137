"""What becomes of the datagrams of a sender: it is counted, and whoever asked for it is told."""
cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_DECREF, Py_INCREF

from uringloop.core.counters cimport Counters
from uringloop.datagram.queue cimport HEADER, DatagramQueue
from uringloop.datagram.transport cimport DatagramTransport
from uringloop.ring.abi cimport AF_UNIX, ECANCELED, EMSGSIZE, ENOMEM
from uringloop.ring.interrupts cimport graver
from uringloop.ring.operations cimport (
    FELL_BACK, NOTIF_DUE, OperationTable, REGISTERED, RETRIED, ZEROCOPY, operation)
from uringloop.ring.reports cimport BatchReport
from uringloop.ring.trains cimport datagrams, longest_of
from uringloop.ring.zerocopy cimport PathReports, is_reported, send_report

import os


cdef class DatagramOutcomes(DatagramQueue):
    """Of sends of the queue: of their results, their notifications, their failures."""

    @cython.final
    cdef int accepted(self, operation* op) except -1:
        cdef Counters counters = (<DatagramTransport>self.transport).loop.counters
        cdef size_t count = datagrams(op)
        self.buffered -= op.length + HEADER * count
        self.futile_polls = 0
        self.retry_delay = 0
        counters.datagrams_sent += count
        counters.datagrams_gathered += count if count > 1 else 0
        if op.traits & ZEROCOPY:
            counters.zerocopy_sent += 1
            counters.trains_sent += count > 1
            counters.registered_sends += op.traits & REGISTERED != 0
        elif op.traits & FELL_BACK:
            counters.zerocopy_sent += 1
            counters.zerocopy_fell_back += 1
        if op.future is not NULL and not op.due & NOTIF_DUE:
            op.copied = True
            self.resolve(op, 0)
        return 0

    @cython.final
    cdef int failed(self, operation* op, int error) except -1:
        transport = <DatagramTransport>self.transport
        self.buffered -= op.length + HEADER * datagrams(op)
        transport.loop.counters.datagrams_dropped += datagrams(op)
        op.status = -error
        if op.future is not NULL:
            if not op.due & NOTIF_DUE:
                self.resolve(op, error)
        elif not transport.aborted and error != ECANCELED:
            # (Of that ``connection_lost`` tells.)
            transport.delivery.post_error(self.error_of(error, op.length))
        return 0

    @cython.final
    cdef int tell_of_first(self, size_t count, int error) except -1:
        """So many at the front of the queue have left, or failed: whoever asked is told.

        What goes wrong with one of them, by ``call_soon`` of a subclass say, or an interrupt, is
        raised when all have been told of.
        """
        # All of them first: who is told of one may send, and that must not join what has left.
        cdef operation* ops = self.take_front(count)
        problem = None
        while ops is not NULL:
            try:
                self.tell_of(&ops, error)
            except BaseException as exc:
                problem = graver(problem, exc)
        if problem is not None:
            raise problem
        return 0

    @cython.final
    cdef int tell_of(self, operation** ops, int error) except -1:
        """Of each of these; after an exception ``ops`` are those behind it."""
        cdef OperationTable operations = (<DatagramTransport>self.transport).loop.operations
        cdef operation* op
        while ops[0] is not NULL:
            op = ops[0]
            ops[0] = op.next
            try:
                if error:
                    self.failed(op, error)
                else:
                    self.accepted(op)
            finally:
                operations.release(op)
        return 0

    cdef int notified(self, operation* op) except -1:
        transport = <DatagramTransport>self.transport
        transport.loop.counters.buffers_released += 1
        if op.status >= 0 and is_reported(op):
            transport.loop.counters.zerocopy_copied += op.copied
            transport.loop.counters.zerocopy_bytes += 0 if op.copied else op.length
            if self.paths is None and op.copied:
                self.paths = PathReports()
            if self.paths is not None:
                self.paths.record(&op.address, op.address_length,
                                  op.segment_size if op.segment_size else op.length, op.copied)
        if op.traits & RETRIED:
            if op.future is not NULL:
                (<BatchReport>op.future).told(0, False, True, None)
                Py_CLEAR(op.future)
        elif op.future is not NULL:
            self.resolve(op, -op.status if op.status < 0 else 0)
        return 0

    cdef int orphaned(self, operation* op) except -1:
        # A closed loop never hears of the notification; one that moved to another thread does.
        if op.future is not NULL and (<DatagramTransport>self.transport).loop.closing:
            (<object>op.future).cancel()
        return 0

    @cython.final
    cdef int resolve(self, operation* op, int error) except -1:
        transport = <DatagramTransport>self.transport
        future = <object>op.future
        cdef bint closed = error == ECANCELED and transport.loop.closing
        cdef bint batch = type(future) is BatchReport and not closed
        # First: the collector may begin in here, and run what cancels the future.  Without memory
        # to say what became of it, whoever waits is told of that.
        what = None
        try:
            if error:
                what = self.error_of_future(op, error)
            elif not batch:
                what = send_report(op.sent + op.length, op.copied, is_reported(op))
        except MemoryError as exc:
            what, error = exc, error or ENOMEM
        if batch:
            (<BatchReport>future).told(
                op.sent if error else op.sent + op.length, op.copied, is_reported(op), what)
        elif future.done():
            return 0         # cancelled by the caller; the datagram went its way
        elif closed:
            future.cancel()
        elif error:
            future.set_exception(what)
        else:
            future.set_result(what)
        Py_CLEAR(op.future)
        return 0

    @cython.final
    cdef int tell_when_both_are_done(self, operation* op, operation* second) except -1:
        """The kernel may still have the memory of what it has not sent."""
        future = <object>second.future
        cdef BatchReport report
        if type(future) is BatchReport:
            report = <BatchReport>future
        else:
            report = BatchReport(future)
            report.add()
            report.complete = True
            Py_INCREF(report)
            second.future = <PyObject*>report
            Py_DECREF(future)
        report.add()
        Py_INCREF(report)
        op.future = <PyObject*>report
        op.traits |= RETRIED
        return 0

    @cython.final
    cdef object error_of_future(self, operation* op, int error):
        if error == ECANCELED:
            return ConnectionAbortedError(
                f'{(<DatagramTransport>self.transport).description()} was aborted: '
                f'{op.length} bytes were not sent')
        return self.error_of(error, op.segment_size if op.segment_size else op.length)

    @cython.final
    cdef object error_of(self, int error, size_t length):
        """The OSError that tells of a datagram of ``length`` bytes."""
        text = os.strerror(error)
        if error == EMSGSIZE:
            text += f': a datagram of {length} bytes'
            transport = <DatagramTransport>self.transport
            longest = longest_of(transport._sock_fd)
            if length > longest and transport.family != AF_UNIX:
                text += f'; it may have {longest}, segment_size= sends more as a train'
        return OSError(error, text)
