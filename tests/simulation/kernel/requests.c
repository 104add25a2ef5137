/* What is asked of a ring: polls, sends, cancellations.

   Sends are tried when they are submitted, as all of them say MSG_DONTWAIT; members of a chain
   by the work that the one before leaves.  What completes later leaves work, too, which is done
   when the ring's owner enters the kernel and asks for it (DEFER_TASKRUN). */
#include "sim.h"

struct request {
    struct request *next;
    struct ring *ring;
    struct io_uring_sqe sqe;
    struct file file;
    struct request *link;        /* that is tried when this has not failed */
    /* As they were when it was asked for: they must stay so. */
    struct msghdr message;
    struct sockaddr_storage name;
    unsigned woken;
    int refused;                 /* an errno */
    bool queued, cancelled, over;
    int edges;                   /* an epoll: what is new of a real file that a lasting poll is on */
};

static struct request *all;
static const unsigned ALWAYS = POLLERR | POLLHUP | POLLRDHUP;

static bool is_zerocopy(const struct request *request) {
    return request->sqe.opcode == IORING_OP_SEND_ZC || request->sqe.opcode == SENDMSG_ZC;
}

static bool has_message(const struct request *request) {
    return request->sqe.opcode == IORING_OP_SENDMSG || request->sqe.opcode == SENDMSG_ZC;
}

static void let_go(struct request *request) {
    request->over = true;
    if (request->edges >= 0)
        syscall(SYS_close, request->edges);
    file_let_go(&request->file);
}

static void finish(struct request *request, int res, unsigned flags) {
    if (request->over)
        abort();                 /* an error of the simulation: two answers to one request */
    let_go(request);
    ring_post(request->ring, request->sqe.user_data, res, flags);
}

/* -- notifications ----------------------------------------------------------------------------- */

static void notify(void *what) {
    struct lent *lent = what;
    struct ring *ring = lent_ring(lent);
    if (lent_is_told(lent))
        return;
    lent_told(lent);
    sim.counts.notified++;
    ring_post(ring, lent_user_data(lent), lent_was_copied(lent) ? INT32_MIN : 0,
              IORING_CQE_F_NOTIF);
}

static void notification_is_due(void *what) {
    ring_work(lent_ring(what), notify, what);
}

/* The last packet has let go of the memory. */
void notify_later(struct lent *lent) {
    int64_t delay = sim_lag(NOTIF_LAG);
    if (sim_fault(NOTIF_LONG))
        delay += (1 + sim_pick(20)) * SECOND;
    sim_later(delay, notification_is_due, lent);
}

/* One of a request that has sent nothing: the kernel has none of the memory. */
static void notify_of_nothing(struct request *request) {
    lent_let_go(lend(request->ring, request->sqe.user_data, NULL, 0, false));
}

/* -- polls ------------------------------------------------------------------------------------- */

static void poll_work(void *what) {
    struct request *request = what;
    unsigned events = 0;
    bool lasting = request->sqe.len & IORING_POLL_ADD_MULTI;
    request->queued = false;
    if (request->over)
        return;
    if (request->cancelled) {
        finish(request, -ECANCELED, 0);
        return;
    }
    if (request->file.sock)
        events = sock_poll(request->file.sock);
    else if (request->file.real >= 0)
        events = request->woken;
    if (sim_fault(POLL_SPURIOUS))
        events |= request->woken;
    events &= request->sqe.poll32_events | ALWAYS;
    request->woken = 0;
    if (!events)
        return;
    if (lasting && ring_has_room(request->ring) && !sim_fault(POLL_ENDS))
        ring_post(request->ring, request->sqe.user_data, (int)events, IORING_CQE_F_MORE);
    else
        finish(request, (int)events, 0);
}

static void work_is_due(void *what) {
    struct request *request = what;
    ring_work(request->ring, poll_work, request);
}

static void wake(struct request *request, unsigned events, enum fault lag) {
    if (request->over || request->sqe.opcode != IORING_OP_POLL_ADD)
        return;
    request->woken |= events;
    if (!request->queued) {
        request->queued = true;
        sim_later(sim_lag(lag), work_is_due, request);
    }
}

/* Something has happened to a socket. */
void requests_wake(struct sock *sock, unsigned events) {
    for (struct request *request = all; request; request = request->next)
        if (!request->over && request->file.sock == sock
            && events & (request->sqe.poll32_events | ALWAYS))
            wake(request, events, POLL_LAG);
}

