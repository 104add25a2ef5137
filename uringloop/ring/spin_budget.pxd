"""How much a loop may spin: looking for completions instead of going to sleep."""
cimport cython
from libc.stdint cimport uint64_t


@cython.final
cdef class SpinBudget:
    cdef:
        unsigned spin_ns                # nanoseconds that one spin lasts at most; 0: never spin
        int credit                      # spins that are still allowed
        unsigned waits_without_spin     # since the credit was used up
        unsigned pause                  # how many of them there are before the next try
        uint64_t spins
        uint64_t hits                   # spins that have found a completion

    cdef bint may_spin(self, double timeout) noexcept
    cdef void record(self, bint hit) noexcept
    cdef void hit_was_futile(self) noexcept
