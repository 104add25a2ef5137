/* Memory that a zero-copy send has lent to the kernel, until its notification.

   It is read when the packet leaves, not when it is sent: so what a program does with it too
   early reaches the peer.  And it is compared with what it was, then and when the notification
   is written.  It is read through the kernel: where it is gone that tells, instead of a crash. */
#include "sim.h"

#include <sys/uio.h>

struct lent {
    struct lent *next;
    struct ring *ring;
    uint64_t user_data;
    const char *base;
    char *content;           /* what it was */
    size_t length;
    unsigned holds;          /* packets that refer to it, and the request itself */
    bool copied;             /* the kernel has its own; it says so */
    bool told;
    bool bad;                /* reported already */
};

static struct lent *all;

bool memory_read(const void *from, void *into, size_t length) {
    struct iovec here = {into, length}, there = {(void *)(uintptr_t)from, length};
    return length == 0
        || process_vm_readv(getpid(), &here, 1, &there, 1, 0) == (ssize_t)length;
}

struct lent *lend(struct ring *ring, uint64_t user_data, const void *base, size_t length,
                  bool copied) {
    struct lent *lent = calloc(1, sizeof *lent);
    *lent = (struct lent){.next = all, .ring = ring, .user_data = user_data, .base = base,
                          .content = malloc(length + 1), .length = length, .holds = 1,
                          .copied = copied};
    all = lent;
    if (!memory_read(base, lent->content, length)) {
        sim_violation("operation %u/%u is sent from memory that there is not",
                      (unsigned)user_data, (unsigned)(user_data >> 32));
        lent->bad = true;
    }
    ring_lends(ring, 1);
    return lent;
}

static void check(struct lent *lent, const char *when) {
    char *now;
    if (lent->bad || lent->told)
        return;
    now = malloc(lent->length + 1);
    if (!memory_read(lent->base, now, lent->length)) {
        lent->bad = true;
        sim_violation("the memory of operation %u/%u is gone %s", (unsigned)lent->user_data,
                      (unsigned)(lent->user_data >> 32), when);
    } else if (memcmp(now, lent->content, lent->length)) {
        lent->bad = true;
        sim_violation("the memory of operation %u/%u has changed %s", (unsigned)lent->user_data,
                      (unsigned)(lent->user_data >> 32), when);
    }
    free(now);
}

/* A stream has taken so much of it only: the kernel has no more of the memory. */
void lent_sent(struct lent *lent, size_t length) {
    if (length < lent->length)
        lent->length = length;
}

void lent_hold(struct lent *lent) { lent->holds++; }

void lent_let_go(struct lent *lent) {
    if (--lent->holds == 0)
        notify_later(lent);
}

void lent_copy(struct lent *lent, size_t from, char *into, size_t length) {
    check(lent, "before it was sent");
    if (lent->copied || !memory_read(lent->base + from, into, length))
        memcpy(into, lent->content + from, length);
}

/* The notification is written; from here on the memory is the program's. */
void lent_told(struct lent *lent) {
    check(lent, "before its notification");
    lent->told = true;
    ring_lends(lent->ring, -1);
}

bool lent_is_told(const struct lent *lent) { return lent->told; }
uint64_t lent_user_data(const struct lent *lent) { return lent->user_data; }
struct ring *lent_ring(const struct lent *lent) { return lent->ring; }
bool lent_was_copied(const struct lent *lent) { return lent->copied; }

void memory_reset(void) {
    while (all) {
        struct lent *lent = all;
        all = lent->next;
        free(lent->content);
        free(lent);
    }
}
