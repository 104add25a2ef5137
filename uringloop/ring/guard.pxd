"""What watches lent memory, in the build for ``make asan``; in others it is nothing.

A lease counts the operations that use it.  Whether that is right is told here by the operations
themselves.
"""
from libc.stdint cimport uint32_t

from uringloop.ring.operations cimport OperationTable, operation


cdef extern from *:
    """
    #ifdef URINGLOOP_GUARD
    #include "uringloop/ring/guard.h"
    #define GUARDED 1
    #else
    #define GUARDED 0
    static inline void guard_lent(char *base, size_t length) {}
    static inline void guard_in_flight(char *base, size_t length) {}
    static inline void guard_free(char *base, size_t length) {}
    static inline void guard_opened(char *base, size_t length) {}
    static inline void guard_hidden(char *base, size_t length) {}
    static inline void guard_shown(char *base, size_t length) {}
    static inline void guard_is_sent(void) {}
    #endif
    """
    bint GUARDED
    void guard_lent(char* base, size_t length) noexcept
    void guard_in_flight(char* base, size_t length) noexcept
    void guard_free(char* base, size_t length) noexcept
    void guard_opened(char* base, size_t length) noexcept
    void guard_hidden(char* base, size_t length) noexcept
    void guard_shown(char* base, size_t length) noexcept
    void guard_is_sent() noexcept


cdef inline void guard_unread(OperationTable operations, const char* base,
                              size_t length) noexcept:
    """This memory is about to be somebody's to write: no operation is to send it any more."""
    cdef uint32_t i
    cdef operation* op
    if not GUARDED:
        return
    for i in range(operations.capacity):
        op = operations.slots[i]
        if op.data is not NULL and op.base < base + length and base < op.base + op.length:
            guard_is_sent()
