"""How a transport receives."""
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from uringloop.ring.operations cimport flag, operation
from uringloop.transport.delivery cimport received_item


cdef enum:
    LONG = 8192     # bytes; what is shorter is copied rather than received where it stays


cdef class Receiver:
    cdef:
        PyObject* transport         # that has this part: borrowed
        operation* armed            # the poll that is in flight
        flag lasting                # it goes on until it is cancelled
        flag cancel_due             # it is to be cancelled
        flag pausing                # unless the protocol resumes soon
        flag readable               # it has told, and nothing was read since
        flag long_ones              # what came last was LONG
        flag has_paused             # the protocol pauses reading, now and then

    # what the transport asks for
    cdef int start(self) except -1
    cdef int arm_or_cancel(self) except -1
    cdef int pause(self) except -1
    cdef int resume(self) except -1
    cdef int polled(self, int res, bint goes_on) except -1
    cdef bint wants_arming(self) noexcept
    # what the delivery asks for
    cdef int hand_over(self, received_item* item) except -1
    cdef int read(self) except -1
    cdef int read_before_errors(self) except -1
    # and what they share
    cdef int noticed(self, int events) except -1
    cdef int looked_at(self, bint readable) except -1
