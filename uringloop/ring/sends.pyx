"""Sends as submissions: what a queued operation asks the kernel for.

    one datagram    SEND       SEND_ZC
    a train         SENDMSG    SENDMSG_ZC

The zero-copy ones take the memory from a registered buffer where it lies in one.
"""
from libc.stdint cimport uint16_t, uint32_t, uintptr_t

from uringloop.ring.abi cimport *
from uringloop.ring.features cimport features
from uringloop.ring.operations cimport LENT, MEMORY, REGISTERED, SEND, ZEROCOPY, operation
from uringloop.ring.registered_memory cimport UNREGISTERED, LentMemory
from uringloop.ring.ring cimport Ring
from uringloop.ring.trains cimport is_train, write_train_message
from uringloop.ring.zerocopy cimport send_zc_flags


cdef io_uring_sqe* prepare_send(
        Ring ring, operation* op, int fd, unsigned flags, unsigned traits) except NULL:
    """An entry that sends ``op`` and does not wait; its trait ZEROCOPY says how."""
    cdef:
        io_uring_sqe* sqe
        bint zerocopy = op.traits & ZEROCOPY
        bint train = is_train(op)
        int opcode, slot = UNREGISTERED
    traits |= MEMORY | SEND
    if zerocopy:
        opcode = IORING_OP_SENDMSG_ZC if train else IORING_OP_SEND_ZC
        if op.traits & LENT and (not train or features.registered_messages):
            slot = ring.slot_of(<LentMemory>op.data, op.base, op.length)
    else:
        opcode = IORING_OP_SENDMSG if train else IORING_OP_SEND
    if slot >= 0:
        traits |= REGISTERED
    sqe = ring.prepare(op, opcode, fd, flags, traits)
    if zerocopy:
        sqe.ioprio = send_zc_flags()
    if slot >= 0:
        sqe.ioprio |= IORING_RECVSEND_FIXED_BUF
        sqe.buf_index = <uint16_t>slot
    if train:
        write_train_message(op)
        sqe.addr = <uintptr_t>&op.message
        sqe.len = 1
    else:
        sqe.addr = <uintptr_t>op.base
        sqe.len = <uint32_t>min(op.length, <size_t>0x7fffffff)
        if op.address_length:
            sqe.addr2 = <uintptr_t>&op.address
            sqe.addr_len = <uint16_t>op.address_length
    sqe.msg_flags = MSG_NOSIGNAL | MSG_DONTWAIT
    return sqe
