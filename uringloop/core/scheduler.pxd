"""What is to run and when: the ready queue, timers and the loop's time."""
cimport cython

from uringloop.core.overrides cimport Overrides
from uringloop.core.ready_queue cimport ready_queue
from uringloop.core.ring_owner cimport RingOwner
from uringloop.core.timers cimport Timers


cdef class Scheduler(RingOwner):
    cdef:
        ready_queue ready
        Timers timers
        Overrides overrides
        unsigned flood_runs_on  # calls from other threads that need not slow down
        list deliveries_due     # deliveries that became due while the loop did not run
        bint opened             # asyncio's ``_closed`` is what is not
        # asyncio's own names, as C fields
        public bint _debug
        public double _clock_resolution

    cdef int push(self, object handle) except -1
    cdef void slow_down(self) noexcept
    cdef object debug_call_soon(self, object callback, tuple args, object context, str name)

    @cython.final
    cdef object schedule(self, double when, object callback, tuple args, object context, str name)

    @cython.final
    cdef object schedule_any(
        self, object when, object callback, tuple args, object context, str name)
    cdef object as_handle(self, object item)
    cdef double now(self) except? -1
    cdef int expire_timers(self) except -1
