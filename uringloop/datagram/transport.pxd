"""Datagram transports."""
from libc.stdint cimport uint32_t

from uringloop.ring.abi cimport sockaddr_storage
from uringloop.ring.payloads cimport payload
from uringloop.ring.registered_memory cimport LentMemory
from uringloop.transport.socket_transport cimport SocketTransport


cdef class DatagramTransport(SocketTransport):
    cdef:
        public object _address     # as asyncio: what all datagrams are sent to, or None
        uint32_t ring_id           # of the ring that has ``slot``
        object packed_for          # what ``packed`` says: (ecn, source, type of ecn)
        double packed_until        # when it is to be looked at again, by clock_coarse()
        bytes packed               # the control messages of sendto_with() last time

    cdef bint needs_no_address(self, object addr) noexcept
    cdef bint to_kernel(self, object addr, sockaddr_storage* into, uint32_t* length) except -1
    cdef int send_with(self, bytes data, bytes control, int flags, bint alone,
                       object addr) except -1
    cdef object find_registered(self, object data, payload* memory)
    cdef int check_loop(self, LentMemory memory) except -1
    cdef int check_made(self) except -1
    cdef int to_kernel_or_raise(self, object addr, sockaddr_storage* into,
                                uint32_t* length) except -1
    cdef object checked_address(self, object addr)
    cdef int refuse(self, object future, size_t dropped, size_t count, str of) except -1
    cdef object find_lent(self, object data, payload* memory)
    cdef int join_ring(self) except -1
    cdef int register_socket(self) except -1
