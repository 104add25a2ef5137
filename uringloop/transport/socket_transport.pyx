"""What datagram and stream transports have in common.

What the kernel completes goes into an inbox while completions are drained;
``deliver`` later calls the protocol with it, in the transport's context.
"""
cimport cython
from cpython.contextvars cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_INCREF
from libc.stdlib cimport free, realloc
from libc.string cimport memmove

from uringloop.core.loop_core cimport LoopCore
from uringloop._cpython cimport family_of, fd_of
from uringloop.ring.operations cimport OperationOwner, operation
from uringloop.core.registry cimport Registry
from uringloop.ring.process cimport this_thread
from uringloop.ring.abi cimport (
    AF_INET, AF_INET6, AF_UNIX, IORING_OP_POLL_ADD, IOSQE_FIXED_FILE, io_uring_sqe, sockaddr,
    sockaddr_storage, socklen_t)

import sys
import warnings
import weakref
from asyncio import constants, trsock
from asyncio.log import logger


cdef extern from *:
    """
    static traverseproc transport_traverse;
    static inquiry transport_clear;
    /* Programs set attributes of transports, and replace their methods.  Cython would make
       each of them a dict at once; Python itself makes one when it is needed. */
    static void give_attributes(PyObject *type, Py_ssize_t offset,
                                traverseproc traverse, inquiry clear) {
        PyTypeObject *kind = (PyTypeObject *)type;
        transport_traverse = kind->tp_traverse;
        transport_clear = kind->tp_clear;
        kind->tp_traverse = traverse;
        kind->tp_clear = clear;
        kind->tp_dictoffset = offset;
        PyType_Modified(kind);
    }
    """
    ctypedef int (*visitproc)(PyObject*, void*) noexcept
    ctypedef int (*traverseproc)(PyObject*, visitproc, void*) noexcept
    ctypedef int (*inquiry)(PyObject*) noexcept
    traverseproc transport_traverse
    inquiry transport_clear
    void give_attributes(object, Py_ssize_t, traverseproc, inquiry)

cdef extern from "<poll.h>":
    enum:
        POLLOUT
        POLLERR
        POLLHUP

cdef extern from "<sys/socket.h>" nogil:
    int getsockname(int, sockaddr*, socklen_t*)
    int getpeername(int, sockaddr*, socklen_t*)

cdef extern from "Python.h":
    int set_attribute "PyObject_GenericSetAttr" (object, object, PyObject*) except -1


# Kept: a finalizer may run when the interpreter has emptied the modules already.
cdef object warn = warnings.warn

cdef double RETRY_FIRST = 0.001      # seconds
cdef double RETRY_LAST = 0.016

cdef enum:
    BULK = 4                  # sends of one turn; the rest of them leave together
    PORTION = 16              # buffers that a protocol is asked for in a turn
    STREAM_OF_BULKS = 3       # turns with one, each right behind the other

# How many sends of a turn leave at the call, by the number of such turns before it.
cdef unsigned[STREAM_OF_BULKS + 1] at_the_call = [BULK, 1, 1, 0]


class TransportSocket(trsock.TransportSocket):
    """What ``get_extra_info('socket')`` gives: what is deferred leaves before it changes.

    So the options of a datagram are those of the moment at which it was sent.
    """

    __slots__ = ('_transport',)

    def __init__(self, sock, transport):
        super().__init__(sock)
        self._transport = weakref.ref(transport)

    def _send_deferred(self):
        transport = self._transport()
        if transport is not None:
            (<SocketTransport>transport).send_queued()
            (<SocketTransport>transport).options_changed = True

    def fileno(self):
        self._send_deferred()
        return super().fileno()

    def dup(self):
        self._send_deferred()
        return super().dup()

    def setsockopt(self, *args):
        self._send_deferred()
        super().setsockopt(*args)

    def shutdown(self, how):
        self._send_deferred()
        super().shutdown(how)


cdef object name_of(LoopCore loop, object sock, int family, bint peer):
    """``sock.getsockname()`` or ``getpeername()``; None if there is none."""
    cdef sockaddr_storage name
    cdef socklen_t length = sizeof(name)
    cdef int code
    if family != AF_INET and family != AF_INET6 and family != AF_UNIX:
        try:
            return sock.getpeername() if peer else sock.getsockname()
        except OSError:
            return None
    if peer:
        code = getpeername(fd_of(sock), <sockaddr*>&name, &length)
    else:
        code = getsockname(fd_of(sock), <sockaddr*>&name, &length)
    return None if code < 0 else loop.addresses.to_python(&name, length)


