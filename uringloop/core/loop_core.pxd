"""The loop's core: turns, waiting, running, closing."""
cimport cython
from libc.stdint cimport uint64_t

from uringloop.core.receive_area cimport ReceiveArea
from uringloop.core.registry cimport Registry
from uringloop.core.scheduler cimport Scheduler
from uringloop.core.short_reads cimport ShortReads
from uringloop.ring.addresses cimport AddressCache
from uringloop.ring.operations cimport OperationOwner
from uringloop.ring.watched cimport WatchedSockets
from uringloop.ring.zerocopy cimport PathReports


cdef class LoopCore(Scheduler):
    cdef:
        AddressCache addresses
        PathReports paths       # what destinations have reported of sock_* sends
        PathReports stream_paths    # and of streams, which are cut to the path's packets
        readonly Registry _registry
        WatchedSockets watched_sockets
        ReceiveArea receive_area
        ShortReads short_reads
        unsigned turns
        uint64_t received_before        # datagrams, at the last wait
        uint64_t sent_before
        double yield_at         # when other threads are to have their turn, at the latest
        unsigned writers        # stream transports that have written this turn
        bint many_writers       # there were several in the turn before
        bint batching           # the sends of a bulk may wait for the end of the turn
        OperationOwner deferring        # the datagram transport whose sends do so now, or None
        dict own_argument       # {'loop': self}; None: it is not made yet
        # asyncio's own names, as C fields
        public bint _ending     # close() is at work
        public bint _stopping
        public object _thread_id
        public object _task_factory

    @cython.final
    cdef int turn(self) except -1
    cdef double look_at_sockets(self) except -1
    cdef int every_64_turns(self) except -1

    @cython.final
    cdef int wait_for_events(self) except -1

    @cython.final
    cdef bint only_listens(self) noexcept
    cdef int wait_by_selector(self) except -1

    @cython.final
    cdef bint has_something(self) noexcept

    @cython.final
    cdef bint watches_stir(self) noexcept

    @cython.final
    cdef double until_timer(self) except -1
    cdef int wake(self) except -1

    @cython.final
    cdef int run_ready(self) except -1
    cdef int yield_gil(self) except -1
    cdef int run_patched(self) except -1
    cdef int run_ready_debug(self) except -1

    @cython.final
    cdef int deliver_one(self, OperationOwner who) except -1
    cdef int flush_before_stop(self) except -1
    cdef int stopped_running(self, object hooks) except -1
    cdef object new_future(self)
    cdef dict as_argument(self)


cdef inline int send_deferred_datagrams(LoopCore loop) except -1:
    """What an endpoint has sent in bulk leaves before anything else is sent."""
    return loop.deferring.send_deferred() if loop.deferring is not None else 0
