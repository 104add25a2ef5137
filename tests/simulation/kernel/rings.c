/* io_uring, behind the calls of liburing.

   The queues lie in memory as the kernel's do: what liburing's and our own inline functions read
   and write there is real.  A ring is made by ``io_uring_queue_init_params`` and entered by
   ``enter``, which all of the others come down to. */
#include "rings.h"

#include <sys/eventfd.h>

enum { MOST_ENTRIES = 32768, REFUSALS = 5, MOST_CALLS = 200000, NO_IOWAIT = 1 << 17 };
/* What a loop may sleep before it looks again: nothing is waited for, and nothing will come. */
#define FOR_EVER (3600 * SECOND)

static struct ring *all;
static int ring_count;
__thread struct ring *ring_of_thread[THREAD_RINGS];

struct ring *ring_at(int fd, bool by_place) {
    if (by_place)
        return fd >= 0 && fd < THREAD_RINGS ? ring_of_thread[fd] : NULL;
    for (struct ring *ring = all; ring; ring = ring->next)
        if (ring->fd == fd && ring->open)
            return ring;
    return NULL;
}

struct ring *ring_behind(const struct io_uring *ring) {
    return ring_at(ring->ring_fd, false);
}

bool ring_is_open(const struct ring *ring) { return ring->open; }

/* -- completions ------------------------------------------------------------------------------- */

static unsigned ready(const struct ring *ring) {
    return ring->cq_tail - __atomic_load_n(&ring->cq_head, __ATOMIC_ACQUIRE);
}

bool ring_has_room(const struct ring *ring) {
    return !ring->kept_count && ready(ring) < ring->cq_entries;
}

static void write_completion(struct ring *ring, const struct io_uring_cqe *cqe) {
    memcpy(&ring->cqes[ring->cq_tail & ring->cq_mask], cqe, sizeof *cqe);
    __atomic_store_n(&ring->cq_tail, ring->cq_tail + 1, __ATOMIC_RELEASE);
}

static void set_flags(struct ring *ring) {
    unsigned flags = ring->kept_count ? IORING_SQ_CQ_OVERFLOW : 0;
    if (ring->setup & IORING_SETUP_TASKRUN_FLAG && (ring->work || sim_fault(TASKRUN_STALE)))
        flags |= IORING_SQ_TASKRUN;
    __atomic_store_n(&ring->sq_flags, flags, __ATOMIC_SEQ_CST);
}

void ring_post(struct ring *ring, uint64_t user_data, int res, unsigned flags) {
    struct io_uring_cqe cqe = {.user_data = user_data, .res = res, .flags = flags};
    if (!ring->open)
        return;
    sim_note("ring %d: < %u/%u %d%s%s", ring->number, (unsigned)user_data,
             (unsigned)(user_data >> 32), res, flags & IORING_CQE_F_MORE ? " +more" : "",
             flags & IORING_CQE_F_NOTIF ? " +notif" : "");
    sim.counts.completed++;
    ring->posted++;
    if (ring_has_room(ring)) {
        write_completion(ring, &cqe);
        return;
    }
    sim.counts.overflowed++;
    ring->cq_overflow++;
    if (ring->kept_count == ring->kept_room) {
        ring->kept_room = 2 * ring->kept_room + 16;
        ring->kept = realloc(ring->kept, ring->kept_room * sizeof *ring->kept);
    }
    ring->kept[ring->kept_count++] = cqe;
    set_flags(ring);
}

static void give_what_was_kept(struct ring *ring) {
    unsigned given = 0;
    while (given < ring->kept_count && ready(ring) < ring->cq_entries)
        write_completion(ring, &ring->kept[given++]);
    ring->kept_count -= given;
    memmove(ring->kept, ring->kept + given, ring->kept_count * sizeof *ring->kept);
}

/* -- deferred work ----------------------------------------------------------------------------- */

void ring_work(struct ring *ring, void (*call)(void *), void *what) {
    struct work *work;
    if (!ring->open) {
        call(what);              /* of a ring that is being torn down: by the kernel itself */
        return;
    }
    work = malloc(sizeof *work);
    *work = (struct work){NULL, call, what};
    if (!ring->work)
        ring->work_end = &ring->work;
    *ring->work_end = work;
    ring->work_end = &work->next;
    ring->work_count++;
    set_flags(ring);
}

