"""Registered buffers of a ring (io_uring_register_buffers), and the memory that they are of."""
cimport cython
from libc.stdint cimport uint16_t, uint32_t

from uringloop.ring.abi cimport io_uring


cdef enum:
    UNREGISTERED = -1      # a slot that is none: such memory goes the ordinary way


@cython.final
cdef class RegisteredBuffers:
    cdef:
        io_uring* ring
        unsigned slot_count            # 0: the table is not made yet
        unsigned slots_used
        uint16_t free_slots[1024]
        unsigned free_slot_count

    cdef int make_table(self, io_uring* ring) noexcept
    cdef int add(self, io_uring* ring, void* base, size_t length) noexcept
    cdef void remove(self, int slot) noexcept


@cython.final
cdef class Registration:
    cdef:
        char* base
        size_t length
        uint32_t ring_id               # of the ring that has been asked; 0: none
        int error                      # what it answered: 0 or an errno
        unsigned piece_count
        int* slots                     # one a piece, or UNREGISTERED
        bint guarded                   # a pool's; see guard

    cdef int add_to(self, io_uring* ring, uint32_t ring_id, RegisteredBuffers table) except -1
    cdef void remove_from(self, uint32_t ring_id, RegisteredBuffers table) noexcept
    cdef int slot_of(self, const char* base, size_t length) noexcept


cdef class LentMemory:
    cdef:
        Registration registration
        object operations              # the table of the loop that it is registered with
        size_t uses                    # operations that hold it

    cdef int lend(self, char** base, size_t* length) except -1
    cdef int unused(self) except -1
    cdef int loop_closed(self) except -1


@cython.final
cdef class MemoryMap:
    cdef list by_base                  # of LentMemory

    cdef int add(self, LentMemory memory) except -1
    cdef int discard(self, LentMemory memory) except -1
    cdef int loop_closed(self) except -1
    cdef LentMemory find(self, const char* base, size_t length)
