"""What is to run and when: the ready queue, timers and the loop's time.

What programs see of asyncio's queues, ``_ready`` and ``_scheduled``, is here too.
"""
cimport cython
from cpython.object cimport PyObject
from libc.math cimport INFINITY, fmax, nextafter
from libc.stdlib cimport free
from posix.unistd cimport usleep

from uringloop._cpython cimport replace_traverse, traverseproc, visitproc
from uringloop.core.clock cimport monotonic
from uringloop.core.handles cimport (
    Handle, TimerHandle, is_cancelled, new_handle, new_threadsafe_handle, new_timer)
from uringloop.core.overrides cimport CALL_AT, TIME, clock_is_replaced
from uringloop.core.ready_queue cimport (
    drop_all, grow, item_at, pop_ready, push_ready, visit_items)
from uringloop.core.ring_owner cimport RingOwner
from uringloop.core.timers cimport Timers, is_scheduled
from uringloop.ring.operations cimport OperationOwner
from uringloop.ring.process cimport this_thread

import asyncio
from asyncio import events

from uringloop.core.ready import ReadyQueue


cdef extern from "Python.h":
    int set_attribute "PyObject_GenericSetAttr" (object, object, PyObject*) except -1


cdef enum:
    FLOOD = 4096          # callbacks that wait; asyncio's queue is as long when threads flood it
    FLOOD_DELAY = 50      # microseconds that a thread which adds one more then sleeps
    FLOOD_RUNS_ON = 64    # calls without that, where none of them was run meanwhile

cdef bint THREADS_ARE_SAFE = hasattr(events, '_ThreadSafeHandle')     # from Python 3.14 on


