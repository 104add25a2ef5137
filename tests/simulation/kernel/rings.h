/* Rings: what their two files share. */
#ifndef RINGS_H
#define RINGS_H

#include "sim.h"

#include <pthread.h>

enum { THREAD_RINGS = 16, BY_NUMBER = 1 };

struct piece {
    const char *base;
    size_t length;
};

struct ring {
    struct ring *next;
    int number, fd;
    bool open, disabled, restricted, torn_down;
    unsigned setup;
    pthread_t owner;
    unsigned sq_head, sq_tail, sq_mask, sq_entries, sq_flags, sq_dropped, *sq_array;
    struct io_uring_sqe *sqes;
    unsigned cq_head, cq_tail, cq_mask, cq_entries, cq_flags, cq_overflow;
    struct io_uring_cqe *cqes;
    struct io_uring_cqe *kept;       /* what found no room */
    unsigned kept_count, kept_room;
    struct work {
        struct work *next;
        void (*call)(void *);
        void *what;
    } *work, **work_end;
    unsigned work_count, refused;
    uint64_t posted;
    struct file *files;
    unsigned file_count;
    struct piece *pieces;
    unsigned piece_count;
    int lent;
    uint64_t requests_allowed;
    unsigned flags_allowed, calls_allowed;
};

extern __thread struct ring *ring_of_thread[THREAD_RINGS];

struct ring *ring_at(int fd, bool by_place);
struct ring *ring_behind(const struct io_uring *ring);

#endif