/* A lasting poll tells what is new, as EPOLLET does: of a file that nobody reads, after each write. */
static unsigned real_events(struct request *request) {
    struct pollfd polled = {.fd = request->file.real, .events = (short)request->sqe.poll32_events};
    struct epoll_event event = {.events = request->sqe.poll32_events | EPOLLET};
    if (!(request->sqe.len & IORING_POLL_ADD_MULTI))
        return real_poll(&polled, 1, 0) == 1 ? (unsigned short)polled.revents : 0;
    if (request->edges < 0) {
        request->edges = (int)syscall(SYS_epoll_create1, EPOLL_CLOEXEC);
        if (syscall(SYS_epoll_ctl, request->edges, EPOLL_CTL_ADD, polled.fd, &event) < 0)
            abort();
    }
    return syscall(SYS_epoll_pwait, request->edges, &event, 1, 0, NULL, 0) == 1 ? event.events : 0;
}

/* Polls of real descriptors: the loop's own, and pipes. */
void requests_look_at_real(struct ring *ring) {
    for (struct request *request = all; request; request = request->next) {
        unsigned events;
        if (request->ring != ring || request->over || request->queued || request->cancelled
            || request->sqe.opcode != IORING_OP_POLL_ADD || request->file.sock)
            continue;
        events = real_events(request);
        if (events)
            wake(request, events, POLL_LAG);
    }
}

static void begin_poll(struct request *request) {
    unsigned events;
    if (!file_of(request->ring, &request->sqe, &request->file)) {
        finish(request, -EBADF, 0);
        return;
    }
    if (request->file.sock) {
        events = sock_poll(request->file.sock) & (request->sqe.poll32_events | ALWAYS);
        if (events)
            wake(request, events, POLL_LAG);
    }
}

/* -- cancellations ----------------------------------------------------------------------------- */

static bool cancel(struct request *request) {
    if (request->over || request->cancelled || request->sqe.opcode != IORING_OP_POLL_ADD)
        return false;
    if (request->queued && !(request->sqe.len & IORING_POLL_ADD_MULTI) && sim_fault(CANCEL_MISSES))
        return false;
    request->cancelled = true;
    if (!request->queued) {
        request->queued = true;
        sim_later(sim_lag(CANCEL_LAG), work_is_due, request);
    }
    return true;
}

static void begin_cancel(struct request *request) {
    bool any = request->sqe.cancel_flags & IORING_ASYNC_CANCEL_ANY;
    int found = 0;
    for (struct request *other = all; other; other = other->next)
        if (other->ring == request->ring && other != request
            && (any || other->sqe.user_data == request->sqe.addr))
            found += cancel(other);
    finish(request, found ? (any ? found : 0) : -ENOENT, 0);
}

/* -- sends ------------------------------------------------------------------------------------- */

static void write_message(const struct request *request, struct msghdr *message,
                          struct iovec *vector) {
    const struct io_uring_sqe *sqe = &request->sqe;
    if (has_message(request)) {
        *message = request->message;
        return;
    }
    *vector = (struct iovec){(void *)(uintptr_t)sqe->addr, sqe->len};
    *message = (struct msghdr){.msg_name = (void *)(uintptr_t)sqe->addr2,
                               .msg_namelen = sqe->addr2 ? sqe->addr_len : 0,
                               .msg_iov = vector, .msg_iovlen = 1};
}

static bool read_what_it_refers_to(const struct request *request, struct msghdr *message,
                                   struct sockaddr_storage *name) {
    const struct io_uring_sqe *sqe = &request->sqe;
    bool sends = sqe->opcode == IORING_OP_SEND || sqe->opcode == IORING_OP_SEND_ZC;
    uint64_t at = sends ? sqe->addr2 : 0;
    size_t length = at ? sqe->addr_len : 0;
    if (has_message(request)) {
        if (!memory_read((void *)(uintptr_t)sqe->addr, message, sizeof *message))
            return false;
        at = (uintptr_t)message->msg_name;
        length = at ? message->msg_namelen : 0;
    }
    return length <= sizeof *name && memory_read((void *)(uintptr_t)at, name, length);
}

static bool is_as_it_was(const struct request *request) {
    struct msghdr message = {0};
    struct sockaddr_storage name = {0};
    return read_what_it_refers_to(request, &message, &name)
        && !memcmp(&message, &request->message, sizeof message)
        && !memcmp(&name, &request->name, sizeof name);
}

static long try_zerocopy(struct request *request, const struct msghdr *message) {
    const struct iovec *vector = message->msg_iov;
    struct lent *lent;
    bool first = sim_fault(NOTIF_FIRST);
    long res;
    if (message->msg_iovlen != 1)
        sim_violation("a zero-copy send of %zu pieces", (size_t)message->msg_iovlen);
    if (request->sqe.ioprio & IORING_RECVSEND_FIXED_BUF
        && !ring_has_buffer(request->ring, request->sqe.buf_index, vector->iov_base,
                            vector->iov_len)) {
        sim_violation("registered buffer %u has not what is sent from it", request->sqe.buf_index);
        return -EFAULT;
    }
    lent = lend(request->ring, request->sqe.user_data, vector->iov_base, vector->iov_len,
                first || sim_fault(COPIED));
    res = sock_send(request->file.sock, message, lent);
    if (res > 0)
        lent_sent(lent, (size_t)res);
    if (first)
        notify(lent);            /* the packet has a copy */
    finish(request, (int)res, IORING_CQE_F_MORE);
    lent_let_go(lent);
    return res;
}

