"""Operations on the program's own sockets, and what cancelled ones leave behind."""
from libc.stdint cimport uint32_t

from uringloop._core cimport LoopCore
from uringloop._holders cimport SocketHolder
from uringloop._operations cimport Completer, operation


cdef class Leftovers:
    cdef dict kept             # descriptor: (weak reference to the socket, [what was taken])

    cdef int leave(self, SocketCall call) except -1
    cdef object take(self, object sock)
    cdef object take_data(self, object sock, Py_ssize_t limit)
    cdef int forget(self, int fd) except -1
    cdef int forget_all(self) except -1


cdef class SocketCall(SocketHolder):
    cdef:
        LoopCore loop
        Leftovers leftovers
        operation* op          # in flight, or NULL
        object future          # what the coroutine waits for
        object data            # keeps the memory alive
        object address         # of the peer, once it is done
        object target          # of a send or connect, as the caller gave it
        char* base
        size_t length
        int opcode
        int flags              # MSG_*
        readonly int res
        bint named             # the outcome has the peer's address
        bint into              # the caller's own buffer: the outcome has a number of bytes
        bint zerocopy
        bint explicit
        readonly bint done
        bint abandoned
        bint gone              # the program has closed the socket

    cdef int take_slot(self) except -1
    cdef int start(self) except -1
    cdef int submit(self) except -1
    cdef int finish(self, int res) except -1
    cdef int resolve(self, int error, bint copied) except -1
    cdef int go_plain(self) except -1


cdef class Dispatcher(Completer):
    cdef:
        LoopCore loop
        operation* sending     # whose result is awaited
        int res                # its result

    cdef ssize_t send(self, operation* op, int fd) except? -1
