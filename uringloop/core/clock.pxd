"""The system's monotonic clock."""
from posix.time cimport CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, clock_gettime, timespec


cdef inline double monotonic() noexcept:
    """Seconds, as ``time.monotonic()``."""
    cdef timespec ts
    clock_gettime(CLOCK_MONOTONIC, &ts)
    return ts.tv_sec + ts.tv_nsec * 1e-9


cdef inline double clock_coarse() noexcept:
    """The same, some milliseconds late, and cheaper."""
    cdef timespec ts
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts)
    return ts.tv_sec + ts.tv_nsec * 1e-9
