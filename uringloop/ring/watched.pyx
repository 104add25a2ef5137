"""Operations on sockets that the program may close at any time.

An operation in flight holds the file open: after ``sock.close()`` the peer would
see no end, and the port would stay in use.  asyncio's epoll forgets a closed
descriptor.  So before the loop goes to sleep it looks whether they are still open;
if there are many, not each time, but then it sleeps only until the next look.
"""
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_INCREF

from uringloop._cpython cimport fd_of
from uringloop.ring.operations cimport Completer


cdef enum:
    FEW = 64                      # that are looked at each time

cdef double EACH = 1e-6           # seconds between two looks for each, if there are many
cdef double NEVER = 1e9


cdef class Holders:
    """Those of one loop."""

    cdef double look(self, double now) except -1:
        """Look after them if it is time for it: seconds until it is time again."""
        if self.count > FEW and now < self.next_check:
            return self.next_check - now
        self.check()
        self.next_check = now + EACH * self.count
        return NEVER

    cdef int check(self) except -1:
        """Tell those whose socket the program has closed."""
        cdef PyObject* each = self.first
        while each is not NULL:
            holder = <SocketHolder>each
            each = holder.after
            if fd_of(holder.sock) != holder.fd:
                holder.let_go()
                holder.closed_under()
        return 0


cdef class SocketHolder(Completer):
    """Owns an operation on a socket of the program's own."""

    def __dealloc__(self):
        self.let_go()

    cdef void hold(self, Holders holders) noexcept:
        """From now on the socket is looked after."""
        if self.holders is not NULL:
            return
        # Counted by hand: the collector may clear what it knows before it comes to this.
        Py_INCREF(holders)
        self.holders = <PyObject*>holders
        self.before = NULL
        self.after = holders.first
        if self.after is not NULL:
            (<SocketHolder>self.after).before = <PyObject*>self
        holders.first = <PyObject*>self
        holders.count += 1

    cdef void let_go(self) noexcept:
        if self.holders is NULL:
            return
        if self.before is NULL:
            (<Holders>self.holders).first = self.after
        else:
            (<SocketHolder>self.before).after = self.after
        if self.after is not NULL:
            (<SocketHolder>self.after).before = self.before
        (<Holders>self.holders).count -= 1
        Py_CLEAR(self.holders)

    cdef int closed_under(self) except -1:
        """The program has closed the socket: have the kernel let go of it."""
        return 0
