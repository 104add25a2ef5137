"""What a ring may be asked for; everything else is refused by the kernel."""
from uringloop.ring.abi cimport io_uring

cdef bint restrict(io_uring* ring) noexcept
