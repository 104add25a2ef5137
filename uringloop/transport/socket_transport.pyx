"""What datagram and stream transports have in common.

A transport has a ``Receiver``, a ``Sender`` and a ``Delivery``.  It owns the operations of all
three, tells them what has completed, and keeps what they share: the socket, and its own state.
"""
from cpython.contextvars cimport PyContext_CopyCurrent
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_INCREF
from libc.stdint cimport uint32_t

from uringloop._cpython cimport (
    attributes_of, family_of, fd_of, give_attributes, inquiry, replace_traverse, traverseproc,
    visitproc)
from uringloop.core.loop_core cimport LoopCore, send_deferred_datagrams
from uringloop.core.poll_watch cimport SelectorWatch
from uringloop.core.registry cimport Registry
from uringloop.core.flow_control cimport HIGH_WATER, LOW_WATER, tell, water_marks
from uringloop.ring.abi cimport (
    IORING_OP_POLL_ADD, IORING_POLL_ADD_MULTI, IOSQE_FIXED_FILE, io_uring_sqe)
from uringloop.ring.operations cimport (
    MULTISHOT, POLL_IN, POLL_OUT, RESULT_DUE, OperationOwner, Role, operation)
from uringloop.transport.delivery cimport Delivery
from uringloop.transport.sender cimport ROOM
from uringloop.transport.socket_names cimport name_of

import errno
import os
from asyncio import constants
from asyncio.log import logger

from uringloop.core.unclosed import warn_of
from uringloop.transport.socket_names import TransportSocket


cdef extern from "<poll.h>":
    enum:
        POLLIN
        POLLOUT

cdef extern from "Python.h":
    int set_attribute "PyObject_GenericSetAttr" (object, object, PyObject*) except -1


# Kept: a finalizer may run when the interpreter has emptied the modules already.
cdef object warn_of_unclosed = warn_of


