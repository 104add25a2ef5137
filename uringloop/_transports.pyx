"""What datagram and stream transports have in common.

What the kernel completes goes into an inbox while completions are drained;
``deliver`` later calls the protocol with it, in the transport's context.
"""
from cpython.contextvars cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_INCREF
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memmove

from uringloop._core cimport LoopCore
from uringloop._heads cimport family_of, fd_of
from uringloop._operations cimport Completer, operation
from uringloop._registry cimport Registry
from uringloop._ring cimport AF_INET, AF_INET6, AF_UNIX, sockaddr, sockaddr_storage, socklen_t
from uringloop._uring cimport this_thread

import warnings
from asyncio import constants
from asyncio.log import logger
from asyncio.trsock import TransportSocket


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

cdef extern from "<sys/socket.h>" nogil:
    int getsockname(int, sockaddr*, socklen_t*)
    int getpeername(int, sockaddr*, socklen_t*)

cdef extern from "Python.h":
    int set_attribute "PyObject_GenericSetAttr" (object, object, PyObject*) except -1


# Kept: a finalizer may run when the interpreter has emptied the modules already.
cdef object warn = warnings.warn

cdef enum:
    ALL_AT_ONCE = 65536       # bytes; a closing transport sends more through the ring


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


cdef class SocketTransport(Completer):

    def __cinit__(self):
        self._sock_fd = -1

    cdef int set_up(self, LoopCore loop, sock, protocol, waiter, extra) except -1:
        if self.loop is not None:
            raise RuntimeError(f'{self!r} is made already')
        self.loop = loop
        self._sock = self.wrapped = sock
        self._sock_fd = sock.fileno()
        self.family = family_of(sock)
        self.sockname = name_of(loop, sock, self.family, False)
        if extra and 'peername' in extra:
            self.peername = extra['peername']
            self.extra = dict(extra) if len(extra) > 1 else None
        else:
            self.peername = name_of(loop, sock, self.family, True)
            self.extra = dict(extra) if extra else None
        self.context = PyContext_CopyCurrent()
        self.set_write_buffer_limits()
        self.set_protocol(protocol)
        if self.registry is NULL:
            Py_INCREF(loop._registry)
            self.registry = <PyObject*>loop._registry
        loop._registry.enter(self._sock_fd, self)
        loop.call_soon(protocol.connection_made, self)
        # Only start reading when connection_made() has been called, and only wake up the
        # waiter when both have.
        loop.call_soon(self._start_reading, waiter)
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
        if self._sock is not None:
            warn(f'unclosed transport {self!r}', ResourceWarning, source=self)
            if self.loop.is_at_home():
                self.leave_ring()
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
            info.append(f'write=<{"polling" if self.in_chain else "idle"}, '
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
            self.wrapped = TransportSocket(self.wrapped)
        return self.wrapped

    def get_protocol(self):
        """The protocol that this transport calls."""
        return self._protocol

    def set_protocol(self, protocol):
        """Call another protocol from now on."""
        self._protocol = protocol

    def is_closing(self):
        """Whether the transport is closing or closed."""
        return self._closing

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

    def get_write_buffer_size(self):
        """Bytes that the socket has not accepted yet."""
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
        self.high_water = high
        self.low_water = low
        self.maybe_pause()

    def close(self):
        """Stop receiving, send what is queued, then close: ``connection_lost(None)``."""
        if self._closing:
            return
        self._closing = True
        self.lost_context = PyContext_CopyCurrent()
        if self.buffered < ALL_AT_ONCE:
            self.send_at_last()
            self.maybe_resume()
        self.stop_receiving()
        self.all_sent()

    def abort(self):
        """Close without sending what is queued."""
        self._force_close(None)

    def _force_close(self, exc):
        if self._conn_lost:
            return
        self._closing = True
        self.lost_context = PyContext_CopyCurrent()
        self.send_at_last()
        self._conn_lost += 1
        self.lost_exc = exc
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

    # -- what subclasses give ------------------------------------------------------------------

    cdef int drop_queue(self) except -1:
        """Forget what is queued and not yet given to the kernel."""
        return 0

    cdef bint has_queue(self) noexcept:
        return False

    cdef int send_at_last(self) except -1:
        """What is queued leaves now if there is room, as asyncio would have sent it at the call."""
        return 0

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

    cdef int forget(self) except -1:
        # The loop is closed: nothing more will leave.
        return self.drop_queue()

    # -- the ring's side -----------------------------------------------------------------------

    cdef int flush_later(self) except -1:
        """Have ``flush()`` called at the end of the turn."""
        if self.flush_due:
            return 0
        self.flush_quietly()
        if self.loop.thread == 0:
            # Called while the loop does not run: asyncio would send at once.
            self.flush_now()
        elif self.loop.thread != this_thread():
            # Not allowed, but asyncio's would work most of the time.
            self.loop._write_to_self()
        return 0

    cdef int flush_quietly(self) except -1:
        # While completions are settled nothing may enter the kernel.
        if not self.flush_due:
            self.loop.flush_soon(self)
            self.flush_due = True
        return 0

    cdef int flush_now(self) except -1:
        if self.loop.ring is None or self.loop.ring.thread != this_thread():
            return 0
        self.flush()
        if self.inbox_count:
            # The protocol answers what is in there: it is not to be filled meanwhile.
            return self.loop.ring.submit()
        return self.loop.ring.poll()

    cdef int stop_receiving(self) except -1:
        """Have the receive called back; at once if may be, as asyncio forgets the descriptor."""
        self.cancel_due = True
        cdef bint sends = self.aborted and self.in_chain
        if self.receiving is NULL and not sends:
            return 0
        if self.loop.closing or self.loop.ring is None or not self.loop.ring.is_usable() \
                or self.loop.ring.thread != this_thread():
            return self.flush_later()
        self.cancel_due = False
        if self.receiving is not NULL:
            self.loop.ring.cancel(self.receiving)
        if sends:
            self.cancel_sends()
        return self.loop.ring.poll()

    cdef int cancel_sends(self) except -1:
        cdef uint32_t i
        cdef operation* op
        for i in range(self.loop.operations.capacity if self.in_chain else 0):
            op = self.loop.operations.slots[i]
            if op.duties and op.owner is <PyObject*>self and op is not self.receiving:
                self.loop.ring.cancel(op)
        return 0

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

    cdef int schedule_delivery(self) except -1:
        if not self.delivering:
            self.delivering = True
            if self.loop.thread:
                self.loop.push(self)
            else:
                # What was waiting when the loop starts to run goes first.
                self.loop.late.append(self)
        return 0

    cdef int deliver(self) except -1:
        """Call the protocol with what has come, in the transport's context."""
        cdef event item
        # What comes meanwhile has to wait for its turn, as everything else.
        cdef size_t left = self.inbox_count
        self.delivering = False
        if PyContext_Enter(self.context) < 0:
            return -1
        try:
            while left and self.inbox_count and not self.paused_reading:
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
                self.resume_writing()
                self.all_sent()
        finally:
            PyContext_Exit(self.context)
            # After an exception that went on, say a KeyboardInterrupt.
            if self.errors or self.resume_due or not self.paused_reading and (
                    self.inbox_count or self.readable and not self._closing):
                self.schedule_delivery()
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

    cdef int all_sent(self) except -1:
        """Nothing is queued or in flight: a transport that is being closed may be."""
        if self._closing and not self._conn_lost and not self.in_chain \
                and not self.has_queue() and not self.resume_due:
            self._conn_lost += 1
            self.maybe_finish()
        return 0

    cdef int maybe_finish(self) except -1:
        """Closing is asynchronous: the kernel must first have let go of the socket."""
        if self._conn_lost and not self.finished and self.receiving is NULL \
                and self.in_chain == 0:
            self.finished = True
            # In the context of the call that closed it, as asyncio has it.
            self.loop.call_soon(
                self._call_connection_lost, self.lost_exc, context=self.lost_context)
        return 0

    def _call_connection_lost(self, exc):
        self.leave_ring()
        try:
            self._protocol.connection_lost(exc)
        finally:
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
