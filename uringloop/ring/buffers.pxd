"""Provided buffers: what the kernel receives into."""
from cpython.object cimport PyObject

from uringloop.ring.abi cimport io_uring_buf_ring
from uringloop.ring.ring cimport Ring


cdef enum:
    # What the kernel writes before the payload of an AF_INET datagram, io_uring_recvmsg_out
    # (16 bytes) and sockaddr_in (16), is just as long as the head of a bytes object.
    HEAD = 32
    EXPORT_MINIMUM = 8192  # shorter datagrams are copied out, and their buffer stays


cdef class ReceiveBuffers:
    cdef:
        Ring ring
        io_uring_buf_ring* entries
        size_t entries_size
        PyObject** objects            # bytes objects, whose heads the kernel overwrites
        char saved_head[HEAD]         # the head of a fresh one, where that is HEAD long
        size_t skip                   # of each object's memory: the kernel writes behind it
        size_t size                   # of one object, with its head
        unsigned count                # how many there may be
        unsigned provided             # how many the kernel has been given so far
        unsigned missing              # of those: there was no memory for another
        int group
        int average                   # length of what came last, of streams

    cdef char* at(self, unsigned number) noexcept
    cdef void recycle(self, unsigned number) noexcept
    cdef bint provide(self, unsigned goal) noexcept
    cdef bint provide_more(self) noexcept
    cdef object export_bytes(self, unsigned number, Py_ssize_t length)
