"""Who has something to submit before the kernel is next entered."""
cimport cython

from uringloop.core.lender cimport Lender
from uringloop.ring.operations cimport OperationOwner
from uringloop.ring.ring cimport Ring


cdef class Submitter(Lender):
    cdef:
        Ring ring
        unsigned long thread    # that the loop runs in; 0: it does not run
        list flushers
        list flushed            # the one before, empty again; None while it is in use
        list idle_flushers      # flushers that wait for a turn with nothing ready
        unsigned idle_flush_turns       # turns that they have waited
        double written_at       # when the first of what is written in this turn, and waits, was
        unsigned long_waits     # that were too long, in a row
        double at_once_until    # nothing that is written waits so long

    cdef int flush(self) except -1
    cdef int flush_idle_too(self) except -1
    cdef bint may_wait(self) except -1
    cdef bint look_at_the_clock(self, double now) noexcept

    @cython.final
    cdef int flush_one(self, OperationOwner who) except -1
    cdef int flush_soon(self, OperationOwner who) except -1
    cdef int flush_when_idle(self, OperationOwner who) except -1
    cdef bint runs_here(self) noexcept
    cdef bint owns_ring(self) noexcept
