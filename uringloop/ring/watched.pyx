"""Operations on sockets that the program may close at any time.

An operation in flight holds the file open: after ``sock.close()`` the peer would
see no end, and the port would stay in use.  asyncio's epoll forgets a closed
descriptor.  So before the loop goes to sleep it looks whether they are still open;
if there are many, not each time, but then it sleeps only until the next look.
"""
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_INCREF

from uringloop._cpython cimport fd_of
from uringloop.ring.operations cimport OperationOwner


cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject*)

cdef enum:
    FEW = 64                      # that are looked at each time

cdef double EACH = 1e-6           # seconds between two looks for each, if there are many
cdef double NEVER = 1e9


cdef class WatchedSockets:
    """Those of one loop."""

    cdef double check_if_due(self, double now) except -1:
        """Look after them if it is time for it: seconds until it is time again."""
        if self.count > FEW and now < self.next_check:
            return self.next_check - now
        self.check_all()
        self.next_check = now + EACH * self.count
        return NEVER

    cdef int check_all(self) except -1:
        """Tell those whose socket the program has closed."""
        cdef WatchedSocket watched
        cdef list found = []
        cdef PyObject* each = self.first
        # Held, for to ask a program's own object may run anything, the collector too.
        while each is not NULL:
            # One that is being let go of is among them still: what it refers to goes first, which
            # may run code of the program, and other threads.
            if Py_REFCNT(each) > 0:
                found.append(<object>each)
            each = (<WatchedSocket>each).after
        for watched in found:
            if watched.watched_sockets is not NULL and not watched.is_open():
                watched.unwatch()
                watched.socket_closed()
        return 0


cdef class WatchedSocket(OperationOwner):
    """Owns an operation on a socket of the program's own."""

    def __dealloc__(self):
        self.unwatch()

    cdef void watch(self, WatchedSockets watched_sockets) noexcept:
        """From now on the socket is looked after."""
        if self.watched_sockets is not NULL:
            return
        # Counted by hand: the collector may clear what it knows before it comes to this.
        Py_INCREF(watched_sockets)
        self.watched_sockets = <PyObject*>watched_sockets
        self.before = NULL
        self.after = watched_sockets.first
        if self.after is not NULL:
            (<WatchedSocket>self.after).before = <PyObject*>self
        watched_sockets.first = <PyObject*>self
        watched_sockets.count += 1

    cdef void unwatch(self) noexcept:
        if self.watched_sockets is NULL:
            return
        if self.before is NULL:
            (<WatchedSockets>self.watched_sockets).first = self.after
        else:
            (<WatchedSocket>self.before).after = self.after
        if self.after is not NULL:
            (<WatchedSocket>self.after).before = self.before
        (<WatchedSockets>self.watched_sockets).count -= 1
        Py_CLEAR(self.watched_sockets)

    cdef bint is_open(self) except -1:
        try:
            return fd_of(self.sock) == self.fd
        except Exception:        # of a class of the program's: then it is not as it was
            return False

    cdef int socket_closed(self) except -1:
        """The program has closed the socket: have the kernel let go of it."""
        return 0
