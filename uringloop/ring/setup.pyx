"""Making a ring: its flags, and what to do while locked memory is short.

A ring needs SINGLE_ISSUER and DEFER_TASKRUN, and is made switched off (R_DISABLED).  It is
asked for with a few flags more, which an old kernel refuses.

The kernel counts the locked memory of all rings of a user, and tears closed ones down
asynchronously.  A ring that finds no memory may therefore find some a moment later.
"""
from libc.string cimport memset

from uringloop.ring.abi cimport *
from uringloop.ring.features cimport features, find_features

import resource
import time

from uringloop.ring.orphans import release_torn_down


cdef enum:
    FEWEST_ENTRIES = 8

cdef double TEARDOWN = 5.0   # seconds in which the kernel should be through with a closed ring

cdef double last_closed = -1e9
cdef bint waited_in_vain = False     # since then


cdef int open_ring(io_uring* ring, unsigned entries, unsigned cq_entries,
                   unsigned* setup_flags) except? -1:
    """Teardown of closed rings is asynchronous, and locked memory is counted per user.

    So ENOMEM may pass: wait for it, if that may help, then ask for less.
    """
    global waited_in_vain
    cdef int code
    cdef int tries_left
    find_features()
    while True:
        code = open_once(ring, entries, cq_entries, setup_flags)
        tries_left = 12 if code == -ENOMEM and may_pass(entries, cq_entries) else 0
        while code == -ENOMEM and tries_left:
            release_torn_down()
            time.sleep(0.001 * (1 << min(12 - tries_left, 6)))
            tries_left -= 1
            code = open_once(ring, entries, cq_entries, setup_flags)
            waited_in_vain = code == -ENOMEM and not tries_left
        if code != -ENOMEM or entries <= FEWEST_ENTRIES:
            return code
        entries //= 4
        cq_entries = max(entries * 2, cq_entries // 4)


cdef bint may_pass(unsigned entries, unsigned cq_entries) except? False:
    """Whether waiting may help a ring that found no memory."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if 0 <= limit < entries * sizeof(io_uring_sqe) + cq_entries * sizeof(io_uring_cqe):
        return False         # there never is that much
    if waited_in_vain:
        return False         # as long as nothing has changed: half a second for each loop
    # The smallest is worth some time in any case: another process may be about to end.
    return entries <= FEWEST_ENTRIES or time.monotonic() - last_closed < TEARDOWN


cdef int open_once(io_uring* ring, unsigned entries, unsigned cq_entries,
                   unsigned* setup_flags) noexcept:
    cdef io_uring_params params
    cdef unsigned needed = (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN
                            | IORING_SETUP_R_DISABLED)
    cdef unsigned wanted = (IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP
                            | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_TASKRUN_FLAG)
    cdef int code
    if not features.submit_all:
        wanted &= ~<unsigned>IORING_SETUP_SUBMIT_ALL
    if not features.taskrun_flag:
        wanted &= ~<unsigned>IORING_SETUP_TASKRUN_FLAG
    memset(&params, 0, sizeof(params))
    params.flags = needed | wanted
    params.cq_entries = cq_entries
    code = io_uring_queue_init_params(entries, ring, &params)
    if code == -EINVAL:
        memset(&params, 0, sizeof(params))
        params.flags = needed
        code = io_uring_queue_init_params(entries, ring, &params)
    setup_flags[0] = params.flags
    if code >= 0 and not features.no_iowait:
        ring.features &= ~<unsigned>RING_FEAT_NO_IOWAIT
    return code


cdef int ring_was_closed() except -1:
    """Tell that a ring has been closed now, so that the next may wait for its memory."""
    global last_closed, waited_in_vain
    last_closed = time.monotonic()
    waited_in_vain = False
    return 0
