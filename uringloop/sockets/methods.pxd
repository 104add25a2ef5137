"""The ``sock_*`` methods' halves that don't wait."""
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from uringloop.core.loop_core cimport LoopCore
from uringloop.ring.abi cimport sockaddr_storage
from uringloop.ring.payloads cimport payload
from uringloop.ring.reports cimport BatchReport
from uringloop.sockets.calls cimport SocketCall
from uringloop.sockets.zerocopy_sends cimport ZerocopySends


cdef class SocketCore(LoopCore):
    cdef:
        ZerocopySends zerocopy_sends
        PyObject* receive_memory        # memory to receive into, not yet handed out, or NULL
        Py_ssize_t receive_memory_size

    cdef int check_socket(self, object sock) except -1
    cdef bint is_ring_socket(self, object sock) except -1
    cdef int before_send(self) except -1
    cdef SocketCall new_call(self, object sock)
    cdef SocketCall new_turn(self, object sock)
    cdef object receive_now(self, object sock, Py_ssize_t size, bint named, str name)
    cdef object receive_into_now(
        self, object sock, object buf, Py_ssize_t nbytes, bint named, str name)
    cdef bint is_numeric(self, object address, int family) except -1
    cdef ssize_t send_at_once(
        self, object sock, object data, object address, object future) except? -1
    cdef BatchReport report_of_refused(self, object future)
    cdef object own_or_registered(self, object data, payload* memory, bint explicit)
    cdef bint may_go_zerocopy(self, int family, payload* memory, size_t datagram, bint explicit,
                              sockaddr_storage* destination, uint32_t length) except -1
    cdef ssize_t send_train(self, object sock, object owner, payload* part, size_t segment,
                            sockaddr_storage* destination, uint32_t length,
                            BatchReport report, bint* refused) except? -1
