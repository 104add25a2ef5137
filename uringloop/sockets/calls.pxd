"""What the ring does for the program's own sockets: it waits, and it sends without copying."""
from uringloop.core.loop_core cimport LoopCore
from uringloop.ring.operations cimport OperationOwner, operation
from uringloop.ring.watched cimport WatchedSocket


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


cdef class ZerocopySends(OperationOwner):
    cdef:
        LoopCore loop
        operation* sending     # whose result is awaited
        int res                # its result

    cdef ssize_t send(self, operation* op, int fd) except? -1
