cdef class Handle:
    cdef object _loop
    cdef object __weakref__
    cdef readonly object _callback
    cdef readonly tuple _args
    cdef readonly object _context
    cdef readonly bint _cancelled
    cdef str _text

    cdef int run(self) except -1
    cdef int report(self) except -1


cdef class TimerHandle(Handle):
    cdef readonly double _when
    cdef public bint _scheduled


cdef Handle new_handle(object loop, object callback, tuple args, object context)
cdef TimerHandle new_timer(
    object loop, double when, object callback, tuple args, object context)
