"""The ring's lifetime: who makes it, who has it, and what is left of it.

A ring is made with the loop, switched off.  The thread that first runs the loop owns it.
When another thread runs the loop, or the loop is closed, the ring is closed; what it may
still touch is kept until it is torn down (``ring.orphans``).

The ring holds one of the wake-up sockets as its marker, which is why they belong here.  Those
are what signals write to, as with asyncio.  Other threads write to an eventfd, which costs half.
"""
from libc.math cimport fmax
from libc.stdint cimport uint64_t
from posix.unistd cimport close, write

from uringloop.core.clock cimport monotonic
from uringloop.core.poll_watch cimport PollWatch, SelectorWatch
from uringloop.ring.abi cimport EAGAIN, MSG_DONTWAIT
from uringloop.ring.process cimport this_thread
from uringloop.ring.registered_memory cimport Registration
from uringloop.ring.ring cimport Ring

import os
import socket

from uringloop.ring.orphans import orphaned_rings, owners_close, release_torn_down
from uringloop.ring.unavailable import without_eventfd


cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<sys/eventfd.h>" nogil:
    enum:
        EFD_CLOEXEC
        EFD_NONBLOCK
    int eventfd(unsigned, int)

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int, void*, size_t, int)

cdef enum:
    WAKE_SIZE = 4096


cdef uint64_t ONE = 1               # to be added to an eventfd

cdef double CLOSING_BOUND = 1.0      # seconds that close() may take
cdef double PROOF_BOUND = 0.1        # of which some are for its teardown
cdef double ORPHANS_AGAIN = 0.1      # seconds

cdef tuple RING_COUNTERS = (
    'syscalls', 'submissions', 'completions', 'cq_overflows', 'busy_polls', 'busy_poll_hits')


# The sockets that tell when rings are gone.  The collector may finalize what a loop that was
# never closed refers to before the loop itself, whose finalizer still needs its one.
cdef set marker_peers = set()


