"""How a transport receives."""
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from uringloop.ring.buffers cimport ReceiveBuffers
from uringloop.ring.operations cimport flag, operation
from uringloop.transport.delivery cimport received_item


cdef enum ReceiveMode:
    BY_MULTISHOT = 0    # one operation receives into provided buffers until it ends
    ONE_BY_ONE = 1      # a poll tells that there is something, and a system call reads it


cdef enum:
    LONG = 32768        # bytes; pieces of 16 KiB still gain from coming together
    LONG_RUN = 4        # so many long ones after one another are read one by one from then on


cdef class Receiver:
    cdef:
        PyObject* transport         # that has this part: borrowed
        operation* armed            # the multishot receive, or the poll, that is in flight
        ReceiveMode mode            # of the next one
        unsigned char pieces        # received since the protocol has last paused, or so many
        unsigned char long_run      # long pieces that came one after another
        flag cancel_due             # what is armed is to be cancelled
        flag readable               # the poll has said so, and nothing was read since
        flag enough                 # delivered in this turn: others have theirs

    # what the transport asks for
    cdef int start(self) except -1
    cdef int arm_or_cancel(self) except -1
    cdef int completed(self, operation* op, int res, uint32_t flags) except -1
    cdef bint wants_arming(self) noexcept
    # what the delivery asks for
    cdef int begin_turn(self) except -1
    cdef int hand_over(self, received_item* item) except -1
    cdef int all_delivered(self) except -1
    cdef int read_before_errors(self) except -1
    # what each kind has its own of
    cdef int arm_multishot(self, ReceiveBuffers buffers) except -1
    cdef ReceiveBuffers receive_buffers(self)
    cdef int received(self, ReceiveBuffers buffers, unsigned number, int res) except -1
    cdef int ended(self, int res) except -1
    cdef int read(self) except -1
    # and what they share
    cdef int arm(self) except -1
    cdef int poll_ended(self, int res) except -1
    cdef int buffers_exhausted(self) except -1
    cdef int set_mode(self, ReceiveMode mode) except -1
    cdef bint is_multishot_armed(self) noexcept