cdef class SocketTransport(OperationOwner):
    """asyncio's transport API, and the life of a transport."""

    def __cinit__(self):
        self._sock_fd = -1
        self.slot = -1
        self._conn_lost = 1         # until it is made
        self.delivery = Delivery.__new__(Delivery)

    cdef int set_up(self, LoopCore loop, sock, protocol, waiter, extra, context=None) except -1:
        """What both constructors share; ``receiver`` and ``sender`` exist already."""
        if self.state != UNMADE:
            raise RuntimeError(f'{self!r} is made already')
        self.loop = loop
        self._sock = self.wrapped = sock
        self._sock_fd = sock.fileno()
        self.family = family_of(sock)
        self.sockname = name_of(loop.addresses, sock, self.family, False)
        if extra and 'peername' in extra:
            self.peername = extra['peername']
            self.extra = dict(extra) if len(extra) > 1 else None
        else:
            self.peername = name_of(loop.addresses, sock, self.family, True)
            self.extra = dict(extra) if extra else None
        self.has_context = context is not None
        self.delivery.context = context if self.has_context else PyContext_CopyCurrent()
        self.delivery.transport = <PyObject*>self
        self.receiver.transport = <PyObject*>self
        self.sender.transport = <PyObject*>self
        self.sender.batching = loop.batching
        self.sender.high_water, self.sender.low_water = HIGH_WATER, LOW_WATER
        self.set_protocol(protocol)
        if self.registry is NULL:
            Py_INCREF(loop._registry)
            self.registry = <PyObject*>loop._registry
        loop._registry.enter(self._sock_fd, self)
        self._conn_lost = 0
        self.enter(STARTING)
        loop.call_soon(protocol.connection_made, self, context=context)
        # Only start reading when connection_made() has been called, and only wake up the
        # waiter when both have.
        loop.call_soon(self._start_reading, waiter, context=context)
        return 0

    def __dealloc__(self):
        # Operations own the transport, so none is left by now.
        Py_CLEAR(self.attributes)
        if self.registry is not NULL:
            # Pointers are compared, nothing more.
            (<Registry>self.registry).leave(self._sock_fd, <PyObject*>self)
            Py_CLEAR(self.registry)

    def __del__(self):
        # Before weak references and attributes go, whose callbacks could come upon it.
        if self.registry is not NULL:
            (<Registry>self.registry).leave(self._sock_fd, <PyObject*>self)
        if self._sock is not None and self.loop is not None:
            try:
                warn_of_unclosed(f'unclosed transport {self!r}', self)
            finally:             # warnings may be errors
                if self.loop.owns_ring():
                    self.release_slot()
                else:
                    self.release_slot_later()
                self._sock.close()

    def __repr__(self):
        return self.description()

    cdef object description(self):
        """Its ``repr``.  That can be interrupted by a signal; this runs no code of the program."""
        info = [type(self).__name__]
        if self._sock is None:
            info.append('closed')
        elif self.state >= CLOSING:
            info.append('closing')
        info.append(f'fd={self._sock_fd}')
        if self._sock is not None and self.state != UNMADE:
            polling = self.receiver.armed is not NULL and not self.delivery.paused
            info.append('read=polling' if polling else 'read=idle')
            info.append(f'write=<{"polling" if self.sender.waits() else "idle"}, '
                        f'bufsize={self.sender.buffered}>')
        return '<{}>'.format(' '.join(info))

    # -- asyncio's transport API ---------------------------------------------------------------

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
        return self.state >= CLOSING or self.has_failed()

    def is_reading(self):
        """Whether the protocol is being given what comes."""
        return UNMADE < self.state < CLOSING and not self.delivery.paused

    def pause_reading(self):
        """Give the protocol nothing until ``resume_reading``."""
        if not self.is_reading():
            return
        self.delivery.paused = True
        self.receiver.pause()
        if self.loop._debug:
            logger.debug('%r pauses reading', self)

    def resume_reading(self):
        """Give the protocol what comes again."""
        if self.state >= CLOSING or self.state == UNMADE or not self.delivery.paused:
            return
        if not self.has_context:
            # As with asyncio, which calls the protocol from a handle that is made here.
            self.delivery.context = PyContext_CopyCurrent()
        if not self.loop.opened:
            self.delivery.paused = False
            self.loop._check_closed()
        self.go_on_reading()
        if self.loop._debug:
            logger.debug('%r resumes reading', self)

    cdef int go_on_reading(self) except -1:
        self.delivery.paused = False
        if self.loop is None or self.state >= CLOSING:
            return 0
        self.receiver.resume()
        if self.delivery.count or self.receiver.readable:
            self.delivery.schedule_next()
        if self.receiver.wants_arming():
            self.flush_later()
        return 0

    def get_write_buffer_size(self):
        """Bytes that the socket has not accepted yet."""
        if self.sender.has_queue() and not self.sender.waits():
            self.sender.send_queued()
        return self.sender.buffered

    def get_write_buffer_limits(self):
        """The pair (low, high), in bytes."""
        return (self.sender.low_water, self.sender.high_water)

    def set_write_buffer_limits(self, high=None, low=None):
        """Set the bytes at which the protocol is told to pause (high) and resume (low)."""
        self.sender.high_water, self.sender.low_water = water_marks(high, low)
        self.get_write_buffer_size()      # what is only deferred is no reason to pause
        self.sender.maybe_pause()

    def close(self):
        """Stop receiving, send what is queued, then close: ``connection_lost(None)``."""
        if self.state >= CLOSING or self.state == UNMADE:
            return
        try:
            self.tell_errors()
        finally:                 # an interrupt may come while something is told
            self.begin_to_close()

    cdef int begin_to_close(self) except -1:
        if self.state >= CLOSING:
            return 0             # the protocol, told of an error, has closed it
        self.enter(CLOSING)
        self.forget_reader()
        self.lost_context = self.context_of_closing()
        if self.has_failed():
            self.lost_exc = self.delivery.errors[0] if self.delivery.errors else None
        try:
            self.send_all_deferred()
        finally:
            self.stop_receiving()
            self.lose_if_all_sent()
        return 0

    def abort(self):
        """Close without sending what is queued."""
        self._force_close(None)

    # -- what asyncio's own code calls and programs assign -----------------------------------------

    @property
    def __dict__(self):
        return attributes_of(self)

    def _start_reading(self, waiter):
        if self.state == UNMADE:
            return
        if self.state == STARTING:
            self.enter(OPEN)
        if self.state == OPEN and not self.delivery.paused:
            self.forget_reader()      # with asyncio the transport's own takes its place
        self.receiver.start()
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _force_close(self, exc):
        if self._conn_lost or self.state == UNMADE:
            return
        try:
            if self.state < CLOSING:
                self.tell_errors()
        finally:                 # see ``close``
            self.end_now(exc)

    cdef int end_now(self, object exc) except -1:
        if self._conn_lost:
            return 0             # the protocol, told of an error, has aborted it
        if self.state < CLOSING:
            self.enter(CLOSING)
            self.forget_reader()
        self.lost_context = self.context_of_closing()
        if exc is None and self.has_failed() and self.delivery.errors:
            exc = self.delivery.errors[0]
        if self.lost_exc is None:
            self.lost_exc = exc     # the first tells: what is sent now may fail because of it
        # An interrupt may come in each, while futures are told, say: it ends all the same.
        try:
            self.send_all_deferred()     # as asyncio has done at the call
        finally:
            self.aborted = True
            try:
                self.sender.drop_queue()
            finally:
                try:
                    self.lose()
                finally:
                    self.stop_receiving()
        return 0

    def _fatal_error(self, exc, message='Fatal error on transport'):
        if self.state == UNMADE:
            raise exc
        try:
            if not isinstance(exc, OSError):
                self.report(exc, message)
            elif self.loop._debug:
                logger.debug('%r: %s', self, message, exc_info=True)
        finally:                 # the program's exception handler may exit
            self._force_close(exc)

    def _write_on_lost(self):
        if self._conn_lost >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
            logger.warning('socket.send() raised exception.')
        self._conn_lost += 1

    def _set_batching(self, bint batching):
        """Whether the sends of a bulk may wait for the end of the turn."""
        self.sender.batching = batching

    def _given(self):
        """The socket is the program's own, who may use it besides."""
        self.sender.given = True

    def _descriptor_given(self):
        """The program has the socket's descriptor, and may do with it what it likes."""

    def _before_socket_changes(self):
        if self.state == UNMADE:
            return
        if self.loop is not None:
            send_deferred_datagrams(self.loop)       # which may be for this one
        self.sender.send_queued()
        self.sender.options_changed = True
        self.sender.look_at_options(False)

    def _before_socket_is_asked(self):
        """What leaves may meet an error, or come to this one."""
        if self.loop is not None:
            send_deferred_datagrams(self.loop)
        self.get_write_buffer_size()

    def _socket_has_changed(self):
        if self.state != UNMADE:
            self.sender.look_at_options(True)

    def _retry_sending(self):
        if self.state != UNMADE:
            self.sender.retry()

    def __setattr__(self, name, value):
        if name == '_sock':
            self.replace_socket(value)
        else:
            set_attribute(self, name, <PyObject*>value)

    def __delattr__(self, name):
        set_attribute(self, name, NULL)

    cdef int replace_socket(self, object sock) except -1:
        raise AttributeError(f"the socket of {self!r} can't be replaced")

    @property
    def _loop(self):
        return self.loop

    @property
    def _closing(self):
        return self.state >= CLOSING

    @_closing.setter
    def _closing(self, closing):
        if self.state == UNMADE:
            return
        if closing and self.state < CLOSING:
            self.state = CLOSING
        elif not closing and self.state == CLOSING:
            self.state = OPEN
            self.receiver.readable = True      # for all that anybody has looked
            if not self.delivery.paused:
                self.go_on_reading()

    @property
    def _protocol_paused(self):
        # asyncio's sendfile asks.
        return bool(self.sender.protocol_paused)

    @_protocol_paused.setter
    def _protocol_paused(self, paused):
        self.sender.protocol_paused = bool(paused)

    @property
    def _paused(self):
        return bool(self.delivery.paused)

    @_paused.setter
    def _paused(self, paused):
        if paused:
            self.delivery.paused = True
        elif self.delivery.paused:
            self.go_on_reading()

    @property
    def _high_water(self):
        return self.sender.high_water

    @_high_water.setter
    def _high_water(self, size):
        self.sender.high_water = size

    @property
    def _low_water(self):
        return self.sender.low_water

    @_low_water.setter
    def _low_water(self, size):
        self.sender.low_water = size

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

    # -- what the loop calls -----------------------------------------------------------------------

    cdef int result(self, operation* op, int res, uint32_t flags) except -1:
        if op.role == POLL_IN:
            return self.receiver.polled(res, op.due & RESULT_DUE != 0)
        if op.role == POLL_OUT:
            return self.sender.poll_ended(op, res)
        return self.sender.completed(op, res)

    cdef int notified(self, operation* op) except -1:
        return self.sender.notified(op)

    cdef int orphaned(self, operation* op) except -1:
        return self.sender.orphaned(op)

    cdef int deliver(self) except -1:
        return self.delivery.run() if self.state != UNMADE else 0

    cdef int send_deferred(self) except -1:
        return self.sender.send_queued()

    cdef int looked_at(self, bint readable) except -1:
        return self.receiver.looked_at(readable) if self.state < CLOSING else 0

    cdef int internal_error(self, object exc) except -1:
        return self.delivery.post_internal_error(exc)

    cdef int loop_closed(self) except -1:
        # Nothing more will leave of this.  What is sent later does, or fails, at once.
        self.sender.room = ROOM
        return self.sender.drop_queue()

    # -- what the parts call -----------------------------------------------------------------------

    cdef int flush_later(self) except -1:
        """Have ``flush()`` called at the end of the turn; from any thread."""
        if self.flush_scheduled:
            return 0
        self.flush_later_here()
        return self.loop.wake_from_elsewhere()

    cdef int flush_later_here(self) except -1:
        """The same, in the loop's own thread."""
        if not self.flush_scheduled:
            self.loop.flush_soon(self)
            self.flush_scheduled = True
        return 0

    cdef bint has_socket(self) except -1:
        """Whether the socket is open still.

        If the program has closed it, the number may be that of another.
        """
        return self._sock is not None and fd_of(self._sock) == self._sock_fd

    cdef int send_all_deferred(self) except -1:
        """What waits for the end of the turn leaves now: another transport's first."""
        send_deferred_datagrams(self.loop)
        return self.sender.send_queued()

    cdef bint has_failed(self) noexcept:
        """Whether a failed send is to end the transport, once what has come is read."""
        return False

    cdef operation* arm_poll(self, Role role, bint lasting=False) except NULL:
        """Have the ring say when there is something to read (POLL_IN), or room (POLL_OUT).

        ``lasting``: as often as that is news, until it is cancelled.
        """
        cdef operation* op = self.loop.operations.acquire_compact(self)
        cdef bint fixed = self.slot >= 0
        cdef io_uring_sqe* sqe
        op.role = role
        sqe = self.loop.ring.prepare(op, IORING_OP_POLL_ADD, self.slot if fixed else self._sock_fd,
                                     IOSQE_FIXED_FILE if fixed else 0,
                                     MULTISHOT if lasting else 0)
        # The kernel also tells of POLLRDHUP, of its own accord.
        sqe.poll32_events = POLLIN if role == POLL_IN else POLLOUT
        sqe.len = IORING_POLL_ADD_MULTI if lasting else 0
        return op

    cdef int stop_receiving(self) except -1:
        """Have the poll cancelled; at once if may be, as asyncio forgets the descriptor."""
        self.receiver.cancel_due = True
        if self.receiver.armed is NULL and self.sender.polling is NULL:
            return 0
        if self.loop.closing or not self.loop.owns_ring():
            return self.flush_later()
        self.cancel_requests()
        return self.loop.ring.submit_and_get_events()

    cdef int cancel_requests(self) except -1:
        """Cancel what is not to go on: once all is lost the poll for room, too."""
        if self.receiver.cancel_due and self.receiver.armed is not NULL:
            self.loop.ring.cancel(self.receiver.armed)
        self.receiver.cancel_due = False
        if self.state >= LOST and self.sender.polling is not NULL:
            self.loop.ring.cancel(self.sender.polling)
        return 0

    cdef int release_slot(self) except -1:
        """Give the registered file back, before the socket is closed."""
        return 0

    cdef int release_slot_later(self) except -1:
        """The same in another thread, where the collector may run."""
        return 0

    cdef int socket_closed(self) except -1:
        """The program has closed its socket, whose number is not to be used any more."""
        self._fatal_error(OSError(errno.EBADF, os.strerror(errno.EBADF)),
                          'Fatal error on transport')
        return 0

    cdef int resume_writing(self) except -1:
        if self.sender.protocol_paused and self.sender.buffered <= self.sender.low_water:
            self.sender.protocol_paused = False
            if self._protocol is not None:
                self.tell_protocol('resume_writing')
        return 0

    cdef int tell_protocol(self, str name) except -1:
        return tell(self.loop, self, self._protocol, name)

    cdef int tell_errors(self) except -1:
        """Tell of sends that have failed, if that comes at the call with asyncio: of datagrams."""
        return 0

    cdef int deliver_error(self, object exc) except -1:
        """Tell of an error of a send or, for datagrams, of a receive."""
        raise NotImplementedError

    cdef int end_by_internal_error(self, object exc) except -1:
        if self._sock is not None:
            self._fatal_error(exc, 'Fatal error on transport')
        return 0

    cdef int report(self, object exc, str message) except -1:
        self.loop.call_exception_handler({
            'message': message,
            'exception': exc,
            'transport': self,
            'protocol': self._protocol,
        })
        return 0

    # -- the end -------------------------------------------------------------------------------

    cdef int forget_reader(self) except -1:
        """Take what ``add_reader`` has registered for this descriptor out of the loop's epoll.

        As asyncio does.  Left there it would be in the way of who has the number next.
        """
        cdef SelectorWatch watch = self.loop.selector_watch
        if watch is not None and watch.watches(self._sock_fd):
            self.loop._remove_reader(self._sock_fd)
        return 0

    cdef int enter(self, State state) except -1:
        """Go on to ``state``.  Only the setter of ``_closing`` changes it besides.

        STARTING, OPEN, CLOSING, LOST and CLOSED follow one another; one that is aborted, or
        fails, passes CLOSING and goes on to LOST within one call.  From LOST it goes to HELD,
        and back, while the kernel keeps the socket.
        """
        assert state > self.state or state == LOST and self.state == HELD
        self.state = state
        return 0

    cdef object context_of_closing(self):
        """Where ``connection_lost`` runs: as asyncio has it, in the context that was given.

        Or else in a copy of that of the call that closes.
        """
        return self.delivery.context if self.has_context else PyContext_CopyCurrent()

    cdef int lose_if_all_sent(self) except -1:
        """If a transport that is being closed has nothing to send any more, it is lost."""
        if self.state == CLOSING and not self.sender.results_due \
                and not self.sender.has_queue() and not self.delivery.resume_due:
            return self.lose()
        return 0

    cdef int lose(self) except -1:
        """Have ``connection_lost`` called in the next turn, as asyncio does.

        In the context of the call that closed it.  Called again it does nothing.
        """
        cdef SelectorWatch watch
        if self.state == CLOSING:
            self._conn_lost += 1
            watch = self.loop.selector_watch
            if watch is not None and watch.watches(self._sock_fd):
                self.loop._remove_writer(self._sock_fd)      # see forget_reader
        elif self.state != HELD:
            return 0
        self.enter(LOST)
        self.loop.call_soon(self._call_connection_lost, self.lost_exc, context=self.lost_context)
        return 0

    cdef int lose_if_let_go(self) except -1:
        """An operation has ended: if it was the last that held the socket, go on closing."""
        return self.lose() if self.state == HELD and not self.in_kernel() else 0

    cdef bint in_kernel(self) noexcept:
        """Whether the kernel still has the socket, for a poll or a send."""
        return (self.receiver.armed is not NULL or self.sender.polling is not NULL
                or self.sender.results_due != 0)

    def _call_connection_lost(self, exc):
        if self.state == UNMADE:
            return
        if self.in_kernel():
            # Closing is asynchronous.  By now most have been cancelled; else later.
            self.enter(HELD)
            return
        self.aborted = False      # all of that has ended; what connection_lost sends is sent
        self.sender.room = ROOM
        self.release_slot()
        try:
            self._protocol.connection_lost(exc)
        finally:
            try:
                # What was sent in there leaves too, as with asyncio.
                self.sender.send_queued()
            finally:
                self.let_go()

    cdef int let_go(self) except -1:
        """Of the socket, and of all that is referred to, whatever comes in between."""
        try:
            self.sender.drop_queue()
        finally:
            self.loop._registry.leave(self._sock_fd, <PyObject*>self)
            try:
                if self._sock is not None:
                    self._sock.close()
            finally:
                self._sock = None
                self._protocol = None
                self.lost_exc = self.lost_context = None
                self.enter(CLOSED)
                self.delivery.discard()
        return 0


cdef int visit_attributes(PyObject* self, visitproc visit, void* arg) noexcept:
    cdef int code = traverse_fields(self, visit, arg)
    cdef PyObject* attributes = (<SocketTransport>self).attributes
    return visit(attributes, arg) if not code and attributes is not NULL else code


cdef int clear_attributes(PyObject* self) noexcept:
    Py_CLEAR((<SocketTransport>self).attributes)
    return clear_fields(self)


cdef traverseproc traverse_fields = replace_traverse(SocketTransport, visit_attributes)
cdef SocketTransport probe = SocketTransport.__new__(SocketTransport)
cdef inquiry clear_fields = give_attributes(
    SocketTransport, <char*>&probe.attributes - <char*><PyObject*>probe, clear_attributes)
probe = None
