"""Memory outside the heap, where it would keep what is freed below it from the system."""
from posix.mman cimport MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap


cdef inline void* mapped(size_t size) except NULL:
    """So much, all zero, until ``munmap``."""
    cdef void* place = mmap(NULL, size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if place == MAP_FAILED:
        raise MemoryError
    return place
