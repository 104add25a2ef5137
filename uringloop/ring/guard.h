/* Watches the memory of pools: who touches what is not theirs ends the process, where they do.

   Only the build for `make asan` includes this (URINGLOOP_GUARD).  A buffer that is longer than a
   page has its pages to itself, and those are protected: nobody gets at a buffer that is lent to
   nobody, and nobody writes to one that was released and that the kernel still reads.  That
   catches everyone, the kernel too (EFAULT), however they were compiled.  (Registered memory is
   pinned, and is sent from its pages whatever the mapping says.)  What short buffers, and the
   area that is received into, have is the sanitizer's shadow: compiled code of this package
   looks at it, and what libasan puts in place of the C library's functions.
*/
#ifndef URINGLOOP_GUARD_H
#define URINGLOOP_GUARD_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

static inline void guard_pages(char *base, size_t length, int protection) {
    if (length > 4096)
        mprotect(base, (length + 4095) & ~(size_t)4095, protection);
}
/* Its holder's. */
static inline void guard_lent(char *base, size_t length) {
    guard_pages(base, length, PROT_READ | PROT_WRITE);
    __asan_unpoison_memory_region(base, length);
}
/* Read by the kernel, or to be sent once more, and nobody's to write. */
static inline void guard_in_flight(char *base, size_t length) {
    guard_pages(base, length, PROT_READ);
}
/* Lent to nobody. */
static inline void guard_free(char *base, size_t length) {
    __asan_poison_memory_region(base, length);
    guard_pages(base, length, PROT_NONE);
}
/* About to be registered with another ring, which takes what can be written; or unmapped.  From
   then on its buffers are protected as each is lent anew. */
static inline void guard_opened(char *base, size_t length) {
    mprotect(base, length, PROT_READ | PROT_WRITE);
}
/* Nothing of it is anybody's to read; and it is again. */
static inline void guard_hidden(char *base, size_t length) {
    __asan_poison_memory_region(base, length);
}
static inline void guard_shown(char *base, size_t length) {
    __asan_unpoison_memory_region(base, length);
}
/* Tells in the sanitizer's report, for the tests keep what their processes write. */
static inline void guard_is_sent(void) {
    static const char what[] = "a buffer is lent that an operation still sends";
    __sanitizer_report_error_summary(what);
    __sanitizer_print_stack_trace();
    fprintf(stderr, "uringloop guard: %s\n", what);
    abort();
}
#endif
