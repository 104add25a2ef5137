"""Stream transports."""
from uringloop.ring.operations cimport flag
from uringloop.transport.socket_transport cimport SocketTransport


cdef class StreamTransport(SocketTransport):
    cdef:
        object server
        public object _empty_waiter
        Py_ssize_t writes_after_failure
        flag wrote_eof          # write_eof() was called
        flag foreign_socket     # the program has put an object of its own in the socket's place

    cdef bint writes_in_vain(self) except -1
    cdef int has_ended(self, object exc) except -1
