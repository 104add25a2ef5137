/* The simulated kernel: what its parts share.

       world.c        the seed, the clock, what happens later, the journal, what was found wrong
       sockets.c      UDP and TCP in memory
       calls.c        the calls of the C library that they are behind
       memory.c       memory that a zero-copy send has lent to the kernel
       rings.c        io_uring behind the calls of liburing: queues, waiting, closing
       registering.c  and what it is told once
       requests.c     what is asked of a ring: polls, sends, cancellations

   It is a library that is loaded before all others (LD_PRELOAD): so the code that is tested is
   the one that is installed, and nothing in it knows of this.  Until ``sim_begin`` is called,
   and after ``sim_end``, all calls go to the real kernel.

   One seed decides everything: what fails, when and in which order things happen, and what the
   clock says.  Nothing here waits: where the program would, the clock is set forward. */
#ifndef SIM_H
#define SIM_H

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef IORING_SEND_ZC_REPORT_USAGE
#define IORING_SEND_ZC_REPORT_USAGE (1U << 3)
#endif
#ifndef POLLRDHUP
#define POLLRDHUP 0x2000
#endif
enum { SENDMSG_ZC = IORING_OP_SEND_ZC + 1, DESCRIPTORS = 4096 };

/* Each is a thing that the kernel may do; a seed gives each a level, in thousandths. */
#define FAULTS(X) \
    X(NET_LAG)          /* packets are on their way for a while */ \
    X(NOTIF_LAG)        /* notifications come late */ \
    X(NOTIF_LONG)       /* they come after seconds: a neighbour does not answer */ \
    X(NOTIF_FIRST)      /* they come before the result */ \
    X(NOTIF_NEVER)      /* a send that failed says that none follows, and none does */ \
    X(NOTIF_UNTOLD)     /* it says so, and one does (6.18: no memory) */ \
    X(COPIED)           /* a zero-copy send was copied */ \
    X(SEND_EAGAIN) \
    X(SEND_ENOBUFS) \
    X(SEND_ENOMEM) \
    X(SEND_EMSGSIZE)    /* zero-copy: too many fragments */ \
    X(SEND_EINTR) \
    X(SEND_UNREACHABLE) \
    X(SEND_EOPNOTSUPP)  /* zero-copy only */ \
    X(SEGMENTS_REFUSED) \
    X(SEND_SHORT)       /* of streams */ \
    X(ICMP)             /* a connected datagram socket hears that nobody is there */ \
    X(POLL_ENDS)        /* a lasting poll ends without F_MORE */ \
    X(POLL_SPURIOUS)    /* a poll tells of what is gone by then */ \
    X(POLL_LAG)         /* the ring is woken late */ \
    X(CANCEL_LAG)       /* a cancelled request takes its time */ \
    X(CANCEL_MISSES)    /* it completes just then */ \
    X(SUBMIT_REFUSED)   /* EAGAIN, EBUSY */ \
    X(SUBMIT_PARTIAL) \
    X(WAIT_EINTR) \
    X(WAIT_FUTILE)      /* a wait ends with nothing */ \
    X(TASKRUN_STALE)    /* the flag says that there is work, and there is none */ \
    X(WORK_SOME)        /* the kernel does a part of its deferred work only */ \
    X(OLD_KERNEL)       /* no CQSIZE, CLAMP, SUBMIT_ALL, TASKRUN_FLAG */ \
    X(RING_DIES_LATE) \
    X(RING_ENOMEM) \
    X(REGISTER_FAILS)   /* files, buffers */ \
    X(FILES_LAG)        /* a file that was taken out of the table is let go of late */ \
    X(RING_FD_FULL) \
    X(SLOW)             /* what is between two looks at the clock takes milliseconds */ \
    X(RESET)            /* a connection is reset */ \
    X(CONNECT_LAG) \
    X(TRAIN_PARTS)      /* a train comes in parts */

enum fault {
#define X(name) name,
    FAULTS(X)
#undef X
    FAULT_COUNT
};

