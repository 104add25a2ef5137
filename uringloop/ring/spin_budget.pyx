"""How much a loop may spin: looking for completions instead of going to sleep.

A spin pays if the completion comes within it, and wastes its time if not.  So spins are paid
from a credit, which a hit increases and a miss decreases.  With no credit left the loop goes
to sleep at once, and tries again after a number of waits.
"""
cimport cython


cdef enum:
    CREDIT_MAX = 16
    SPIN_AGAIN = 32       # waits without a spin before the next try
    TRIES = 2             # the peer's own wake-up may be what makes the first take long


@cython.final
cdef class SpinBudget:
    """The credit of one ring for spinning, and how often it has spun."""

    def __cinit__(self):
        self.credit = CREDIT_MAX // 2

    cdef bint may_spin(self, double timeout) noexcept:
        """Whether to spin before a wait of ``timeout`` seconds."""
        if self.spin_ns == 0 or timeout <= self.spin_ns * 1e-9:
            return False
        if self.credit == 0:
            self.waits_without_spin += 1
            if self.waits_without_spin < SPIN_AGAIN:
                return False
            self.waits_without_spin = 0
            self.credit = TRIES
        return True

    cdef void record(self, bint hit) noexcept:
        """A spin has ended; ``hit``: it has found a completion."""
        self.spins += 1
        if hit:
            self.hits += 1
            self.credit = min(self.credit + 1, CREDIT_MAX)
        else:
            self.credit -= 1

    cdef void hit_was_futile(self) noexcept:
        """What the last spin has found was not worth it."""
        self.credit = max(self.credit - 2, 0)
