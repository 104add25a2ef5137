"""The loop's core: turns, waiting, running, closing.

A turn: what waits for the end of the last one is flushed, that is sent by system calls or
prepared for the ring; the kernel is entered once, which submits, and waits if nothing is
ready; completions are settled; then what is ready runs.  A turn with callbacks ready enters
the kernel only if there is something to submit or to fetch.
"""
cimport cython
from cpython.object cimport PyObject_Call, PyTypeObject
from cpython.ref cimport Py_TYPE

from uringloop._cpython cimport fd_of
from uringloop.core.clock cimport clock_coarse, monotonic
from uringloop.core.handles cimport Handle, ThreadSafeHandle, TimerHandle, run_foreign
from uringloop.core.overrides cimport (
    RUN_ONCE, TIME, Overrides, create_task_is_patched, handles_are_patched)
from uringloop.core.ready_queue cimport pop_ready, push_ready
from uringloop.core.receive_area cimport ReceiveArea
from uringloop.core.registry cimport Registry
from uringloop.core.scheduler cimport Scheduler
from uringloop.core.short_reads cimport ShortReads
from uringloop.ring.addresses cimport AddressCache
from uringloop.ring.operations cimport OperationOwner, trim_operations
from uringloop.ring.process cimport this_thread
from uringloop.ring.watched cimport WatchedSockets
from uringloop.ring.zerocopy cimport PathReports

import socket
import sys
import threading
from asyncio import base_events, constants, events, futures, tasks

from uringloop.ring.orphans import orphaned_rings
from uringloop.ring.unavailable import UringUnavailableError


cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1


cdef object SystemSocket = socket.SocketType
# Programs put classes of their own into these.
cdef dict FUTURES = vars(futures)
cdef dict TASKS = vars(tasks)

# Of the interpreter's own making: a jump back, at which it looks whether anything else is due.
cdef object RUN_BYTECODE = eval('lambda: [None for _ in (0, 1)]')

cdef double LONGEST_WAIT = 24 * 3600
cdef double YIELD_EACH = 0.005         # seconds, as the interpreter's own switch interval

cdef enum:
    IDLE_FLUSH_LIMIT = 4         # turns
    MANY_WRITERS = 4             # stream transports that write in one turn


