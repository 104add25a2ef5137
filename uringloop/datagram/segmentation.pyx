"""Datagrams that leave as one segmented send (UDP_SEGMENT).

The kernel's network stack is then walked once for all of them, and they are cut apart at its
end.  They are of one size, but the last, which may be shorter, and to one address.
"""
from libc.stdint cimport uint16_t, uint64_t
from libc.string cimport memcmp, memcpy, memset
from posix.time cimport CLOCK_MONOTONIC_COARSE, clock_gettime, timespec

from uringloop.ring.abi cimport *
from uringloop.ring.operations cimport EXPLICIT, MESSAGE, operation
from uringloop.ring.trains cimport SEGMENTED_BYTES, SEGMENTS, write_segment_size


cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<sys/socket.h>" nogil:
    ssize_t sendmsg(int, const msghdr*, int)
    int getsockopt(int, int, int, void*, socklen_t*)

cdef extern from *:
    """
    #include <asm/socket.h>
    #ifndef UDP_CORK                      /* <linux/udp.h>, whose struct udphdr is glibc's too */
    #define UDP_CORK 1
    #endif
    #ifndef UDP_NO_CHECK6_TX
    #define UDP_NO_CHECK6_TX 101
    #endif
    """
    enum:
        SO_NO_CHECK
        SO_TIMESTAMPING
        UDP_CORK
        UDP_NO_CHECK6_TX

cdef extern from "<netinet/in.h>" nogil:
    enum:
        IP_RECVERR
        IPV6_RECVERR

cdef double OPTIONS_TRUSTED = 0.01        # seconds

cdef enum:
    LONGEST_METADATA = 256    # bytes of control messages: see packed_metadata
    CONTROL_WORDS = 35        # for these and the size

# Options with which a datagram is not what it would be as a segment of another.  An error queue has
# what was sent as it left: the whole train, of which the program knows nothing.
cdef int[6][2] OPTIONS = [
    [SOL_UDP, UDP_SEGMENT], [SOL_UDP, UDP_CORK], [SOL_UDP, UDP_NO_CHECK6_TX],
    [SOL_SOCKET, SO_NO_CHECK], [IPPROTO_IP, IP_RECVERR], [IPPROTO_IPV6, IPV6_RECVERR]]


cdef unsigned count_alike(segmentation* these, operation* first) noexcept:
    """How many, from the front of a queue, can leave as segments of one send.

    The last may be shorter, but not empty: an empty one would vanish.
    """
    cdef operation* op = first.next
    cdef size_t total = first.length
    cdef unsigned count = 1
    if these.one_by_one_due or not 0 < first.length <= these.limit or first.traits & EXPLICIT \
            or first.segment_size:
        return 1
    while op is not NULL and count < SEGMENTS and 0 < op.length <= first.length \
            and total + op.length <= SEGMENTED_BYTES and not op.traits & EXPLICIT \
            and not op.segment_size \
            and op.address_length == first.address_length \
            and memcmp(&op.address, &first.address, op.address_length) == 0 \
            and say_the_same(op, first):
        total += op.length
        count += 1
        if op.length < first.length:
            break
        op = op.next
    return count


cdef inline bint say_the_same(operation* one, operation* other) noexcept:
    """Whether what they are sent with besides their bytes lets them leave together."""
    if not (one.traits | other.traits) & MESSAGE:
        return True
    # Of ``sendto_with`` they have one and the same object; of ``sendmsg`` each its own.
    return (one.traits & other.traits & MESSAGE
            and one.message.msg_control == other.message.msg_control
            and one.message.msg_controllen <= LONGEST_METADATA
            and one.message.msg_flags == 0 and other.message.msg_flags == 0)


cdef bint is_allowed(segmentation* these, int fd, bint options_changed) noexcept:
    """Whether the socket's options leave a datagram the same as a segment.

    Not if the program segments or corks its own, wants to hear when each has left or what the
    network says of it, or sends without a checksum.  What it sets through
    ``get_extra_info('socket')`` is seen at once; for what it may set on an object of its own
    they are looked at again after a while: seven system calls, and each may cost as much as a
    datagram.
    """
    cdef timespec ts
    cdef double now
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts)
    now = ts.tv_sec + ts.tv_nsec * 1e-9
    if options_changed or now >= these.allowed_until:
        these.allowed_until = now + OPTIONS_TRUSTED
        these.allowed = read_options(fd)
    return these.allowed


cdef bint read_options(int fd) noexcept:
    cdef int value, i
    cdef int[4] stamps
    cdef socklen_t size
    for i in range(6):
        value = 0
        size = sizeof(value)
        getsockopt(fd, OPTIONS[i][0], OPTIONS[i][1], &value, &size)
        if value:
            return False
    stamps[0] = 0
    size = sizeof(stamps)
    getsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &stamps, &size)
    return stamps[0] == 0


cdef int send_segmented(operation* first, unsigned count, int fd) noexcept:
    """Send the first ``count`` datagrams of a queue at once: 0 or an errno."""
    cdef:
        iovec vectors[SEGMENTS]
        uint64_t control[CONTROL_WORDS]      # aligned
        size_t before = first.message.msg_controllen if first.traits & MESSAGE else 0
        msghdr message
        operation* op = first
        unsigned i
    for i in range(count):
        vectors[i].iov_base = op.base
        vectors[i].iov_len = op.length
        op = op.next
    memset(&message, 0, sizeof(message))
    message.msg_iov = vectors
    message.msg_iovlen = count
    if first.address_length:
        message.msg_name = &first.address
        message.msg_namelen = first.address_length
    if before:
        memcpy(control, first.message.msg_control, before)
    write_segment_size(&message, <cmsghdr*>(<char*>control + before), <uint16_t>first.length)
    message.msg_control = control
    message.msg_controllen += before
    return 0 if sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 else errno_now


# -- what the path refuses ----------------------------------------------------------------------


cdef void refused(segmentation* these, size_t count, int error) noexcept:
    """A segmented send has failed, and nothing of it has left.

    One by one its datagrams tell whose fault it is.
    """
    these.one_by_one_due = count
    these.refusal = error


cdef size_t sent_by_itself(segmentation* these, size_t length, int error) noexcept:
    """One of a refused send has left by itself, or has failed with ``error`` as well.

    From which size on the path refuses segments; 0: that has not turned out.
    """
    if not these.one_by_one_due:
        return 0
    these.one_by_one_due -= 1
    refusal, these.refusal = these.refusal, 0
    if error == 0 and (refusal == EMSGSIZE or refusal == EINVAL):
        return length                                    # beyond the path's MTU
    if error == 0 and (refusal == EIO or refusal == EOPNOTSUPP):
        return 1                                         # a device that cannot
    return 0
