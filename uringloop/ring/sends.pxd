"""Sends as submissions: what a queued operation asks the kernel for."""
from uringloop.ring.abi cimport io_uring_sqe
from uringloop.ring.operations cimport operation
from uringloop.ring.ring cimport Ring

cdef io_uring_sqe* prepare_send(
    Ring ring, operation* op, int fd, unsigned flags, unsigned traits) except NULL
