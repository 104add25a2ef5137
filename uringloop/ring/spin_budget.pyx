"""How much a loop may spin: looking for completions instead of going to sleep.

A spin pays if the completion comes within it, and wastes its time if not.  So spins are paid
from a credit, which a hit increases and a miss decreases.  With no credit left the loop goes
to sleep at once, and tries again after a number of waits: twice as many each time, until it
has paid again.  (Next to threads that do the work, on one processor, two tries each 32 waits
were a sixth of all time.)
"""
cimport cython


cdef enum:
    CREDIT_MAX = 16
    FIRST_PAUSE = 32      # waits without a spin before the next try
    LONGEST_PAUSE = 512
    TRIES = 2             # the peer's own wake-up may be what makes the first take long


@cython.final
cdef class SpinBudget:
    """The credit of one ring for spinning, and how often it has spun."""

    def __cinit__(self):
        self.credit = CREDIT_MAX // 2
        self.pause = FIRST_PAUSE

    cdef bint may_spin(self, double timeout) noexcept:
        """Whether to spin before a wait of ``timeout`` seconds."""
        if self.spin_ns == 0 or timeout <= self.spin_ns * 1e-9:
            return False
        if self.credit == 0:
            self.waits_without_spin += 1
            if self.waits_without_spin < self.pause:
                return False
            self.waits_without_spin = 0
            self.credit = TRIES
            self.pause = min(2 * self.pause, LONGEST_PAUSE)
        return True

    cdef void record(self, bint hit) noexcept:
        """A spin has ended; ``hit``: it has found a completion."""
        self.spins += 1
        if hit:
            self.hits += 1
            self.credit = min(self.credit + 1, CREDIT_MAX)
            if self.credit > CREDIT_MAX // 2:
                self.pause = FIRST_PAUSE
        else:
            self.credit -= 1

    cdef void hit_was_futile(self) noexcept:
        """What the last spin has found was not worth it."""
        self.credit = max(self.credit - 2, 0)
