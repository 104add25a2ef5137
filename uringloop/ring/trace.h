/* Tells what a ring is asked and what it answers, one line an entry.

   Only the build for `make trace` includes this (URINGLOOP_TRACE).  It puts itself before the
   calls that hand entries over and the one that takes completions: macros of their names, which
   do not expand within themselves.  A normal build has none of it.

   Lines go to the file that the environment's URINGLOOP_TRACE names, at its end, or to standard
   error.  Each is one write, so that those of several threads and processes do not mix.

       seconds  process:ring  direction  what

       0.000310    4711:5   > POLL_ADD      file 1    op 3/1      +in +multishot
       0.000352    4711:5   < POLL_ADD                op 3/1      +in +more
       0.000398    4711:5   > SEND_ZC       file 1    op 4/1      60000 bytes +report_usage

   `fd` is a descriptor, `file` a slot of the ring's registered files; `op` is the slot of the
   operation and its generation.
*/
#ifndef URINGLOOP_TRACE_H
#define URINGLOOP_TRACE_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct trace_name {
    unsigned value;
    const char *name;
};

struct trace_line {
    char text[512];
    size_t length;
};

/* Which operation an answer is to: the kernel returns the number only.  Where two numbers share
   a place the older one's answers are told without a name. */
enum { TRACE_PLACES = 4096 };
static struct {
    __u64 user_data;
    int ring;
    int opcode;
} trace_asked[TRACE_PLACES];

static int trace_file = -1;
static struct timespec trace_begin;

/* What restrictions.pyx allows, and no more. */
static const char *trace_opcode(int opcode) {
    static const struct trace_name names[] = {
        {IORING_OP_ASYNC_CANCEL, "ASYNC_CANCEL"}, {IORING_OP_POLL_ADD, "POLL_ADD"},
        {IORING_OP_SEND, "SEND"}, {IORING_OP_SENDMSG, "SENDMSG"}, {IORING_OP_SEND_ZC, "SEND_ZC"},
    };
    /* IORING_OP_SENDMSG_ZC is newer (kernel 6.1), but its header may be older. */
    if (opcode == IORING_OP_SEND_ZC + 1)
        return "SENDMSG_ZC";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if ((int)names[i].value == opcode)
            return names[i].name;
    return NULL;
}

__attribute__((format(printf, 2, 3)))
static void trace_add(struct trace_line *line, const char *format, ...) {
    size_t room = sizeof line->text - 1 - line->length;      /* the last is for the line's end */
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(line->text + line->length, room, format, arguments);
    va_end(arguments);
    if (n > 0)
        line->length += (size_t)n < room ? (size_t)n : room - 1;
}

/* `` +name`` for each bit that is set, and what is left as a number. */
static void trace_bits(struct trace_line *line, unsigned bits, const struct trace_name *names,
                       size_t count) {
    for (size_t i = 0; i < count; i++)
        if (bits & names[i].value) {
            trace_add(line, " +%s", names[i].name);
            bits &= ~names[i].value;
        }
    if (bits)
        trace_add(line, " +0x%x", bits);
}
#define TRACE_BITS(line, bits, ...) do { \
        static const struct trace_name names_[] = {__VA_ARGS__}; \
        trace_bits(line, bits, names_, sizeof names_ / sizeof *names_); \
    } while (0)

static void trace_open(void) {
    const char *path = getenv("URINGLOOP_TRACE");
    clock_gettime(CLOCK_MONOTONIC, &trace_begin);
    trace_file = STDERR_FILENO;
    if (path && *path) {
        int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (fd >= 0)
            trace_file = fd;
        else
            fprintf(stderr, "uringloop: cannot write to %s (URINGLOOP_TRACE): %s; "
                            "tracing to standard error\n", path, strerror(errno));
    }
}

static void trace_start(struct trace_line *line, const struct io_uring *ring, char direction,
                        const char *name) {
    struct timespec now;
    if (trace_file < 0)
        trace_open();
    clock_gettime(CLOCK_MONOTONIC, &now);
    line->length = 0;
    trace_add(line, "%10.6f %7d:%-3d %c %-13s",
              (double)(now.tv_sec - trace_begin.tv_sec)
              + (double)(now.tv_nsec - trace_begin.tv_nsec) / 1e9,
              (int)getpid(), ring->ring_fd, direction, name);
}

static void trace_end(struct trace_line *line) {
    while (line->text[line->length - 1] == ' ')
        line->length--;
    line->text[line->length++] = '\n';
    if (write(trace_file, line->text, line->length) < 0)
        return;     /* a full disk must not end the program */
}

/* The slot of the operation and its generation, as the table of operations counts them. */
static void trace_operation(struct trace_line *line, __u64 user_data) {
    char text[32];
    if (user_data)
        snprintf(text, sizeof text, "%u/%u", (unsigned)user_data, (unsigned)(user_data >> 32));
    else
        strcpy(text, "none");       /* a cancellation's own answer, which nobody waits for */
    trace_add(line, " op %-8s", text);
}

static void trace_error(struct trace_line *line, int code) {
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 32) && defined(_GNU_SOURCE)
    const char *name = strerrorname_np(code);
    if (name) {
        trace_add(line, " %s (%s)", name, strerror(code));
        return;
    }
#endif
    trace_add(line, " -%d (%s)", code, strerror(code));
}

static unsigned trace_place(const struct io_uring *ring, __u64 user_data) {
    return ((unsigned)user_data ^ (unsigned)ring->ring_fd * 613) % TRACE_PLACES;
}

static void trace_events(struct trace_line *line, unsigned events) {
    TRACE_BITS(line, events, {POLLIN, "in"}, {POLLOUT, "out"}, {POLLERR, "err"},
               {POLLHUP, "hup"}, {0x2000, "rdhup"});
}

