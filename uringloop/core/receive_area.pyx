"""The memory that short pieces are received into, before they are copied out.

A loop has one such area for all of its transports.  Whoever receives into it makes Python
objects of everything before any code of the program runs, for that may come to receive, too.
It is mapped when the loop first receives, and touched no further than pieces are long.
"""
cimport cython
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from posix.mman cimport munmap

from uringloop.ring.guard cimport guard_shown
from uringloop.ring.mapped cimport mapped


cdef enum:
    RESERVE = 262144          # as much as asyncio's loop asks for each time it receives
    KEPT_SIZE = 2097152


@cython.final
cdef class ReceiveArea:
    """The area of one loop."""

    def __dealloc__(self):
        if self.area is not NULL:
            guard_shown(self.area.content, ALL_ROOM)
            munmap(self.area, sizeof(receive_area))
        self.give_up_reserve()

    cdef receive_area* get(self) except NULL:
        """The area; MemoryError if there is no memory for it."""
        if self.area is NULL:
            self.map()
        guard_shown(self.area.content, ALL_ROOM)
        return self.area

    cdef int map(self) except -1:
        cdef receive_area* area = <receive_area*>mapped(sizeof(receive_area))
        cdef msghdr* message
        cdef int i
        for i in range(BATCH):
            area.vectors[i].iov_base = area.content + i * ROOM
            area.vectors[i].iov_len = ROOM
            message = &area.messages[i].msg_hdr
            message.msg_iov = &area.vectors[i]
            message.msg_iovlen = 1
            message.msg_name = &area.names[i]
            message.msg_control = area.control + i * CONTROL_ROOM
        make_ready(area, BATCH)
        self.area = area
        self.reserve = mapped(RESERVE)
        return 0

    cdef void give_up_reserve(self) noexcept:
        """For the program, when memory runs out and a transport ends.

        asyncio's loop, which asks for as much each time it receives, leaves as much.
        """
        if self.reserve is not NULL:
            munmap(self.reserve, RESERVE)
            self.reserve = NULL


cdef bint heap_is_kept = False


cdef void keep_heap() noexcept:
    """Have what is read next come into memory that the process still has.

    glibc gives back the top of its heap when more is free there than twice the largest block
    that was ever freed, and what it asks for again has to be cleared by the kernel, page by
    page.  (60,000 bytes echoed to 16 connections: half the rate.)  So it is shown a large
    block, which is not touched.  Where the program has set the limit itself that has no effect.
    """
    global heap_is_kept
    if heap_is_kept:
        return
    heap_is_kept = True
    PyMem_RawFree(PyMem_RawMalloc(KEPT_SIZE))