cdef class SocketTransport(OperationOwner):

    def __cinit__(self):
        self._sock_fd = -1
        self.slot = -1

    cdef int set_up(self, LoopCore loop, sock, protocol, waiter, extra, context=None) except -1:
        if self.loop is not None:
            raise RuntimeError(f'{self!r} is made already')
        self.loop = loop
        self._sock = self.wrapped = sock
        self._sock_fd = sock.fileno()
        self.batching = loop.batching
        self.family = family_of(sock)
        self.sockname = name_of(loop, sock, self.family, False)
        if extra and 'peername' in extra:
            self.peername = extra['peername']
            self.extra = dict(extra) if len(extra) > 1 else None
        else:
            self.peername = name_of(loop, sock, self.family, True)
            self.extra = dict(extra) if extra else None
        self.has_context = context is not None
        self.context = context if self.has_context else PyContext_CopyCurrent()
        self.set_write_buffer_limits()
        self.set_protocol(protocol)
        if self.registry is NULL:
            Py_INCREF(loop._registry)
            self.registry = <PyObject*>loop._registry
        loop._registry.enter(self._sock_fd, self)
        loop.call_soon(protocol.connection_made, self, context=context)
        # Only start reading when connection_made() has been called, and only wake up the
        # waiter when both have.
        loop.call_soon(self._start_reading, waiter, context=context)
        return 0

    def __dealloc__(self):
        # Operations own the transport, so none is left by now; events may be.
        while self.inbox_count:
            self.inbox_count -= 1
            Py_CLEAR(self.inbox[self.inbox_head + self.inbox_count].payload)
            Py_CLEAR(self.inbox[self.inbox_head + self.inbox_count].address)
        free(self.inbox)
        Py_CLEAR(self.attributes)
        if self.registry is not NULL:
            # Pointers are compared, nothing more.
            (<Registry>self.registry).leave(self._sock_fd, <PyObject*>self)
            Py_CLEAR(self.registry)

    def __del__(self):
        # Before weak references and attributes go, whose callbacks could come upon it.
        if self.registry is not NULL:
            (<Registry>self.registry).leave(self._sock_fd, <PyObject*>self)
        if self._sock is not None:
            warn(f'unclosed transport {self!r}', ResourceWarning, source=self)
            if self.loop.owns_ring():
                self.leave_ring()
            else:
                self.leave_ring_later()
            self._sock.close()

    def __repr__(self):
        info = [type(self).__name__]
        if self._sock is None:
            info.append('closed')
        elif self._closing:
            info.append('closing')
        info.append(f'fd={self._sock_fd}')
        if self._sock is not None:
            info.append('read=polling' if self.receiving is not NULL else 'read=idle')
            info.append(f'write=<{"polling" if self.waits() else "idle"}, '
                        f'bufsize={self.buffered}>')
        return '<{}>'.format(' '.join(info))

    # -- asyncio's transport API ---------------------------------------------------------------

    def __setattr__(self, name, value):
        if name == '_sock':
            self.replace_socket(value)
        else:
            set_attribute(self, name, <PyObject*>value)

    def __delattr__(self, name):
        set_attribute(self, name, NULL)

    cdef int replace_socket(self, object sock) except -1:
        raise AttributeError(f"the socket of {self!r} can't be replaced")

    # The names that asyncio's transports have, to be read and assigned.

    @property
    def _loop(self):
        return self.loop

    @property
    def _protocol_paused(self):
        # asyncio's sendfile asks.
        return self.protocol_paused

    @_protocol_paused.setter
    def _protocol_paused(self, paused):
        self.protocol_paused = paused

    @property
    def _paused(self):
        return self.paused_reading

    @_paused.setter
    def _paused(self, paused):
        self.paused_reading = paused

    @property
    def _high_water(self):
        return self.high_water

    @_high_water.setter
    def _high_water(self, size):
        self.high_water = size

    @property
    def _low_water(self):
        return self.low_water

    @_low_water.setter
    def _low_water(self, size):
        self.low_water = size

    def get_extra_info(self, name, default=None):
        """'socket', 'sockname', 'peername', ...; ``default`` for what there is not."""
        if not self.extra_is_all:
            if name == 'peername':
                return self.peername
            if name == 'sockname':
                return self.sockname
            if name == 'socket':
                return self.wrapped_socket()
        return default if self.extra is None else self.extra.get(name, default)

    @property
    def _extra(self):
        # Programs that look in here may write here, too.
        if not self.extra_is_all:
            self.extra = {**(self.extra or {}), 'socket': self.wrapped_socket(),
                          'sockname': self.sockname, 'peername': self.peername}
            self.extra_is_all = True
        return self.extra

    @_extra.setter
    def _extra(self, extra):
        self.extra = extra
        self.extra_is_all = True

    cdef object wrapped_socket(self):
        if type(self.wrapped) is not TransportSocket:
            self.wrapped = TransportSocket(self.wrapped, self)
        return self.wrapped

    def get_protocol(self):
        """The protocol that this transport calls."""
        return self._protocol

    def set_protocol(self, protocol):
        """Call another protocol from now on."""
        self._protocol = protocol

    def is_closing(self):
        """Whether the transport is closing or closed."""
        return self._closing or self.has_failed()

    def is_reading(self):
        """Whether the protocol is being given what comes."""
        return not self._closing and not self.paused_reading

    def pause_reading(self):
        """Give the protocol nothing until ``resume_reading``."""
        if not self.is_reading():
            return
        self.paused_reading = True
        self.cancel_due = True
        self.flush_later()
        if self.loop._debug:
            logger.debug('%r pauses reading', self)

    def resume_reading(self):
        """Give the protocol what comes again."""
        if self._closing or not self.paused_reading:
            return
        self.paused_reading = False
        self.cancel_due = False
        if self.inbox_count or self.readable:
            self.schedule_delivery()
        self.flush_later()
        if self.loop._debug:
            logger.debug('%r resumes reading', self)

    def _start_reading(self, waiter):
        self.reading = True
        self.start_receiving()
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _set_batching(self, bint batching):
        """Whether the sends of a bulk may wait for the end of the turn."""
        self.batching = batching

    def get_write_buffer_size(self):
        """Bytes that the socket has not accepted yet."""
        if self.has_queue() and not self.waits():
            self.send_queued()
        return self.buffered

    def get_write_buffer_limits(self):
        """The pair (low, high), in bytes."""
        return (self.low_water, self.high_water)

    def set_write_buffer_limits(self, high=None, low=None):
        """Set the bytes at which the protocol is told to pause (high) and resume (low)."""
        if high is None:
            high = 64 * 1024 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f'high ({high!r}) must be >= low ({low!r}) must be >= 0')
        # Numbers of any kind, infinite too; sizes are whole.
        self.high_water = <size_t>min(high, sys.maxsize)
        self.low_water = <size_t>min(low, sys.maxsize)
        self.maybe_pause()

    def close(self):
        """Stop receiving, send what is queued, then close: ``connection_lost(None)``."""
        if self._closing:
            return
        self._closing = True
        self.lost_context = self.context_of_closing()
        if self.has_failed():
            self.lost_exc = self.errors[0] if self.errors else None
        if self.loop.deferring is not None:
            self.loop.deferring.send_deferred()
        self.send_queued()
        self.stop_receiving()
        self.all_sent()

    def abort(self):
        """Close without sending what is queued."""
        self._force_close(None)

    def _force_close(self, exc):
        if self._conn_lost:
            return
        self._closing = True
        self.lost_context = self.context_of_closing()
        if exc is None and self.has_failed() and self.errors:
            exc = self.errors[0]
        self.lost_exc = exc     # first: without a queue and a receive this is the end already
        if self.loop.deferring is not None:
            self.loop.deferring.send_deferred()
        self.send_queued()      # as asyncio has done at the call
        self._conn_lost += 1
        self.aborted = True
        self.drop_queue()
        self.stop_receiving()
        self.maybe_finish()

    def _fatal_error(self, exc, message='Fatal error on transport'):
        if isinstance(exc, OSError):
            if self.loop._debug:
                logger.debug('%r: %s', self, message, exc_info=True)
        else:
            self.report(exc, message)
        self._force_close(exc)

    cdef int report(self, object exc, str message) except -1:
        self.loop.call_exception_handler({
            'message': message,
            'exception': exc,
            'transport': self,
            'protocol': self._protocol,
        })
        return 0

    def _write_on_lost(self):
        if self._conn_lost >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
            logger.warning('socket.send() raised exception.')
        self._conn_lost += 1

    cdef bint has_failed(self) noexcept:
        """Whether a failed send is to end the transport, once what has come is read."""
        return False

    # -- what subclasses give ------------------------------------------------------------------

    cdef int drop_queue(self) except -1:
        """Forget what is queued and not yet given to the kernel."""
        return 0

    cdef bint has_queue(self) noexcept:
        return False

    cdef int send_queued(self) except -1:
        """Send what is queued, in order, until the socket is full."""
        return 0

    cdef int send_deferred(self) except -1:
        return self.send_queued()

    cdef int deliver_one(self, event* item) except -1:
        return 0

    cdef int inbox_empty(self) except -1:
        """Everything that has come is delivered."""
        return 0

    cdef int read_before_errors(self) except -1:
        return 0

    cdef int deliver_error(self, object exc) except -1:
        return 0

    cdef int start_receiving(self) except -1:
        return self.flush_later()

    cdef int leave_ring(self) except -1:
        """Called when the socket is about to be closed."""
        return 0

    cdef int leave_ring_later(self) except -1:
        """The same in another thread, where the collector may run."""
        return 0

    cdef int loop_closed(self) except -1:
        # The loop is closed: nothing more will leave.
        return self.drop_queue()

    # -- the ring's side -----------------------------------------------------------------------

    cdef int flush_later(self) except -1:
        """Have ``flush()`` called at the end of the turn."""
        if self.flush_due:
            return 0
        self.flush_quietly()
        if self.loop.thread and self.loop.thread != this_thread():
            # Not allowed, but asyncio's would work most of the time.
            self.loop._write_to_self()
        return 0

    cdef int flush_quietly(self) except -1:
        if not self.flush_due:
            self.loop.flush_soon(self)
            self.flush_due = True
        return 0

    cdef int stop_receiving(self) except -1:
        """Have the receive called back; at once if may be, as asyncio forgets the descriptor."""
        self.cancel_due = True
        if self.receiving is NULL and self.room is NULL:
            return 0
        if self.loop.closing or not self.loop.owns_ring():
            return self.flush_later()
        self.cancel_requests()
        return self.loop.ring.submit_and_get_events()

    cdef int cancel_requests(self) except -1:
        """Call back what is not to go on: a receive, and once all is lost the wait for room."""
        if self.cancel_due and self.receiving is not NULL:
            self.loop.ring.cancel(self.receiving)
        self.cancel_due = False
        if self._conn_lost and self.room is not NULL:
            self.loop.ring.cancel(self.room)
        return 0

    # -- sending -------------------------------------------------------------------------------

    @cython.final
    cdef bint is_bulk(self) noexcept:
        """Count a send: whether it is to wait for the turn's others, to leave with them.

        The first ones of a turn leave at the call, as with asyncio; so a lone one does.  Where
        the last turn that sent had a bulk, only the first does; and in a stream of bulks, turn
        after turn, not even that.
        """
        if self.sent_turn != self.loop.turns:
            if self.sent_count <= BULK:
                self.bulks = 0
            elif self.loop.turns - self.sent_turn > 1:
                self.bulks = 1
            elif self.bulks < STREAM_OF_BULKS:
                self.bulks += 1
            self.sent_turn = self.loop.turns
            self.sent_count = 0
        self.sent_count += 1
        return (self.sent_count > at_the_call[self.bulks] and self.batching
                and self.loop.runs_here())

    cdef bint waits(self) noexcept:
        """Whether what is sent now has to queue up behind what waits for the kernel."""
        return self.full or self.results_due != 0

    cdef bint may_use_ring(self) noexcept:
        """Whether this is a moment to submit, and have the results at once."""
        return self.loop.runs_here() and not self.loop.ring.settling

    cdef int poll_room(self) except -1:
        """Have the ring say when the socket takes more."""
        cdef bint fixed = self.slot >= 0
        cdef operation* op
        cdef io_uring_sqe* sqe
        if self.room is not NULL or self.retry_later:
            return 0
        op = self.loop.operations.acquire_compact(self)
        sqe = self.loop.ring.prepare(op, IORING_OP_POLL_ADD, self.slot if fixed else self._sock_fd,
                                     IOSQE_FIXED_FILE if fixed else 0, 0)
        sqe.poll32_events = POLLOUT
        self.room = op
        return 0

    cdef int room_ended(self, int res) except -1:
        self.room = NULL
        if self._conn_lost:
            return self.maybe_finish()
        if res > 0 and not res & (POLLOUT | POLLERR | POLLHUP):
            # The ring's polls also end when the peer has shut its sending half (EPOLLRDHUP,
            # asked for or not), and would at once each time.
            return self.wait_a_moment()
        self.full = False       # if it is not so (an error, another ring), the next send tells
        return self.flush_quietly()

    cdef int wait_a_moment(self) except -1:
        """Try again a little later: a poll would end at once, whether there is room or not."""
        self.retry_later = True
        self.retry_delay = min(max(2 * self.retry_delay, RETRY_FIRST), RETRY_LAST)
        self.loop.call_later(self.retry_delay, self.try_again)
        return 0

    def try_again(self):
        """There may be room by now."""
        self.retry_later = self.full = False
        if not self._conn_lost:
            self.send_queued()

    # -- delivering ----------------------------------------------------------------------------

    cdef int post(self, int kind, object payload, object address) except -1:
        """Put something into the inbox, for ``deliver_one``."""
        cdef event* item
        cdef size_t end = self.inbox_head + self.inbox_count
        if end == self.inbox_size:
            item = <event*>realloc(self.inbox, (2 * end + 2) * sizeof(event))
            if item is NULL:
                raise MemoryError
            self.inbox = item
            self.inbox_size = 2 * end + 2
        item = &self.inbox[end]
        Py_INCREF(payload)
        Py_INCREF(address)
        item.kind = kind
        item.payload = <PyObject*>payload
        item.address = <PyObject*>address
        self.inbox_count += 1
        return self.schedule_delivery()

    cdef int post_again(self, int kind, object payload) except -1:
        """Put back what was taken from the inbox, in front."""
        cdef size_t count = self.inbox_count
        cdef event last
        self.post(kind, payload, None)
        # Turn it round: the last becomes the first.
        last = self.inbox[self.inbox_head + count]
        memmove(&self.inbox[self.inbox_head + 1], &self.inbox[self.inbox_head],
                count * sizeof(event))
        self.inbox[self.inbox_head] = last
        return 0

    cdef int post_error(self, int error, str message) except -1:
        """A send has failed: tell, even while reading is paused."""
        if self.errors is None:
            self.errors = []
        self.errors.append(OSError(error, message))
        return self.schedule_delivery()

    cdef int internal_error(self, object exc) except -1:
        """What our own code has met, say a MemoryError, ends this transport and not the loop.

        As with asyncio; but not now, for completions may be being settled.
        """
        if self.trouble is None:
            self.trouble = exc
        if isinstance(exc, MemoryError):
            self.loop.memory_reserve = None
        return self.schedule_delivery()

    cdef int end_by_trouble(self) except -1:
        if self._sock is not None:
            self._fatal_error(self.trouble, 'Fatal error on transport')
        self.trouble = None
        return 0

    cdef int schedule_delivery(self) except -1:
        if not self.delivering:
            if self.loop.thread:
                self.loop.push(self)
            else:
                # What was waiting when the loop starts to run goes first.
                self.loop.deliveries_due.append(self)
            self.delivering = True
        return 0

    cdef int deliver(self) except -1:
        """Call the protocol with what has come, in the transport's context."""
        cdef event item
        # What comes meanwhile has to wait for its turn, as everything else.
        cdef size_t left = self.inbox_count
        self.delivering = self.enough = False
        self.portion = PORTION
        if PyContext_Enter(self.context) < 0:
            return -1
        try:
            if self.trouble is not None:
                self.end_by_trouble()
            while left and self.inbox_count and not self.paused_reading and not self.enough:
                left -= 1
                item = self.inbox[self.inbox_head]
                self.inbox_head += 1
                self.inbox_count -= 1
                if self.inbox_count == 0:
                    self.inbox_head = 0
                self.deliver_one(&item)
            # What had come before a send failed is heard of first; it may be the reason.
            if self.errors and not self.inbox_count and not self.paused_reading \
                    and not self._closing:
                self.read_before_errors()
            while self.errors and (not self.inbox_count or self.paused_reading):
                self.deliver_error(self.errors.pop(0))
            if not self.inbox_count and not self.paused_reading and not self._closing:
                self.inbox_empty()
            if self.resume_due:
                self.resume_due = False
                try:
                    self.resume_writing()
                finally:
                    self.all_sent()
            if self.enough:
                # Nothing more is to come meanwhile, or a peer could fill the memory.
                self.cancel_due = True
                self.flush_later()
        finally:
            PyContext_Exit(self.context)
            # After an exception that went on, say a KeyboardInterrupt.
            if self.trouble is not None or self.errors or self.resume_due \
                    or not self.paused_reading and (
                        self.inbox_count or self.readable and not self._closing):
                self.schedule_delivery()
            elif self.receiving is NULL and self.reading and not self._closing \
                    and not self.paused_reading and self._sock is not None:
                self.flush_quietly()
        return 0

    cdef int maybe_pause(self) except -1:
        if self.buffered > self.high_water and not self.protocol_paused:
            self.protocol_paused = True
            self.tell_protocol('pause_writing')
        return 0

    cdef int maybe_resume(self) except -1:
        if self.protocol_paused and self.buffered <= self.low_water:
            self.resume_due = True
            self.schedule_delivery()
        return 0

    def resume_writing(self):
        if self.protocol_paused and self.buffered <= self.low_water:
            self.protocol_paused = False
            if self._protocol is not None:
                self.tell_protocol('resume_writing')

    def tell_protocol(self, name):
        try:
            getattr(self._protocol, name)()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.report(exc, f'protocol.{name}() failed')

    # -- the end -------------------------------------------------------------------------------

    cdef object context_of_closing(self):
        """Where ``connection_lost`` runs: as asyncio has it, in the context that was given.

        Or else in a copy of that of the call that closes.
        """
        return self.context if self.has_context else PyContext_CopyCurrent()

    cdef int all_sent(self) except -1:
        """Nothing is queued or in flight: a transport that is being closed may be."""
        if self._closing and not self._conn_lost and not self.results_due \
                and not self.has_queue() and not self.resume_due:
            self._conn_lost += 1
            self.maybe_finish()
        return 0

    cdef int maybe_finish(self) except -1:
        """Have the protocol told, in the next turn, as asyncio does.

        In the context of the call that closed it.
        """
        if not self._conn_lost:
            return 0
        if not self.finished or self.end_due and not self.in_kernel():
            self.finished = True
            self.end_due = False
            self.loop.call_soon(
                self._call_connection_lost, self.lost_exc, context=self.lost_context)
        return 0

    cdef bint in_kernel(self) noexcept:
        """Whether the kernel still has the socket, for a receive, a wait or a send."""
        return self.receiving is not NULL or self.room is not NULL or self.results_due != 0

    def _call_connection_lost(self, exc):
        if self.in_kernel():
            # Closing is asynchronous.  By now most have been called back; else later.
            self.end_due = True
            return
        self.leave_ring()
        try:
            self._protocol.connection_lost(exc)
        finally:
            # What was sent in there leaves too, as with asyncio.
            self.send_queued()
            self.drop_queue()
            self.loop._registry.leave(self._sock_fd, <PyObject*>self)
            if self._sock is not None:
                self._sock.close()
            self._sock = None
            self._protocol = None
            self.lost_exc = self.lost_context = None


cdef int visit_attributes(PyObject* self, visitproc visit, void* arg) noexcept:
    cdef int code = transport_traverse(self, visit, arg)
    cdef PyObject* attributes = (<SocketTransport>self).attributes
    return visit(attributes, arg) if not code and attributes is not NULL else code


cdef int clear_attributes(PyObject* self) noexcept:
    Py_CLEAR((<SocketTransport>self).attributes)
    return transport_clear(self)


cdef SocketTransport probe = SocketTransport.__new__(SocketTransport)
give_attributes(SocketTransport, <char*>&probe.attributes - <char*><PyObject*>probe,
                visit_attributes, clear_attributes)
probe = None
