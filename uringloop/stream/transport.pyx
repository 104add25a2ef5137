"""Stream transports.

How a stream's bytes leave is in ``sender``, how they come in ``receiver``.
"""
from cpython.object cimport PyObject

from uringloop._cpython cimport family_of, fd_of, proto_of, type_of
from uringloop.core.loop_core cimport LoopCore, send_deferred_datagrams
from uringloop.memory.leases cimport Lease
from uringloop.ring.abi cimport AF_UNIX, SOCK_STREAM, socklen_t
from uringloop.ring.payloads cimport find_payload, payload
from uringloop.stream.receiver cimport StreamReceiver
from uringloop.stream.sender cimport StreamSender
from uringloop.tls.records cimport RecordFlow
from uringloop.transport.socket_transport cimport CLOSING, UNMADE, SocketTransport

import asyncio
import inspect
import os
import socket
from asyncio import base_events, constants, selector_events
from asyncio.log import logger

from uringloop._cpython import with_attributes


cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<sys/socket.h>" nogil:
    int setsockopt(int, int, int, const void*, socklen_t)

cdef extern from "<netinet/in.h>":
    enum:
        IPPROTO_TCP

cdef extern from "<netinet/tcp.h>":
    enum:
        TCP_NODELAY

# Python 3.13's servers want to know their transports; older ones only count them.
cdef bint SERVER_KNOWS = 'transport' in inspect.signature(base_events.Server._attach).parameters

cdef object SystemSocket = socket.SocketType


