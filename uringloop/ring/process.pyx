"""Numbers of threads and processes that are never used again.

The system uses a thread's identifier, and a process's, anew once it has ended.
"""

cdef extern from "<pthread.h>":
    int pthread_atfork(void (*)() noexcept, void (*)() noexcept, void (*)() noexcept)


cdef extern from *:
    """
    static unsigned long threads;
    static __thread unsigned long thread_number;
    static inline unsigned long number_thread(void) {
        if (!thread_number)
            thread_number = __atomic_add_fetch(&threads, 1, __ATOMIC_RELAXED);
        return thread_number;
    }
    """
    unsigned long number_thread() noexcept nogil


cdef unsigned long this_thread() noexcept:
    """A number of this thread that no other thread of this process has or will have; not 0."""
    return number_thread()


cdef int forks = 0


cdef void count_fork() noexcept nogil:
    global forks
    forks += 1


cdef int fork_generation() noexcept:
    """How many forks lie between this process and the one that imported us."""
    return forks


# The C library's handler: a fork by C code counts too.
pthread_atfork(NULL, NULL, count_fork)