/* What has happened in a seed, for the program to compare with ``loop.stats()``. */
struct sim_counts {
    uint64_t entered, submitted, completed, notified, refused, overflowed;
    uint64_t datagrams_sent, datagrams_taken, bytes_written, bytes_read;
    uint64_t system_calls, events, rings, violations;
};

struct world {
    bool active;
    bool quiet;              /* nothing fails any more: the program comes to its end */
    bool running;            /* an event is being run */
    int64_t now;             /* nanoseconds */
    uint64_t random;
    unsigned level[FAULT_COUNT];
    uint64_t hits[FAULT_COUNT];
    struct sim_counts counts;
    uint64_t hash;           /* of the journal */
};
extern struct world sim;

enum { MICROSECOND = 1000, MILLISECOND = 1000000 };
#define SECOND 1000000000LL

/* world.c */
unsigned sim_pick(unsigned below);
bool sim_fault(enum fault fault);
int64_t sim_lag(enum fault fault);
void sim_later(int64_t delay, void (*call)(void *), void *what);
void sim_run_due(void);
bool sim_advance(int64_t until);
bool sim_is_idle(void);
void sim_step(void);
void sim_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sim_violation(const char *format, ...) __attribute__((format(printf, 1, 2)));
static inline int sim_error(int code) { errno = code; return -1; }
/* By ppoll: not every machine has the older call.  ``timeout`` in milliseconds, -1: none. */
static inline int real_poll(struct pollfd *polled, nfds_t count, int timeout) {
    struct timespec time = {timeout / 1000, timeout % 1000 * MILLISECOND};
    return (int)syscall(SYS_ppoll, polled, count, timeout < 0 ? NULL : &time, NULL, 0);
}

/* memory.c */
struct ring;
struct lent;
struct lent *lend(struct ring *ring, uint64_t user_data, const void *base, size_t length,
                  bool copied);
void lent_hold(struct lent *lent);
void lent_let_go(struct lent *lent);
void lent_copy(struct lent *lent, size_t from, char *into, size_t length);
void lent_told(struct lent *lent);
bool lent_is_told(const struct lent *lent);
uint64_t lent_user_data(const struct lent *lent);
struct ring *lent_ring(const struct lent *lent);
void lent_sent(struct lent *lent, size_t length);
bool lent_was_copied(const struct lent *lent);
bool memory_read(const void *from, void *into, size_t length);
void memory_reset(void);

/* sockets.c */
struct sock;
struct sock *sock_of(int fd);
struct sock *sock_hold(struct sock *sock);
void sock_let_go(void *sock);
unsigned sock_poll(const struct sock *sock);
int sock_number(const struct sock *sock);
long sock_send(struct sock *sock, const struct msghdr *message, struct lent *lent);
void sockets_reset(void);
void calls_reset(void);

/* requests.c */
void requests_begin(struct ring *ring, const struct io_uring_sqe *sqe, unsigned count);
void requests_wake(struct sock *sock, unsigned events);
void requests_look_at_real(struct ring *ring);
void requests_drop(struct ring *ring);
void requests_reset(void);
void notify_later(struct lent *lent);

/* rings.c */
struct file {
    struct sock *sock;       /* one in memory */
    int real;                /* or a descriptor of its own of a real one; -1: none */
};
bool file_of(struct ring *ring, const struct io_uring_sqe *sqe, struct file *into);
void file_let_go(struct file *file);
bool ring_has_buffer(struct ring *ring, unsigned slot, const void *base, size_t length);
bool ring_allows(const struct ring *ring, const struct io_uring_sqe *sqe);
bool ring_is_open(const struct ring *ring);
void ring_post(struct ring *ring, uint64_t user_data, int res, unsigned flags);
bool ring_has_room(const struct ring *ring);
void ring_work(struct ring *ring, void (*call)(void *), void *what);
void ring_lends(struct ring *ring, int change);
void rings_reset(void);

#endif