cdef class StreamTransport(SocketTransport):
    """asyncio's socket transport on the ring: TCP and AF_UNIX."""

    # What asyncio's own code asks transports for.
    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE

    def __cinit__(self):
        self.receiver = StreamReceiver.__new__(StreamReceiver)
        self.sender = StreamSender.__new__(StreamSender)

    def __init__(self, LoopCore loop, sock, protocol, waiter=None, extra=None, server=None,
                 context=None):
        cdef int one = 1
        self.server = server
        if server is not None:
            if SERVER_KNOWS:
                server._attach(self)
            else:
                server._attach()
        # Small writes go out at once, as asyncio has it.
        if not issubclass(type(sock), SystemSocket):
            base_events._set_nodelay(sock)
        elif family_of(sock) != AF_UNIX and type_of(sock) == SOCK_STREAM \
                and proto_of(sock) == IPPROTO_TCP \
                and setsockopt(fd_of(sock), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0:
            raise OSError(errno_now, os.strerror(errno_now))
        self.set_up(loop, sock, protocol, waiter, extra, context)

    def __del__(self):
        unclosed = self._sock is not None
        SocketTransport.__del__(self)
        if unclosed and self.server is not None and SERVER_KNOWS:
            # As asyncio's, from 3.13 on.
            self.server._detach(self)

    @property
    def __class__(self):
        # asyncio's class cannot be a base: its slots conflict in layout.
        return selector_events._SelectorSocketTransport

    # -- names that asyncio's has, to be read and assigned -----------------------------------------

    max_size = 256 * 1024

    @property
    def _server(self):
        return self.server

    @_server.setter
    def _server(self, server):
        self.server = server

    @property
    def _read_ready_cb(self):
        # What it is nobody asks; but tests ask whether it still is.
        return None if self.state >= CLOSING else self.resume_reading

    @property
    def _eof(self):
        return bool(self.wrote_eof)

    @_eof.setter
    def _eof(self, eof):
        self.wrote_eof = bool(eof)

    def set_protocol(self, protocol):
        """Call another protocol from now on."""
        cdef StreamReceiver receiver = <StreamReceiver>self.receiver
        receiver.buffered = isinstance(protocol, asyncio.BufferedProtocol)
        receiver.records = <RecordFlow>protocol if isinstance(protocol, RecordFlow) else None
        SocketTransport.set_protocol(self, protocol)

    cdef int replace_socket(self, object sock) except -1:
        """Tests put an object of their own in the place of the socket: it is to be asked.

        None: the socket is taken away, say for another transport.
        """
        self._sock = sock
        if sock is None and self.loop is not None:
            self.loop._registry.leave(self._sock_fd, <PyObject*>self)
        if self.state >= CLOSING or self.loop is None:
            return 0
        self.foreign_socket = True
        return (<StreamReceiver>self.receiver).use_foreign_socket()

    # -- writing -------------------------------------------------------------------------------

    def write(self, data):
        """Send ``data``; never waits.

        Exact ``bytes``, leases of a buffer pool and views of these are not copied; anything
        else is before this returns.
        """
        if not isinstance(data, (bytes, bytearray, memoryview, Lease)):
            raise TypeError(f'data argument must be a bytes-like object, '
                            f'not {type(data).__name__!r}')
        if self.wrote_eof:
            raise RuntimeError('Cannot call write() after write_eof()')
        if self._empty_waiter is not None:
            raise RuntimeError('unable to write; sendfile is in progress')
        if not data:
            return
        if self.writes_in_vain():
            return
        if type(data) is memoryview and not data.c_contiguous:
            self._fatal_error(BufferError('memoryview: underlying buffer is not C-contiguous'),
                              'Fatal write error on socket transport')
            return
        send_deferred_datagrams(self.loop)
        (<StreamSender>self.sender).write(data)

    def writelines(self, list_of_data):
        """Send all of ``list_of_data``, without joining it."""
        cdef payload memory
        if self.wrote_eof:
            raise RuntimeError('Cannot call writelines() after write_eof()')
        if self._empty_waiter is not None:
            raise RuntimeError('unable to writelines; sendfile is in progress')
        pieces = []
        for data in list_of_data:
            pieces.append(data if isinstance(data, (bytes, bytearray)) else memoryview(data))
        if self.writes_in_vain():
            return
        send_deferred_datagrams(self.loop)
        for data in pieces:
            if type(data) is memoryview:
                # What raises (it is not contiguous, or of a lease that was released) does so
                # before any of it is queued.
                find_payload(data, &memory)
        (<StreamSender>self.sender).write_all(pieces)

    def can_write_eof(self):
        """Whether ``write_eof()`` may be called."""
        return True

    def write_eof(self):
        """Close the sending half once everything is sent."""
        cdef StreamSender sender = <StreamSender>self.sender
        if self.state >= CLOSING or self.state == UNMADE or self.wrote_eof or self.has_failed():
            return
        send_deferred_datagrams(self.loop)
        self.wrote_eof = True
        if not sender.count:
            sender.shut = True
            self._sock.shutdown(socket.SHUT_WR)

    def _make_empty_waiter(self):
        if self._empty_waiter is not None:
            raise RuntimeError('Empty waiter is already set')
        if self.state == UNMADE:
            raise RuntimeError(f'{type(self).__name__}.__init__() was not called')
        self._empty_waiter = self.loop.new_future()
        if not self.sender.has_queue():
            self._empty_waiter.set_result(None)
        return self._empty_waiter

    def _reset_empty_waiter(self):
        self._empty_waiter = None

    def _descriptor_given(self):
        # It may write a head here and send what follows by itself.
        self.sender.batching = False

    cdef bint has_failed(self) noexcept:
        return self.delivery.errors is not None

    cdef bint writes_in_vain(self) except -1:
        """Whether nothing is sent any more.  Such writes are counted, as with asyncio."""
        if self._conn_lost:
            self._write_on_lost()
            return True
        if not self.has_failed():
            return False
        # asyncio counts in ``_conn_lost``.
        self.writes_after_failure += 1
        if self.writes_after_failure >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
            logger.warning('socket.send() raised exception.')
        return True

    cdef int deliver_error(self, object exc) except -1:
        self._fatal_error(exc, 'Fatal write error on socket transport')
        return 0

    # -- the ring ----------------------------------------------------------------------------------

    cdef int flush(self) except -1:
        self.flush_scheduled = False
        if self._sock is None or self.loop.closing:
            return 0
        if not self.foreign_socket and not self.has_socket():
            # The number may be another's.
            self.socket_closed()
        else:
            (<StreamSender>self.sender).flush_queue()
        return self.receiver.arm_or_cancel()

    # -- the end -------------------------------------------------------------------------------

    def _call_connection_lost(self, exc):
        try:
            SocketTransport._call_connection_lost(self, exc)
        finally:
            if self._sock is None:           # else it is to come
                self.has_ended(exc)

    cdef int has_ended(self, object exc) except -1:
        if self._empty_waiter is not None and not self._empty_waiter.done():
            self._empty_waiter.set_exception(
                ConnectionError('Connection is closed by peer') if exc is None else exc)
        server, self.server = self.server, None
        if server is not None:
            if SERVER_KNOWS:
                server._detach(self)
            else:
                server._detach()
        return 0


globals()['StreamTransport'] = with_attributes(StreamTransport)
