"""What a ring may be asked for; everything else is refused by the kernel.

io_uring can open files, connect, rename, start other rings.  A loop needs six kinds of
requests, and six of its register calls once it runs.  The ring is told so before it is
enabled (IORING_REGISTER_RESTRICTIONS, kernel 5.10), and there is no way back: an entry that
some error in memory has written does not open a file.

A request that is used anywhere has its place here: it is answered by EACCES otherwise.
"""
from libc.string cimport memset

from uringloop.ring.abi cimport *


# By the names of the headers, without IORING_OP_.
REQUESTS = {
    'ASYNC_CANCEL': IORING_OP_ASYNC_CANCEL,
    'POLL_ADD': IORING_OP_POLL_ADD,
    'SEND': IORING_OP_SEND,
    'SENDMSG': IORING_OP_SENDMSG,
    'SENDMSG_ZC': IORING_OP_SENDMSG_ZC,
    'SEND_ZC': IORING_OP_SEND_ZC,
}

cdef enum:
    MOST_RULES = 32

cdef struct rule_list:
    unsigned count
    io_uring_restriction rules[MOST_RULES]

cdef rule_list allowed


cdef void allow(rule_list* rules, unsigned kind, unsigned what) noexcept:
    cdef io_uring_restriction* rule = &rules.rules[rules.count]
    rule.opcode = kind
    rule.sqe_op = what                 # a union with register_op and sqe_flags
    rules.count += 1


cdef void write_rules(rule_list* rules) except *:
    memset(rules, 0, sizeof(rules[0]))
    for code in REQUESTS.values():
        allow(rules, IORING_RESTRICTION_SQE_OP, code)
    allow(rules, IORING_RESTRICTION_SQE_FLAGS_ALLOWED,
          IOSQE_FIXED_FILE | IOSQE_IO_LINK)
    # Of the register calls these come after the ring was enabled.
    for call in (IORING_REGISTER_ENABLE_RINGS,
                 IORING_REGISTER_FILES_UPDATE,
                 IORING_REGISTER_BUFFERS2, IORING_REGISTER_BUFFERS_UPDATE,
                 IORING_REGISTER_RING_FDS, IORING_UNREGISTER_RING_FDS):
        allow(rules, IORING_RESTRICTION_REGISTER_OP, call)


cdef bint restrict(io_uring* ring) noexcept:
    """Have a ring that is still switched off refuse what no loop asks for; whether it does."""
    # As with enabling, Debian's liburing 2.3 exports no function for it.
    return io_uring_register(ring.ring_fd, IORING_REGISTER_RESTRICTIONS,
                             allowed.rules, allowed.count) == 0


write_rules(&allowed)
