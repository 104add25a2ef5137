"""What the ring does for the program's own sockets: it waits."""
from uringloop.core.loop_core cimport LoopCore
from uringloop.ring.watched cimport WatchedSocket
from uringloop.ring.operations cimport operation


cdef class SocketCall(WatchedSocket):
    cdef:
        LoopCore loop
        operation* op          # in flight, or NULL
        object future          # what the coroutine waits for
        int events
        readonly bint done
        bint abandoned
        readonly bint no_room   # the poll has ended though there is no room
        bint socket_gone              # the program has closed the socket
        bint behind_others            # whoever waits goes on behind what came in the same turn

    cdef int start(self) except -1
    cdef int finish(self) except -1
