"""liburing and the kernel's ABI: declarations and thin inline calls.

Nothing here touches Python.  Calls return ``-errno`` as liburing's do.
What is newer than liburing 2.3 (Debian 12) is declared from the kernel's
own header, include/uapi/linux/io_uring.h.
"""
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "<errno.h>" nogil:
    enum:
        EAGAIN
        EBADF
        EPIPE
        EBUSY
        EEXIST
        EFAULT
        ECANCELED
        ECONNABORTED
        ENOTCONN
        EINTR
        EINPROGRESS
        EALREADY
        EINVAL
        EMFILE
        EIO
        EMSGSIZE
        ENOBUFS
        ENOSPC
        ENOMEM
        EOPNOTSUPP
        ETIME


cdef extern from "<netinet/in.h>" nogil:
    enum:
        IPPROTO_IP
        IPPROTO_IPV6


cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    struct sockaddr:
        pass
    struct sockaddr_storage:
        unsigned short ss_family
        char __ss_padding[118]
    struct iovec:
        void* iov_base
        size_t iov_len
    struct msghdr:
        void* msg_name
        socklen_t msg_namelen
        iovec* msg_iov
        size_t msg_iovlen
        void* msg_control
        size_t msg_controllen
        int msg_flags
    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    enum:
        AF_UNIX
        AF_INET
        AF_INET6
        SOCK_STREAM
        SOCK_DGRAM
        SOCK_NONBLOCK
        SOCK_CLOEXEC
        SOL_SOCKET
        MSG_DONTWAIT
        MSG_MORE
        MSG_NOSIGNAL
        MSG_PEEK
        MSG_TRUNC
        MSG_CTRUNC


cdef extern from "<liburing.h>" nogil:
    struct io_uring_sqe:
        uint8_t opcode
        uint8_t flags
        uint16_t ioprio
        int32_t fd
        uint64_t addr2
        uint64_t addr
        uint32_t len
        uint32_t msg_flags
        uint32_t poll32_events
        uint32_t cancel_flags
        uint64_t user_data
        uint16_t buf_index
        uint16_t addr_len
    struct io_uring_cqe:
        uint64_t user_data
        int32_t res
        uint32_t flags
    struct io_uring:
        unsigned flags
        unsigned features
        int ring_fd
    struct io_uring_params:
        uint32_t cq_entries
        uint32_t flags
    struct io_uring_restriction:
        uint16_t opcode
        uint8_t sqe_op
    struct io_uring_probe_op:
        uint8_t op
        uint16_t flags
    struct io_uring_probe:
        uint8_t last_op
        uint8_t ops_len
        io_uring_probe_op ops[0]
    struct __kernel_timespec:
        long long tv_sec
        long long tv_nsec

    int io_uring_queue_init_params(unsigned, io_uring*, io_uring_params*)
    void io_uring_queue_exit(io_uring*)
    int io_uring_submit(io_uring*)
    int io_uring_submit_and_get_events(io_uring*)
    int io_uring_get_events(io_uring*)
    int io_uring_ring_dontfork(io_uring*)
    int io_uring_register_ring_fd(io_uring*)
    int io_uring_unregister_ring_fd(io_uring*)
    int io_uring_submit_and_wait_timeout(
        io_uring*, io_uring_cqe**, unsigned, __kernel_timespec*, void*)
    int io_uring_enter(unsigned, unsigned, unsigned, unsigned, void*)
    int io_uring_register(unsigned, unsigned, const void*, unsigned)
    unsigned io_uring_sq_ready(const io_uring*)
    unsigned io_uring_sq_space_left(const io_uring*)
    unsigned io_uring_cq_ready(const io_uring*)
    int io_uring_register_files_update(io_uring*, unsigned, const int*, unsigned)
    int io_uring_register_buffers_sparse(io_uring*, unsigned)
    int io_uring_register_buffers_update_tag(
        io_uring*, unsigned, const iovec*, const unsigned long long*, unsigned)

    enum:
        IORING_OP_POLL_ADD
        IORING_POLL_ADD_MULTI
        IORING_OP_ASYNC_CANCEL
        IORING_OP_SEND
        IORING_OP_SEND_ZC
        IORING_OP_SENDMSG
        IORING_OP_SENDMSG_ZC
        IORING_SETUP_CQSIZE
        IORING_SETUP_CLAMP
        IORING_SETUP_SUBMIT_ALL
        IORING_SETUP_TASKRUN_FLAG
        IORING_SETUP_SINGLE_ISSUER
        IORING_SETUP_DEFER_TASKRUN
        IORING_SETUP_R_DISABLED
        IORING_REGISTER_ENABLE_RINGS
        IORING_REGISTER_PROBE
        IORING_REGISTER_RESTRICTIONS
        IORING_REGISTER_FILES_UPDATE
        IORING_REGISTER_BUFFERS2
        IORING_REGISTER_BUFFERS_UPDATE
        IORING_REGISTER_RING_FDS
        IORING_UNREGISTER_RING_FDS
        IORING_RESTRICTION_REGISTER_OP
        IORING_RESTRICTION_SQE_OP
        IORING_RESTRICTION_SQE_FLAGS_ALLOWED
        IO_URING_OP_SUPPORTED
        IORING_SQ_CQ_OVERFLOW
        IORING_SQ_TASKRUN
        IORING_CQE_F_MORE
        IORING_CQE_F_NOTIF
        IORING_RECVSEND_FIXED_BUF
        IORING_ASYNC_CANCEL_ALL
        IORING_ASYNC_CANCEL_ANY
        IOSQE_FIXED_FILE
        IOSQE_IO_LINK


