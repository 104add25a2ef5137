"""The ring: made, submitted to, settled and closed.

It is made switched off (R_DISABLED), and can then be used by any thread to register
files and buffers.  The first to ``enable`` it owns it (SINGLE_ISSUER): from another
thread every call returns EEXIST, also after the owner has exited.  With DEFER_TASKRUN
completions appear only while its owner is inside ``io_uring_enter``.
"""
cimport cython
from libc.stdint cimport uint32_t
from libc.stdlib cimport free
from posix.unistd cimport close

from uringloop._cpython cimport pause_collector, resume_collector
from uringloop.ring.abi cimport *
from uringloop.ring.completions cimport allocate, fetch, fetch_all, settle, settle_sends_of
from uringloop.ring.features cimport features
from uringloop.ring.operations cimport (
    UNTRACKED, OperationOwner, OperationTable, operation, user_data)
from uringloop.ring.process cimport fork_generation, this_thread
from uringloop.ring.registered_files cimport RegisteredFiles
from uringloop.ring.registered_memory cimport LentMemory, RegisteredBuffers, Registration
from uringloop.ring.restrictions cimport restrict
from uringloop.ring.setup cimport open_ring, ring_was_closed
from uringloop.ring.spin_budget cimport SpinBudget

import os
import time
import weakref

from uringloop.ring.orphans import hung_up, keep_until_torn_down
from uringloop.ring.unavailable import FORBIDDEN, not_entered, unavailable


cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1


cdef enum:
    SUBMIT_TRIES = 100           # submissions tried before the queue counts as full

cdef size_t NOTIFICATIONS_DUE = 1 << 20     # pinned bytes

cdef uint32_t ring_ids = 0


