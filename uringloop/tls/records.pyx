"""The half of asyncio's TLS protocol that each message passes.

``asyncio.sslproto.SSLProtocol`` shuffles bytes between a transport and an ``ssl`` object in Python,
which takes as long as cryptography and kernel together where messages are short.  So what every
message passes is compiled here, step by step as asyncio does it, on attributes of asyncio's names.
What comes once a connection (handshake, shutdown, time-outs, errors) is asyncio's own.

It is asyncio's of Python 3.11 and later; the one before is another, and left alone.
"""
from cpython.buffer cimport PyBUF_READ
from cpython.memoryview cimport PyMemoryView_FromMemory

from asyncio import sslproto

cdef enum:
    RECORD_SIZE = 16384         # of the longest plaintext: RFC 8446, 5.1.  A read returns one
    BUFFER_SIZE = 262144        # asyncio's

cdef object STATES = getattr(sslproto, 'SSLProtocolState', None)
cdef object UNWRAPPED = getattr(STATES, 'UNWRAPPED', None)
cdef object DO_HANDSHAKE = getattr(STATES, 'DO_HANDSHAKE', None)
cdef object WRAPPED = getattr(STATES, 'WRAPPED', None)
cdef object FLUSHING = getattr(STATES, 'FLUSHING', None)
# ssl wants more of what comes.
cdef object AGAIN = getattr(sslproto, 'SSLAgainErrors', ())


cdef class RecordFlow:
    """Stands before asyncio's class among the bases of ``protocol.SSLProtocol``."""

    # -- in --------------------------------------------------------------------------------------

    cdef int received(self, char* content, Py_ssize_t length) except -1:
        """So much has come, and lies in memory that is used anew for what comes next."""
        self._incoming.write(PyMemoryView_FromMemory(content, length, PyBUF_READ))
        return self.has_come()

    def get_buffer(self, sizehint):
        """For a transport that is not this loop's own, which receives elsewhere."""
        if not self._ssl_buffer:
            self._ssl_buffer = bytearray(BUFFER_SIZE)
            self._ssl_buffer_view = memoryview(self._ssl_buffer)
        return self._ssl_buffer_view

    def buffer_updated(self, nbytes):
        self._incoming.write(self._ssl_buffer_view[:nbytes])
        self.has_come()

    cdef int has_come(self) except -1:
        state = self._state
        if state is WRAPPED:
            return self.read()
        if state is DO_HANDSHAKE:
            self._do_handshake()
        elif state is FLUSHING:
            self._do_flush()
        elif state is not UNWRAPPED:
            self._do_shutdown()
        return 0

    def _do_read(self):
        self.read()

    cdef int read(self) except -1:
        if self._state is not WRAPPED and self._state is not FLUSHING:
            return 0
        try:
            if not self._app_reading_paused:
                if self._app_protocol_is_buffer:
                    self._do_read__buffered()
                else:
                    self.read_copied()
                # Reading may want to write: the answer to a new key, say.
                if self._write_backlog:
                    self.write_backlog()
                else:
                    self.send_records()
            self.pause_or_resume_reading()
        except Exception as exc:
            self._fatal_error(exc, 'Fatal error on SSL protocol')
        return 0

    cdef int read_copied(self) except -1:
        """All that has come, as one piece; and then the end, if that has come."""
        cdef list pieces = []
        read, incoming = self._sslobj.read, self._incoming
        piece = None
        try:
            while True:
                piece = read(RECORD_SIZE)
                if not piece:
                    break
                pieces.append(piece)
                # Another read would say that it wants more, by an exception.
                if not incoming.pending and not self._sslobj.pending():
                    break
        except AGAIN:
            piece = None
        if pieces:
            self._app_protocol.data_received(
                pieces[0] if len(pieces) == 1 else b''.join(pieces))
        if piece is not None and not piece:
            self._call_eof_received()
            self._start_shutdown()
        return 0

    cdef int pause_or_resume_reading(self) except -1:
        size = self._incoming.pending
        if (size <= self._incoming_low_water if self._ssl_reading_paused
                else size >= self._incoming_high_water):
            self._control_ssl_reading()
        return 0

    # -- out -------------------------------------------------------------------------------------

    cdef int write(self, object data) except -1:
        """What the program writes."""
        if self._state is not WRAPPED:
            self._write_appdata((data,))
            return 0
        self._write_backlog.append(data)
        self._write_buffer_size += len(data)
        try:
            self.write_backlog()
        except Exception as exc:
            self._fatal_error(exc, 'Fatal error on SSL protocol')
        return 0

    def _do_write(self):
        self.write_backlog()

    cdef int write_backlog(self) except -1:
        backlog, write = self._write_backlog, self._sslobj.write
        cdef Py_ssize_t length, written
        try:
            while backlog:
                data = backlog[0]
                written = write(data)
                length = len(data)
                if written < length:
                    backlog[0] = data[written:]
                    self._write_buffer_size -= written
                else:
                    del backlog[0]
                    self._write_buffer_size -= length
        except AGAIN:
            pass
        return self.send_records()

    def _process_outgoing(self):
        self.send_records()

    cdef int send_records(self) except -1:
        outgoing = self._outgoing
        if not self._ssl_writing_paused and outgoing.pending:
            self._transport.write(outgoing.read())
        return self.pause_or_resume_writing()

    cdef int pause_or_resume_writing(self) except -1:
        size = self._outgoing.pending + self._write_buffer_size
        if (size <= self._outgoing_low_water if self._app_writing_paused
                else size >= self._outgoing_high_water):
            self._control_app_writing()
        return 0


class SSLTransport(sslproto._SSLProtocolTransport):
    """What the program has of it; programs look for "ssl" in the name, as in asyncio's."""

    def write(self, data):
        """Write some bytes; as asyncio's."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f'data: expecting a bytes-like instance, got {type(data).__name__}')
        if data:
            protocol = self._ssl_protocol
            if isinstance(protocol, RecordFlow):
                (<RecordFlow>protocol).write(data)
            else:
                protocol._write_appdata((data,))     # None, after two close()s: as with asyncio
