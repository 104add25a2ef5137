"""Handles: one scheduled callback each.

They answer to what ``asyncio.Handle`` answers to, and to ``isinstance``, but do not
inherit from it.  In debug mode the loop makes asyncio's own handles instead, which keep
the traceback of their creation.
"""
cimport cython
from cpython.contextvars cimport PyContext_CheckExact, PyContext_CopyCurrent, PyContext_Exit
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE

from uringloop.ring.process cimport this_thread

import inspect
from _thread import allocate_lock
from asyncio import events, format_helpers


cdef extern from "Python.h":
    # Without ``except``: what they say is reported, as the callback's own error.
    int enter_context "PyContext_Enter" (object)
    PyObject* call_no_args "PyObject_CallNoArgs" (object)
    PyObject* call_one_arg "PyObject_CallOneArg" (object, PyObject*)
    PyObject* call_many "PyObject_CallObject" (object, object)


cdef object AsyncioHandle = events.Handle

# From Python 3.13 on arguments are named in debug mode only.
cdef object format_source = format_helpers._format_callback_source
cdef bint KNOWS_DEBUG = 'debug' in inspect.signature(format_source).parameters


cdef object source_of(object handle):
    """What a handle calls, as asyncio tells it."""
    if KNOWS_DEBUG:
        return format_source(handle._callback, handle._args, debug=handle._loop.get_debug())
    return format_source(handle._callback, handle._args)


cdef int raise_current() except -1:
    """Hand the error that a C call has set to Cython's ``except``."""
    return -1


cdef inline bint call(object callback, tuple args, object context) noexcept:
    """Call it in its context; False: the error of that is set."""
    cdef PyObject* result
    cdef Py_ssize_t count = PyTuple_GET_SIZE(args)
    if enter_context(context) < 0:
        return False
    if count == 0:
        result = call_no_args(callback)
    elif count == 1:
        result = call_one_arg(callback, PyTuple_GET_ITEM(args, 0))
    else:
        result = call_many(callback, args)
    # As contextvars.Context.run does: leave with the error still set.
    PyContext_Exit(context)
    if result is NULL:
        return False
    Py_DECREF(<object>result)
    return True


cdef int report(object handle) except -1:
    """Tell of the error that is set, which the handle's callback has met."""
    try:
        raise_current()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        told = {
            'message': f'Exception in callback {source_of(handle)}',
            'exception': exc,
            'handle': handle,
        }
        if handle._source_traceback:
            told['source_traceback'] = handle._source_traceback
        handle._loop.call_exception_handler(told)
    return 0


cdef int run_foreign(object handle) except -1:
    """Run one that is not ours, unless it was cancelled.

    What asyncio's ``_run`` does with one of asyncio's own (add_reader's, say) is done here.
    """
    if handle._cancelled:
        return 0
    if type(handle) is AsyncioHandle:
        callback, args, context = handle._callback, handle._args, handle._context
        if type(args) is tuple and PyContext_CheckExact(context):
            return 0 if call(callback, args, context) else report(handle)
    handle._run()
    return 0


@cython.freelist(256)
cdef class Handle:
    """A callback that ``call_soon`` or ``call_soon_threadsafe`` has queued."""

    # asyncio's code asks its handles for this one.
    _source_traceback = None

    @property
    def __class__(self):
        return events.Handle

    cdef int run(self) except -1:
        # Held, for the callback may cancel it.
        callback, args, context = self._callback, self._args, self._context
        if args is None:
            args = ()        # it was cancelled, and is run by the program itself
        return 0 if call(callback, args, context) else report(self)

    def _run(self):
        self.run()

    def cancel(self):
        """Never run the callback.  Drops the references to it and its arguments."""
        self.drop()

    cdef int drop(self) except -1:
        if not self._cancelled:
            self._cancelled = True
            if self._loop.get_debug():
                self._text = repr(self)
            self._callback = None
            self._args = None
        return 0

    def cancelled(self):
        """Whether ``cancel()`` was called."""
        return self._cancelled

    def get_context(self):
        """The ``contextvars.Context`` that the callback runs in."""
        return self._context

    def _repr_info(self):
        info = [type(self).__name__]
        if self._cancelled:
            info.append('cancelled')
        if self._callback is not None:
            info.append(source_of(self))
        return info

    def __repr__(self):
        if self._text is not None:
            return self._text
        return '<{}>'.format(' '.join(self._repr_info()))


