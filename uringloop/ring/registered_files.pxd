"""Registered files of a ring (io_uring_register_files): slots that go on meaning one file."""
cimport cython
from libc.stdint cimport uint16_t, uint64_t

from uringloop.ring.abi cimport io_uring


@cython.final
cdef class RegisteredFiles:
    cdef:
        io_uring* ring                # of the Ring that this table belongs to
        readonly unsigned slot_count
        readonly unsigned slots_used  # from this one on none was ever used
        uint16_t* free_slots          # used before
        unsigned free_slot_count
        unsigned free_slot_room
        readonly bint has_marker      # the end of the ring will be seen
        uint64_t syscalls

    cdef int make_table(self, io_uring* ring, int marker) except? -1
    cdef bint in_use(self) noexcept
    cdef int add(self, int fd) noexcept
    cdef void remove_all(self) noexcept
    cdef void remove(self, int slot) noexcept
