/* Datagrams out through io_uring, BATCH requests a system call.

   WAY zerocopy-bulk    IORING_OP_SEND_ZC of ordinary memory; notifications are taken as they come
   WAY zerocopy-each    the same; all notifications of a batch are awaited before the next one
   WAY registered-bulk, registered-each    the same, from registered memory */
#include "send.h"

#include <liburing.h>

#ifndef IORING_SEND_ZC_REPORT_USAGE     /* Linux 6.2, newer than liburing 2.3 */
#define IORING_SEND_ZC_REPORT_USAGE (1U << 3)
#define IORING_NOTIF_USAGE_ZC_COPIED (1U << 31)
#endif

#define ENTRIES 512
#define WINDOW 256          /* sends that may wait for their notifications */

static unsigned long take(struct io_uring *ring, struct count *count, unsigned long owed) {
    struct io_uring_cqe *cqe;
    unsigned head, taken = 0;
    io_uring_for_each_cqe(ring, head, cqe) {
        taken++;
        owed--;
        if (cqe->flags & IORING_CQE_F_NOTIF) {
            count->zerocopy++;
            if ((unsigned)cqe->res & IORING_NOTIF_USAGE_ZC_COPIED)
                count->copied++;
            continue;
        }
        if (cqe->res < 0)
            fail("IORING_OP_SEND_ZC", -cqe->res);
        count->sends++;
        owed += !!(cqe->flags & IORING_CQE_F_MORE);
    }
    io_uring_cq_advance(ring, taken);
    return owed;
}

/* Until no more than so many completions are owed. */
static unsigned long await_completions(struct io_uring *ring, struct count *count,
                                       unsigned long owed, unsigned long most) {
    while (owed > most) {
        int error = io_uring_submit_and_wait(ring, 1);
        if (error < 0 && error != -EINTR)
            fail("io_uring_enter", -error);
        owed = take(ring, count, owed);
    }
    return owed;
}

int main(int argc, char **argv) {
    struct job job = job_of(argc, argv);
    int registered = !strncmp(job.way, "registered", 10), each = !!strstr(job.way, "-each");
    int fd = socket_of(&job), error;
    struct walk walk = walk_of(&job);
    struct count count = {0};
    struct io_uring ring;
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
        .cq_entries = 4 * ENTRIES,
    };
    if ((error = io_uring_queue_init_params(ENTRIES, &ring, &params)) < 0)
        end(MISSING, error == -ENOMEM
            ? "io_uring_setup (the limit of locked memory? ulimit -l)" : "io_uring_setup", -error);
    io_uring_register_ring_fd(&ring);
    if ((error = io_uring_register_files(&ring, &fd, 1)) < 0)
        fail("io_uring_register_files", -error);
    struct iovec memory = {walk.memory, walk.length};
    if (registered && (error = io_uring_register_buffers(&ring, &memory, 1)) < 0)
        fail("io_uring_register_buffers", -error);

    unsigned long owed = 0;
    double begin = now(), passed;
    do {
        for (int prepared = 0; prepared < job.batch; prepared++) {
            struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
            char *payload = next_payload(&walk);
            if (registered)
                io_uring_prep_send_zc_fixed(sqe, 0, payload, job.size, 0,
                                            IORING_SEND_ZC_REPORT_USAGE, 0);
            else
                io_uring_prep_send_zc(sqe, 0, payload, job.size, 0, IORING_SEND_ZC_REPORT_USAGE);
            sqe->flags |= IOSQE_FIXED_FILE;
        }
        owed += job.batch;
        /* One system call submits, and fetches what has completed. */
        error = each ? io_uring_submit_and_wait(&ring, 2 * job.batch)
                     : io_uring_submit_and_get_events(&ring);
        if (error < 0 && error != -EINTR)
            fail("io_uring_enter", -error);
        owed = take(&ring, &count, owed);
        owed = await_completions(&ring, &count, owed, each ? 0 : WINDOW);
        passed = now() - begin;
    } while (passed < job.seconds);
    await_completions(&ring, &count, owed, 0);
    report(&job, &count, passed);
    io_uring_queue_exit(&ring);
}
