"""What of io_uring is used, beyond what every loop needs.

The kernel is asked once in a process, when its first ring is made: by requests for a file that
there is not.  Those that it knows it answers with EBADF, others with EINVAL, before it looks for
the file.  URINGLOOP_FEATURES=-send_zc,-registered_files in the environment switches off what
it has: ``-all`` all of it.
"""
from libc.stdint cimport uint16_t, uintptr_t
from libc.string cimport memset

from uringloop.ring.abi cimport *

import os

# The kernel that brought each, and what is done without it.
FEATURES = {
    'submit_all': ((5, 18), 'submissions behind one that is refused go with the next'),
    'taskrun_flag': ((5, 19), 'each turn enters the kernel to see what has come; no busy polling'),
    'ring_fd': ((5, 18), 'the ring is entered by its descriptor'),
    'registered_files': ((5, 1), 'sockets are named by their descriptors'),
    'registered_buffers': ((5, 1), 'pools and registered memory are sent as any other'),
    'send_zc': ((6, 0), 'all is copied'),
    'report_usage': ((6, 2), 'reports say copied=None, and no path is learned'),
    'registered_messages': ((6, 15), 'trains of pools are sent as of other memory'),
    'no_iowait': ((6, 15), 'an idle loop is shown as waiting for a disk'),
}

cdef bint found = False
cdef object switched = os.environ.get('URINGLOOP_FEATURES', '')


def check_features():
    """ValueError if URINGLOOP_FEATURES names what there is not."""
    for item in filter(None, switched.split(',')):
        name = item.strip()
        if name != '-all' and (name[:1] != '-' or name[1:] not in FEATURES):
            raise ValueError(f'URINGLOOP_FEATURES: {name!r} is none of -all, '
                             f'{", ".join("-" + known for known in FEATURES)}')


def features_used():
    """Which are used in this process; it asks the kernel, by a ring of its own."""
    find_features()
    return {name: bool(used) for name, used in (<dict>features).items()}


cdef int find_features() except -1:
    """Ask the kernel, once it can be asked, and switch off what is not wanted."""
    global found
    if found:
        return 0
    # What is not asked for here tells by itself: the kernel refuses it when it is used.
    features.submit_all = features.taskrun_flag = features.ring_fd = True
    features.registered_files = features.registered_buffers = features.no_iowait = True
    found = ask_kernel()
    off = {item.strip()[1:] for item in switched.split(',')}
    if 'all' in off:
        off = set(FEATURES)
    features.submit_all &= 'submit_all' not in off
    features.taskrun_flag &= 'taskrun_flag' not in off
    features.ring_fd &= 'ring_fd' not in off
    features.registered_files &= 'registered_files' not in off
    features.registered_buffers &= 'registered_buffers' not in off
    features.send_zc &= 'send_zc' not in off
    features.report_usage &= 'report_usage' not in off
    features.registered_messages &= 'registered_messages' not in off
    features.no_iowait &= 'no_iowait' not in off
    return 0


cdef bint ask_kernel() noexcept:
    """False: there is no ring to ask by now (memory, descriptors), as for the loop itself."""
    cdef io_uring ring
    cdef io_uring_params params
    memset(&params, 0, sizeof(params))
    if io_uring_queue_init_params(4, &ring, &params) < 0:
        return False
    features.send_zc = knows(&ring, IORING_OP_SEND_ZC, 0)
    features.report_usage = knows(&ring, IORING_OP_SEND_ZC, IORING_SEND_ZC_REPORT_USAGE)
    # From Linux 6.15 on SENDMSG_ZC takes registered buffers.
    features.registered_messages = knows(
        &ring, IORING_OP_SENDMSG_ZC, IORING_RECVSEND_FIXED_BUF)
    io_uring_queue_exit(&ring)
    return True


cdef bint knows(io_uring* ring, int opcode, uint16_t ioprio) noexcept:
    """Whether the kernel knows such a request."""
    cdef:
        io_uring_sqe* sqe
        io_uring_cqe* waited
        io_uring_cqe answered
        __kernel_timespec second
        iovec vector
        msghdr message
    memset(&message, 0, sizeof(message))
    vector.iov_base = &vector
    vector.iov_len = 1
    message.msg_iov = &vector
    message.msg_iovlen = 1
    second.tv_sec = 1
    second.tv_nsec = 0
    sqe = ring_sqe(ring, opcode, -1, 0, 1)
    if sqe is NULL:
        return False
    sqe.addr = <uintptr_t>(&message if opcode == IORING_OP_SENDMSG_ZC else <void*>&vector)
    sqe.len = 1
    sqe.ioprio = ioprio
    answered.flags = IORING_CQE_F_NOTIF
    # That of a zero-copy send before may come first.
    while answered.flags & IORING_CQE_F_NOTIF:
        io_uring_submit_and_wait_timeout(ring, &waited, 1, &second, NULL)
        if ring_take(ring, &answered, 1) != 1:
            return False
    return answered.res == -EBADF
