"""The memory that short pieces are received into."""
cimport cython

from uringloop.ring.abi cimport iovec, msghdr, sockaddr_storage
from uringloop.ring.guard cimport GUARDED, guard_hidden


cdef extern from "<sys/socket.h>" nogil:
    struct mmsghdr:
        msghdr msg_hdr
        unsigned msg_len


cdef enum:
    BATCH = 32                # datagrams that one call receives at most
    ROOM = 65536              # for each: no datagram of IP is longer
    ALL_ROOM = BATCH * ROOM
    CONTROL_ROOM = 512        # for the control messages of each, that of UDP_GRO among them
    ALL_CONTROL = BATCH * CONTROL_ROOM


cdef struct receive_area:
    # What recvmmsg wants, ready for use.
    mmsghdr messages[BATCH]
    iovec vectors[BATCH]
    sockaddr_storage names[BATCH]
    char control[ALL_CONTROL]
    char content[ALL_ROOM]


@cython.final
cdef class ReceiveArea:
    cdef:
        receive_area* area
        void* reserve           # memory to let go of when there is no other

    cdef receive_area* get(self) except NULL
    cdef int map(self) except -1
    cdef void give_up_reserve(self) noexcept


cdef void keep_heap() noexcept


cdef inline void hide_rest(receive_area* area, int count) noexcept:
    """So many messages were received, and are no longer than that."""
    cdef int i
    cdef size_t length
    if not GUARDED:
        return
    for i in range(count):
        length = min(area.messages[i].msg_len, <size_t>ROOM)
        guard_hidden(area.content + i * ROOM + length, ROOM - length)


cdef inline void hide_content(receive_area* area) noexcept:
    """Everything has been copied from it: what it still has is nobody's."""
    guard_hidden(area.content, ALL_ROOM)


cdef inline void make_ready(receive_area* area, int count) noexcept:
    """The first ``count`` messages were received: set right what the kernel has written there."""
    cdef msghdr* message
    cdef int i
    hide_content(area)
    for i in range(count):
        message = &area.messages[i].msg_hdr
        message.msg_namelen = sizeof(sockaddr_storage)
        message.msg_controllen = CONTROL_ROOM
