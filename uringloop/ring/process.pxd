"""Numbers of threads and processes that are never used again."""


cdef unsigned long this_thread() noexcept
cdef int fork_generation() noexcept
