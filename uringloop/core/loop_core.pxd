"""The loop's core: ready queue, timers, wake-up, turns."""
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from uringloop.ring.addresses cimport AddressCache
from uringloop.ring.buffers cimport ReceiveBuffers
from uringloop.ring.watched cimport WatchedSockets
from uringloop.ring.operations cimport OperationOwner, OperationTable, operation
from uringloop.ring.zerocopy cimport CopyReports
from uringloop.core.registry cimport Registry
from uringloop.core.timers cimport Timers
from uringloop.ring.ring cimport Ring


cdef enum BufferGroup:
    DATAGRAM = 0
    LOCAL = 1         # AF_UNIX datagrams
    STREAM = 2


cdef class Watch(OperationOwner):
    """A poll that the loop keeps armed on a descriptor of its own."""
    cdef:
        LoopCore loop
        operation* armed
        int fd
        bint fired
        bint closed
    cdef int arm(self) except -1


cdef class LoopCore:
    cdef:
        # ready queue: a ring of strong references
        PyObject** ready
        size_t ready_head
        size_t ready_count
        size_t ready_size
        Timers timers
        # asyncio's own names, as C fields
        unsigned version        # of the type that ``overrides`` was looked up in; 0: look again
        unsigned overrides
        bint closing            # nothing new is to be given to the ring
        public bint _ending     # close() is at work
        public bint _closed
        public bint _stopping
        public bint _debug
        public object _thread_id
        public double _clock_resolution
        public object _task_factory
        unsigned long thread
        bint woken
        int wake_fd
        object marker_peer          # the other end of the wake-up socket that the ring holds
        unsigned entries
        unsigned cq_entries
        unsigned busy_poll_ns       # nanoseconds to look for completions before sleeping
        Ring ring
        OperationTable operations
        AddressCache addresses
        ReceiveBuffers datagram_buffers
        ReceiveBuffers local_buffers
        ReceiveBuffers stream_buffers
        object memory_reserve          # memory to let go of when there is no other
        double retry_buffers_at  # there was no memory for some
        unsigned writers        # stream transports that have written this turn
        bint many_writers            # there were several in the turn before
        bint batching           # the sends of a bulk may wait for the end of the turn
        OperationOwner deferring     # the datagram transport whose sends do so now, or None
        CopyReports paths        # what destinations have reported, for all but datagram transports
        readonly Registry _registry
        WatchedSockets watched_sockets
        unsigned turns
        list slots_to_free          # registered files that nobody uses any more, and their rings
        list flushers
        list flushed            # the one before, empty again
        list idle_flushers          # flushers that wait for a turn with nothing ready
        unsigned idle_flush_turns        # turns that they have waited
        list deliveries_due               # deliveries that became due while the loop did not run
        Watch wakeup_watch
        Watch selector_watch
        dict selector_keys      # of the selector that ``selector_watch`` is of, by descriptor
        # statistics of rings gone, and what only the owners see
        dict past
        uint64_t zerocopy_sent
        uint64_t zerocopy_copied
        uint64_t zerocopy_fell_back
        uint64_t datagrams_sent
        uint64_t datagrams_received
        uint64_t datagrams_gathered
        uint64_t datagrams_dropped
        uint64_t datagrams_discarded
        uint64_t datagrams_truncated
        uint64_t receive_exhausted
        uint64_t buffers_released

    cdef void drop_ready(self) noexcept
    cdef object debug_call_soon(self, object callback, tuple args, object context, str name)
    cdef object schedule(self, object when, object callback, tuple args, object context, str name)
    cdef unsigned overridden(self) except? 255
    cdef unsigned find_overrides(self) except? 255
    cdef double now(self) except? -1
    cdef object as_handle(self, object item)
    cdef int expire_timers(self) except -1
    cdef int wake(self) except -1
    cdef bint take_events(self) except -1
    cdef int run_ready(self) except -1
    cdef int run_patched(self) except -1
    cdef int flush_before_stop(self) except -1
    cdef int stopped_running(self, object hooks) except -1
    cdef int run_ready_debug(self) except -1
    cdef int new_ring(self) except -1
    cdef int ensure_ring(self) except -1
    cdef object renew_self_pipe(self)
    cdef int leave_ring(self, double bound) except -1
    cdef int drain(self, double end) except -1
    cdef remember(self, Ring ring)
    cdef int push(self, object handle) except -1
    cdef object pop(self)
    cdef int flush_soon(self, OperationOwner who) except -1
    cdef int flush_when_idle(self, OperationOwner who) except -1
    cdef int flush_idle_too(self) except -1
    cdef int flush(self) except -1
    cdef int flush_one(self, OperationOwner who) except -1
    cdef int deliver_one(self, OperationOwner who) except -1
    cdef int turn(self) except -1
    cdef int every_64_turns(self) except -1
    cdef int free_slots(self) except -1
    cdef int wait_for_events(self) except -1
    cdef int wait_by_selector(self) except -1
    cdef bint has_something(self) noexcept
    cdef double until_timer(self) except -1
    cdef bint runs_here(self) noexcept
    cdef bint owns_ring(self) noexcept
    cdef object new_future(self)
    cdef ReceiveBuffers receive_buffers(self, BufferGroup group)
    cdef ReceiveBuffers new_buffers(self, BufferGroup group, unsigned count, size_t capacity,
                                    unsigned provided, bint content_only)
