"""What a loop's ring is like in this process: asked by making one."""
from libc.string cimport memset

from uringloop.ring.abi cimport *
from uringloop.ring.features cimport features
from uringloop.ring.operations cimport OperationTable
from uringloop.ring.ring cimport Ring

import os
import socket
from collections import namedtuple

from uringloop.ring.restrictions import REQUESTS


cdef enum:
    MOST_REQUESTS = 256

cdef struct request_probe:
    io_uring_probe head
    io_uring_probe_op ops[MOST_REQUESTS]

FLAGS = {
    'SINGLE_ISSUER': IORING_SETUP_SINGLE_ISSUER,
    'DEFER_TASKRUN': IORING_SETUP_DEFER_TASKRUN,
    'R_DISABLED': IORING_SETUP_R_DISABLED,
    'CQSIZE': IORING_SETUP_CQSIZE,
    'CLAMP': IORING_SETUP_CLAMP,
    'SUBMIT_ALL': IORING_SETUP_SUBMIT_ALL,
    'TASKRUN_FLAG': IORING_SETUP_TASKRUN_FLAG,
}

RingFacts = namedtuple('RingFacts', [
    'entries', 'flags', 'lacking_flags', 'requests', 'lacking_requests', 'restricted',
    'reports_copies', 'registered_trains', 'no_iowait'], module='uringloop.ring.probe')


def probe_ring(unsigned entries=256):
    """Make a ring as a loop does, enable it, and close it; raises UringUnavailableError."""
    mine, peer = socket.socketpair()
    with mine, peer:
        ring = Ring(OperationTable(), entries, 16 * entries, mine.fileno())
        try:
            requests = known_requests(ring)
            flags = ring.setup_flags
            room = io_uring_sq_space_left(&ring.ring)
            ring.enable()
            return RingFacts(
                room,
                [name for name, flag in FLAGS.items() if flags & flag],
                [name for name, flag in FLAGS.items() if not flags & flag],
                [name for name, code in REQUESTS.items() if code in requests],
                [name for name, code in REQUESTS.items() if code not in requests],
                bool(ring.restricted),
                bool(features.report_usage),
                bool(features.registered_messages),
                bool(ring.ring.features & RING_FEAT_NO_IOWAIT))
        finally:
            ring.close(peer.fileno(), 0)


cdef set known_requests(Ring ring):
    """The numbers of all requests that the kernel knows."""
    cdef request_probe probe
    cdef unsigned i
    memset(&probe, 0, sizeof(probe))
    code = io_uring_register(ring.ring.ring_fd, IORING_REGISTER_PROBE, &probe, MOST_REQUESTS)
    if code < 0:
        raise OSError(-code, f'IORING_REGISTER_PROBE: {os.strerror(-code)}')
    return {probe.ops[i].op for i in range(probe.head.ops_len)
            if probe.ops[i].flags & IO_URING_OP_SUPPORTED}
