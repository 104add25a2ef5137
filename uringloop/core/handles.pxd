cdef class Handle:
    cdef object __weakref__
    # Programs read these, and some assign them, as with asyncio's handles.
    cdef public object _loop
    cdef public object _callback
    cdef public tuple _args         # None once cancelled
    cdef public object _context
    cdef public bint _cancelled
    cdef str _text

    cdef int run(self) except -1
    cdef int drop(self) except -1


cdef class TimerHandle(Handle):
    cdef public double _when
    cdef public bint _scheduled


cdef class ThreadSafeHandle(Handle):
    cdef unsigned long holder       # number of the thread that runs or cancels it; 0: none
    cdef unsigned depth             # how often that thread has entered
    cdef list waiting               # locks that those who wait for it are asleep on

    cdef int enter(self) except -1
    cdef int leave(self) except -1


cdef Handle new_handle(object loop, object callback, tuple args, object context)
cdef Handle new_threadsafe_handle(object loop, object callback, tuple args, object context)
cdef TimerHandle new_timer(
    object loop, double when, object callback, tuple args, object context)
cdef int run_foreign(object handle) except -1


cdef inline bint is_cancelled(object handle) except -1:
    return (<Handle>handle)._cancelled if type(handle) is Handle else bool(handle._cancelled)
