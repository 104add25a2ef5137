"""One future for several sends: done when the kernel has let go of all of them."""
from uringloop.ring.zerocopy cimport send_report

from asyncio import CancelledError


cdef class BatchReport:
    """What operations have in place of a future."""

    def __init__(self, future):
        self.future = future

    cdef int add(self) except -1:
        self.due += 1
        return 0

    cpdef int close(self) except -1:
        """All have been added."""
        self.complete = True
        return self.resolve()

    cdef int told(self, size_t nbytes, bint copied, bint reported, object error) except -1:
        """What became of one."""
        self.due -= 1
        self.nbytes += nbytes
        self.copied |= copied
        self.unknown |= not reported
        if self.error is None:
            self.error = error
        return self.resolve()

    cdef int resolve(self) except -1:
        if self.due or not self.complete:
            return 0
        # First: the collector may begin in here, and run what cancels the future.
        try:
            report = send_report(self.nbytes, self.copied, not self.unknown)
        except MemoryError as exc:
            report, self.error = None, self.error or exc
        if self.future.done():
            return 0
        if isinstance(self.error, CancelledError):
            self.future.cancel()
        elif self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(report)
        return 0

    # -- as of a future --------------------------------------------------------------------------

    def done(self):
        return self.future.done()

    def cancel(self):
        return self.future.cancel()

    def set_exception(self, error):
        # Not at once: the kernel may still read what the others send.
        self.told(0, False, True, error)

    def fail(self, error):
        """No more are added: one could not be sent."""
        self.add()
        self.complete = True
        self.told(0, False, True, error)