cdef class TimerHandle(Handle):
    """A callback that ``call_later`` or ``call_at`` has queued."""

    @property
    def __class__(self):
        return events.TimerHandle

    def cancel(self):
        """Never run the callback.  Drops the references to it and its arguments."""
        if not self._cancelled:
            self._loop._timer_handle_cancelled(self)
        self.drop()

    def when(self):
        """The time it is due, in seconds of ``loop.time()``."""
        return self._when

    def _repr_info(self):
        info = Handle._repr_info(self)
        info.insert(2 if self._cancelled else 1, f'when={self._when}')
        return info

    def __hash__(self):
        return hash(self._when)

    def __lt__(self, other):
        if isinstance(other, TimerHandle):
            return self._when < (<TimerHandle>other)._when
        return NotImplemented

    def __le__(self, other):
        if isinstance(other, TimerHandle):
            return self._when < (<TimerHandle>other)._when or self == other
        return NotImplemented

    def __gt__(self, other):
        if isinstance(other, TimerHandle):
            return self._when > (<TimerHandle>other)._when
        return NotImplemented

    def __ge__(self, other):
        if isinstance(other, TimerHandle):
            return self._when > (<TimerHandle>other)._when or self == other
        return NotImplemented

    def __eq__(self, other):
        if isinstance(other, TimerHandle):
            return (self._when == (<TimerHandle>other)._when
                    and self._callback == (<TimerHandle>other)._callback
                    and self._args == (<TimerHandle>other)._args
                    and self._cancelled == (<TimerHandle>other)._cancelled)
        return NotImplemented


# New in Python 3.14.
cdef bint THREADS_ARE_SAFE = hasattr(events, '_ThreadSafeHandle')


cdef class ThreadSafeHandle(Handle):
    """A callback that ``call_soon_threadsafe`` has queued: ``cancel()`` waits while it runs.

    asyncio's has a lock each.  Here threads take turns by the GIL, and only one that has to
    wait makes a lock, to sleep on.
    """

    @property
    def __class__(self):
        return events._ThreadSafeHandle

    cdef int enter(self) except -1:
        """Wait until no other thread is inside; the same one may enter again."""
        cdef unsigned long thread = this_thread()
        while self.depth and self.holder != thread:
            lock = allocate_lock()
            lock.acquire()
            # Making it may have let others run.
            if self.depth and self.holder != thread:
                if self.waiting is None:
                    self.waiting = []
                self.waiting.append(lock)
                lock.acquire()
        self.holder = thread
        self.depth += 1
        return 0

    cdef int leave(self) except -1:
        self.depth -= 1
        if not self.depth and self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            for lock in waiting:
                lock.release()
        return 0

    # asyncio's ``_run``, which programs patch and call, takes it by this name.
    @property
    def _lock(self):
        return self

    def __enter__(self):
        self.enter()

    def __exit__(self, *args):
        self.leave()

    cdef int run(self) except -1:
        self.enter()
        try:
            return 0 if self._cancelled else Handle.run(self)
        finally:
            self.leave()

    def cancel(self):
        """Never run the callback; if it runs just now, in another thread, wait for its end."""
        self.enter()
        try:
            self.drop()
        finally:
            self.leave()

    def cancelled(self):
        """Whether ``cancel()`` was called; waits as that does."""
        self.enter()
        try:
            return self._cancelled
        finally:
            self.leave()


cdef inline void fill(Handle handle, object loop, object callback, tuple args, object context):
    handle._loop = loop
    handle._callback = callback
    handle._args = args
    handle._context = PyContext_CopyCurrent() if context is None else context


cdef Handle new_handle(object loop, object callback, tuple args, object context):
    cdef Handle handle = Handle.__new__(Handle)
    fill(handle, loop, callback, args, context)
    return handle


cdef Handle new_threadsafe_handle(object loop, object callback, tuple args, object context):
    cdef ThreadSafeHandle handle
    if not THREADS_ARE_SAFE:
        return new_handle(loop, callback, args, context)
    handle = ThreadSafeHandle.__new__(ThreadSafeHandle)
    fill(handle, loop, callback, args, context)
    return handle


cdef TimerHandle new_timer(
        object loop, double when, object callback, tuple args, object context):
    cdef TimerHandle handle = TimerHandle.__new__(TimerHandle)
    handle._when = when
    fill(handle, loop, callback, args, context)
    return handle
