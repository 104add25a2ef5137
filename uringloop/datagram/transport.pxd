"""Datagram transports."""
from libc.stdint cimport uint32_t

from uringloop.ring.abi cimport sockaddr_storage
from uringloop.transport.socket_transport cimport SocketTransport


cdef class DatagramTransport(SocketTransport):
    cdef:
        public object _address     # as asyncio: what all datagrams are sent to, or None
        uint32_t ring_id           # of the ring that has ``slot``

    cdef bint needs_no_address(self, object addr) noexcept
    cdef bint to_kernel(self, object addr, sockaddr_storage* into, uint32_t* length) except -1
    cdef int join_ring(self) except -1
    cdef int register_socket(self) except -1