cdef extern from *:
    """
    #include <liburing.h>
    #include <stdint.h>
    #include <string.h>
    #include <time.h>
    #ifndef IORING_SEND_ZC_REPORT_USAGE   /* kernel 6.2 */
    #define IORING_SEND_ZC_REPORT_USAGE (1U << 3)
    #endif
    #ifndef UDP_SEGMENT                   /* kernel 4.18, <linux/udp.h> */
    #define UDP_SEGMENT 103
    #endif
    #ifndef UDP_GRO                       /* kernel 5.0 */
    #define UDP_GRO 104
    #endif
    #ifndef SOL_UDP
    #define SOL_UDP 17
    #endif
    #define RING_ENTER_NO_IOWAIT (1U << 7)    /* IORING_ENTER_NO_IOWAIT, kernel 6.15 */
    #define RING_FEAT_NO_IOWAIT (1U << 17)    /* IORING_FEAT_NO_IOWAIT */
    static inline unsigned ring_kernel_flags(const struct io_uring *ring) {
        return IO_URING_READ_ONCE(*ring->sq.kflags);
    }
    /* Takes one of the kernel's flags back; it does not read them itself. */
    static inline void ring_clear_taskrun(struct io_uring *ring) {
        __atomic_and_fetch(ring->sq.kflags, ~IORING_SQ_TASKRUN, __ATOMIC_SEQ_CST);
    }
    /* Takes back entries that were handed over last, and that the kernel has not taken.  It
       looks at the queue's end only while it is entered. */
    static inline void ring_take_back(struct io_uring *ring, unsigned count) {
        ring->sq.sqe_tail -= count;
        ring->sq.sqe_head = ring->sq.sqe_tail;
        io_uring_smp_store_release(ring->sq.ktail, ring->sq.sqe_tail);
    }
    static inline unsigned ring_cq_entries(const struct io_uring *ring) {
        return *ring->cq.kring_mask + 1;
    }
    /* Copies what the kernel has completed and frees its place at once. */
    static inline unsigned ring_take(struct io_uring *ring,
                                     struct io_uring_cqe *into, unsigned room) {
        unsigned head = *ring->cq.khead, mask = *ring->cq.kring_mask;
        unsigned n = io_uring_smp_load_acquire(ring->cq.ktail) - head;
        if (n > room)
            n = room;
        for (unsigned i = 0; i < n; i++)
            memcpy(&into[i], &ring->cq.cqes[(head + i) & mask], sizeof *into);
        io_uring_smp_store_release(ring->cq.khead, head + n);
        return n;
    }
    /* Whether something has completed, or would once the kernel is entered; looks at memory. */
    static inline int ring_stirs(const struct io_uring *ring) {
        return io_uring_cq_ready(ring)
            || ring_kernel_flags(ring) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
    }
    /* liburing has a flag of its own for a ring that is entered by its place in the thread's
       table.  If the kernel will not give that up (a seccomp filter) the descriptor does. */
    static inline void ring_enter_by_descriptor(struct io_uring *ring)
    {
        ring->enter_ring_fd = ring->ring_fd;
        ring->int_flags &= ~1;               /* INT_FLAG_REG_RING */
    }

    /* Hands over what is prepared, and sleeps until so many have completed, but no longer than
       that; enters the kernel once.  How many entries it took, or -errno.

       As io_uring_submit_and_wait_timeout, which does not know NO_IOWAIT: without that a
       loop that has nothing to do counts as waiting for a disk (iowait, and procs_blocked
       of /proc/stat).
       ``registered``: the ring's descriptor is one of the thread's own table. */
    static inline int ring_wait(struct io_uring *ring, int registered,
                                struct __kernel_timespec *timeout, unsigned count) {
        struct io_uring_sq *sq = &ring->sq;
        struct io_uring_getevents_arg arg;
        unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
        memset(&arg, 0, sizeof arg);
        arg.ts = (__u64)(uintptr_t)timeout;
        if (registered)
            flags |= IORING_ENTER_REGISTERED_RING;
        if (ring->features & RING_FEAT_NO_IOWAIT)
            flags |= RING_ENTER_NO_IOWAIT;
        if (sq->sqe_head != sq->sqe_tail) {
            sq->sqe_head = sq->sqe_tail;
            io_uring_smp_store_release(sq->ktail, sq->sqe_tail);
        }
        return io_uring_enter2(ring->enter_ring_fd,
                               sq->sqe_tail - io_uring_smp_load_acquire(sq->khead),
                               count, flags, (sigset_t *)&arg, sizeof arg);
    }
    /* A table of that many registered files, all empty.  liburing's own would raise the
       process's RLIMIT_NOFILE where that is too low. */
    static inline int ring_register_slots(struct io_uring *ring, unsigned count) {
        struct io_uring_rsrc_register table;
        memset(&table, 0, sizeof table);
        table.nr = count;
        table.flags = IORING_RSRC_REGISTER_SPARSE;
        return io_uring_register(ring->ring_fd, IORING_REGISTER_FILES2, &table, sizeof table);
    }
    static inline void relax_processor(void) {
    #if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
    #elif defined(__aarch64__)
        __asm__ volatile("isb");
    #endif
    }
    /* Looks for as long as that; whether the ring stirs. */
    static inline int ring_spin(const struct io_uring *ring, long long nanoseconds) {
        struct timespec begin, now;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        do {
            for (int i = 0; i < 16; i++) {
                if (ring_stirs(ring))
                    return 1;
                relax_processor();
            }
            clock_gettime(CLOCK_MONOTONIC, &now);
        } while ((now.tv_sec - begin.tv_sec) * 1000000000LL
                 + (now.tv_nsec - begin.tv_nsec) < nanoseconds);
        return 0;
    }
    /* A prepared entry starts zeroed: the ring's memory holds an older one. */
    static inline struct io_uring_sqe *ring_sqe(struct io_uring *ring, int op, int fd,
                                                unsigned flags, __u64 user_data) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
        if (sqe) {
            memset(sqe, 0, sizeof *sqe);
            sqe->opcode = op;
            sqe->fd = fd;
            sqe->flags = flags;
            sqe->user_data = user_data;
        }
        return sqe;
    }
    #ifdef URINGLOOP_TRACE    /* behind everything that it puts itself before */
    #include "uringloop/ring/trace.h"
    #endif
    """
    unsigned ring_kernel_flags(const io_uring*) noexcept nogil
    unsigned ring_cq_entries(const io_uring*) noexcept nogil
    void ring_clear_taskrun(io_uring*) noexcept nogil
    void ring_take_back(io_uring*, unsigned) noexcept nogil
    unsigned ring_take(io_uring*, io_uring_cqe*, unsigned) noexcept nogil
    bint ring_stirs(const io_uring*) noexcept nogil
    bint ring_spin(const io_uring*, long long) noexcept nogil
    void ring_enter_by_descriptor(io_uring*) noexcept nogil
    int ring_wait(io_uring*, bint, __kernel_timespec*, unsigned) noexcept nogil
    int ring_register_slots(io_uring*, unsigned) noexcept nogil
    io_uring_sqe* ring_sqe(io_uring*, int, int, unsigned, uint64_t) noexcept nogil
    enum:
        IORING_SEND_ZC_REPORT_USAGE
        RING_FEAT_NO_IOWAIT
        UDP_SEGMENT
        UDP_GRO
        SOL_UDP
