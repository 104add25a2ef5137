"""The loop's core: ready queue, timers, wake-up, turns.

A turn: queued sends become submissions; one ``io_uring_enter`` submits them
and waits; completions are settled; then what is ready runs.  A turn with
callbacks ready enters the kernel only if there is something to hand over or
to fetch.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_TYPE
from libc.math cimport INFINITY, fmax, nextafter
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from uringloop._cpython cimport (
    fd_of, object_type_version, replace_traverse, traverseproc, type_version, visitproc)
from uringloop.ring.addresses cimport AddressCache
from uringloop.ring.buffers cimport ReceiveBuffers
from uringloop.core.handles cimport (
    Handle, ThreadSafeHandle, TimerHandle, new_handle, new_threadsafe_handle, new_timer)
from uringloop.ring.watched cimport WatchedSockets
from uringloop.ring.operations cimport OperationOwner, OperationTable, operation
from uringloop.ring.abi cimport (
    ECANCELED, IORING_OP_POLL_ADD, MSG_DONTWAIT, MSG_NOSIGNAL, io_uring_sqe)
from uringloop.ring.zerocopy cimport CopyReports
from uringloop.core.registry cimport Registry
from uringloop.core.timers cimport Timers
from uringloop.ring.process cimport this_thread
from uringloop.ring.ring cimport Ring

import os
import socket
import sys
import threading
import time
from asyncio import base_events, constants, events, futures, tasks

from uringloop.ring.orphans import release_dead, orphaned_rings
from uringloop.core.ready import ReadyQueue
from uringloop.ring.unavailable import UringUnavailableError


cdef extern from "Python.h":
    PyObject* PyDict_GetItem(dict, str) noexcept     # borrowed
    int PyErr_CheckSignals() except -1
    int set_attribute "PyObject_GenericSetAttr" (object, object, PyObject*) except -1

cdef extern from "<poll.h>":
    enum:
        POLLIN

cdef extern from "<sys/epoll.h>" nogil:
    enum:
        EPOLLIN
        EPOLLOUT
    union epoll_data:
        int fd
    struct epoll_event:
        unsigned events
        epoll_data data
    int epoll_wait(int, epoll_event*, int, int)

cdef extern from "<sys/socket.h>" nogil:
    ssize_t send(int, const void*, size_t, int)


cdef object SystemSocket = socket.SocketType
# Programs put classes of their own into these.
cdef dict FUTURES = vars(futures)
cdef dict TASKS = vars(tasks)
cdef dict TIME_MODULE = vars(time)
cdef str MONOTONIC = 'monotonic'
cdef PyObject* REAL_MONOTONIC = PyDict_GetItem(TIME_MODULE, MONOTONIC)
cdef tuple RING_COUNTERS = (
    'syscalls', 'submissions', 'completions', 'cq_overflows', 'busy_polls', 'busy_poll_hits')

cdef double LONGEST_WAIT = 24 * 3600
cdef double CLOSING_BOUND = 1.0      # seconds that close() may take
cdef double PROOF_BOUND = 0.1        # of which some are for the ring to die
cdef double ORPHANS_AGAIN = 0.1       # seconds
cdef double BUFFERS_AGAIN = 1.0      # seconds after which there may be memory again

cdef enum:
    DATAGRAM_BUFFERS = 256           # of 66 KB: the memory is touched only as it is needed
    LOCAL_BUFFERS = 16               # AF_UNIX datagrams may be much longer
    STREAM_BUFFERS = 256
    HEADROOM = 256                   # address and control messages
    HOT_BUFFERS = 4
    # For the program, when memory runs out and a transport ends: asyncio's loop asks for
    # as much each time it receives, and so leaves as much.  It is not touched.
    RESERVE = 262144
    IDLE_FLUSH_LIMIT = 4                # turns
    MANY_WRITERS = 4                        # stream transports that write in one turn
    EVENTS = 64                      # of add_reader and add_writer, a system call

cdef enum Override:
    # What subclasses, and tests with a clock of their own, replace.
    TIME = 1
    CALL_AT = 2
    RUN_ONCE = 4

cdef tuple OVERRIDABLE = ('time', 'call_at', '_run_once')


cdef double monotonic() noexcept:
    cdef timespec ts
    clock_gettime(CLOCK_MONOTONIC, &ts)
    return ts.tv_sec + ts.tv_nsec * 1e-9


cdef object TIMER_HANDLE = events.TimerHandle
cdef bint THREADS_ARE_SAFE = hasattr(events, '_ThreadSafeHandle')     # from Python 3.14 on
cdef unsigned handle_version
cdef bint handle_patched


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


cdef inline bint handles_are_patched() except -1:
    """Whether the program has replaced ``_run`` of asyncio's handles, to hear of each callback."""
    # Another version of ``Handle`` is one of ``TimerHandle``, too.
    if type_version(TIMER_HANDLE) != handle_version or not handle_version:
        find_handle_patch()
    return handle_patched


