"""What programs replace: methods of the loop, ``time.monotonic``, ``_run`` of handles."""
cimport cython


cdef enum Override:
    # What subclasses, and tests with a clock of their own, replace.
    TIME = 1
    CALL_AT = 2
    RUN_ONCE = 4


@cython.final
cdef class Overrides:
    cdef:
        type base               # the class whose methods are the loop's own
        unsigned version        # of the loop's type when it was looked at; 0: look again
        unsigned found

    cdef unsigned of(self, object loop) except? 255
    cdef unsigned find(self, object loop) except? 255
    cdef int assigned(self, object name) except -1


cdef bint clock_is_replaced() noexcept
cdef bint handles_are_patched() except -1
cdef bint create_task_is_patched() except -1
