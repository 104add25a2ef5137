"""Operations on the program's own sockets."""
from libc.stdint cimport uint32_t

from uringloop._core cimport LoopCore
from uringloop._holders cimport SocketHolder
from uringloop._operations cimport Completer, operation


cdef class SocketCall(SocketHolder):
    cdef:
        LoopCore loop
        operation* op          # in flight, or NULL
        object future          # what the coroutine waits for
        object data            # keeps the memory alive
        object target          # of a send or connect, as the caller gave it
        char* base
        size_t length
        int opcode
        int flags              # MSG_*
        readonly int res
        bint zerocopy
        bint explicit
        readonly bint done
        bint abandoned
        bint gone              # the program has closed the socket
        bint polite            # whoever waits goes on behind what came in the same turn

    cdef int take_slot(self) except -1
    cdef int start(self) except -1
    cdef int submit(self) except -1
    cdef int finish(self, int res) except -1
    cdef int resolve(self, int error, bint copied) except -1
    cdef int go_plain(self) except -1
    cdef int wake(self) except -1


cdef class Dispatcher(Completer):
    cdef:
        LoopCore loop
        operation* sending     # whose result is awaited
        int res                # its result

    cdef ssize_t send(self, operation* op, int fd) except? -1
