"""Datagrams that leave as one segmented send (UDP_SEGMENT).

The kernel's network stack is then walked once for all of them, and they are cut apart at its
end.  They are of one size, but the last, which may be shorter, and to one address.
"""
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset
from posix.time cimport CLOCK_MONOTONIC_COARSE, clock_gettime, timespec

from uringloop.core.receive_area cimport mmsghdr
from uringloop.ring.abi cimport *
from uringloop.ring.operations cimport EXPLICIT, LENT, MESSAGE, operation
from uringloop.ring.trains cimport SEGMENTED_BYTES, SEGMENTS, write_segment_size
from uringloop.ring.zerocopy cimport ZEROCOPY_MINIMUM


cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<sys/socket.h>" nogil:
    ssize_t sendmsg(int, const msghdr*, int)
    int sendmmsg(int, mmsghdr*, unsigned, int)
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
    #ifndef SO_BINDTOIFINDEX              /* Linux 5.0 */
    #define SO_BINDTOIFINDEX 62
    #endif
    """
    enum:
        SO_BINDTOIFINDEX
        SO_BROADCAST
        SO_DONTROUTE
        SO_MARK
        SO_NO_CHECK
        SO_PRIORITY
        SO_TIMESTAMPING
        UDP_CORK
        UDP_NO_CHECK6_TX

cdef extern from "<netinet/in.h>" nogil:
    enum:
        IP_RECVERR
        IPV6_RECVERR
        IP_TOS
        IP_TTL
        IP_OPTIONS
        IP_MTU_DISCOVER
        IP_UNICAST_IF
        IP_MULTICAST_IF
        IP_MULTICAST_TTL
        IP_MULTICAST_LOOP
        IPV6_TCLASS
        IPV6_UNICAST_HOPS
        IPV6_MTU_DISCOVER
        IPV6_DONTFRAG
        IPV6_UNICAST_IF
        IPV6_MULTICAST_IF
        IPV6_MULTICAST_HOPS
        IPV6_MULTICAST_LOOP
        IPV6_ADDR_PREFERENCES
        IPV6_AUTOFLOWLABEL

cdef double OPTIONS_TRUSTED = 0.01        # seconds

cdef enum:
    LONGEST_SETTING = 10      # words of one option: IP_OPTIONS
    LONGEST_METADATA = 256    # bytes of control messages: see packed_metadata
    CONTROL_WORDS = 35        # for these and the size
    TOGETHER = 64             # datagrams of one system call

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


# What a program may set anew for each datagram, or each peer.
cdef int[SETTINGS][2] EACH = [
    [SOL_SOCKET, SO_MARK], [SOL_SOCKET, SO_PRIORITY], [SOL_SOCKET, SO_BINDTOIFINDEX],
    [SOL_SOCKET, SO_BROADCAST], [SOL_SOCKET, SO_DONTROUTE], [SOL_SOCKET, SO_NO_CHECK],
    [SOL_SOCKET, SO_TIMESTAMPING],
    [SOL_UDP, UDP_SEGMENT], [SOL_UDP, UDP_CORK], [SOL_UDP, UDP_NO_CHECK6_TX],
    [IPPROTO_IP, IP_TOS], [IPPROTO_IP, IP_TTL], [IPPROTO_IP, IP_OPTIONS],
    [IPPROTO_IP, IP_MTU_DISCOVER], [IPPROTO_IP, IP_UNICAST_IF], [IPPROTO_IP, IP_MULTICAST_IF],
    [IPPROTO_IP, IP_MULTICAST_TTL], [IPPROTO_IP, IP_MULTICAST_LOOP],
    [IPPROTO_IPV6, IPV6_TCLASS], [IPPROTO_IPV6, IPV6_UNICAST_HOPS],
    [IPPROTO_IPV6, IPV6_MTU_DISCOVER], [IPPROTO_IPV6, IPV6_DONTFRAG],
    [IPPROTO_IPV6, IPV6_UNICAST_IF], [IPPROTO_IPV6, IPV6_MULTICAST_IF],
    [IPPROTO_IPV6, IPV6_MULTICAST_HOPS], [IPPROTO_IPV6, IPV6_MULTICAST_LOOP],
    [IPPROTO_IPV6, IPV6_ADDR_PREFERENCES], [IPPROTO_IPV6, IPV6_AUTOFLOWLABEL]]


cdef bint is_group(const sockaddr_storage* address) noexcept:
    """Whether it is a multicast address of IPv4, or one of IPv6 that stands for such.

    By which interface that leaves may be set as a number, which ``getsockopt`` does not tell.
    """
    cdef const unsigned char* octets = <const unsigned char*>address
    if address.ss_family == AF_INET:
        return octets[4] >> 4 == 14
    return address.ss_family == AF_INET6 and octets[18] == octets[19] == 0xff \
        and octets[20] >> 4 == 14


cdef bint has_changed(settings* these, int fd) noexcept:
    """Whether one of the options that a datagram leaves with is not what it was the last time."""
    cdef uint32_t[LONGEST_SETTING] value
    cdef uint32_t said
    cdef int i, word
    cdef socklen_t size
    cdef bint changed = False
    for i in range(SETTINGS):
        memset(value, 0, sizeof(value))
        size = sizeof(value)
        getsockopt(fd, EACH[i][0], EACH[i][1], value, &size)
        said = 0
        for word in range(LONGEST_SETTING):
            said = said * 31 + value[word]
        changed = changed or said != these.values[i]
        these.values[i] = said
    return changed


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


cdef unsigned send_together(segmentation* these, operation* first, int fd,
                            unsigned* gathered) noexcept:
    """Send the front of a queue, to whatever addresses, by one system call.

    How many datagrams have left; ``gathered``: so many of them as segments.  0: the first one
    cannot, by itself or with those that are alike.
    """
    cdef:
        mmsghdr messages[TOGETHER]
        iovec vectors[TOGETHER]
        uint64_t control[TOGETHER][3]        # aligned
        unsigned count = 0, taken = 0, alike, i
        unsigned sent = 0
        operation* op = first
        msghdr* message
        int done
    while op is not NULL and is_plain(op):
        alike = count_alike(these, op)
        if taken + alike > TOGETHER:
            break
        message = &messages[count].msg_hdr
        message.msg_name = &op.address if op.address_length else NULL
        message.msg_namelen = op.address_length
        message.msg_iov = &vectors[taken]
        message.msg_iovlen = alike
        message.msg_control = NULL
        message.msg_controllen = 0
        message.msg_flags = 0
        if alike > 1:
            write_segment_size(message, <cmsghdr*>control[count], <uint16_t>op.length)
        for i in range(taken, taken + alike):
            vectors[i].iov_base = op.base
            vectors[i].iov_len = op.length
            op = op.next
        taken += alike
        count += 1
    if count < 2:
        return 0
    done = sendmmsg(fd, messages, count, MSG_DONTWAIT | MSG_NOSIGNAL)
    gathered[0] = 0
    for i in range(<unsigned>max(done, 0)):
        alike = <unsigned>messages[i].msg_hdr.msg_iovlen
        sent += alike
        if alike > 1:
            gathered[0] += alike
    return sent


cdef inline bint is_plain(operation* op) noexcept:
    """Whether it leaves by a system call that copies, with nothing besides its bytes."""
    return op.length < ZEROCOPY_MINIMUM and not op.segment_size \
        and not op.traits & (EXPLICIT | LENT | MESSAGE)


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
