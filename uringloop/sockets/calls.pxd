"""What the ring does for the program's own sockets: it waits."""
from uringloop.core.loop_core cimport LoopCore
from uringloop.ring.operations cimport operation
from uringloop.ring.watched cimport WatchedSocket


cdef class SocketCall(WatchedSocket):
    cdef:
        LoopCore loop
        operation* op          # in flight, or NULL
        object future          # what the coroutine waits for
        int events
        readonly bint done
        bint abandoned
        readonly bint error_alone     # the poll told of nothing else
        bint lasting            # the poll goes on until it is cancelled
        bint socket_gone              # the program has closed the socket
        bint behind_others            # whoever waits goes on behind what came in the same turn

    cdef int start(self) except -1
    cdef int finish(self) except -1