cdef class RingOwner(Submitter):
    """Makes, replaces and closes the ring of a loop."""

    def __cinit__(self):
        self.slots_to_free = []
        self.past = dict.fromkeys(RING_COUNTERS, 0)
        self.wake_fd = -1
        self.entries = 256
        self.cq_entries = 4096

    def __dealloc__(self):
        if self.wake_fd >= 0:
            close(self.wake_fd)              # of one that a subclass did not let be closed

    # -- making --------------------------------------------------------------------------------

    cdef int new_ring(self) except -1:
        """A ring that any thread may own: the one that first runs the loop."""
        release_torn_down(self.operations)
        marker = self._csock.fileno()        # after close() there is none
        if self.wake_fd < 0:
            self.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
            if self.wake_fd < 0:
                raise without_eventfd(errno_now)
        self.ring = Ring(self.operations, self.entries, self.cq_entries, marker,
                         self.busy_poll_ns)
        self.marker_peer = self._ssock
        marker_peers.add(self.marker_peer)
        return 0

    cdef int ensure_ring(self) except -1:
        """This thread is to have the loop's ring."""
        if self.ring is not None and self.ring.thread == self.thread:
            self.ring.check_open()
            return 0
        if self.ring is not None and self.ring.thread:
            self.ring.check_open()
            # The old ring holds one wake-up socket as its marker.  The pair is replaced, so
            # that the hang-up can tell when that ring is torn down.
            told = self.renew_self_pipe()
            try:
                self.leave_ring(CLOSING_BOUND)
            finally:
                self._process_self_data(told)
            self._release_orphans()
        elif self.ring is not None and not self.ring.is_open_here():
            # Made before fork(), and never run: the child has one of its own.
            if self.selector_watch is not None:
                self.selector_watch.closed = True
                self.selector_watch = None
            self._forget_wake()              # of one that no os.fork() has made, it is the parent's
            self._begin_in_child()           # where that fails the next run begins here
            self.ring.close_in_child()
            self.ring = None
        if self.ring is None:
            self.new_ring()
        self.make_watches()
        # Last: who owns it has all that it takes.  What fails before is made anew by the next run.
        self.ring.enable()
        return 0

    cdef int make_watches(self) except -1:
        """Have what wakes the loop polled; both or none."""
        wakeup_watch = PollWatch(self, self.wake_fd, True)
        signal_watch = PollWatch(self, self._ssock.fileno())
        self.close_watches()            # of a run that could not begin
        self.woken = False
        self.wakeup_watch, self.signal_watch = wakeup_watch, signal_watch
        wakeup_watch.arm()
        signal_watch.arm()
        return 0

    cdef int close_watches(self) except -1:
        """What the polls of the wake-ups tell from now on is not heard."""
        if self.wakeup_watch is not None:
            self.wakeup_watch.closed = self.signal_watch.closed = True
        return 0

    def _release_orphans(self):
        """Whoever waits for a notification of the ring that was left is told when it is gone."""
        release_torn_down(self.operations)
        if orphaned_rings:
            self.call_later(ORPHANS_AGAIN, self._release_orphans)

    cdef object renew_self_pipe(self):
        """Another pair of wake-up sockets; returns what came by the old one and was not read.

        The writing end keeps its number: signals go there, which only the main thread
        could tell of another.
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

    # -- closing -------------------------------------------------------------------------------

    cdef int close_ring(self) except -1:
        """Cancel what is in flight, wait for it within a bound, and close the ring."""
        cdef double end = monotonic() + CLOSING_BOUND
        if self.selector_watch is not None:
            self.selector_watch.closed = True
        if self.ring is not None and self.owns_ring():
            self.drain(end)
        self.closing = True
        self._forget_wake()
        if self.ring is not None:
            self._csock.close()
            self.leave_ring(fmax(end - monotonic(), 0))
        owners_close(self.operations)
        return 0

    cdef int drain(self, double end) except -1:
        """Send what is queued, cancel what is in flight, and wait for it until ``end``."""
        self.close_watches()
        try:
            self.flush()
            self.ring.poll()
            self.closing = True
            self.ring.cancel_all(end - PROOF_BOUND - monotonic())
            self.ring.files.remove_all()
        except OSError as exc:
            # It can't be entered any more.  Closing it does without.
            self.call_exception_handler({
                'message': 'What was in flight is lost: the ring could not be drained',
                'exception': exc,
            })
        return 0

    cdef int leave_ring(self, double bound) except -1:
        """Close a ring, in whatever thread: what it had not done is told ECANCELED.

        ``bound``: how many seconds it may take until it is torn down.
        """
        ring, peer = self.ring, self.marker_peer
        self.close_watches()
        try:
            problems = ring.close(peer.fileno(), bound)
        finally:
            self.ring = self.marker_peer = None
            marker_peers.discard(peer)
            add_counters(self.past, ring)
            if peer is not self._ssock:
                peer.close()         # Python code, which a signal may interrupt: so it is last
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

    # -- wake-ups ------------------------------------------------------------------------------

    def _write_to_self(self):
        # From the loop's own thread there is nobody to wake: it is not asleep.
        if self.woken or self.wake_fd < 0 or self.thread == this_thread():
            return
        # Others need not wake it, then.
        self.woken = write(self.wake_fd, &ONE, sizeof(ONE)) > 0 or errno_now == EAGAIN

    cdef int wake_from_elsewhere(self) except -1:
        """Something waits for the end of the turn; in another thread the loop may be asleep.

        Not allowed from there, but asyncio's works most of the time.
        """
        if self.thread and self.thread != this_thread():
            self._write_to_self()
        return 0

    def _read_from_self(self):
        """Take what signals have written, and heed them."""
        cdef char told[WAKE_SIZE]
        cdef ssize_t length = WAKE_SIZE
        cdef int fd = self._ssock.fileno()
        # The poll is armed again by now: it tells of what this leaves.
        while length == WAKE_SIZE:
            length = recv(fd, told, WAKE_SIZE, MSG_DONTWAIT)
            if length > 0:
                self._process_self_data(told[:length])

    def _forget_wake(self):
        """Nobody wakes the loop any more: it is being closed, or this is the child of a fork."""
        if self.wake_fd >= 0:
            close(self.wake_fd)
            self.wake_fd = -1

    def _watch_selector(self, int fd, dict selector_keys):
        """Look after the epoll ``fd`` of a selector, whose keys are in ``selector_keys``."""
        self.selector_watch = SelectorWatch(self, fd)
        self.selector_watch.keys = selector_keys
        self.selector_watch.arm()
        self.wake_from_elsewhere()

    # -- what belongs to a ring ----------------------------------------------------------------

    cdef int free_slots(self) except -1:
        """Unregister the files, and the memory, that nobody uses any more."""
        while self.slots_to_free:
            what, ring = self.slots_to_free.pop()
            if ring is not self.ring:
                continue
            if isinstance(what, Registration):
                self.ring.forget_memory(<Registration>what)
            else:
                self.ring.unregister_file(what)
        return 0

    cdef int register_memory(self, Registration memory) except -1:
        return self.ring.register_memory(memory) if self.ring is not None else 0

    cdef int forget_memory(self, Registration memory) except -1:
        if self.ring is None or memory.ring_id != self.ring.ring_id:
            return 0
        if not self.ring.forget_memory(memory):
            self.slots_to_free.append((memory, self.ring))
            self._write_to_self()
        return 0

    cdef dict ring_counters(self):
        """What all rings of this loop have counted, by the names of ``Loop.stats()``."""
        cdef dict counters = self.past.copy()
        if self.ring is not None:
            add_counters(counters, self.ring)
        return counters


cdef int add_counters(dict counters, Ring ring) except -1:
    for name, count in ring.counters().items():
        counters[name] += count
    return 0