@cython.final
cdef class Ring:
    """One io_uring of one thread, for the operations of one table."""

    def __cinit__(self):
        self.spin_budget = SpinBudget()
        self.files = RegisteredFiles()
        self.buffers = RegisteredBuffers()
        allocate(&self.unsettled)

    def __dealloc__(self):
        # Its loop closes it.  Here only what is left of one whose loop was never made.
        self.exit_queue()
        free(self.unsettled.cqes)

    def __init__(self, OperationTable operations, unsigned entries, unsigned cq_entries,
                 int marker, unsigned busy_poll_ns=0):
        """Make a ring, still switched off; raises UringUnavailableError.

        ``marker`` is a descriptor whose file the ring holds until it
        is torn down, so that its other end sees the hang-up.  For ``busy_poll_ns``
        nanoseconds ``wait`` may look for completions before it sleeps.
        """
        global ring_ids
        self.operations = operations
        self.generation = fork_generation()
        code = open_ring(&self.ring, entries, cq_entries, &self.setup_flags)
        if code < 0:
            raise unavailable(-code)
        self.is_open = True
        self.cq_entries = ring_cq_entries(&self.ring)       # maybe fewer than were asked for
        ring_ids += 1
        self.ring_id = ring_ids
        try:
            self.set_up(marker, busy_poll_ns)
        except BaseException:
            self.exit_queue()
            raise

    cdef int set_up(self, int marker, unsigned busy_poll_ns) except -1:
        if self.setup_flags & IORING_SETUP_TASKRUN_FLAG:
            # Else nothing in the ring's memory tells that a packet has come.
            self.spin_budget.spin_ns = busy_poll_ns
        # The child of a fork must not even see the parent's queues.
        io_uring_ring_dontfork(&self.ring)
        # One that is switched off answers EBADFD.  A policy may allow to make rings only.
        code = io_uring_enter(self.ring.ring_fd, 0, 0, 0, NULL)
        if -code in FORBIDDEN:
            raise unavailable(-code)
        code = self.files.make_table(&self.ring, marker)
        if -code in FORBIDDEN:
            raise unavailable(-code)
        # A policy may refuse this; then it can do what rings can.
        self.restricted = restrict(&self.ring)
        open_rings.add(self)
        return 0

    cdef int enable(self) except -1:
        """This thread owns the ring from now on."""
        cdef int code
        self.check_open()
        code = io_uring_register(self.ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0)
        if code < 0:
            raise unavailable(-code)
        self.thread = this_thread()
        return 0

    cdef void exit_queue(self) noexcept:
        """Close one that nothing was ever submitted to."""
        if self.is_open:
            self.is_open = False
            if self.generation == fork_generation():
                io_uring_queue_exit(&self.ring)
            else:
                close(self.ring.ring_fd)

    cdef bint has_work(self) noexcept:
        """Whether entering the kernel, or looking at completions, would do anything."""
        # Without TASKRUN_FLAG only entering tells whether work is pending.
        return (not self.is_open_here()      # entering then says why not
                or not self.setup_flags & IORING_SETUP_TASKRUN_FLAG
                or self.unsettled.count != 0
                or io_uring_sq_ready(&self.ring) != 0
                or ring_stirs(&self.ring))

    cdef bint has_unsettled(self) noexcept:
        """Whether something has completed that is not settled yet."""
        if not self.is_open_here():
            return False         # the child of a fork() within a callback
        return (self.unsettled.count != 0 or io_uring_cq_ready(&self.ring) != 0
                or ring_kernel_flags(&self.ring) & IORING_SQ_CQ_OVERFLOW)

    cdef unsigned sqes_left(self, unsigned wanted) except? 0:
        """Make room for a chain: how many entries, up to ``wanted``, can now be prepared."""
        cdef unsigned room
        self.check_owner()
        room = io_uring_sq_space_left(&self.ring)
        if room < wanted:
            self.submit()
            room = io_uring_sq_space_left(&self.ring)
        return min(room, wanted)

    cdef int check_owner(self) except -1:
        if self.is_open_here() and self.thread == this_thread():
            return 0
        self.check_open()
        if self.thread == 0:
            raise RuntimeError('the loop is not running')
        # By its registered descriptor it would enter whatever ring this thread has there.
        raise RuntimeError('the loop is used in another thread than the one it runs in: '
                           'use call_soon_threadsafe or run_coroutine_threadsafe')

    cdef int check_open(self) except -1:
        if self.is_open_here():
            return 0
        if self.generation != fork_generation():
            raise RuntimeError("the loop has run before fork() and cannot run in the child: "
                               "make a new one there")
        raise RuntimeError("the loop's ring is closed")

    cdef io_uring_sqe* prepare(
            self, operation* op, int opcode, int fd, unsigned flags, unsigned traits) except NULL:
        """An entry for ``op``, which is in flight from now on; without one ``op`` is released."""
        cdef io_uring_sqe* sqe
        try:
            self.check_owner()
            sqe = ring_sqe(&self.ring, opcode, fd, flags, user_data(op))
            if sqe is NULL:
                self.make_room()
                sqe = ring_sqe(&self.ring, opcode, fd, flags, user_data(op))
        except BaseException:
            self.operations.release(op)
            raise
        self.operations.begin(op, self.ring_id, traits)
        return sqe

    cdef int make_room(self) except -1:
        """Submit, so that the submission queue has room."""
        cdef int tries = 0
        while io_uring_sq_space_left(&self.ring) == 0:
            # The kernel may be short of memory (EAGAIN) for a moment.
            if tries == SUBMIT_TRIES:
                raise OSError(EBUSY, 'the submission queue is full')
            tries += 1
            self.submit()
        return 0

    cdef int cancel(self, operation* op) except -1:
        """Ask the kernel to give ``op`` up; its completion still comes."""
        cdef io_uring_sqe* sqe
        self.check_owner()
        if op.ring_id != self.ring_id:
            return 0
        self.make_room()
        sqe = ring_sqe(&self.ring, IORING_OP_ASYNC_CANCEL, -1, 0, UNTRACKED)
        sqe.addr = user_data(op)
        return 0

    cdef int submit(self) except -1:
        """Hand over what is prepared; completions stay in the ring."""
        cdef int code
        self.check_owner()
        self.syscalls += 1
        # Nothing waits here, so the GIL stays: giving it up costs more than a send.
        code = io_uring_submit(&self.ring)
        if code > 0:
            self.submissions += code
        return self.check(code)

    cdef int submit_and_get_events(self) except -1:
        """The same, and the kernel does what it has deferred: a cancelled request lets go of
        its file now.  What completes stays in the ring: it is settled in its place of the turn.
        """
        cdef int code
        self.check_owner()
        self.syscalls += 1
        code = io_uring_submit_and_get_events(&self.ring)
        if code > 0:
            self.submissions += code
        return self.check(code)

    cdef int submit_sends(self, OperationOwner owner, unsigned count) except -1:
        """Hand over what is prepared, with sends that don't wait; settle ``count`` results."""
        cdef int code = self.enter_for_sends(count)
        self.settle_sends(owner)
        return self.check(code)

    cdef int submit_chain(self, OperationOwner owner, unsigned count, unsigned* left) except -1:
        """The same of the ``count`` entries that were prepared last, a chain.

        ``left``: so many, of its end, the kernel has not taken.  They are out of the queue again:
        it would take them for another chain, and send them whatever becomes of those before.
        """
        cdef int code = self.enter_for_sends(count)
        left[0] = min(io_uring_sq_ready(&self.ring), count)
        ring_take_back(&self.ring, left[0])
        self.settle_sends(owner)
        return self.check(code)

    cdef int enter_for_sends(self, unsigned count) except? -1:
        """With MSG_DONTWAIT they have been tried when the kernel returns.  Each member of a
        chain is issued by the deferred work that the one before has left, and the kernel
        runs such work only until it has as many completions as it was asked for (6.18: one
        a system call).  So this asks for all of them, and gives them no time to wait.
        """
        cdef __kernel_timespec ts
        cdef io_uring_cqe* first
        cdef int code
        self.check_owner()
        ts.tv_sec = ts.tv_nsec = 0
        self.syscalls += 1
        if count > 1:
            code = io_uring_submit_and_wait_timeout(
                &self.ring, &first, io_uring_cq_ready(&self.ring) + count, &ts, NULL)
        elif self.operations.pinned > NOTIFICATIONS_DUE:
            # A program that never waits would never see a notification: have the kernel
            # do what is due.
            code = io_uring_submit_and_get_events(&self.ring)
        else:
            code = io_uring_submit(&self.ring)
        if code > 0:
            self.submissions += code
        return code

    cdef int settle_sends(self, OperationOwner owner) except -1:
        """Settle what has completed of ``owner``'s sends, and nothing else.

        The rest is kept for the turn, in its order.  There is not much of it, however often
        this is called in one callback: polls, and requests in flight.
        """
        if self.settling:
            return 0
        fetch_all(&self.unsettled, &self.ring)
        cdef bint paused = pause_collector()
        self.settling = True
        try:
            return settle_sends_of(&self.unsettled, self.operations, owner)
        finally:
            self.settling = False
            resume_collector(paused)

    cdef int poll(self) except -1:
        """Hand over what is prepared, let deferred work run, and settle completions."""
        cdef int code
        if self.settling:
            return self.submit()
        self.check_owner()
        self.sends_prepared = False
        self.syscalls += 1
        with nogil:
            code = io_uring_submit_and_get_events(&self.ring)
        if code > 0:
            self.submissions += code
        fetch(&self.unsettled, &self.ring)
        if code >= 0 and self.unsettled.count == 0:
            self.recheck_taskrun()
        self.settle_completed()
        return self.check(code)

    cdef int recheck_taskrun(self) except -1:
        """Entering the kernel has brought nothing, and yet its flag may say that there is work.

        It is set a moment after the work is queued; if that was done meanwhile nothing takes
        it back until there is work again (6.18), and the loop would enter each turn and never
        sleep.  It lies in memory that is ours too: so it is taken back here, and the kernel
        entered once more, for what may have come in between.
        """
        if not ring_kernel_flags(&self.ring) & IORING_SQ_TASKRUN:
            return 0
        ring_clear_taskrun(&self.ring)
        self.syscalls += 1
        io_uring_get_events(&self.ring)
        fetch(&self.unsettled, &self.ring)
        return 0

    cdef int wait(self, double timeout, unsigned count=1) except -1:
        """As ``poll``, but sleeps until something, or so much, completes.

        ``timeout`` in seconds.
        """
        cdef int code
        cdef __kernel_timespec ts
        self.check_owner()
        ts.tv_sec = <long long>timeout
        ts.tv_nsec = <long long>((timeout - ts.tv_sec) * 1e9)
        self.syscalls += 1
        with nogil:
            code = ring_wait(&self.ring, self.ring_fd_registered, &ts, count)
        if code > 0:
            self.submissions += code
        # Before anything is taken: where a signal's handler raises, nothing is lost.
        PyErr_CheckSignals()
        self.check_open()             # it may have forked, and this be the child
        fetch(&self.unsettled, &self.ring)
        self.settle_completed()
        return self.check(code)

    cdef int submit_and_settle(self) except -1:
        """Hand over sends that are done at once; settle them, and whatever else is done."""
        self.sends_prepared = False
        self.submit()
        fetch(&self.unsettled, &self.ring)
        return self.settle_completed()

    cdef bint try_spin(self, double timeout) except -1:
        """Before ``wait``: whether something completes that soon that sleeping is not worth it."""
        if not self.spin_budget.may_spin(timeout):
            return False
        # A callback may have forked, and this be the child, where the ring is not even mapped.
        self.check_open()
        if not self.spin():
            return False
        self.settle_completed()
        return True

    cdef bint spin(self) except -1:
        """Submit, and look for completions for a moment; whether any came.

        An answer that comes within some ten microseconds then finds this thread
        awake.  To put a processor to sleep and wake it takes several times as
        long, most of all in a virtual machine (measured in one: 330 us an echo
        with sleeping, 45 us without, and a third of the processor time).
        """
        cdef bint hit = False
        cdef int code = 0, entered = 0
        cdef unsigned spin_ns = self.spin_budget.spin_ns
        with nogil:
            # Other threads read the counters.
            if io_uring_sq_ready(&self.ring):
                code = io_uring_submit(&self.ring)
                entered += 1
            if code >= 0:
                hit = ring_spin(&self.ring, spin_ns)
            if hit and not io_uring_cq_ready(&self.ring):
                entered += 1
                io_uring_get_events(&self.ring)
        self.syscalls += entered
        self.submissions += max(code, 0)
        PyErr_CheckSignals()          # as in ``wait``
        self.check_open()
        if hit:
            fetch(&self.unsettled, &self.ring)
            if self.unsettled.count == 0:
                self.recheck_taskrun()
            hit = self.unsettled.count != 0   # a flag alone is no success: the loop has to sleep
        self.spin_budget.record(hit)
        return hit

    cdef int settle_completed(self) except -1:
        """Settle everything that has completed.  Owners are told, and run no user code.

        Yet some may run: the destructor of what is let go of, or of a forgotten future,
        whose exception is reported.  If it comes back to the ring, its submissions are
        made and completions wait until these are settled.
        """
        cdef bint paused = pause_collector()
        self.settling = True
        try:
            return self.settle_all()
        finally:
            self.settling = False
            resume_collector(paused)

    cdef int settle_all(self) except -1:
        # One ring's worth at most: what comes meanwhile has to wait for its turn.
        cdef size_t left = self.cq_entries
        while True:
            left -= min(left, self.unsettled.count)
            settle(&self.unsettled, self.operations)
            if ring_kernel_flags(&self.ring) & IORING_SQ_CQ_OVERFLOW:
                # The kernel keeps what found no room, and gives it up when it is entered.
                self.overflows += 1
                if not left:
                    return 0
                self.syscalls += 1
                with nogil:
                    io_uring_get_events(&self.ring)
            elif not left or not io_uring_cq_ready(&self.ring):
                return 0
            fetch(&self.unsettled, &self.ring)
            if self.unsettled.count == 0:
                return 0

    cdef int check(self, int code) except -1:
        if code >= 0 or code == -ETIME or code == -EAGAIN or code == -EBUSY:
            return 0
        if code == -EINTR:
            return PyErr_CheckSignals()
        raise not_entered(-code)

    cdef int register_file(self, int fd) except -2:
        """A slot that goes on meaning this file whatever becomes of the number; -1: no room."""
        self.check_owner()
        return self.files.add(fd)

    cdef int unregister_file(self, int slot) except -1:
        self.check_owner()
        self.files.remove(slot)
        return 0

    cdef int register_memory(self, Registration memory) except -1:
        """Register it now, if this thread may; else that is done at its first use."""
        if self.is_open_here() and (self.thread == 0 or self.thread == this_thread()):
            memory.add_to(&self.ring, self.ring_id, self.buffers)
        return 0

    cdef bint forget_memory(self, Registration memory) except -1:
        """Unregister it.  False: this thread may not."""
        if not self.is_open_here():
            return True
        if self.thread != 0 and self.thread != this_thread():
            return False
        memory.remove_from(self.ring_id, self.buffers)
        return True

    cdef int slot_of(self, LentMemory memory, const char* base, size_t length) except -2:
        """The registered buffer that has all of this, or UNREGISTERED."""
        if memory.registration.ring_id != self.ring_id:
            memory.registration.add_to(&self.ring, self.ring_id, self.buffers)
        return memory.registration.slot_of(base, length)

    cdef void register_ring_fd(self) noexcept:
        """The loop begins to run: entering by the thread's own table of rings is cheaper."""
        # If the table is full (16 rings) the descriptor goes on serving.
        self.ring_fd_registered = features.ring_fd and io_uring_register_ring_fd(&self.ring) == 1

    cdef void unregister_ring_fd(self) noexcept:
        """The loop has stopped.  Its ring may be closed by another thread, whose
        table has another loop's ring at that place."""
        if self.ring_fd_registered and self.is_open and self.generation == fork_generation():
            self.ring_fd_registered = False
            if io_uring_unregister_ring_fd(&self.ring) != 1:
                ring_enter_by_descriptor(&self.ring)

    cdef bint is_open_here(self) noexcept:
        return self.is_open and self.generation == fork_generation()

    def cancel_all(self, double bound):
        """Cancel everything and wait, ``bound`` seconds at most, until nothing is in flight."""
        cdef operation* op
        cdef uint32_t i
        cdef Py_ssize_t before = 0
        deadline = time.monotonic() + bound
        # One request that means all would look at all of them for each that it finds: a second
        # for 2,000 connections.
        for i in range(self.operations.capacity):
            op = self.operations.slots[i]
            if op.due and op.ring_id == self.ring_id:
                self.cancel(op)
            if i & 1023 == 1023:
                self.poll()          # before the completion queue is full
        while self.operations.in_flight and time.monotonic() < deadline:
            if self.operations.in_flight == before:
                self.cancel_whatever_there_is()
            before = self.operations.in_flight
            # The kernel does deferred work for some 20 completions a call, or as many as it is
            # asked for; and one is of the request itself.
            self.wait(0.01, <unsigned>min(<size_t>before + 1, self.cq_entries))

    cdef int cancel_whatever_there_is(self) except -1:
        cdef io_uring_sqe* sqe
        self.make_room()
        sqe = ring_sqe(&self.ring, IORING_OP_ASYNC_CANCEL, -1, 0, UNTRACKED)
        sqe.cancel_flags = IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY
        return 0

    def close(self, int marker_peer, double bound):
        """Close the ring, from any thread.

        If it may still touch memory of ours, or holds sockets, which would stay open to their
        peers, ``marker_peer``, the other end of the marker, is asked for ``bound`` seconds
        whether the ring is torn down.  If it is not, the memory is kept until it is.
        Returns the exceptions that owners met.
        """
        if not self.is_open:
            return []
        problems = []
        forked = self.generation != fork_generation()
        if not forked:
            fetch(&self.unsettled, &self.ring)
            problems = self.settle_without_entering()
            ring_was_closed()
        holds_files = self.files.in_use()
        self.exit_queue()
        # From here on nothing is passed over: what is interrupted in between is told in the end.
        try:
            open_rings.discard(self)
        except BaseException as exc:
            problems.append(exc)
        torn_down = forked or not self.operations.ring_holds_memory(self.ring_id)
        if self.files.has_marker and not forked and (
                not torn_down or holds_files or self.operations.ring_holds_files(self.ring_id)):
            try:
                torn_down = hung_up(marker_peer, bound) or torn_down
            except BaseException as exc:
                problems.append(exc)        # KeyboardInterrupt
        if not torn_down:
            # Without a marker in the ring its other end never sees a hang-up.
            keep_until_torn_down(marker_peer if self.files.has_marker else -1, self.operations,
                                 self.ring_id)
        return problems + self.operations.ring_closed(self.ring_id, torn_down)

    cdef list settle_without_entering(self):
        # As ``settle_completed``, but the ring may belong to another thread: no syscalls.
        problems = []
        self.settling = True
        while self.unsettled.count:
            try:
                settle(&self.unsettled, self.operations)
            except BaseException as exc:  # noqa: PERF203
                problems.append(exc)
            fetch(&self.unsettled, &self.ring)
        self.settling = False
        return problems

    def close_in_child(self):
        """After fork(): give up the child's copies of the parent's descriptors."""
        self.exit_queue()

    cdef dict counters(self):
        """What this ring has counted, by the names of ``Loop.stats()``."""
        return {
            'submissions': self.submissions,
            'completions': self.unsettled.taken,
            'syscalls': self.syscalls + self.files.syscalls,
            'cq_overflows': self.overflows,
            'busy_polls': self.spin_budget.spins,
            'busy_poll_hits': self.spin_budget.hits,
        }


# Rings to be closed in the child of a fork.
open_rings = weakref.WeakSet()


def _close_in_child():
    for ring in list(open_rings):
        ring.close_in_child()
    open_rings.clear()


os.register_at_fork(after_in_child=_close_in_child)