/* Negative if what is linked to it is cancelled. */
static long try_send(struct request *request) {
    struct msghdr message;
    struct iovec vector;
    long res;
    if (!file_of(request->ring, &request->sqe, &request->file) || !request->file.sock) {
        finish(request, -EBADF, 0);
        if (is_zerocopy(request))
            notify_of_nothing(request);
        return -EBADF;
    }
    write_message(request, &message, &vector);
    if (!is_as_it_was(request))
        sim_violation("the message or the address of operation %u has changed before it was sent",
                      (unsigned)request->sqe.user_data);
    if (is_zerocopy(request))
        res = try_zerocopy(request, &message);
    else {
        res = sock_send(request->file.sock, &message, NULL);
        finish(request, (int)res, 0);
    }
    return res;
}

static void cancel_chain(struct request *request) {
    for (; request; request = request->link) {
        int res = request->refused ? -request->refused : -ECANCELED;
        bool notifies = is_zerocopy(request) && !request->refused;
        finish(request, res, 0);
        if (notifies)
            notify_of_nothing(request);
    }
}

static void continue_chain(void *what) {
    struct request *request = what;
    long res = try_send(request);
    if (!request->link)
        return;
    if (res < 0)
        cancel_chain(request->link);
    else
        ring_work(request->ring, continue_chain, request->link);
}

/* What is refused before it begins: an errno, or 0. */
static int refusal(const struct request *request) {
    if (!ring_allows(request->ring, &request->sqe))
        return EACCES;
    return is_zerocopy(request) && sim_fault(NOTIF_NEVER) ? ENOMEM : 0;
}

static void begin(struct request *first) {
    bool refused = false;
    for (struct request *request = first; request; request = request->link)
        refused |= (request->refused = refusal(request)) != 0;
    if (refused && first->link)
        cancel_chain(first);     /* with one of a chain all of it is refused */
    else if (refused)
        finish(first, -first->refused, 0);
    else if (is_zerocopy(first) && !first->link && sim_fault(NOTIF_UNTOLD)) {
        finish(first, -ENOMEM, 0);
        notify_of_nothing(first);
    } else if (first->sqe.opcode == IORING_OP_POLL_ADD)
        begin_poll(first);
    else if (first->sqe.opcode == IORING_OP_ASYNC_CANCEL)
        begin_cancel(first);
    else
        continue_chain(first);
}

static struct request *request_of(struct ring *ring, const struct io_uring_sqe *sqe) {
    struct request *request = calloc(1, sizeof *request);
    for (struct request *other = all; sqe->user_data && other; other = other->next)
        if (other->ring == ring && !other->over && other->sqe.user_data == sqe->user_data)
            sim_violation("operation %u/%u is submitted twice", (unsigned)sqe->user_data,
                          (unsigned)(sqe->user_data >> 32));
    request->ring = ring;
    request->sqe = *sqe;
    request->file.real = request->edges = -1;
    if (!read_what_it_refers_to(request, &request->message, &request->name))
        sim_violation("operation %u has no message, or no address", (unsigned)sqe->user_data);
    request->next = all;
    all = request;
    return request;
}

/* What one system call hands over: a chain that it cuts off is two. */
void requests_begin(struct ring *ring, const struct io_uring_sqe *sqe, unsigned count) {
    struct request *first = NULL, **place = &first;
    for (unsigned i = 0; i < count; i++) {
        struct request *request = request_of(ring, &sqe[i]);
        *place = request;
        place = &request->link;
        if (!(sqe[i].flags & IOSQE_IO_LINK) || i + 1 == count) {
            begin(first);
            first = NULL;
            place = &first;
        }
    }
}

/* The ring is torn down: nothing of it holds a file any more. */
void requests_drop(struct ring *ring) {
    for (struct request *request = all; request; request = request->next)
        if (request->ring == ring && !request->over)
            let_go(request);
}

void requests_reset(void) {
    while (all) {
        struct request *request = all;
        all = request->next;
        if (!request->over && request->edges >= 0)
            syscall(SYS_close, request->edges);
        if (!request->over && request->file.real >= 0)
            syscall(SYS_close, request->file.real);
        free(request);
    }
}
