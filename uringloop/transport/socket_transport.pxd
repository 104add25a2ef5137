"""What datagram and stream transports have in common."""
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from uringloop.core.loop_core cimport LoopCore
from uringloop.ring.operations cimport OperationOwner, operation


cdef struct event:
    int kind                # of the transport's own; 0: ``payload`` is an exception
    PyObject* payload       # strong
    PyObject* address       # strong, or NULL


cdef class SocketTransport(OperationOwner):
    cdef:
        object __weakref__
        PyObject* attributes       # a dict, once a program has given the transport any
        LoopCore loop
        PyObject* registry         # strong
        readonly object _sock      # assigned by ``replace_socket``
        public object _protocol
        dict extra                 # what asyncio's caller gave, or None
        bint extra_is_all          # it has the names below, too
        object sockname
        object peername
        object wrapped             # the TransportSocket, once somebody has asked; else the socket
        readonly int _sock_fd
        public bint _closing
        public Py_ssize_t _conn_lost
        object context
        bint has_context           # by whoever made the transport: for all that it calls
        object lost_exc
        object lost_context
        int family
        bint paused_reading
        bint readable              # a poll has said so, and nothing was read since
        bint reading               # connection_made has been called
        bint finished              # connection_lost is scheduled
        bint end_due               # but has to wait for the kernel
        bint aborted
        # the ring's side
        int slot                   # registered file, or -1
        operation* receiving
        bint cancel_due
        bint flush_due
        # sending
        bint full                  # the socket has no room; ``room`` says when it has
        operation* room
        bint retry_later           # a timer takes its place
        double retry_delay         # seconds
        unsigned results_due       # of zero-copy sends
        bint sending               # send_queued() is at work
        bint batching              # the sends of a bulk may leave together
        bint options_changed       # by the program, as far as that is seen
        unsigned bulks             # turns with a bulk, up to the last one that sent
        unsigned sent_turn
        unsigned sent_count        # calls in that turn
        # the write buffer
        size_t buffered            # bytes not yet accepted by the socket
        size_t high_water
        size_t low_water
        bint protocol_paused
        bint resume_due
        # to be delivered
        event* inbox
        size_t inbox_head
        size_t inbox_count
        size_t inbox_size
        bint delivering
        int portion                # how many calls may follow in this turn
        bint enough                # delivered for this turn
        list errors                # of sends: they don't wait for resume_reading()
        object trouble             # an exception that is to end this transport, or None

    cdef int set_up(self, LoopCore loop, sock, protocol, waiter, extra, context=*) except -1
    cdef object context_of_closing(self)
    cdef object wrapped_socket(self)
    cdef int replace_socket(self, object sock) except -1
    cdef int flush_later(self) except -1
    cdef int flush_quietly(self) except -1
    cdef int post(self, int kind, object payload, object address) except -1
    cdef int post_again(self, int kind, object payload) except -1
    cdef int post_error(self, int error, str message) except -1
    cdef int read_before_errors(self) except -1
    cdef int deliver_error(self, object exc) except -1
    cdef int end_by_trouble(self) except -1
    cdef int schedule_delivery(self) except -1
    cdef int inbox_empty(self) except -1
    cdef int deliver_one(self, event* item) except -1
    cdef int maybe_pause(self) except -1
    cdef int maybe_resume(self) except -1
    cdef int all_sent(self) except -1
    cdef int maybe_finish(self) except -1
    cdef int drop_queue(self) except -1
    cdef bint has_queue(self) noexcept
    cdef int send_queued(self) except -1
    cdef bint is_bulk(self) noexcept
    cdef bint has_failed(self) noexcept
    cdef int wait_a_moment(self) except -1
    cdef bint in_kernel(self) noexcept
    cdef bint waits(self) noexcept
    cdef bint may_use_ring(self) noexcept
    cdef int poll_room(self) except -1
    cdef int room_ended(self, int res) except -1
    cdef int stop_receiving(self) except -1
    cdef int cancel_requests(self) except -1
    cdef int start_receiving(self) except -1
    cdef int leave_ring(self) except -1
    cdef int leave_ring_later(self) except -1
    cdef int report(self, object exc, str message) except -1
