"""Registered buffers of a ring (io_uring_register_buffers), and the memory that they are of.

The kernel pins the pages once, when they are registered, instead of at each send.  A
request then names the slot of the ring's table, and an address inside of what that has.

A ``Registration`` belongs to memory, not to a ring: where a loop gets another ring, that
is given the memory at its first use there.
"""
cimport cython
from libc.stdint cimport uint16_t, uint32_t, uintptr_t
from libc.stdlib cimport free, malloc

from uringloop.ring.abi cimport *
from uringloop.ring.features cimport features
from uringloop.ring.guard cimport guard_opened


cdef enum:
    SLOTS = 1024             # each costs the kernel 8 bytes, used or not
    PIECE = 1 << 30          # bytes; the kernel refuses to have more in one slot (EFAULT)


@cython.final
cdef class RegisteredBuffers:
    """The table of one ring; it is made with the first that is added."""

    cdef int make_table(self, io_uring* ring) noexcept:
        cdef int code = io_uring_register_buffers_sparse(ring, SLOTS)
        if code >= 0:
            self.ring = ring
            self.slot_count = SLOTS
        return code

    cdef int add(self, io_uring* ring, void* base, size_t length) noexcept:
        """Register memory; returns its slot, or ``-errno``."""
        cdef unsigned slot = self.slots_used
        cdef iovec vector
        cdef unsigned long long tag = 0
        cdef int code = 0
        if self.slot_count == 0:
            code = self.make_table(ring)
            if code < 0:
                return code
        if self.free_slot_count:
            slot = self.free_slots[self.free_slot_count - 1]
        elif slot == self.slot_count:
            return -ENOSPC
        vector.iov_base = base
        vector.iov_len = length
        code = io_uring_register_buffers_update_tag(ring, slot, &vector, &tag, 1)
        if code != 1:
            return code if code < 0 else -EINVAL
        if self.free_slot_count:
            self.free_slot_count -= 1
        else:
            self.slots_used += 1
        return <int>slot

    cdef void remove(self, int slot) noexcept:
        """Have the ring let go of the memory; what is in flight keeps its pages till its end."""
        cdef iovec nothing
        cdef unsigned long long tag = 0
        nothing.iov_base = NULL
        nothing.iov_len = 0
        io_uring_register_buffers_update_tag(self.ring, slot, &nothing, &tag, 1)
        self.free_slots[self.free_slot_count] = <uint16_t>slot
        self.free_slot_count += 1


@cython.final
cdef class Registration:
    """A piece of memory, and the slots by which a ring knows it."""

    def __cinit__(self, uintptr_t base, size_t length):
        cdef unsigned i
        self.base = <char*>base
        self.length = length
        self.piece_count = <unsigned>((length + PIECE - 1) // PIECE)
        self.slots = <int*>malloc(max(self.piece_count, 1) * sizeof(int))
        if self.slots is NULL:
            raise MemoryError
        for i in range(self.piece_count):
            self.slots[i] = UNREGISTERED

    def __dealloc__(self):
        free(self.slots)

    cdef int add_to(self, io_uring* ring, uint32_t ring_id, RegisteredBuffers table) except -1:
        """Have a ring know this memory; what it answers is in ``error``."""
        cdef unsigned i
        cdef size_t begin
        cdef int slot
        if not features.registered_buffers:
            return 0
        if self.guarded:
            guard_opened(self.base, self.length)
        self.ring_id = ring_id
        self.error = 0
        for i in range(self.piece_count):
            self.slots[i] = UNREGISTERED       # those of another ring
        for i in range(self.piece_count):
            begin = <size_t>i * PIECE
            slot = table.add(ring, self.base + begin, min(self.length - begin, <size_t>PIECE))
            if slot < 0:
                self.remove_from(ring_id, table)
                self.ring_id = ring_id         # it need not be asked again
                self.error = -slot
                return 0
            self.slots[i] = slot
        return 0

    cdef void remove_from(self, uint32_t ring_id, RegisteredBuffers table) noexcept:
        """Have a ring forget it."""
        cdef unsigned i
        if self.ring_id != ring_id:
            return
        self.ring_id = 0
        for i in range(self.piece_count):
            if self.slots[i] >= 0:
                table.remove(self.slots[i])
                self.slots[i] = UNREGISTERED

    cdef int slot_of(self, const char* base, size_t length) noexcept:
        """The slot that has all of this; UNREGISTERED if none has."""
        cdef size_t begin = base - self.base
        if length == 0 or begin // PIECE != (begin + length - 1) // PIECE:
            return UNREGISTERED
        return self.slots[begin // PIECE]


cdef class LentMemory:
    """Memory that operations use, and whose owner wants it back: it is told of the last."""

    cdef int lend(self, char** base, size_t* length) except -1:
        """Where it is; raises ValueError if it is nobody's to send any more."""
        raise NotImplementedError

    cdef int unused(self) except -1:
        """The last operation has let go.  Completions may be being settled: no user code."""
        return 0

    cdef int loop_closed(self) except -1:
        """Nothing will be sent of it any more."""
        return 0


@cython.final
cdef class MemoryMap:
    """Finds the registered memory of a loop by address.

    Where registered pieces overlap, one that has all of what is looked for is found: the one
    that begins last, and of several that begin there the one registered last.
    """

    def __cinit__(self):
        self.by_base = []

    cdef int add(self, LentMemory memory) except -1:
        cdef Py_ssize_t i = len(self.by_base)
        while i and (<LentMemory>self.by_base[i - 1]).registration.base > memory.registration.base:
            i -= 1
        self.by_base.insert(i, memory)
        return 0

    cdef int discard(self, LentMemory memory) except -1:
        if memory in self.by_base:
            self.by_base.remove(memory)
        return 0

    cdef int loop_closed(self) except -1:
        for memory in self.by_base[:]:
            (<LentMemory>memory).loop_closed()
        return 0

    cdef LentMemory find(self, const char* base, size_t length):
        """What has all of these bytes, or None."""
        cdef Registration of
        cdef Py_ssize_t i
        for i in range(len(self.by_base) - 1, -1, -1):
            of = (<LentMemory>self.by_base[i]).registration
            if base >= of.base and base + length <= of.base + of.length:
                return <LentMemory>self.by_base[i]
        return None
