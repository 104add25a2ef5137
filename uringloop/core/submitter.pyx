"""Who has something to submit before the kernel is next entered.

``flush_soon`` queues an owner of operations; its ``flush`` sends what waits, and prepares what
is for the ring.  A turn's submissions are made by one system call; chains of zero-copy sends
take one each.
"""
cimport cython

from uringloop.core.clock cimport clock_coarse
from uringloop.core.lender cimport Lender
from uringloop.ring.operations cimport OperationOwner
from uringloop.ring.process cimport this_thread

from uringloop.ring.unavailable import UringUnavailableError


# Seconds: what is written may wait, and how long nothing does after that was too long.
cdef double TOO_LONG = 0.01
cdef double AT_ONCE = 1.0


cdef class Submitter(Lender):
    """The ring of a loop, and those who wait to use it."""

    def __cinit__(self):
        self.flushers = []
        self.idle_flushers = []

    cdef bint runs_elsewhere(self) except -1:
        return self.thread != 0 and self.thread != this_thread()

    cdef bint runs_here(self) noexcept:
        """Whether this is the thread that the loop runs in; not in the child of a fork()."""
        return self.thread == this_thread() and self.ring is not None and self.ring.is_open_here()

    cdef bint owns_ring(self) noexcept:
        """Whether the calling thread may use the ring."""
        return self.ring is not None and self.ring.is_open_here() \
            and self.ring.thread == this_thread()

    cdef int flush_soon(self, OperationOwner who) except -1:
        """Call ``who.flush()`` before the kernel is next entered, in the ring's own thread."""
        self.flushers.append(who)
        return 0

    cdef int flush_when_idle(self, OperationOwner who) except -1:
        """The same, but for this alone the kernel need not be entered while callbacks are ready.

        A protocol that pauses and resumes in a few turns keeps its poll.
        """
        self.idle_flushers.append(who)
        return 0

    cdef int flush_idle_too(self) except -1:
        self.idle_flush_turns = 0
        self.flushers += self.idle_flushers
        self.idle_flushers.clear()
        return 0

    cdef int flush(self) except -1:
        cdef list flushers = self.flushers
        cdef Py_ssize_t done = 0, count = len(flushers)
        if self.written_at:
            if not self.look_at_the_clock(clock_coarse()):
                self.long_waits = 0
            self.written_at = 0
        # A turn within this one has its own (``_run_once`` in a protocol's method).
        self.flushers = self.flushed if self.flushed is not None else []
        self.flushed = None
        try:
            while done < count:
                self.flush_one(<OperationOwner>flushers[done])
                done += 1
        finally:
            # After an error (KeyboardInterrupt, say) the rest still waits its turn.
            if done < count:
                self.flushers[:0] = flushers[done:]
            flushers.clear()
            self.flushed = flushers
        return 0

    @cython.final
    cdef int flush_one(self, OperationOwner who) except -1:
        """What one has failed with is its own affair; but not that the ring is closed to us."""
        try:
            who.flush()
        except (SystemExit, KeyboardInterrupt, UringUnavailableError):
            raise
        except BaseException as exc:
            who.internal_error(exc)
        return 0

    cdef bint may_wait(self) except -1:
        """Whether what a stream writes now may wait for the end of the turn.

        That may be far off, if other callbacks take long: then all leaves that waits, and if that
        was no single case nothing waits for a while.
        """
        cdef double now = clock_coarse()
        if now < self.at_once_until:
            return False
        if self.written_at == 0:
            self.written_at = now
        elif self.look_at_the_clock(now):
            self.written_at = 0
            self._send_deferred()
            return False
        return True

    cdef bint look_at_the_clock(self, double now) noexcept:
        """Whether what was written has waited too long.  Once may be another program's doing."""
        if now <= self.written_at + TOO_LONG:
            return False
        self.long_waits += 1
        if self.long_waits > 1:
            self.at_once_until = now + AT_ONCE
        return True

    def _send_deferred(self):
        """What waits for the end of the turn leaves now: something could tell the difference."""
        for who in self.flushers[:]:
            (<OperationOwner>who).send_deferred()
