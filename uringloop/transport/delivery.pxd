"""How a transport calls its protocol."""
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from uringloop.ring.operations cimport flag


cdef enum:
    # kinds of a received_item
    RECEIVE_ERROR = 0       # its payload is an exception


cdef struct received_item:
    int kind                # one of these, or of the receiver's own
    PyObject* payload       # strong
    PyObject* address       # strong


@cython.final
cdef class Delivery:
    cdef:
        PyObject* transport         # that has this part: borrowed
        object context              # that the protocol is called in
        object resume_context       # the same for resume_writing(), once writing was paused
        # received and not yet delivered
        received_item* items
        uint32_t first
        uint32_t count
        uint32_t size
        double until                # when this turn's have taken long enough
        object errors               # of sends, in a deque: these don't wait for resume_reading()
        object internal_error       # an exception that is to end the transport, or None
        flag paused                 # by pause_reading()
        flag scheduled              # the transport is in the ready queue
        flag running                # the protocol is being told of what has come
        flag resume_due             # the protocol is to be told resume_writing()
        flag telling                # of errors
        flag going_on               # go_on_writing() is at work: it will tell

    cdef int post(self, int kind, object payload, object address) except -1
    cdef received_item take(self) noexcept
    cdef int post_error(self, object exc) except -1
    cdef int post_internal_error(self, object exc) except -1
    cdef int schedule(self) except -1
    cdef int schedule_next(self) except -1
    cdef int run(self) except -1
    cdef int call_protocol(self) except -1
    cdef int hand_over(self) except -1
    cdef int discard(self) except -1
    cdef bint is_time_up(self) noexcept
    cdef int go_on_writing(self) except -1
    cdef int deliver_errors(self) except -1
    cdef int tell_failures(self, bint at_the_call) except -1
    cdef int schedule_rest(self) except -1
