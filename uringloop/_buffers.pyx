"""Memory: what a program hands over to be sent, and what the kernel receives into."""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE)
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t, uintptr_t
from libc.string cimport memset
from posix.mman cimport (
    MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap, munmap)

from uringloop._ring cimport (
    io_uring_buf_reg, io_uring_buf_ring_add, io_uring_buf_ring_advance,
    io_uring_buf_ring_init, io_uring_buf_ring_mask, io_uring_register_buf_ring)

import os


cdef object open_payload(object data, payload* into):
    """Find the memory of ``data``, without holding it; returns what holds it.

    Only exact ``bytes``, and contiguous views of exact ``bytes``, are immutable:
    a subclass may lend its memory, and ``bytearray`` changes at will.
    """
    cdef Py_buffer view
    cdef Py_buffer* inner
    cdef PyObject* exporter
    if PyBytes_CheckExact(data):
        into.base = PyBytes_AS_STRING(data)
        into.length = PyBytes_GET_SIZE(data)
        into.immutable = True
        return data
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    into.base = <char*>view.buf
    into.length = view.len
    into.immutable = False
    owner = data
    if type(data) is memoryview:
        inner = PyMemoryView_GET_BUFFER(data)
        exporter = <PyObject*>inner.obj
        if exporter is not NULL and PyBytes_CheckExact(<object>exporter):
            into.immutable = True
            owner = <object>exporter
    PyBuffer_Release(&view)
    return owner


cdef object copy_payload(object data, payload* into):
    """As ``open_payload``, but what could change is copied: the result is immutable."""
    owner = open_payload(data, into)
    if not into.immutable:
        owner = PyBytes_FromStringAndSize(into.base, into.length)
        into.base = PyBytes_AS_STRING(owner)
        into.immutable = True
    return owner


cdef object lend_payload(object data, payload* into):
    """As ``open_payload``, but what could change is exported: it can't be resized or freed."""
    owner = open_payload(data, into)
    if not into.immutable:
        # A view of our own: the caller may release theirs.
        owner = PyMemoryView_FromObject(data)
    return owner


cdef unsigned fragments(const void* base, size_t length) noexcept:
    """How many pages the memory touches."""
    if length == 0:
        return 0
    return <unsigned>((((<uintptr_t>base + length - 1) >> 12) - (<uintptr_t>base >> 12)) + 1)


cdef class ReceiveBuffers:
    """A provided-buffer ring: the kernel takes a buffer for each datagram that comes.

    Few buffers are offered at first: the kernel walks through all of them in
    turn, so that a small number stays in the processor's cache.  When they run
    out (ENOBUFS) more are, up to ``count``.
    """

    def __cinit__(self, Ring ring, int group, unsigned count, size_t size, unsigned offered):
        cdef io_uring_buf_reg registration
        cdef size_t header = count * 16      # sizeof(struct io_uring_buf)
        cdef void* place
        # Ring entries and buffers in one mapping; untouched pages cost nothing.
        self.memory_size = ((header + 4095) & ~<size_t>4095) + count * size
        place = mmap(NULL, self.memory_size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        if place == MAP_FAILED:
            raise MemoryError
        self.entries = <io_uring_buf_ring*>place
        self.memory = <char*>place + self.memory_size - count * size
        self.ring = ring
        self.group = group
        self.count = count
        self.size = size
        memset(&registration, 0, sizeof(registration))
        registration.ring_addr = <uint64_t><uintptr_t>place
        registration.ring_entries = count
        registration.bgid = group
        code = io_uring_register_buf_ring(&ring.ring, &registration, 0)
        if code < 0:
            raise OSError(-code, f'provided buffers: {os.strerror(-code)}')
        io_uring_buf_ring_init(self.entries)
        for _ in range(offered):
            self.offer_more()
        # The kernel may write here until the ring is dead.
        ring.keepalive.append(self)

    def __dealloc__(self):
        if self.entries is not NULL:
            munmap(self.entries, self.memory_size)

    cdef char* at(self, unsigned number) noexcept:
        return self.memory + number * self.size

    cdef void give_back(self, unsigned number) noexcept:
        io_uring_buf_ring_add(self.entries, self.at(number), <unsigned>self.size, number,
                              io_uring_buf_ring_mask(self.count), 0)
        io_uring_buf_ring_advance(self.entries, 1)

    cdef bint offer_more(self) noexcept:
        """Offer a buffer that the kernel has not seen yet; whether there was one."""
        if self.offered >= self.count:
            return False
        self.give_back(self.offered)
        self.offered += 1
        return True
