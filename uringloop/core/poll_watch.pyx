"""Polls that the loop keeps armed on descriptors of its own.

One is on an eventfd, which other threads write to; one on the wake-up socket, which signals
write to.  The third is on the epoll of ``add_reader`` and ``add_writer``.  Programs expect of
asyncio what that epoll does: descriptors are watched level-triggered, and forgotten when they
are closed.
"""
from libc.stdint cimport uint32_t

from uringloop.core.handles cimport is_cancelled
from uringloop.core.submitter cimport Submitter
from uringloop.ring.abi cimport (
    ECANCELED, ENOMEM, IORING_OP_POLL_ADD, IORING_POLL_ADD_MULTI, io_uring_sqe)
from uringloop.ring.operations cimport (
    LOOPS_OWN, MULTISHOT, RESULT_DUE, OperationOwner, operation)


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


cdef enum:
    EVENTS = 1024        # of add_reader and add_writer, a turn (asyncio: all)


cdef class PollWatch(OperationOwner):
    """A poll of one descriptor; ``fired`` tells that there was something to read."""

    def __cinit__(self, Submitter loop, int fd, bint lasting=False):
        self.loop = loop
        self.fd = fd
        self.lasting = lasting

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
        sqe = self.loop.ring.prepare(op, IORING_OP_POLL_ADD, self.fd, 0,
                                     LOOPS_OWN | MULTISHOT if self.lasting else LOOPS_OWN)
        sqe.poll32_events = POLLIN
        sqe.len = IORING_POLL_ADD_MULTI if self.lasting else 0
        self.armed = op
        return 0

    cdef int result(self, operation* op, int res, uint32_t flags) except -1:
        cdef bint ended = op.due & RESULT_DUE == 0
        if ended:
            self.armed = NULL
        if self.closed:
            return 0
        if res >= 0:
            self.fired = True
            # The kernel may end one that lasts (no memory for a completion, say).
            return self.arm() if self.lasting and ended else 0
        if res == -ECANCELED or res == -ENOMEM:      # its ring was replaced, or had no memory
            self.loop.flush_soon(self)
        return 0

    cdef int internal_error(self, object exc) except -1:
        # Without it the loop would sleep for ever: until there is memory it goes on trying.
        return self.loop.flush_soon(self) if self.armed is NULL else 0


cdef class SelectorWatch(PollWatch):
    """The poll of the epoll that ``add_reader`` and ``add_writer`` keep descriptors in."""

    cdef bint take_events(self) except -1:
        """As asyncio's ``_process_events`` of what ``select`` says: whether there was any."""
        cdef epoll_event found[EVENTS]
        cdef int i, count = epoll_wait(self.fd, found, EVENTS, 0)
        cdef unsigned mask
        for i in range(count):
            key = self.keys.get(found[i].data.fd)
            if key is None:
                continue
            reader, writer = key.data
            mask = found[i].events
            if mask & ~<unsigned>EPOLLOUT and reader is not None:
                if is_cancelled(reader):
                    self.loop._remove_reader(key.fileobj)
                else:
                    self.loop._add_callback(reader)
            if mask & ~<unsigned>EPOLLIN and writer is not None:
                if is_cancelled(writer):
                    self.loop._remove_writer(key.fileobj)
                else:
                    self.loop._add_callback(writer)
        return count > 0

    cdef bint watches(self, int fd) except -1:
        """Whether the descriptor is registered: to ask the selector costs several microseconds."""
        return fd in self.keys
