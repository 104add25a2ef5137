"""Streams whose last read came back short, so that nothing more is there, most likely.

The poll of a TCP socket is a lasting one, which tells what is new and nothing twice, as
EPOLLET does; and a read that brings less than it had room for has emptied the socket, as
epoll(7) says.  But urgent data is an exception: a read ends short at its mark (tcp(7)), and
what comes after that was told of before.  Nobody says so at less cost than one more system
call for each read.  So after a while, once, those that were read are polled together.
"""
cimport cython
from libc.math cimport INFINITY
from libc.stdlib cimport calloc, free, realloc

from uringloop.core.registry cimport Registry
from uringloop.core.clock cimport monotonic
from uringloop.ring.operations cimport OperationOwner


cdef extern from "<poll.h>" nogil:
    enum:
        POLLIN
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd*, unsigned long, int)


cdef double LATER = 0.1         # seconds

cdef enum:
    AT_ONCE = 256               # the others in the next turn


@cython.final
cdef class ShortReads:
    """Those of one loop, by their descriptors: they may close meanwhile."""

    def __cinit__(self, Registry registry):
        self.registry = registry

    def __dealloc__(self):
        free(self.fds)

    cdef int note(self, int fd) except -1:
        """Have this one's owner told by ``looked_at``, once."""
        cdef int* bigger
        if self.count == self.size:
            bigger = <int*>realloc(self.fds, (2 * self.size + 16) * sizeof(int))
            if bigger is NULL:
                raise MemoryError
            self.fds = bigger
            self.size = 2 * self.size + 16
        if self.count == 0:
            self.due = monotonic() + LATER
        self.fds[self.count] = fd
        self.count += 1
        return 0

    cdef double check_if_due(self, double now) except -1:
        """Look at them if it is time for it: seconds until it is time again."""
        if self.count == 0:
            return INFINITY
        if now < self.due:
            return self.due - now
        self.check()
        return 0 if self.count else INFINITY

    cdef int check(self) except -1:
        cdef int i, count = min(self.count, AT_ONCE)
        cdef pollfd* polled = <pollfd*>calloc(count, sizeof(pollfd))
        if polled is NULL:
            raise MemoryError
        self.count -= count
        for i in range(count):
            polled[i].fd = self.fds[self.count + i]
            polled[i].events = POLLIN
        try:
            # Where this fails (RLIMIT_NOFILE lowered below their number) all are read.
            if poll(polled, count, 0) < 0:
                for i in range(count):
                    polled[i].revents = POLLIN
            for i in range(count):
                owner = self.registry.find(polled[i].fd)
                if isinstance(owner, OperationOwner):
                    (<OperationOwner>owner).looked_at(polled[i].revents != 0)
        finally:
            free(polled)
        return 0