cdef class LoopCore(Scheduler):
    """What is hot of an event loop; ``uringloop.Loop`` adds asyncio's cold half.

    It is one object in layers, so that the hot fields of all are C fields of it:
    ``Lender``, ``Submitter``, ``RingOwner``, ``Scheduler``, and this class, which runs the turns.
    """

    def __cinit__(self):
        self.addresses = AddressCache()
        self.overrides = Overrides(LoopCore)
        self.paths = PathReports()
        self.stream_paths = PathReports()
        self._registry = Registry()
        self.watched_sockets = WatchedSockets()
        self.receive_area = ReceiveArea()
        self.short_reads = ShortReads(self._registry)
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

    # -- turns ---------------------------------------------------------------------------------

    @cython.final
    cdef int deliver_one(self, OperationOwner who) except -1:
        try:
            who.deliver()
        except (SystemExit, KeyboardInterrupt, UringUnavailableError):
            raise
        except BaseException as exc:
            who.internal_error(exc)
        return 0

    @cython.final
    cdef int turn(self) except -1:
        # Before anything is taken, as asyncio's ``select`` does: where a signal's handler raises
        # nothing is lost.
        PyErr_CheckSignals()
        if self.timers.cancelled and self.timers.count or self.timers.exposed is not None:
            self.timers.sweep()
        if self.idle_flushers:
            self.idle_flush_turns += 1
            if not self.ready.count or self.idle_flush_turns > IDLE_FLUSH_LIMIT:
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
        if self.watches_stir():
            self.wake()
        if self.deliveries_due:
            for who in self.deliveries_due:
                push_ready(&self.ready, who)
            self.deliveries_due.clear()
        if self.timers.count or self.timers.exposed is not None:
            self.expire_timers()
        if self._debug:
            return self.run_ready_debug()
        return self.run_ready()

    cdef double look_at_sockets(self) except -1:
        """What nobody tells of is looked at if it is time for it: seconds until the next time."""
        cdef double now
        if not self.watched_sockets.count and not self.short_reads.count:
            return LONGEST_WAIT
        now = monotonic()
        return min(self.watched_sockets.check_if_due(now), self.short_reads.check_if_due(now))

    cdef int every_64_turns(self) except -1:
        """What even a loop must do that is never idle and runs no Python code, only C."""
        self.yield_gil()
        self.look_at_sockets()
        return self.free_slots() if self.slots_to_free else 0

    @cython.final
    cdef int wait_for_events(self) except -1:
        """Nothing is ready: wait until something is."""
        if self.overrides.of(self) & TIME:
            return self.wait_by_selector()
        cdef double timeout = self.until_timer()
        if self.slots_to_free:
            self.free_slots()
        if timeout == 0 or self.ring.unsettled.count:
            return self.ring.poll() if self.ring.has_work() else 0
        timeout = min(timeout, self.look_at_sockets())
        if self.ring.sends_prepared:
            # Else these would end the look, and the wait.
            self.ring.submit_and_settle()
            if self.has_something() or self.flushers:
                return 0
        if not self.only_listens() and self.ring.try_spin(timeout):
            if self.wakeup_watch.fired:
                # A thread of this process, and while we looked it may have wanted our
                # processor: wake-ups from threads are 20 % slower so (measured).
                self.ring.spin_budget.hit_was_futile()
            return 0
        trim_operations(self.operations)
        # A signal that came after the last bytecode would not interrupt the wait, and
        # what its handler does (or a finalizer) may be what the loop was going to wait for.
        PyErr_CheckSignals()
        if self.has_something() or self.flushers:
            return 0
        # Looking took its time.
        timeout = min(timeout, self.until_timer())
        return 0 if timeout == 0 else self.ring.wait(timeout)

    @cython.final
    cdef bint only_listens(self) noexcept:
        """Whether since the last wait datagrams have come, and none has left.

        Then nobody waits for an answer of ours, nor we for one: the next may come late.  (A
        receiver of trains, fed as fast as another core can, spent 60 % of its time on looking
        for them.)
        """
        cdef uint64_t received = self.counters.datagrams_received
        cdef uint64_t sent = self.counters.datagrams_sent
        cdef bint listens = received != self.received_before and sent == self.sent_before
        self.received_before = received
        self.sent_before = sent
        return listens

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
        seconds = min(seconds, self.look_at_sockets())
        if self.has_something() or self.flushers:
            return True
        if seconds > 0:
            self.ring.wait(seconds)
        elif self.ring.has_work():
            self.ring.poll()
        return self.has_something()

    @cython.final
    cdef bint has_something(self) noexcept:
        """Whether there is something to do without waiting."""
        # A watch may have fired, and a delivery become due, when a callback entered the
        # kernel for itself.
        return (self.ready.count or self._stopping or len(self.deliveries_due)
                or self.watches_stir())

    @cython.final
    cdef bint watches_stir(self) noexcept:
        return (self.wakeup_watch.fired or self.signal_watch.fired
                or self.selector_watch is not None and self.selector_watch.fired)

    @cython.final
    cdef double until_timer(self) except -1:
        """Seconds until the next timer is due, or long enough."""
        # There always is a limit.  Without one liburing 2.3 goes back to sleep when a signal
        # has interrupted a call that had submitted something, and its handler would not run.
        if not self.timers.any():
            return LONGEST_WAIT
        return min(max(self.timers.first() - self.now(), 0.), LONGEST_WAIT)

    cdef int wake(self) except -1:
        if self.wakeup_watch.fired:
            # What woke us is in the ready queue: who comes now has to wake us for the next turn.
            self.wakeup_watch.fired = self.woken = False
        if self.signal_watch.fired:
            self.signal_watch.arm()        # first: where that fails it is not forgotten
            self.signal_watch.fired = False
            try:
                self._read_from_self()
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                # asyncio reads in a callback.
                self.call_exception_handler({
                    'message': f'Exception in callback {self._read_from_self!r}',
                    'exception': exc,
                })
        if self.selector_watch is not None and self.selector_watch.fired:
            # While the epoll has something it is asked each turn, without the ring.
            if not self.selector_watch.take_events():
                self.selector_watch.arm()
                self.selector_watch.fired = False
        return 0

    @cython.final
    cdef int run_ready(self) except -1:
        cdef size_t left = self.ready.count
        cdef PyTypeObject* kind
        if handles_are_patched():
            return self.run_patched()
        while left and self.ready.count:
            if left & 3 == 0 and clock_coarse() >= self.yield_at:
                self.yield_gil()
            left -= 1
            handle = pop_ready(&self.ready)
            kind = <PyTypeObject*>Py_TYPE(handle)
            if kind is <PyTypeObject*>Handle or kind is <PyTypeObject*>TimerHandle \
                    or kind is <PyTypeObject*>ThreadSafeHandle:
                if not (<Handle>handle)._cancelled:
                    (<Handle>handle).run()
            elif isinstance(handle, OperationOwner):
                self.deliver_one(<OperationOwner>handle)
            else:
                run_foreign(handle)
        return 0

    cdef int yield_gil(self) except -1:
        """Let other threads, and signals, have their turn: callbacks may be C code only.

        By bytecode, at which the interpreter gives the GIL to who has asked for it.  To give
        it up and take it back here would keep others from it: each time they are woken, find
        it taken, and begin anew to wait until they may ask.
        """
        RUN_BYTECODE()
        self.yield_at = clock_coarse() + YIELD_EACH
        return 0

    cdef int run_patched(self) except -1:
        cdef size_t left = self.ready.count
        while left and self.ready.count:
            left -= 1
            handle = pop_ready(&self.ready)
            if isinstance(handle, OperationOwner):
                self.deliver_one(<OperationOwner>handle)
            elif not handle._cancelled:
                handle.__class__._run(handle)
        return 0

    cdef int run_ready_debug(self) except -1:
        cdef size_t left = self.ready.count
        cdef double start, took
        while left and self.ready.count:
            left -= 1
            handle = pop_ready(&self.ready)
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

    # -- running -------------------------------------------------------------------------------

    def run_forever(self):
        """Run until ``stop()`` is called."""
        self._check_closed()
        self._check_running()
        if self._ending:
            raise RuntimeError('the loop is being closed')
        hooks = sys.get_asyncgen_hooks()
        cdef bint one_by_one = self.overrides.of(self) & RUN_ONCE != 0
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

    def _close_core(self):
        """Cancel everything, drain within a bound, and close the ring."""
        self.close_ring()
        self.flush_idle_too()
        while self.flushers:
            (<OperationOwner>self.flushers.pop()).loop_closed()
        # Those, too, that wait for a timer.
        for transport in self._registry.own():
            (<OperationOwner>transport).loop_closed()
        self._close_lender()
        self.deliveries_due.clear()
        self.addresses.clear()
        # They refer to us.
        self.wakeup_watch = self.signal_watch = self.selector_watch = self.own_argument = None
        # asyncio's close() clears ``_ready`` and ``_scheduled`` next, once the loop counts as
        # closed: what finalizers then schedule is refused.

    def _forget_timers(self):
        """The list that asyncio's ``close`` has cleared is not to stay."""
        self.timers.drop_all()

    def create_task(self, coro, **kwargs):
        """Schedule a coroutine; returns its task.  Arguments as ``asyncio.Task`` takes them."""
        if self._task_factory is None and not self._debug and self.opened \
                and not create_task_is_patched():
            # asyncio.create_task() of Python 3.12 and 3.13 always names a name.
            if not kwargs or len(kwargs) == 1 and kwargs.get('name', kwargs) is None:
                return PyObject_Call(TASKS['Task'], (coro,), self.as_argument())
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

    cdef dict as_argument(self):
        """The loop as a keyword argument: a call that writes it makes a dict each time."""
        if self.own_argument is None:
            self.own_argument = {'loop': self}
        return self.own_argument

    cdef object new_future(self):
        return PyObject_Call(FUTURES['Future'], (), self.as_argument())

    def create_future(self):
        """A future attached to this loop."""
        return self.new_future()

    def _counters(self):
        """Everything that ``stats()`` shows, as a dict."""
        return {
            **self.ring_counters(),
            **self.operations.counters(),
            **self.counters.as_dict(),
            'rings_orphaned': len(orphaned_rings),
        }
