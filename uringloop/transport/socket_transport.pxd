"""What datagram and stream transports have in common."""
from cpython.object cimport PyObject

from uringloop.core.loop_core cimport LoopCore
from uringloop.ring.operations cimport OperationOwner, Role, flag, operation
from uringloop.transport.delivery cimport Delivery
from uringloop.transport.receiver cimport Receiver
from uringloop.transport.sender cimport Sender


cdef enum State:
    # The life of a transport, in this order; see SocketTransport.enter.
    UNMADE = 0          # its constructor has not run, or has failed
    STARTING = 1        # connection_made is scheduled, and nothing is received
    OPEN = 2            # connection_made has been called
    CLOSING = 3         # close(): nothing is received, what is queued is sent
    LOST = 4            # nothing is left to be sent: connection_lost is scheduled
    HELD = 5            # connection_lost was due, but the kernel still has the socket
    CLOSED = 6          # connection_lost has been called, the socket is closed


cdef class SocketTransport(OperationOwner):
    cdef:
        object __weakref__
        PyObject* attributes       # a dict, once a program has given the transport any
        LoopCore loop
        Delivery delivery
        Receiver receiver
        Sender sender
        PyObject* registry         # strong
        readonly object _sock      # assigned by ``replace_socket``
        public object _protocol
        dict extra                 # what asyncio's caller gave, or None
        object sockname
        object peername
        object wrapped             # the TransportSocket, once somebody has asked; else the socket
        object lost_exc            # for connection_lost
        object lost_context
        public Py_ssize_t _conn_lost     # as asyncio: 0, or counts what was sent in vain
        readonly int _sock_fd
        int slot                   # of the ring's registered files, or -1
        int family
        State state
        flag has_context           # ``delivery.context`` was given, and is for connection_lost too
        flag extra_is_all          # ``extra`` has sockname, peername and socket, too
        flag aborted               # what is queued is not to be sent
        flag flush_scheduled

    cdef int set_up(self, LoopCore loop, sock, protocol, waiter, extra, context=*) except -1
    cdef object description(self)
    cdef int go_on_reading(self) except -1
    cdef int let_go(self) except -1
    cdef int begin_to_close(self) except -1
    cdef int end_now(self, object exc) except -1
    cdef int forget_reader(self) except -1
    cdef int enter(self, State state) except -1
    cdef object wrapped_socket(self)
    cdef int replace_socket(self, object sock) except -1
    cdef bint has_socket(self) except -1
    cdef int send_all_deferred(self) except -1
    cdef bint has_failed(self) noexcept
    cdef int flush_later(self) except -1
    cdef int flush_later_here(self) except -1
    cdef operation* arm_poll(self, Role role, bint lasting=*) except NULL
    cdef int stop_receiving(self) except -1
    cdef int cancel_requests(self) except -1
    cdef int release_slot(self) except -1
    cdef int release_slot_later(self) except -1
    cdef int socket_closed(self) except -1
    cdef int resume_writing(self) except -1
    cdef int tell_protocol(self, str name) except -1
    cdef int tell_errors(self) except -1
    cdef int deliver_error(self, object exc) except -1
    cdef int end_by_internal_error(self, object exc) except -1
    cdef int report(self, object exc, str message) except -1
    cdef object context_of_closing(self)
    cdef int lose_if_all_sent(self) except -1
    cdef int lose(self) except -1
    cdef int lose_if_let_go(self) except -1
    cdef bint in_kernel(self) noexcept
