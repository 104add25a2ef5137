"""Provided buffers: what the kernel receives into."""
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR
from libc.stdint cimport uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from posix.mman cimport (
    MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap, munmap)

from uringloop._cpython cimport (
    BYTES_HEAD_SIZE, allocate_bytes_or_null, bytes_content, resize_bytes)
from uringloop.ring.abi cimport (
    io_uring_buf, io_uring_buf_reg, io_uring_buf_ring_add, io_uring_buf_ring_advance,
    io_uring_buf_ring_init, io_uring_buf_ring_mask, io_uring_register_buf_ring,
    io_uring_unregister_buf_ring)

import os

cdef extern from "Python.h":
    void PyErr_Clear() noexcept

# Objects of a Python without the GIL begin with more.  What the kernel received is copied there.
cdef bint HEAD_KNOWN = BYTES_HEAD_SIZE == HEAD


cdef class ReceiveBuffers:
    """A provided-buffer ring: the kernel takes a buffer for each datagram that comes.

    The buffers are the memory of ``bytes`` objects that nobody has seen yet, head
    and all.  What the kernel puts before the payload of an AF_INET datagram is as
    long as that head, so the payload lands where the object's content belongs:
    a long datagram is handed to the program as it is, and a fresh object takes
    its place.  (Where the head is of another length the kernel gets the content
    only, and what it has put there is copied.)

    Few buffers are provided at first: the kernel walks through all of them in
    turn, so that a small number stays in the processor's cache.  When they run
    out (ENOBUFS) more are, up to ``count``.  Where there is no memory for one, the
    kernel has one less, until there is.

    ``content_only`` buffers are for streams, where nothing comes before the payload:
    the kernel gets the objects' contents only.
    """

    def __cinit__(self, Ring ring, int group, unsigned count, size_t capacity,
                  unsigned provided, bint content_only):
        cdef io_uring_buf_reg registration
        cdef void* place
        self.entries_size = count * sizeof(io_uring_buf)
        place = mmap(NULL, self.entries_size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        if place == MAP_FAILED:
            raise MemoryError
        self.entries = <io_uring_buf_ring*>place
        self.objects = <PyObject**>calloc(count, sizeof(PyObject*))
        if self.objects is NULL:
            raise MemoryError
        self.ring = ring
        self.group = group
        self.count = count
        self.size = HEAD + capacity
        self.skip = HEAD if content_only else 0
        # The kernel may write here until the ring is torn down.
        ring.keepalive.append(self)
        memset(&registration, 0, sizeof(registration))
        registration.ring_addr = <uint64_t><uintptr_t>place
        registration.ring_entries = count
        registration.bgid = group
        code = io_uring_register_buf_ring(&ring.ring, &registration, 0)
        if code < 0:
            ring.keepalive.remove(self)
            raise OSError(-code, f'provided buffers: {os.strerror(-code)}')
        io_uring_buf_ring_init(self.entries)
        if not self.provide(provided):
            io_uring_unregister_buf_ring(&ring.ring, group)
            ring.keepalive.remove(self)
            raise MemoryError

    def __dealloc__(self):
        cdef unsigned i
        for i in range(self.provided):
            if self.objects[i] is not NULL:
                if HEAD_KNOWN:
                    memcpy(self.objects[i], self.saved_head, HEAD)
                Py_CLEAR(self.objects[i])
        free(self.objects)
        if self.entries is not NULL:
            munmap(self.entries, self.entries_size)

    cdef char* at(self, unsigned number) noexcept:
        cdef PyObject* made = self.objects[number]
        return (<char*>made if HEAD_KNOWN else bytes_content(made)) + self.skip

    cdef void recycle(self, unsigned number) noexcept:
        """Let the kernel have this buffer again, or a fresh one if it was exported.

        If there is no memory for one it has to do with the others.
        """
        if self.objects[number] is NULL:
            # Without an exception of Cython's, whose handling would want memory, too.
            self.objects[number] = allocate_bytes_or_null(
                self.size - HEAD if HEAD_KNOWN else self.size)
            if self.objects[number] is NULL:
                PyErr_Clear()
                self.missing += 1
                return
            if HEAD_KNOWN:
                memcpy(self.saved_head, <void*>self.objects[number], HEAD)
        io_uring_buf_ring_add(self.entries, self.at(number),
                              <unsigned>(self.size - self.skip), number,
                              io_uring_buf_ring_mask(self.count), 0)
        io_uring_buf_ring_advance(self.entries, 1)

    cdef bint provide(self, unsigned goal) noexcept:
        """Let the kernel have that many; whether it has any."""
        cdef unsigned i
        if self.missing:
            self.missing = 0
            for i in range(self.provided):
                if self.objects[i] is NULL:
                    self.recycle(i)
        while self.provided < goal and not self.missing:
            self.recycle(self.provided)
            self.provided += 1
        return self.provided > self.missing

    cdef bint provide_more(self) noexcept:
        """They ran out: offer as many again as were provided so far; whether there were more."""
        cdef unsigned before = self.provided - self.missing
        self.provide(min(self.count, 2 * self.provided))
        return self.provided - self.missing > before

    cdef object export_bytes(self, unsigned number, Py_ssize_t length):
        """The buffer itself as ``bytes`` of ``length``; the kernel is to get a fresh one."""
        cdef PyObject* made = self.objects[number]
        if not HEAD_KNOWN:
            return PyBytes_FromStringAndSize(bytes_content(made) + HEAD, length)
        self.objects[number] = NULL
        memcpy(made, self.saved_head, HEAD)
        return resize_bytes(made, length)
