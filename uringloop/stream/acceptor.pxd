"""The accepting of connections."""
from uringloop.core.loop_core cimport LoopCore
from uringloop.ring.operations cimport operation
from uringloop.ring.watched cimport WatchedSocket


cdef class Acceptor(WatchedSocket):
    cdef:
        LoopCore loop
        object factory
        tuple arguments         # of _accept_connection2, after the connection
        dict options
        object server
        object original         # context that each connection is to have a copy of, or None
        object context
        Py_ssize_t limit        # connections accepted before others have their turn
        operation* polling
        bint paused            # until there may be descriptors again
        bint stopped

    cdef bint accept(self) except -1
    cdef object socket_of(self, int fd)
