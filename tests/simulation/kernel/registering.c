/* What a ring is told once: files, buffers, its place in a thread's table, and what it may do. */
#include "rings.h"

#include <fcntl.h>

enum { DESCRIPTORS_OF_OURS = 600 };

/* -- files and buffers ------------------------------------------------------------------------- */

static struct file file_at(int fd) {
    struct file file = {sock_of(fd), -1};
    if (file.sock)
        sock_hold(file.sock);
    else if (fd >= 0)
        file.real = fcntl(fd, F_DUPFD_CLOEXEC, DESCRIPTORS_OF_OURS);
    return file;
}

void file_let_go(struct file *file) {
    if (file->sock)
        sock_let_go(file->sock);
    if (file->real >= 0)
        syscall(SYS_close, file->real);
    *file = (struct file){NULL, -1};
}

bool file_of(struct ring *ring, const struct io_uring_sqe *sqe, struct file *into) {
    if (!(sqe->flags & IOSQE_FIXED_FILE))
        *into = file_at(sqe->fd);
    else if ((unsigned)sqe->fd < ring->file_count && ring->files[sqe->fd].sock) {
        into->sock = sock_hold(ring->files[sqe->fd].sock);
        into->real = -1;
    } else
        *into = (struct file){NULL, -1};
    return into->sock || into->real >= 0;
}

bool ring_has_buffer(struct ring *ring, unsigned slot, const void *base, size_t length) {
    return slot < ring->piece_count && ring->pieces[slot].base
        && (const char *)base >= ring->pieces[slot].base
        && (const char *)base + length <= ring->pieces[slot].base + ring->pieces[slot].length;
}

bool ring_allows(const struct ring *ring, const struct io_uring_sqe *sqe) {
    return !ring->restricted || (ring->requests_allowed >> sqe->opcode & 1
                                 && !(sqe->flags & ~ring->flags_allowed));
}

/* -- registering ------------------------------------------------------------------------------- */

static int may_register(struct ring *ring, unsigned call) {
    sim_step();
    if (!ring)
        return -EBADF;
    if (!ring->disabled && ring->setup & IORING_SETUP_SINGLE_ISSUER
        && !pthread_equal(ring->owner, pthread_self()))
        return -EEXIST;
    return ring->restricted && !ring->disabled && !(ring->calls_allowed >> call & 1) ? -EACCES : 0;
}

static int restrict_ring(struct ring *ring, const struct io_uring_restriction *rules,
                         unsigned count) {
    if (!ring->disabled)
        return -EBADFD;
    for (unsigned i = 0; i < count; i++)
        switch (rules[i].opcode) {
        case IORING_RESTRICTION_SQE_OP:
            ring->requests_allowed |= 1ULL << rules[i].sqe_op;
            break;
        case IORING_RESTRICTION_REGISTER_OP:
            ring->calls_allowed |= 1U << rules[i].register_op;
            break;
        case IORING_RESTRICTION_SQE_FLAGS_ALLOWED:
            ring->flags_allowed |= rules[i].sqe_flags;
        }
    ring->restricted = true;
    return 0;
}

int io_uring_register(unsigned fd, unsigned call, const void *arg, unsigned count) {
    struct ring *ring = ring_at((int)fd, false);
    const struct io_uring_rsrc_register *table = arg;
    int code = may_register(ring, call);
    if (code)
        return code;
    switch (call) {
    case IORING_REGISTER_ENABLE_RINGS:
        if (!ring->disabled)
            return -EBADFD;
        ring->disabled = false;
        ring->owner = pthread_self();
        return 0;
    case IORING_REGISTER_RESTRICTIONS:
        return restrict_ring(ring, arg, count);
    case IORING_REGISTER_FILES2:
        ring->file_count = table->nr;
        ring->files = malloc(ring->file_count * sizeof *ring->files);
        for (unsigned i = 0; i < ring->file_count; i++)
            ring->files[i] = (struct file){NULL, -1};
        return 0;
    default:
        return -EINVAL;
    }
}

static void let_go_of_copy(void *what) {
    file_let_go(what);
    free(what);
}

int io_uring_register_files_update(struct io_uring *user, unsigned from, const int *fds,
                                   unsigned count) {
    struct ring *ring = ring_behind(user);
    int code = may_register(ring, IORING_REGISTER_FILES_UPDATE);
    if (code)
        return code;
    for (unsigned i = 0; i < count; i++) {
        struct file *old;
        if (from + i >= ring->file_count)
            return -EINVAL;
        if (fds[i] >= 0 && from + i && sim_fault(REGISTER_FAILS))
            return -ENOMEM;
        old = malloc(sizeof *old);
        *old = ring->files[from + i];
        ring->files[from + i] = fds[i] >= 0 ? file_at(fds[i]) : (struct file){NULL, -1};
        sim_later(sim_lag(FILES_LAG), let_go_of_copy, old);
    }
    return (int)count;
}

int io_uring_register_buffers_sparse(struct io_uring *user, unsigned count) {
    struct ring *ring = ring_behind(user);
    int code = may_register(ring, IORING_REGISTER_BUFFERS2);
    if (!code && sim_fault(REGISTER_FAILS))
        code = -ENOMEM;
    if (code)
        return code;
    ring->piece_count = count;
    ring->pieces = calloc(count, sizeof *ring->pieces);
    return 0;
}

int io_uring_register_buffers_update_tag(struct io_uring *user, unsigned from,
                                         const struct iovec *vectors,
                                         const unsigned long long *tags, unsigned count) {
    struct ring *ring = ring_behind(user);
    int code = may_register(ring, IORING_REGISTER_BUFFERS_UPDATE);
    (void)tags;
    if (!code && from + count > ring->piece_count)
        code = -EINVAL;
    if (!code && vectors->iov_base && sim_fault(REGISTER_FAILS))
        code = -ENOMEM;
    if (code)
        return code;
    for (unsigned i = 0; i < count; i++)
        ring->pieces[from + i] = (struct piece){vectors[i].iov_base, vectors[i].iov_len};
    return (int)count;
}

int io_uring_register_ring_fd(struct io_uring *user) {
    struct ring *ring = ring_behind(user);
    int code = may_register(ring, IORING_REGISTER_RING_FDS);
    if (code)
        return code;
    for (int i = 0; i < THREAD_RINGS && !sim_fault(RING_FD_FULL); i++)
        if (!ring_of_thread[i]) {
            ring_of_thread[i] = ring;
            user->enter_ring_fd = i;
            user->int_flags |= BY_NUMBER;
            return 1;
        }
    return -EBUSY;
}

int io_uring_unregister_ring_fd(struct io_uring *user) {
    struct ring *ring = ring_behind(user);
    int code = may_register(ring, IORING_UNREGISTER_RING_FDS);
    if (code)
        return code;
    ring_of_thread[user->enter_ring_fd] = NULL;
    user->enter_ring_fd = user->ring_fd;
    user->int_flags &= (__u8)~BY_NUMBER;
    return 1;
}
