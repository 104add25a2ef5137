"""The ring's lifetime: who makes it, who has it, and what is left of it."""
from uringloop.core.poll_watch cimport PollWatch, SelectorWatch
from uringloop.core.submitter cimport Submitter


cdef class RingOwner(Submitter):
    cdef:
        unsigned entries            # of the next ring
        unsigned cq_entries
        unsigned busy_poll_ns       # nanoseconds to look for completions before sleeping
        object marker_peer          # the other end of the wake-up socket that is the marker
        list slots_to_free          # files and memory registered for nobody any more, and rings
        dict past                   # what rings that are gone have counted
        # wake-ups from other threads
        bint woken
        int wake_fd
        PollWatch wakeup_watch
        PollWatch signal_watch      # of the wake-up socket
        # add_reader and add_writer
        SelectorWatch selector_watch

    cdef int new_ring(self) except -1
    cdef int ensure_ring(self) except -1
    cdef int make_watches(self) except -1
    cdef int close_watches(self) except -1
    cdef object renew_self_pipe(self)
    cdef int wake_from_elsewhere(self) except -1
    cdef int close_ring(self) except -1
    cdef int drain(self, double end) except -1
    cdef int leave_ring(self, double bound) except -1
    cdef int free_slots(self) except -1
    cdef dict ring_counters(self)