cdef class Scheduler(RingOwner):
    """The scheduling methods of asyncio's loops.

    ``call_soon_threadsafe`` wakes the loop, by what the owner of the ring has for that.
    """

    def __cinit__(self):
        grow(&self.ready)
        self.timers = Timers()
        self.deliveries_due = []

    def __dealloc__(self):
        drop_all(&self.ready)
        free(self.ready.items)

    @property
    def _closed(self):
        # So is one that is not made yet: an interrupt while it is being made has its finalizer run.
        return not self.opened

    @_closed.setter
    def _closed(self, closed):
        self.opened = not closed

    def get_debug(self):
        """Whether the loop is in debug mode; each future asks."""
        return self._debug

    # -- ready queue ---------------------------------------------------------------------------

    cdef int push(self, object handle) except -1:
        """Have a handle, or an owner of operations with something to deliver, run next turn."""
        return push_ready(&self.ready, handle)

    def call_soon(self, callback, *args, context=None):
        """Call ``callback(*args)`` in the loop's next turn; returns a handle to cancel it."""
        cdef Handle handle
        if not self.opened:
            self._check_closed()
        if self._debug:
            self._check_thread()
            return self.debug_call_soon(callback, args, context, 'call_soon')
        handle = new_handle(self, callback, args, context)
        push_ready(&self.ready, handle)
        return handle

    def call_soon_threadsafe(self, callback, *args, context=None):
        """As ``call_soon``, from any thread: wakes the loop."""
        if not self.opened:
            self._check_closed()
        if self._debug:
            handle = self.debug_call_soon(callback, args, context, 'call_soon_threadsafe')
        else:
            handle = new_threadsafe_handle(self, callback, args, context)
            push_ready(&self.ready, handle)
        self._write_to_self()
        if self.ready.count > FLOOD and self.thread and self.thread != this_thread():
            self.slow_down()
        return handle

    cdef void slow_down(self) noexcept:
        """Or threads that do nothing else would fill the memory.

        The loop's own has to wait for the GIL behind all of them.  But where its callback waits for
        them, all this would bring is that it waits longer.
        """
        cdef size_t head = self.ready.head
        if self.flood_runs_on:
            self.flood_runs_on -= 1
            return
        with nogil:
            usleep(FLOOD_DELAY)
        if self.ready.head == head:
            self.flood_runs_on = FLOOD_RUNS_ON

    cdef object debug_call_soon(self, object callback, tuple args, object context, str name):
        self._check_callback(callback, name)
        if name == 'call_soon_threadsafe' and THREADS_ARE_SAFE:
            handle = events._ThreadSafeHandle(callback, args, self, context)
            handle._source_traceback.pop()      # its constructor
        else:
            handle = events.Handle(callback, args, self, context)
        push_ready(&self.ready, handle)
        return handle

    def _new_handle(self, callback, args, context):
        """One that is not queued: of ``add_reader``, ``add_writer``."""
        if self._debug:
            return events.Handle(callback, args, self, context)
        return new_handle(self, callback, args, context)

    def _add_callback(self, handle):
        if not is_cancelled(handle):
            push_ready(&self.ready, handle)

    # -- timers ----------------------------------------------------------------------------------

    def time(self):
        """Seconds of the monotonic clock, as ``time.monotonic()``."""
        if clock_is_replaced():
            # A test's; and it may have another for asyncio (freezegun's ``real_asyncio``).
            return asyncio.SelectorEventLoop.time(self)
        return monotonic()

    cdef double now(self) except? -1:
        """``self.time()``, without a call if that is the loop's own."""
        return self.time() if self.overrides.of(self) & TIME else monotonic()

    def call_later(self, delay, callback, *args, context=None):
        """Call ``callback(*args)`` after ``delay`` seconds; returns a handle to cancel it."""
        cdef unsigned replaced = self.overrides.of(self)
        if delay is None:
            raise TypeError('delay must not be None')
        if not self.opened:
            self._check_closed()
        if type(delay) is float and not replaced and not self._debug:
            return self.schedule(monotonic() + <double>delay, callback, args, context, 'call_later')
        when = (self.time() if replaced & TIME else monotonic()) + delay
        if replaced & CALL_AT:
            return self.call_at(when, callback, *args, context=context)
        return self.schedule_any(when, callback, args, context, 'call_later')

    def call_at(self, when, callback, *args, context=None):
        """Call ``callback(*args)`` when ``loop.time()`` reaches ``when``."""
        if when is None:
            raise TypeError('when cannot be None')
        if not self.opened:
            self._check_closed()
        return self.schedule_any(when, callback, args, context, 'call_at')

    @cython.final
    cdef object schedule_any(
            self, object when, object callback, tuple args, object context, str name):
        if self._debug:
            self._check_thread()
            self._check_callback(callback, name)
        elif isinstance(when, (float, int)):
            return self.schedule(when, callback, args, context, name)
        # asyncio's own keeps the time as it was given, a Decimal, say.
        if when != when:
            raise ValueError(f'{name}() needs a time, not {when!r}')
        foreign = events.TimerHandle(when, callback, args, self, context)
        foreign._scheduled = True
        self.timers.push(when, foreign)
        return foreign

    @cython.final
    cdef object schedule(self, double when, object callback, tuple args, object context, str name):
        cdef TimerHandle handle
        if when != when:
            raise ValueError(f'{name}() needs a time, not {when!r}')
        handle = new_timer(self, when, callback, args, context)
        handle._scheduled = True
        self.timers.push(when, handle)
        return handle

    def _timer_handle_cancelled(self, handle):
        if is_scheduled(handle):
            self.timers.cancelled += 1

    @property
    def _timer_cancelled_count(self):
        return self.timers.cancelled

    @_timer_cancelled_count.setter
    def _timer_cancelled_count(self, count):
        self.timers.cancelled = count

    @property
    def _scheduled(self):
        """asyncio's heap of timers, for those who look into it."""
        return self.timers.expose()

    @_scheduled.setter
    def _scheduled(self, heap):
        self.timers.replace(heap if type(heap) is list else sorted(heap))

    cdef int expire_timers(self) except -1:
        cdef double now = self.now()
        # Far from 0 the clock's steps are larger than its resolution: what is due now is due.
        cdef double end = fmax(now + self._clock_resolution, nextafter(now, INFINITY))
        while self.timers.any() and self.timers.first() < end:
            push_ready(&self.ready, self.timers.pop())
        return 0

    # -- what looks into the queues --------------------------------------------------------------

    @property
    def _ready(self):
        """asyncio's queue of handles, for those who look into it."""
        return ReadyQueue(self)

    @_ready.setter
    def _ready(self, handles):
        self._splice_ready(0, self.ready.count, list(handles))

    def _count_ready(self):
        return self.ready.count

    def _list_ready(self):
        handles = []
        for i in range(self.ready.count):
            handles.append(self.as_handle(item_at(&self.ready, i)))
        return handles

    def _splice_ready(self, start, stop, handles):
        """Put ``handles`` into the place of some, and return those."""
        items = []
        while self.ready.count:
            items.append(pop_ready(&self.ready))
        gone = items[start:stop]
        items[start:stop] = handles
        for item in items:
            push_ready(&self.ready, item)
        if self.opened:
            # What the kernel has told is not forgotten: asyncio would hear of it again.
            self.deliveries_due += [item for item in gone if isinstance(item, OperationOwner)]
        removed = []
        for item in gone:
            removed.append(self.as_handle(item))
        return removed

    cdef object as_handle(self, object item):
        if isinstance(item, OperationOwner):
            return new_handle(self, item._deliver, (), None)
        return item

    # -- what programs override ------------------------------------------------------------------

    def __setattr__(self, name, value):
        set_attribute(self, name, <PyObject*>value)
        self.overrides.assigned(name)

    def __delattr__(self, name):
        set_attribute(self, name, NULL)
        self.overrides.assigned(name)


cdef int visit_scheduled(PyObject* self, visitproc visit, void* arg) noexcept:
    """Show the collector what waits in the ready queue and among the timers.

    It takes no reference: to give that back would free an object that is being freed.
    """
    cdef PyObject* timers = <PyObject*>(<Scheduler>self).timers
    cdef size_t i
    cdef int code = traverse_fields(self, visit, arg)
    if not code:
        code = visit_items(&(<Scheduler>self).ready, visit, arg)
    if timers is not NULL and timers is not <PyObject*>None:
        for i in range((<Timers>timers).count):
            if not code:
                code = visit((<Timers>timers).heap[i].handle, arg)
    return code


cdef traverseproc traverse_fields = replace_traverse(Scheduler, visit_scheduled)