static void do_one(struct ring *ring) {
    struct work work = *ring->work;
    free(ring->work);
    ring->work = work.next;
    ring->work_count--;
    work.call(work.what);
}

/* What is there now; and what that leaves, as long as fewer completions than ``wanted`` came. */
static void do_work(struct ring *ring, unsigned wanted) {
    uint64_t before = ring->posted;
    do {
        unsigned count = ring->work_count;
        if (count > 1 && sim_fault(WORK_SOME))
            count = 1 + sim_pick(count - 1);
        while (count-- && ring->work)
            do_one(ring);
    } while (ring->work && ring->posted - before < wanted);
    set_flags(ring);
}

/* -- entering ---------------------------------------------------------------------------------- */

static int take_entries(struct ring *ring, unsigned wanted) {
    unsigned there = __atomic_load_n(&ring->sq_tail, __ATOMIC_ACQUIRE) - ring->sq_head;
    unsigned count = wanted < there ? wanted : there;
    struct io_uring_sqe *sqes;
    if (!count)
        return 0;
    if (ring->refused < REFUSALS && sim_fault(SUBMIT_REFUSED)) {
        ring->refused++;
        sim.counts.refused++;
        return ring->kept_count ? -EBUSY : -EAGAIN;
    }
    ring->refused = 0;
    if (count > 1 && sim_fault(SUBMIT_PARTIAL))
        count = 1 + sim_pick(count - 1);
    sqes = malloc(count * sizeof *sqes);
    for (unsigned i = 0; i < count; i++) {
        sqes[i] = ring->sqes[(ring->sq_head + i) & ring->sq_mask];
        /* What lies there next is not to be taken for this. */
        memset(&ring->sqes[(ring->sq_head + i) & ring->sq_mask], 0xee, sizeof *sqes);
        sim_note("ring %d: > op %u %u/%u flags %u", ring->number, sqes[i].opcode,
                 (unsigned)sqes[i].user_data, (unsigned)(sqes[i].user_data >> 32),
                 sqes[i].flags);
    }
    __atomic_store_n(&ring->sq_head, ring->sq_head + count, __ATOMIC_RELEASE);
    sim.counts.submitted += count;
    requests_begin(ring, sqes, count);
    free(sqes);
    return (int)count;
}

static int wait_for(struct ring *ring, unsigned wanted, const struct __kernel_timespec *time) {
    int64_t until = time ? sim.now + time->tv_sec * SECOND + time->tv_nsec : INT64_MAX;
    if (wanted > ring->cq_entries)
        wanted = ring->cq_entries;
    while (ready(ring) < wanted) {
        if (ring->work) {
            do_work(ring, wanted - ready(ring));
            give_what_was_kept(ring);
            continue;
        }
        if (sim_fault(WAIT_EINTR))
            return -EINTR;
        if (sim_fault(WAIT_FUTILE))
            return 0;
        if (sim_is_idle() && until - sim.now > FOR_EVER) {
            sim_violation("the loop sleeps, and nothing will ever wake it");
            return -EBADF;
        }
        if (!sim_advance(until))
            return -ETIME;
        requests_look_at_real(ring);
    }
    return 0;
}

static int enter(struct ring *ring, unsigned submit, unsigned wanted, unsigned flags,
                 const struct __kernel_timespec *time) {
    int submitted = 0, code = 0;
    sim_step();
    if (!ring)
        return -EBADF;
    if (ring->disabled)
        return -EBADFD;
    if (ring->setup & IORING_SETUP_SINGLE_ISSUER && !pthread_equal(ring->owner, pthread_self()))
        return -EEXIST;
    if (++sim.counts.entered > MOST_CALLS) {
        sim_violation("the kernel is entered for ever");
        return -EBADF;
    }
    if (submit) {
        submitted = take_entries(ring, submit);
        if (submitted != (int)submit)
            return submitted;
    }
    if (flags & IORING_ENTER_GETEVENTS) {
        requests_look_at_real(ring);
        give_what_was_kept(ring);
        if (ring->work)
            do_work(ring, wanted > ready(ring) ? wanted - ready(ring) : 0);
        give_what_was_kept(ring);
        if (wanted)
            code = wait_for(ring, wanted, time);
        set_flags(ring);
    }
    return submitted ? submitted : code;
}

