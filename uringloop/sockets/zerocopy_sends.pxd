"""Zero-copy sends on the program's own sockets."""
from libc.stdint cimport uint32_t

from uringloop.core.loop_core cimport LoopCore
from uringloop.ring.abi cimport sockaddr_storage
from uringloop.ring.operations cimport OperationOwner, operation
from uringloop.ring.payloads cimport payload
from uringloop.ring.reports cimport BatchReport


cdef class ZerocopySends(OperationOwner):
    cdef:
        LoopCore loop
        operation* sending     # whose result is awaited
        int res                # its result
        operation* refused     # if that is an error, and the kernel has not let go of it yet

    cdef bint sent_otherwise(self, ssize_t nbytes) noexcept
    cdef int report_refused(self, object future, BatchReport report) except -1

    cdef bint may_send(self) noexcept
    cdef ssize_t send(self, int fd, object owner, payload* memory, size_t segment_size,
                      sockaddr_storage* address, uint32_t length, object future) except? -1
    cdef bint submit(self, operation* op, int fd) except -1
    cdef int take_back(self, operation* op) except -1
