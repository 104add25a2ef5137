"""What programs replace: methods of the loop, ``time.monotonic``, ``_run`` of handles.

The loop does without calls of its own methods where nothing is replaced.  A type gets another
version whenever something is set in it or in a base, so comparing versions tells cheaply
whether to look again.  Without versions (0) it is looked each time.
"""
cimport cython
from cpython.object cimport PyObject

from uringloop._cpython cimport object_type_version, plain_attributes_of, type_version

import time
from asyncio import base_events, events


cdef extern from "Python.h":
    PyObject* PyDict_GetItem(dict, str) noexcept     # borrowed


cdef dict TIME_MODULE = vars(time)
cdef str MONOTONIC = 'monotonic'
cdef PyObject* REAL_MONOTONIC = PyDict_GetItem(TIME_MODULE, MONOTONIC)

cdef tuple OVERRIDABLE = (('time', TIME), ('call_at', CALL_AT), ('_run_once', RUN_ONCE))

cdef object TIMER_HANDLE = events.TimerHandle
cdef unsigned handle_version
cdef bint handle_patched

cdef object BASE = base_events.BaseEventLoop
cdef object CREATE_TASK = BASE.create_task
cdef unsigned base_version
cdef bint create_task_patched


@cython.final
cdef class Overrides:
    """Which methods of one loop are not its own: replaced in a subclass, its class or itself."""

    def __cinit__(self, type base):
        self.base = base

    cdef unsigned of(self, object loop) except? 255:
        """The methods that are replaced just now, as a sum of ``Override``."""
        cdef unsigned patched = TIME if clock_is_replaced() else 0
        if object_type_version(loop) == self.version and self.version:
            return self.found | patched
        return self.find(loop) | patched

    cdef unsigned find(self, object loop) except? 255:
        kind, own = type(loop), plain_attributes_of(loop)
        self.found = 0
        for name, flag in OVERRIDABLE:
            if getattr(kind, name) is not getattr(self.base, name) or name in own:
                self.found |= <unsigned>flag
        self.version = object_type_version(loop)
        return self.found

    cdef int assigned(self, object name) except -1:
        """``name`` was set or deleted in the loop itself; the version of its type is the same."""
        for overridable, _ in OVERRIDABLE:
            if name == overridable:
                self.version = 0
        return 0


cdef bint clock_is_replaced() noexcept:
    """Whether a test has patched ``time.monotonic``."""
    return PyDict_GetItem(TIME_MODULE, MONOTONIC) is not REAL_MONOTONIC


cdef bint is_asyncios_own(run) except -1:
    code = getattr(run, '__code__', None)
    return (code is not None and code.co_name == '_run'
            and code.co_filename == events.AbstractEventLoop.run_forever.__code__.co_filename)


cdef int find_handle_patch() except -1:
    global handle_version, handle_patched
    handle_patched = not is_asyncios_own(TIMER_HANDLE._run) \
        or not is_asyncios_own(events.Handle._run)
    handle_version = type_version(TIMER_HANDLE)
    return 0


cdef bint handles_are_patched() except -1:
    """Whether the program has replaced ``_run`` of asyncio's handles, to hear of each callback."""
    # Another version of ``Handle`` is one of ``TimerHandle``, too.
    if type_version(TIMER_HANDLE) != handle_version or not handle_version:
        find_handle_patch()
    return handle_patched


cdef bint create_task_is_patched() except -1:
    """Whether the program has replaced ``create_task`` of asyncio's loop, to hear of each task."""
    global base_version, create_task_patched
    if type_version(BASE) != base_version or not base_version:
        create_task_patched = BASE.create_task is not CREATE_TASK
        base_version = type_version(BASE)
    return create_task_patched