/* What liburing does: publish what is prepared, then enter if there is a reason. */
static int enter_by(struct io_uring *user, bool submit, bool get_events, unsigned wanted,
                    const struct __kernel_timespec *time) {
    struct io_uring_sq *sq = &user->sq;
    struct ring *ring = ring_at(user->enter_ring_fd, user->int_flags & BY_NUMBER);
    unsigned count = 0;
    if (submit) {
        sq->sqe_head = sq->sqe_tail;
        __atomic_store_n(sq->ktail, sq->sqe_tail, __ATOMIC_RELEASE);
        count = sq->sqe_tail - *sq->khead;
    }
    get_events |= wanted != 0 || (*sq->kflags & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN));
    if (!count && !get_events)
        return 0;
    return enter(ring, count, wanted, get_events ? IORING_ENTER_GETEVENTS : 0, time);
}

int io_uring_submit(struct io_uring *ring) {
    return enter_by(ring, true, false, 0, NULL);
}

int io_uring_submit_and_get_events(struct io_uring *ring) {
    return enter_by(ring, true, true, 0, NULL);
}

int io_uring_get_events(struct io_uring *ring) {
    return enter_by(ring, false, true, 0, NULL);
}

int io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **first,
                                     unsigned wanted, struct __kernel_timespec *time,
                                     sigset_t *mask) {
    (void)mask;
    *first = NULL;
    return enter_by(ring, true, true, wanted, time);
}

/* By another name here: what ``arg`` is declared as differs between versions of liburing. */
int enter2(unsigned fd, unsigned submit, unsigned wanted, unsigned flags, const void *arg,
           size_t size) __asm__("io_uring_enter2");

int enter2(unsigned fd, unsigned submit, unsigned wanted, unsigned flags, const void *arg,
           size_t size) {
    const struct io_uring_getevents_arg *more = arg;
    const struct __kernel_timespec *time = NULL;
    if (flags & IORING_ENTER_EXT_ARG && size == sizeof *more)
        time = (const struct __kernel_timespec *)(uintptr_t)more->ts;
    return enter(ring_at((int)fd, flags & IORING_ENTER_REGISTERED_RING), submit, wanted, flags,
                 time);
}

int io_uring_enter(unsigned fd, unsigned submit, unsigned wanted, unsigned flags, sigset_t *mask) {
    return enter2(fd, submit, wanted, flags & ~IORING_ENTER_EXT_ARG, mask, 0);
}

/* -- making and closing ------------------------------------------------------------------------ */

static unsigned power_of_two(unsigned count) {
    unsigned power = 1;
    while (power < count)
        power *= 2;
    return power;
}

