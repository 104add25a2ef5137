"""The ``sock_*`` methods: one operation a call, on the user's own sockets."""
from libc.stdint cimport uint32_t

from uringloop._buffers cimport payload
from uringloop._core cimport LoopCore
from uringloop._operations cimport Completer, operation


cdef class SocketCall(Completer):
    cdef:
        SocketCore loop
        operation* op          # in flight, or NULL
        object sock
        object future          # what the coroutine waits for
        object data            # keeps the memory alive
        object address         # of the peer, once it is done
        object target          # of a send or connect, as the caller gave it
        char* base
        size_t length
        int fd
        int opcode
        int flags              # MSG_*
        int res
        bint named             # RECVMSG with the peer's address
        bint zerocopy
        bint explicit
        bint done
        bint abandoned

    cdef int take_slot(self) except -1
    cdef int start(self) except -1
    cdef int submit(self) except -1
    cdef int abandon(self) except -1


cdef class Dispatcher(Completer):
    cdef:
        LoopCore loop
        operation* sending     # whose result is awaited
        int res                # its result

    cdef ssize_t send(self, operation* op, int fd) except? -1


cdef class SocketCore(LoopCore):
    cdef:
        Dispatcher dispatcher
        dict leftovers         # descriptor: (weak reference to the socket, [what was taken])

    cdef int check_socket(self, object sock) except -1
    cdef bint native(self, object sock) except -1
    cdef SocketCall new_call(self, object sock, int opcode)
    cdef bint is_numeric(self, object address, int family) except -1
    cdef object leftover(self, object sock)
    cdef int leave(self, SocketCall call) except -1
    cdef SocketCall new_send(self, object sock, object address, int opcode)
    cdef ssize_t send_at_once(self, object sock, object data, object address) except? -1
    cdef ssize_t dispatch(
        self, object sock, object owner, payload* memory, object address) except? -1
    cdef int choose(self, SocketCall call) except -1
