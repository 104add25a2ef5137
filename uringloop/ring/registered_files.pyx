"""Registered files of a ring (io_uring_register_files): slots that go on meaning one file.

A request that names a slot reaches the file that was registered there, even after its
descriptor is closed and the number means another file.

The first slot holds the marker, one end of a socket pair: its other end sees the hang-up
when the ring is torn down.
"""
cimport cython
from libc.stdint cimport uint16_t
from libc.stdlib cimport free, malloc, realloc

from uringloop.ring.abi cimport *
from uringloop.ring.features cimport features

import resource


cdef enum:
    MARKER_SLOT = 0
    SLOT_LIMIT = 4096        # each costs the kernel 8 bytes, used or not


@cython.final
cdef class RegisteredFiles:
    """The table of one ring; empty, and without room, until it is made."""

    def __dealloc__(self):
        free(self.free_slots)

    cdef int make_table(self, io_uring* ring, int marker) except? -1:
        """Make room for as many files as there may be descriptors; returns ``-errno``."""
        cdef int code
        cdef unsigned count = SLOT_LIMIT
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if 0 <= limit < SLOT_LIMIT:
            count = limit
        if not features.registered_files:
            count = MARKER_SLOT + 1
        self.ring = ring
        while True:
            # More than RLIMIT_NOFILE are refused (EMFILE), and memory may be short.
            code = ring_register_slots(ring, count)
            if code != -EMFILE and code != -ENOMEM or count <= 1:
                break
            count //= 4
        if code < 0:
            return code   # transports then name descriptors; nothing tells of the teardown
        self.slot_count = count
        self.slots_used = MARKER_SLOT + 1
        code = io_uring_register_files_update(ring, MARKER_SLOT, &marker, 1)
        self.has_marker = code == 1
        return code

    cdef bint in_use(self) noexcept:
        """Whether there is a file besides the marker."""
        return self.slots_used > MARKER_SLOT + 1 + self.free_slot_count

    cdef int add(self, int fd) noexcept:
        """Register a file; returns its slot, or -1 if there is none."""
        cdef unsigned slot = self.slots_used
        cdef bint used_before = self.free_slot_count != 0
        if used_before:
            slot = self.free_slots[self.free_slot_count - 1]
        elif slot >= self.slot_count:
            return -1
        self.syscalls += 1
        if io_uring_register_files_update(self.ring, slot, &fd, 1) != 1:
            return -1
        if used_before:
            self.free_slot_count -= 1
        else:
            self.slots_used += 1
        return slot

    cdef void remove_all(self) noexcept:
        """Have the ring let go of all but the marker; what is in flight keeps its own.

        Else it would hold them until it is torn down, tens of milliseconds after it is closed:
        as it does where there is no memory for this.
        """
        cdef unsigned i, count = self.slots_used - MARKER_SLOT - 1
        cdef int* nothing
        if not self.in_use():
            return
        nothing = <int*>malloc(count * sizeof(int))
        if nothing is NULL:
            return
        for i in range(count):
            nothing[i] = -1
        self.syscalls += 1
        if io_uring_register_files_update(self.ring, MARKER_SLOT + 1, nothing, count) == <int>count:
            self.slots_used = MARKER_SLOT + 1
            self.free_slot_count = 0
        free(nothing)

    cdef void remove(self, int slot) noexcept:
        """Have the ring let go of the file in this slot."""
        cdef int nothing = -1
        cdef uint16_t* bigger
        self.syscalls += 1
        io_uring_register_files_update(self.ring, slot, &nothing, 1)
        if self.free_slot_count == self.free_slot_room:
            bigger = <uint16_t*>realloc(
                self.free_slots, (2 * self.free_slot_room + 16) * sizeof(uint16_t))
            if bigger is NULL:
                return           # one slot less
            self.free_slots = bigger
            self.free_slot_room = 2 * self.free_slot_room + 16
        self.free_slots[self.free_slot_count] = slot
        self.free_slot_count += 1