int io_uring_queue_init_params(unsigned entries, struct io_uring *user,
                               struct io_uring_params *params) {
    const unsigned newer = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL
        | IORING_SETUP_TASKRUN_FLAG;
    struct ring *ring;
    if (!sim.active)
        return -ENOSYS;          /* there is no real one in here */
    sim_step();
    if (params->flags & newer && sim.level[OLD_KERNEL] > 20) {
        sim.hits[OLD_KERNEL]++;
        return -EINVAL;
    }
    if (params->flags & IORING_SETUP_R_DISABLED && sim_fault(RING_ENOMEM))
        return -ENOMEM;
    ring = calloc(1, sizeof *ring);
    ring->next = all;
    all = ring;
    ring->number = ++ring_count;
    ring->fd = eventfd(0, EFD_CLOEXEC);
    ring->open = true;
    ring->setup = params->flags;
    ring->disabled = params->flags & IORING_SETUP_R_DISABLED;
    ring->owner = pthread_self();
    ring->sq_entries = power_of_two(entries < MOST_ENTRIES ? entries : MOST_ENTRIES);
    ring->cq_entries = params->flags & IORING_SETUP_CQSIZE ? power_of_two(params->cq_entries)
                                                           : 2 * ring->sq_entries;
    ring->sq_mask = ring->sq_entries - 1;
    ring->cq_mask = ring->cq_entries - 1;
    ring->sq_array = calloc(ring->sq_entries, sizeof *ring->sq_array);
    ring->sqes = calloc(ring->sq_entries, sizeof *ring->sqes);
    ring->cqes = calloc(ring->cq_entries, sizeof *ring->cqes);
    sim.counts.rings++;

    memset(user, 0, sizeof *user);
    user->sq.khead = &ring->sq_head;
    user->sq.ktail = &ring->sq_tail;
    user->sq.kring_mask = &ring->sq_mask;
    user->sq.kring_entries = &ring->sq_entries;
    user->sq.kflags = &ring->sq_flags;
    user->sq.kdropped = &ring->sq_dropped;
    user->sq.array = ring->sq_array;
    user->sq.sqes = ring->sqes;
    user->sq.ring_mask = ring->sq_mask;
    user->sq.ring_entries = ring->sq_entries;
    user->cq.khead = &ring->cq_head;
    user->cq.ktail = &ring->cq_tail;
    user->cq.kring_mask = &ring->cq_mask;
    user->cq.kring_entries = &ring->cq_entries;
    user->cq.kflags = &ring->cq_flags;
    user->cq.koverflow = &ring->cq_overflow;
    user->cq.cqes = ring->cqes;
    user->cq.ring_mask = ring->cq_mask;
    user->cq.ring_entries = ring->cq_entries;
    user->flags = params->flags;
    user->ring_fd = user->enter_ring_fd = ring->fd;
    user->features = params->features = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP
        | IORING_FEAT_EXT_ARG | IORING_FEAT_SUBMIT_STABLE | NO_IOWAIT;
    sim_note("ring %d of %u and %u entries", ring->number, ring->sq_entries, ring->cq_entries);
    return 0;
}

int io_uring_ring_dontfork(struct io_uring *ring) {
    (void)ring;
    return 0;
}

static void tear_down(void *what) {
    struct ring *ring = what;
    if (ring->lent || ring->torn_down)
        return;                  /* the last notification comes back here */
    ring->torn_down = true;
    sim_note("ring %d is torn down", ring->number);
    requests_drop(ring);
    for (unsigned i = 0; i < ring->file_count; i++)
        file_let_go(&ring->files[i]);
}

void ring_lends(struct ring *ring, int change) {
    ring->lent += change;
    if (!ring->open && !ring->lent)
        sim_later(1 + sim_lag(RING_DIES_LATE), tear_down, ring);
}

void io_uring_queue_exit(struct io_uring *user) {
    struct ring *ring = ring_behind(user);
    if (!ring)
        return;
    sim_step();
    sim_note("ring %d is closed", ring->number);
    for (int i = 0; i < THREAD_RINGS; i++)
        if (ring_of_thread[i] == ring)
            ring_of_thread[i] = NULL;
    ring->open = false;
    syscall(SYS_close, ring->fd);
    while (ring->work)
        do_one(ring);
    if (!ring->lent)
        sim_later(1 + sim_lag(RING_DIES_LATE)
                  + (sim_fault(RING_DIES_LATE) ? sim_pick(3000) * (int64_t)MILLISECOND : 0),
                  tear_down, ring);
}

void rings_reset(void) {
    while (all) {
        struct ring *ring = all;
        all = ring->next;
        if (ring->open)
            syscall(SYS_close, ring->fd);
        for (unsigned i = 0; i < ring->file_count; i++)
            if (ring->files[i].real >= 0)
                syscall(SYS_close, ring->files[i].real);
        while (ring->work) {
            struct work *work = ring->work;
            ring->work = work->next;
            free(work);
        }
        free(ring->sq_array);
        free(ring->sqes);
        free(ring->cqes);
        free(ring->kept);
        free(ring->files);
        free(ring->pieces);
        free(ring);
    }
    memset(ring_of_thread, 0, sizeof ring_of_thread);
    ring_count = 0;
}
