"""Polls that the loop keeps armed on descriptors of its own."""
from uringloop.core.submitter cimport Submitter
from uringloop.ring.operations cimport OperationOwner, operation


cdef class PollWatch(OperationOwner):
    cdef:
        Submitter loop
        operation* armed
        int fd
        bint lasting        # tells of each write, and nobody has to read what tells
        bint fired
        bint closed

    cdef int arm(self) except -1


cdef class SelectorWatch(PollWatch):
    cdef dict keys      # of the selector, by descriptor

    cdef bint take_events(self) except -1
    cdef bint watches(self, int fd) except -1