static void trace_submission(const struct io_uring *ring, const struct io_uring_sqe *sqe) {
    struct trace_line line;
    char number[16];
    const char *name = trace_opcode(sqe->opcode);
    unsigned place = trace_place(ring, sqe->user_data);
    if (!name) {
        snprintf(number, sizeof number, "op %u", sqe->opcode);
        name = number;
    }
    if (sqe->user_data) {
        trace_asked[place].user_data = sqe->user_data;
        trace_asked[place].ring = ring->ring_fd;
        trace_asked[place].opcode = sqe->opcode;
    }

    trace_start(&line, ring, '>', name);
    if (sqe->opcode == IORING_OP_ASYNC_CANCEL)
        trace_add(&line, " %-9s", "");
    else {
        snprintf(number, sizeof number, "%s %d",
                 sqe->flags & IOSQE_FIXED_FILE ? "file" : "fd", sqe->fd);
        trace_add(&line, " %-9s", number);
    }
    trace_operation(&line, sqe->user_data);
    switch (sqe->opcode) {
    case IORING_OP_POLL_ADD:
        trace_events(&line, sqe->poll32_events);
        TRACE_BITS(&line, sqe->len, {IORING_POLL_ADD_MULTI, "multishot"});
        break;
    case IORING_OP_ASYNC_CANCEL:
        if (sqe->cancel_flags & IORING_ASYNC_CANCEL_ANY)
            trace_add(&line, " of all there are");
        else {
            trace_add(&line, " of");
            trace_operation(&line, sqe->addr);
        }
        break;
    case IORING_OP_SENDMSG:
    case IORING_OP_SEND_ZC + 1:
        if (sqe->addr) {
            const struct msghdr *message = (const struct msghdr *)(uintptr_t)sqe->addr;
            size_t bytes = 0;
            for (size_t i = 0; i < message->msg_iovlen; i++)
                bytes += message->msg_iov[i].iov_len;
            trace_add(&line, " %zu bytes in %zu", bytes, (size_t)message->msg_iovlen);
        }
        break;
    default:
        trace_add(&line, " %u bytes", sqe->len);
    }
    if (sqe->opcode != IORING_OP_POLL_ADD && sqe->opcode != IORING_OP_ASYNC_CANCEL) {
        TRACE_BITS(&line, sqe->ioprio, {1U << 2, "fixed_buffer"}, {1U << 3, "report_usage"});
        TRACE_BITS(&line, sqe->msg_flags, {MSG_DONTWAIT, "dontwait"}, {MSG_NOSIGNAL, "nosignal"});
    }
    TRACE_BITS(&line, sqe->flags & ~IOSQE_FIXED_FILE, {IOSQE_IO_LINK, "link"});
    trace_end(&line);
}

static void trace_completion(const struct io_uring *ring, const struct io_uring_cqe *cqe) {
    struct trace_line line;
    const char *name;
    unsigned place = trace_place(ring, cqe->user_data), flags = cqe->flags;
    int opcode = -1;
    if (!cqe->user_data)
        opcode = IORING_OP_ASYNC_CANCEL;
    else if (trace_asked[place].ring == ring->ring_fd
             && trace_asked[place].user_data == cqe->user_data)
        opcode = trace_asked[place].opcode;
    name = trace_opcode(opcode);
    trace_start(&line, ring, '<', name ? name : "");
    trace_add(&line, " %-9s", "");
    trace_operation(&line, cqe->user_data);
    if (flags & IORING_CQE_F_NOTIF)         /* no result: whether the kernel has copied */
        trace_add(&line, cqe->res ? " copied" : " let go");
    else if (cqe->res < 0)
        trace_error(&line, -cqe->res);
    else if (opcode == IORING_OP_POLL_ADD)
        trace_events(&line, cqe->res);
    else
        trace_add(&line, " %d", cqe->res);
    TRACE_BITS(&line, flags, {IORING_CQE_F_MORE, "more"}, {IORING_CQE_F_NOTIF, "notif"});
    trace_end(&line);
}

/* Each entry is told once, before it is handed over for the first time. */
static inline void trace_handed_over(const struct io_uring *ring) {
    const struct io_uring_sq *sq = &ring->sq;
    for (unsigned i = sq->sqe_head; i != sq->sqe_tail; i++)
        trace_submission(ring, &sq->sqes[i & *sq->kring_mask]);
}

/* A call that failed, but for one that has waited long enough. */
static inline int trace_answer(const struct io_uring *ring, int code) {
    if (code < 0 && code != -ETIME) {
        struct trace_line line;
        trace_start(&line, ring, '!', "enter");
        trace_error(&line, -code);
        trace_end(&line);
    }
    return code;
}

static inline unsigned trace_taken(const struct io_uring *ring, const struct io_uring_cqe *cqes,
                                   unsigned count) {
    for (unsigned i = 0; i < count; i++)
        trace_completion(ring, &cqes[i]);
    return count;
}

#define io_uring_submit(ring) \
    (trace_handed_over(ring), trace_answer(ring, io_uring_submit(ring)))
#define io_uring_submit_and_get_events(ring) \
    (trace_handed_over(ring), trace_answer(ring, io_uring_submit_and_get_events(ring)))
#define io_uring_submit_and_wait_timeout(ring, first, count, timeout, mask) \
    (trace_handed_over(ring), trace_answer( \
        ring, io_uring_submit_and_wait_timeout(ring, first, count, timeout, mask)))
#define ring_wait(ring, registered, timeout, count) \
    (trace_handed_over(ring), trace_answer(ring, ring_wait(ring, registered, timeout, count)))
#define ring_take(ring, into, room) trace_taken(ring, into, ring_take(ring, into, room))

#endif