cdef class Watch(OperationOwner):

    def __cinit__(self, LoopCore loop, int fd):
        self.loop = loop
        self.fd = fd

    cdef int arm(self) except -1:
        if self.armed is NULL and not self.closed:
            self.loop.flush_soon(self)
        return 0

    cdef int flush(self) except -1:
        cdef operation* op
        cdef io_uring_sqe* sqe
        if self.armed is not NULL or self.closed:
            return 0
        op = self.loop.operations.acquire_compact(self)
        sqe = self.loop.ring.prepare(op, IORING_OP_POLL_ADD, self.fd, 0, 0)
        sqe.poll32_events = POLLIN
        self.armed = op
        return 0

    cdef int result(self, operation* op, int res, uint32_t flags) except -1:
        self.armed = NULL
        if self.closed:
            return 0
        if res >= 0:
            self.fired = True
        elif res == -ECANCELED:      # its ring was replaced
            self.loop.flush_soon(self)
        return 0

    cdef int internal_error(self, object exc) except -1:
        # Without it the loop would sleep for ever: until there is memory it goes on trying.
        return self.loop.flush_soon(self) if self.armed is NULL else 0


cdef class LoopCore:
    """What is hot of an event loop; ``uringloop.Loop`` adds asyncio's cold half."""

    def __cinit__(self, *args, **kwargs):
        self.ready_size = 256
        self.ready = <PyObject**>malloc(self.ready_size * sizeof(PyObject*))
        self.timers = Timers()
        if self.ready is NULL:
            raise MemoryError
        self.operations = OperationTable()
        self.addresses = AddressCache()
        self.paths = CopyReports()
        self._registry = Registry()
        self.watched_sockets = WatchedSockets()
        self.flushers = []
        self.slots_to_free = []
        self.flushed = []
        self.deliveries_due = []
        self.idle_flushers = []
        self.past = dict.fromkeys(RING_COUNTERS, 0)
        self.wake_fd = -1
        self.entries = 256
        self.cq_entries = 4096
        self.batching = True

    def _make_ring(self, unsigned entries, double busy_poll, bint batch):
        """Entries of the submission queue; microseconds to look before sleeping; whether the
        sends of a bulk may wait for the end of the turn.

        Raises UringUnavailableError.
        """
        self.batching = batch
        self.entries = entries
        self.cq_entries = 16 * entries
        self.busy_poll_ns = <unsigned>(busy_poll * 1000)
        self.new_ring()

    def __dealloc__(self):
        self.drop_ready()
        free(self.ready)

    cdef void drop_ready(self) noexcept:
        while self.ready_count:
            self.pop()          # whole again before a destructor makes something ready

    # -- ready queue ---------------------------------------------------------------------------

    cdef int push(self, object handle) except -1:
        cdef size_t i
        cdef PyObject** bigger
        if self.ready_count == self.ready_size:
            bigger = <PyObject**>malloc(2 * self.ready_size * sizeof(PyObject*))
            if bigger is NULL:
                raise MemoryError
            for i in range(self.ready_count):
                bigger[i] = self.ready[(self.ready_head + i) & (self.ready_size - 1)]
            free(self.ready)
            self.ready = bigger
            self.ready_head = 0
            self.ready_size *= 2
        Py_INCREF(handle)
        self.ready[(self.ready_head + self.ready_count) & (self.ready_size - 1)] = \
            <PyObject*>handle
        self.ready_count += 1
        return 0

    cdef object pop(self):
        cdef PyObject* item = self.ready[self.ready_head]
        self.ready_head = (self.ready_head + 1) & (self.ready_size - 1)
        self.ready_count -= 1
        handle = <object>item
        Py_DECREF(handle)
        return handle

    def call_soon(self, callback, *args, context=None):
        """Call ``callback(*args)`` in the loop's next turn; returns a handle to cancel it."""
        cdef Handle handle
        if self._closed:
            self._check_closed()
        if self._debug:
            self._check_thread()
            return self.debug_call_soon(callback, args, context, 'call_soon')
        handle = new_handle(self, callback, args, context)
        self.push(handle)
        return handle

    def call_soon_threadsafe(self, callback, *args, context=None):
        """As ``call_soon``, from any thread: wakes the loop."""
        if self._closed:
            self._check_closed()
        if self._debug:
            handle = self.debug_call_soon(callback, args, context, 'call_soon_threadsafe')
        else:
            handle = new_threadsafe_handle(self, callback, args, context)
            self.push(handle)
        self._write_to_self()
        return handle

    cdef object debug_call_soon(self, object callback, tuple args, object context, str name):
        self._check_callback(callback, name)
        if name == 'call_soon_threadsafe' and THREADS_ARE_SAFE:
            handle = events._ThreadSafeHandle(callback, args, self, context)
            handle._source_traceback.pop()      # its constructor
        else:
            handle = events.Handle(callback, args, self, context)
        self.push(handle)
        return handle

    def _add_callback(self, handle):
        if not handle._cancelled:
            self.push(handle)

    def _write_to_self(self):
        # From the loop's own thread there is nobody to wake: it is not asleep.
        if self.woken or self.wake_fd < 0 or self.thread == this_thread():
            return
        self.woken = True
        send(self.wake_fd, b'\0', 1, MSG_DONTWAIT | MSG_NOSIGNAL)

    def _forget_wake(self):
        """In the child of a fork: the number may come to mean another socket."""
        self.wake_fd = -1

    # -- what looks into the queues --------------------------------------------------------------

    @property
    def _ready(self):
        """asyncio's queue of handles, for those who look into it."""
        return ReadyQueue(self)

    @_ready.setter
    def _ready(self, handles):
        self._splice_ready(0, self.ready_count, list(handles))

    def _count_ready(self):
        return self.ready_count

    def _list_ready(self):
        return [self.as_handle(<object>self.ready[(self.ready_head + i) & (self.ready_size - 1)])
                for i in range(self.ready_count)]

    def _splice_ready(self, start, stop, handles):
        """Put ``handles`` into the place of some, and return those."""
        items = [self.pop() for _ in range(self.ready_count)]
        gone = items[start:stop]
        items[start:stop] = handles
        for item in items:
            self.push(item)
        if not self._closed:
            # What the kernel has told is not forgotten: asyncio would hear of it again.
            self.deliveries_due += [item for item in gone if isinstance(item, OperationOwner)]
        return [self.as_handle(item) for item in gone]

    cdef object as_handle(self, object item):
        if isinstance(item, OperationOwner):
            return new_handle(self, item._deliver, (), None)
        return item

    # -- what programs override ------------------------------------------------------------------

    def __setattr__(self, name, value):
        set_attribute(self, name, <PyObject*>value)
        if name in OVERRIDABLE:
            self.version = 0

    def __delattr__(self, name):
        set_attribute(self, name, NULL)
        if name in OVERRIDABLE:
            self.version = 0

    cdef unsigned overridden(self) except? 255:
        """Which methods that the core has no need to call are not its own."""
        cdef unsigned patched = 0 if PyDict_GetItem(TIME_MODULE, MONOTONIC) is REAL_MONOTONIC \
            else TIME
        if object_type_version(self) == self.version and self.version:
            return self.overrides | patched
        return self.find_overrides() | patched

    cdef unsigned find_overrides(self) except? 255:
        kind, own = type(self), vars(self)
        self.overrides = 0
        if kind.time is not LoopCore.time or 'time' in own:
            self.overrides |= TIME
        if kind.call_at is not LoopCore.call_at or 'call_at' in own:
            self.overrides |= CALL_AT
        if kind._run_once is not LoopCore._run_once or '_run_once' in own:
            self.overrides |= RUN_ONCE
        self.version = object_type_version(self)
        return self.overrides

    # -- timers --------------------------------------------------------------------------------

    def time(self):
        """Seconds of the monotonic clock, as ``time.monotonic()``."""
        if PyDict_GetItem(TIME_MODULE, MONOTONIC) is not REAL_MONOTONIC:
            return time.monotonic()        # a test's
        return monotonic()

    cdef double now(self) except? -1:
        """``self.time()``, without a call if that is the loop's own."""
        return self.time() if self.overridden() & TIME else monotonic()

    def call_later(self, delay, callback, *args, context=None):
        """Call ``callback(*args)`` after ``delay`` seconds; returns a handle to cancel it."""
        cdef unsigned overrides = self.overridden()
        if delay is None:
            raise TypeError('delay must not be None')
        if self._closed:
            self._check_closed()
        when = (self.time() if overrides & TIME else monotonic()) + delay
        if overrides & CALL_AT:
            return self.call_at(when, callback, *args, context=context)
        return self.schedule(when, callback, args, context, 'call_later')

    def call_at(self, when, callback, *args, context=None):
        """Call ``callback(*args)`` when ``loop.time()`` reaches ``when``."""
        if when is None:
            raise TypeError('when cannot be None')
        if self._closed:
            self._check_closed()
        return self.schedule(when, callback, args, context, 'call_at')

    cdef object schedule(self, object when, object callback, tuple args, object context, str name):
        cdef TimerHandle handle
        if self._debug:
            self._check_thread()
            self._check_callback(callback, name)
            if when != when:
                raise ValueError(f'{name}() needs a time, not {when!r}')
            foreign = events.TimerHandle(when, callback, args, self, context)
            foreign._scheduled = True
            self.timers.push(when, foreign)
            return foreign
        handle = new_timer(self, when, callback, args, context)
        if handle._when != handle._when:
            raise ValueError(f'{name}() needs a time, not {when!r}')
        handle._scheduled = True
        self.timers.push(handle._when, handle)
        return handle

    def _timer_handle_cancelled(self, handle):
        if handle._scheduled:
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
            self.push(self.timers.pop())
        return 0

    # -- turns ---------------------------------------------------------------------------------

    cdef int flush_soon(self, OperationOwner who) except -1:
        """Call ``who.flush()`` before the kernel is next entered, in the ring's own thread."""
        self.flushers.append(who)
        return 0

    cdef int flush_when_idle(self, OperationOwner who) except -1:
        """The same, but for this alone the kernel need not be entered while callbacks are ready.

        A connection that is made, used and closed in a few turns then never has a
        receive to be called back.
        """
        self.idle_flushers.append(who)
        return 0

    cdef int flush_idle_too(self) except -1:
        self.idle_flush_turns = 0
        self.flushers += self.idle_flushers
        self.idle_flushers.clear()
        return 0

    cdef int flush(self) except -1:
        cdef list flushers = self.flushers
        cdef Py_ssize_t done = 0, count = len(flushers)
        self.flushers = self.flushed
        try:
            while done < count:
                self.flush_one(<OperationOwner>flushers[done])
                done += 1
        finally:
            # After an error (KeyboardInterrupt, say) the rest still waits its turn.
            if done < count:
                self.flushers[:0] = flushers[done:]
            flushers.clear()
            self.flushed = flushers
        return 0

    cdef int flush_one(self, OperationOwner who) except -1:
        """What one has failed with is its own affair; but not that the ring is closed to us."""
        try:
            who.flush()
        except (SystemExit, KeyboardInterrupt, UringUnavailableError):
            raise
        except BaseException as exc:
            who.internal_error(exc)
        return 0

    cdef int deliver_one(self, OperationOwner who) except -1:
        try:
            who.deliver()
        except (SystemExit, KeyboardInterrupt, UringUnavailableError):
            raise
        except BaseException as exc:
            who.internal_error(exc)
        return 0

    cdef int turn(self) except -1:
        if self.timers.cancelled and self.timers.count or self.timers.exposed is not None:
            self.timers.sweep()
        if self.idle_flushers:
            self.idle_flush_turns += 1
            if not self.ready_count or self.idle_flush_turns > IDLE_FLUSH_LIMIT:
                self.flush_idle_too()
        self.turns += 1
        if self.turns & 63 == 0:
            self.every_64_turns()
        if self.flushers:
            self.flush()
        self.many_writers = self.writers >= MANY_WRITERS
        self.writers = 0
        if self.has_something():
            if self.ring.has_work():
                self.ring.poll()
        else:
            self.wait_for_events()
        if self.wakeup_watch.fired or self.selector_watch is not None and self.selector_watch.fired:
            self.wake()
        if self.deliveries_due:
            for who in self.deliveries_due:
                self.push(who)
            self.deliveries_due.clear()
        if self.timers.count or self.timers.exposed is not None:
            self.expire_timers()
        if self._debug:
            return self.run_ready_debug()
        return self.run_ready()

    cdef int every_64_turns(self) except -1:
        """What even a loop must do that is never idle and runs no Python code, only C."""
        PyErr_CheckSignals()
        with nogil:
            pass             # other threads have their turn
        if self.watched_sockets.count:
            self.watched_sockets.check_if_due(monotonic())
        return self.free_slots() if self.slots_to_free else 0

    cdef int free_slots(self) except -1:
        while self.slots_to_free:
            slot, ring = self.slots_to_free.pop()
            if ring is self.ring:
                self.ring.unregister_file(slot)
        return 0

    cdef int wait_for_events(self) except -1:
        """Nothing is ready: wait until something is."""
        if self.overridden() & TIME:
            return self.wait_by_selector()
        cdef double timeout = self.until_timer()
        if self.slots_to_free:
            self.free_slots()
        if timeout == 0 or self.ring.unsettled.count:
            return self.ring.poll() if self.ring.has_work() else 0
        if self.watched_sockets.count:
            timeout = min(timeout, self.watched_sockets.check_if_due(monotonic()))
        if self.ring.sends_prepared:
            # Else these would end the look, and the wait.
            self.ring.submit_and_settle()
            if self.has_something() or self.flushers:
                return 0
        if self.ring.try_spin(timeout):
            if self.wakeup_watch.fired:
                # A thread of this process, and while we looked it may have wanted our
                # processor: wake-ups from threads are 20 % slower so (measured).
                self.ring.spin_budget.hit_was_futile()
            return 0
        # A signal that came after the last bytecode would not interrupt the wait, and
        # what its handler does (or a finalizer) may be what the loop was going to wait for.
        PyErr_CheckSignals()
        if self.has_something() or self.flushers:
            return 0
        # Looking took its time.
        timeout = min(timeout, self.until_timer())
        return 0 if timeout == 0 else self.ring.wait(timeout)

    cdef int wait_by_selector(self) except -1:
        """The same where the program has replaced the clock, and perhaps what waits by it."""
        timeout = self.until_timer() if self.timers.any() else None
        if 'select' not in vars(self._selector):
            self._wait_on_ring(timeout)
            return 0
        # Virtual clocks wrap the selector's ``select``, to leap ahead instead of waiting.
        selector = self._selector
        selector.wait = self._wait_on_ring
        try:
            selector.select(timeout)
        finally:
            selector.wait = None
        return 0

    def _wait_on_ring(self, timeout):
        """Wait, in seconds of the real clock, until something happens: whether it has."""
        cdef double seconds = LONGEST_WAIT if timeout is None else timeout
        PyErr_CheckSignals()
        if self.has_something() or self.flushers:
            return True
        if self.watched_sockets.count:
            seconds = min(seconds, self.watched_sockets.check_if_due(monotonic()))
        if seconds > 0:
            self.ring.wait(seconds)
        elif self.ring.has_work():
            self.ring.poll()
        return self.has_something()

    cdef bint has_something(self) noexcept:
        """Whether there is something to do without waiting."""
        # A watch may have fired, and a delivery become due, when a callback entered the
        # kernel for itself.
        return (self.ready_count or self._stopping or self.wakeup_watch.fired
                or len(self.deliveries_due)
                or self.selector_watch is not None and self.selector_watch.fired)

    cdef double until_timer(self) except -1:
        """Seconds until the next timer is due, or long enough."""
        # There always is a limit.  Without one liburing 2.3 goes back to sleep when a signal
        # has interrupted a call that had submitted something, and its handler would not run.
        if not self.timers.any():
            return LONGEST_WAIT
        return min(max(self.timers.first() - self.now(), 0.), LONGEST_WAIT)

    cdef int wake(self) except -1:
        if self.wakeup_watch.fired:
            self.wakeup_watch.fired = False
            self.wakeup_watch.arm()
            try:
                self._read_from_self()
            finally:
                # Not before: a thread that wakes us while we read, which gives up the GIL,
                # would have its byte read and be believed to have one on the way.  What it
                # has queued runs in this turn.
                self.woken = False
        if self.selector_watch is not None and self.selector_watch.fired:
            # Descriptors of add_reader and add_writer wait in an epoll of
            # their own: level-triggered, and forgotten when closed, as
            # programs expect of asyncio.  While it has something it is asked each
            # turn, and only then is the ring to say when it has again.
            if not self.take_events():
                self.selector_watch.fired = False
                self.selector_watch.arm()
        return 0

    cdef bint take_events(self) except -1:
        """As asyncio's ``_process_events`` of what ``select`` says: whether there was any."""
        cdef epoll_event found[EVENTS]
        cdef int i, count = epoll_wait(self.selector_watch.fd, found, EVENTS, 0)
        cdef unsigned mask
        for i in range(count):
            key = self.selector_keys.get(found[i].data.fd)
            if key is None:
                continue
            reader, writer = key.data
            mask = found[i].events
            if mask & ~<unsigned>EPOLLOUT and reader is not None:
                if reader._cancelled:
                    self._remove_reader(key.fileobj)
                else:
                    self._add_callback(reader)
            if mask & ~<unsigned>EPOLLIN and writer is not None:
                if writer._cancelled:
                    self._remove_writer(key.fileobj)
                else:
                    self._add_callback(writer)
        return count > 0

    cdef int run_ready(self) except -1:
        cdef size_t left = self.ready_count
        cdef PyTypeObject* kind
        if handles_are_patched():
            return self.run_patched()
        while left and self.ready_count:
            left -= 1
            handle = self.pop()
            kind = <PyTypeObject*>Py_TYPE(handle)
            if kind is <PyTypeObject*>Handle or kind is <PyTypeObject*>TimerHandle \
                    or kind is <PyTypeObject*>ThreadSafeHandle:
                if not (<Handle>handle)._cancelled:
                    (<Handle>handle).run()
            elif isinstance(handle, OperationOwner):
                self.deliver_one(<OperationOwner>handle)
            elif not handle._cancelled:
                handle._run()
        return 0

    cdef int run_patched(self) except -1:
        cdef size_t left = self.ready_count
        while left and self.ready_count:
            left -= 1
            handle = self.pop()
            if isinstance(handle, OperationOwner):
                self.deliver_one(<OperationOwner>handle)
            elif not handle._cancelled:
                handle.__class__._run(handle)
        return 0

    cdef int run_ready_debug(self) except -1:
        cdef size_t left = self.ready_count
        cdef double start, took
        while left and self.ready_count:
            left -= 1
            handle = self.pop()
            start = monotonic()
            if isinstance(handle, OperationOwner):
                self.deliver_one(<OperationOwner>handle)
            elif not handle._cancelled:
                self._current_handle = handle
                try:
                    handle._run()
                finally:
                    self._current_handle = None
            took = monotonic() - start
            if took >= self.slow_callback_duration:
                what = base_events._format_handle(handle) if hasattr(handle, '_callback') \
                    else repr(handle)
                base_events.logger.warning('Executing %s took %.3f seconds', what, took)
        return 0

    def _send_deferred(self):
        """What waits for the end of the turn leaves now: something could tell the difference."""
        for who in self.flushers[:]:
            (<OperationOwner>who).send_deferred()

    # -- running -------------------------------------------------------------------------------

    def run_forever(self):
        """Run until ``stop()`` is called."""
        self._check_closed()
        self._check_running()
        if self._ending:
            raise RuntimeError('the loop is being closed')
        hooks = sys.get_asyncgen_hooks()
        cdef bint one_by_one = self.overridden() & RUN_ONCE != 0
        try:
            self._set_coroutine_origin_tracking(self._debug)
            self._thread_id = threading.get_ident()
            self.thread = this_thread()
            sys.set_asyncgen_hooks(firstiter=self._asyncgen_firstiter_hook,
                                   finalizer=self._asyncgen_finalizer_hook)
            events._set_running_loop(self)
            self.ensure_ring()
            self.ring.register_ring_fd()
            while True:
                if one_by_one:
                    self._run_once()
                else:
                    self.turn()
                if self._stopping:
                    break
        finally:
            try:
                self.flush_before_stop()
            finally:
                self.stopped_running(hooks)

    def _run_once(self):
        """One turn; for those who drive the loop themselves, or wrap its turns."""
        cdef unsigned long before = self.thread
        self.thread = this_thread()
        try:
            self.ensure_ring()
            self.turn()
        finally:
            self.thread = before

    cdef int flush_before_stop(self) except -1:
        """What was sent last leaves now, not when the loop next runs; after an exception too."""
        if self.ring is None or not self.owns_ring():
            return 0
        self.flush_idle_too()
        if self.flushers:
            self.flush()
        return self.ring.poll() if self.ring.has_work() else 0

    cdef int stopped_running(self, object hooks) except -1:
        # Nothing here runs Python code, in which a signal's handler could raise and leave
        # the rest undone.
        if self.ring is not None:
            self.ring.unregister_ring_fd()
        self._stopping = False
        self._thread_id = None
        self.thread = 0
        events._set_running_loop(None)
        LoopCore._set_coroutine_origin_tracking(self, False)
        sys.set_asyncgen_hooks(*hooks)

    def _set_coroutine_origin_tracking(self, enabled):
        """As asyncio's own, but not to be interrupted."""
        if bool(enabled) == bool(self._coroutine_origin_tracking_enabled):
            return
        if enabled:
            self._coroutine_origin_tracking_saved_depth = \
                sys.get_coroutine_origin_tracking_depth()
            sys.set_coroutine_origin_tracking_depth(constants.DEBUG_STACK_DEPTH)
        else:
            sys.set_coroutine_origin_tracking_depth(self._coroutine_origin_tracking_saved_depth)
        self._coroutine_origin_tracking_enabled = enabled

    def stop(self):
        """Stop running after the present turn."""
        self._stopping = True

    cdef bint runs_here(self) noexcept:
        """Whether this is the thread that the loop runs in; not in the child of a fork()."""
        return self.thread == this_thread() and self.ring is not None and self.ring.is_open_here()

    cdef bint owns_ring(self) noexcept:
        """Whether the calling thread may use the ring."""
        return self.ring is not None and self.ring.is_open_here() \
            and self.ring.thread == this_thread()

    cdef int new_ring(self) except -1:
        """A ring that any thread may own: the one that first runs the loop."""
        release_dead(self.operations)
        self.ring = Ring(self.operations, self.entries, self.cq_entries,
                         self._csock.fileno(), self.busy_poll_ns)
        self.marker_peer = self._ssock
        return 0

    cdef int ensure_ring(self) except -1:
        """This thread is to have the loop's ring."""
        if self.ring is not None and self.ring.thread == self.thread:
            self.ring.check_open()
            return 0
        if self.ring is not None and self.ring.thread:
            self.ring.check_open()
            # The old ring holds the wake-up socket: it is replaced, so
            # that its hang-up can tell when that ring is dead.
            told = self.renew_self_pipe()
            try:
                self.leave_ring(CLOSING_BOUND)
            finally:
                self._process_self_data(told)
            self._release_orphans()
        elif self.ring is not None and not self.ring.is_open_here():
            # Made before fork(), and never run: the child has one of its own.
            self.ring.close_in_child()
            self.ring = None
            if self.selector_watch is not None:
                self.selector_watch.closed = True
                self.selector_watch = None
            self._begin_in_child()
        if self.ring is None:
            self.new_ring()
        self.ring.enable()
        self.wake_fd = self._csock.fileno()
        self.woken = False
        self.wakeup_watch = Watch(self, self._ssock.fileno())
        self.wakeup_watch.arm()
        return 0

    def _release_orphans(self):
        """Whoever waits for a notification of the ring that was left is told when it is dead."""
        release_dead(self.operations)
        if orphaned_rings:
            self.call_later(ORPHANS_AGAIN, self._release_orphans)

    cdef object renew_self_pipe(self):
        """Another pair of wake-up sockets; returns what came by the old one and was not read.

        The writing end keeps its number: signals go there, which only the main thread
        could tell of another, and other threads may be about to use it.
        """
        ssock, csock = socket.socketpair()
        # From here on no Python code runs, which a signal's handler could end.
        ssock.setblocking(False)
        csock.setblocking(False)
        before = self._ssock
        os.dup2(csock.fileno(), self._csock.fileno(), False)
        self._ssock = ssock
        csock.close()
        told = b''
        try:
            while True:
                data = before.recv(4096)
                if not data:
                    return told
                told += data
        except OSError:
            return told
        finally:
            if before is not self.marker_peer:
                before.close()

    cdef int leave_ring(self, double bound) except -1:
        """Close a ring, in whatever thread: what it had not done is told ECANCELED.

        ``bound``: how many seconds it may take to prove it dead.
        """
        ring = self.ring
        if self.wakeup_watch is not None:
            self.wakeup_watch.closed = True
        try:
            problems = ring.close(self.marker_peer.fileno(), bound)
        finally:
            self.remember(ring)
            if self.marker_peer is not self._ssock:
                self.marker_peer.close()
            self.ring = self.marker_peer = None
            self.datagram_buffers = self.local_buffers = self.stream_buffers = None
            self.retry_buffers_at = 0
        interrupts = [problem for problem in problems
                      if isinstance(problem, (SystemExit, KeyboardInterrupt))]
        for problem in problems:
            if problem not in interrupts:
                self.call_exception_handler({
                    'message': 'Unhandled error while a ring was closed',
                    'exception': problem,
                })
        if interrupts:
            raise interrupts[0]
        return 0

    cdef remember(self, Ring ring):
        for name, count in ring.counters().items():
            self.past[name] += count

    def _watch_selector(self, int fd, dict selector_keys):
        """Look after the epoll ``fd`` of a selector, whose keys are in ``selector_keys``."""
        self.selector_keys = selector_keys
        self.selector_watch = Watch(self, fd)
        self.selector_watch.arm()

    def _close_core(self):
        """Cancel everything, drain within a bound, and close the ring."""
        cdef double end = monotonic() + CLOSING_BOUND
        if self.selector_watch is not None:
            self.selector_watch.closed = True
        if self.ring is not None:
            if self.owns_ring():
                self.drain(end)
            self.closing = True
            self.wake_fd = -1
            self._csock.close()
            self.leave_ring(fmax(end - monotonic(), 0))
        self.closing = True
        self.flush_idle_too()
        while self.flushers:
            (<OperationOwner>self.flushers.pop()).loop_closed()
        # Those, too, that wait for a timer.
        for transport in self._registry.own():
            (<OperationOwner>transport).loop_closed()
        self.deliveries_due.clear()
        self.addresses.clear()
        self.wakeup_watch = self.selector_watch = None       # they refer to us
        # asyncio's close() clears ``_ready`` and ``_scheduled`` next, once the loop counts as
        # closed: what finalizers then schedule is refused.

    def _forget_timers(self):
        """The list that asyncio's ``close`` has cleared is not to stay."""
        self.timers.drop_all()

    cdef int drain(self, double end) except -1:
        """Send what is queued, cancel what is in flight, and wait for it until ``end``."""
        if self.wakeup_watch is not None:
            self.wakeup_watch.closed = True
        try:
            self.flush()
            self.ring.poll()
            self.closing = True
            self.ring.cancel_all(end - PROOF_BOUND - monotonic())
        except OSError as exc:
            # It can't be entered any more.  Closing it does without.
            self.call_exception_handler({
                'message': 'What was in flight is lost: the ring could not be drained',
                'exception': exc,
            })
        return 0

    def create_task(self, coro, **kwargs):
        """Schedule a coroutine; returns its task.  Arguments as ``asyncio.Task`` takes them."""
        if self._task_factory is None and not self._debug and not self._closed:
            # asyncio.create_task() of Python 3.12 and 3.13 always names a name.
            if not kwargs or len(kwargs) == 1 and kwargs.get('name', kwargs) is None:
                return TASKS['Task'](coro, loop=self)
        # A factory of the program's gets what the caller has given, and nothing else (3.14).
        return super().create_task(coro, **kwargs)

    def _ensure_fd_no_transport(self, fd):
        """RuntimeError if a transport that is not closing has this descriptor."""
        if type(fd) is int and 0 <= fd <= 0x7fffffff:
            transport = self._registry.find(fd)
        elif issubclass(type(fd), SystemSocket):
            transport = self._registry.find(fd_of(fd))
        else:
            return super()._ensure_fd_no_transport(fd)
        if transport is not None and not transport.is_closing():
            raise RuntimeError(f'File descriptor {fd!r} is used by transport {transport!r}')

    # -- what the owners of operations use -------------------------------------------------------

    cdef object new_future(self):
        return FUTURES['Future'](loop=self)

    def create_future(self):
        """A future attached to this loop."""
        return FUTURES['Future'](loop=self)

    cdef ReceiveBuffers receive_buffers(self, BufferGroup group):
        """The provided buffers of this ring that such sockets share; made when first asked for.

        None: there is no memory for them.  Ask again from time to time.
        """
        if group == DATAGRAM:
            if self.datagram_buffers is None:
                self.datagram_buffers = self.new_buffers(
                    group, DATAGRAM_BUFFERS, 65536 + HEADROOM, HOT_BUFFERS, False)
            return self.datagram_buffers
        if group == LOCAL:
            if self.local_buffers is None:
                self.local_buffers = self.new_buffers(
                    group, LOCAL_BUFFERS, 262144 + HEADROOM, LOCAL_BUFFERS, False)
            return self.local_buffers
        if self.stream_buffers is None:
            self.stream_buffers = self.new_buffers(
                group, STREAM_BUFFERS, 65536, HOT_BUFFERS, True)
        return self.stream_buffers

    cdef ReceiveBuffers new_buffers(self, BufferGroup group, unsigned count, size_t capacity,
                                    unsigned provided, bint content_only):
        # A page of each group counts as locked memory, which may be used up, or given up
        # by the program after it has made the loop.
        if self.retry_buffers_at and monotonic() < self.retry_buffers_at:
            return None
        try:
            if self.memory_reserve is None:
                self.memory_reserve = PyBytes_FromStringAndSize(NULL, RESERVE)
            return ReceiveBuffers(self.ring, group, count, capacity, provided, content_only)
        except (MemoryError, OSError):
            self.retry_buffers_at = monotonic() + BUFFERS_AGAIN
            return None

    def _counters(self):
        """Everything that ``stats()`` shows, as a dict."""
        of_rings = self.past.copy()
        if self.ring is not None:
            for name, count in self.ring.counters().items():
                of_rings[name] += count
        return {
            **of_rings,
            **self.operations.counters(),
            'datagrams_sent': self.datagrams_sent,
            'datagrams_received': self.datagrams_received,
            'datagrams_gathered': self.datagrams_gathered,
            'datagrams_dropped': self.datagrams_dropped,
            'datagrams_discarded': self.datagrams_discarded,
            'datagrams_truncated': self.datagrams_truncated,
            'zerocopy_sent': self.zerocopy_sent,
            'zerocopy_copied': self.zerocopy_copied,
            'zerocopy_fell_back': self.zerocopy_fell_back,
            'buffers_released': self.buffers_released,
            'receive_buffers_exhausted': self.receive_exhausted,
            'rings_orphaned': len(orphaned_rings),
        }


cdef int visit_core(PyObject* self, visitproc visit, void* arg) noexcept:
    """Show the collector what waits in the ready queue and among the timers."""
    cdef LoopCore loop = <LoopCore>self
    cdef size_t i
    cdef int code = traverse_fields(self, visit, arg)
    for i in range(loop.ready_count):
        if not code:
            code = visit(loop.ready[(loop.ready_head + i) & (loop.ready_size - 1)], arg)
    if <PyObject*>loop.timers is not NULL and loop.timers is not None:
        for i in range(loop.timers.count):
            if not code:
                code = visit(loop.timers.heap[i].handle, arg)
    return code


cdef traverseproc traverse_fields = replace_traverse(LoopCore, visit_core)
