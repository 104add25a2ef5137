"""Datagrams of one call that leave as few sends: what ``sendto_many`` gathers."""
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from uringloop.datagram.sender cimport DatagramSender
from uringloop.ring.abi cimport iovec, sockaddr_storage
from uringloop.ring.operations cimport flag
from uringloop.ring.payloads cimport payload
from uringloop.ring.trains cimport SEGMENTS


cdef struct gathering:
    unsigned count                 # datagrams
    unsigned pieces                # of memory, in ``vectors``
    size_t total                   # bytes
    size_t segment                 # of each datagram, but the last
    iovec vectors[SEGMENTS]
    PyObject* owners[SEGMENTS]     # of each datagram; borrowed from who gathers
    flag immutable[SEGMENTS]
    flag all_immutable
    flag lent                      # all of it
    sockaddr_storage* address
    uint32_t address_length


cdef int gather(gathering* these, DatagramSender sender, object owner, payload* memory,
                sockaddr_storage* address, uint32_t address_length) except -1
cdef int send_gathered(gathering* these, DatagramSender sender) except -1
cdef int end_batch(gathering* these, DatagramSender sender) except -1
