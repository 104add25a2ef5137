"""How a transport sends."""
cimport cython
from cpython.object cimport PyObject

from uringloop.ring.operations cimport flag, operation
from uringloop.transport.bulk cimport bulk_count


cdef enum Room:
    ROOM = 0            # the socket takes what is sent, as far as is known
    FULL = 1            # it does not; a poll is to be armed
    POLLED = 2          # a poll is armed
    TIMED = 3           # a timer will try again, because the socket says that it has room
    WRITABLE = 4        # the poll has said that it does: the delivery sends in its turn


cdef class Sender:
    cdef:
        PyObject* transport         # that has this part: borrowed
        operation* polling          # the poll for room that is in flight
        double retry_delay          # seconds
        unsigned results_due        # of submitted sends
        bulk_count bulk
        Room room
        flag sending                # send_queued() is at work
        flag batching               # the sends of a bulk may leave together
        flag given                  # the socket is the program's own
        flag options_changed        # of the socket, by the program, as far as that is seen
        flag lasting                # polls for room are to go on: see poll_ended
        # the write buffer
        size_t buffered             # bytes not yet accepted by the socket
        size_t high_water
        size_t low_water
        flag protocol_paused

    # what each kind has its own of
    cdef int look_at_options(self, bint expected) except -1
    cdef bint has_queue(self) noexcept
    cdef int send_queued(self) except -1
    cdef int drop_queue(self) except -1
    cdef int completed(self, operation* op, int res) except -1
    cdef int notified(self, operation* op) except -1
    cdef int orphaned(self, operation* op) except -1
    # and what they share
    cdef int poll_room(self) except -1
    cdef int poll_ended(self, operation* op, int res) except -1
    cdef int start_retry_timer(self) except -1
    cdef int retry(self) except -1

    cdef bint waits(self) noexcept
    cdef int maybe_pause(self) except -1
    cdef int maybe_resume(self) except -1

    @cython.final
    cdef bint count_send(self) noexcept

    @cython.final
    cdef bint may_defer(self) noexcept

    @cython.final
    cdef bint may_submit(self) noexcept
