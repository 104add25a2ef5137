"""What is told of a datagram besides its bytes and its sender.

The kernel tells it by control messages, each kind once the socket has an option for it
(ip(7), ipv6(7), socket(7)).  ``DatagramInfo`` is what those of the common kinds say.
"""
cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from uringloop.datagram.control cimport control_message, control_walk, next_message, walk_control
from uringloop.ring.abi cimport (
    AF_INET, AF_INET6, AF_UNIX, IPPROTO_IP, IPPROTO_IPV6, SOL_SOCKET, msghdr, sockaddr_storage)
from uringloop.ring.addresses cimport AddressCache

import socket


cdef extern from *:
    """
    #include <asm/socket.h>
    """
    enum:
        SO_ERROR
        SO_RXQ_OVFL
        SO_TIMESTAMPNS_NEW
        SO_TIMESTAMPNS_OLD

cdef extern from "<netinet/in.h>" nogil:
    struct in_pktinfo:
        int ipi_ifindex
        uint32_t ipi_addr "ipi_addr.s_addr"
    struct in6_pktinfo:
        unsigned char[16] ipi6_addr "ipi6_addr.s6_addr"
        unsigned ipi6_ifindex
    struct sockaddr_in:
        unsigned short sin_family
        uint32_t sin_addr "sin_addr.s_addr"
    struct sockaddr_in6:
        unsigned short sin6_family
        unsigned char[16] sin6_addr "sin6_addr.s6_addr"
    enum:
        IP_TOS
        IP_RECVTOS
        IP_PKTINFO
        IP_RECVERR
        IPV6_RECVERR
        IPV6_TCLASS
        IPV6_RECVTCLASS
        IPV6_PKTINFO
        IPV6_RECVPKTINFO

cdef AddressCache own_addresses = AddressCache()
cdef DatagramInfo NOTHING_TOLD


@cython.final
@cython.freelist(64)
@cython.auto_pickle(False)
cdef class DatagramInfo:
    """What the kernel has told of a datagram; None is what it was not asked for, or has not told.

    It doesn't change: datagrams of which the same is told may have one and the same.
    """

    def __cinit__(self):
        no_facts(&self.facts, 0)

    def __init__(self, *, ecn=None, local_address=None, interface_index=None, timestamp_ns=None,
                 drops=None):
        cdef datagram_facts facts
        no_facts(&facts, 0)
        if ecn is not None:
            facts.ecn = ecn
        if interface_index is not None:
            facts.interface_index = interface_index
        if timestamp_ns is not None:
            facts.timestamp_ns = timestamp_ns
        if drops is not None:
            facts.drops_told = True
            facts.drops = drops
        self.facts = facts
        self.local_address = local_address

    @property
    def ecn(self):
        """The codepoint of RFC 3168: 0 Not-ECT, 1 ECT(1), 2 ECT(0), 3 CE."""
        return self.facts.ecn if self.facts.ecn >= 0 else None

    @property
    def interface_index(self):
        """Of the interface that it came through; ``socket.if_indextoname`` has the name."""
        return self.facts.interface_index or None

    @property
    def timestamp_ns(self):
        """When the kernel got it, in nanoseconds, as ``time.time_ns()``."""
        return self.facts.timestamp_ns or None

    @property
    def drops(self):
        """How many the socket had no room for before it, since it was made."""
        return self.facts.drops if self.facts.drops_told else None

    def _astuple(self):
        return self.ecn, self.local_address, self.interface_index, self.timestamp_ns, self.drops

    def __repr__(self):
        return ('DatagramInfo(ecn={!r}, local_address={!r}, interface_index={!r}, '
                'timestamp_ns={!r}, drops={!r})'.format(*self._astuple()))

    def __eq__(self, other):
        if type(other) is not DatagramInfo:
            return NotImplemented
        return self._astuple() == (<DatagramInfo>other)._astuple()

    def __hash__(self):
        return hash(self._astuple())


@cython.final
@cython.freelist(64)
cdef class MessageHead:
    """What goes in an address's place where more than that is told: see ``head_of``."""


cdef MessageHead head_of(object origin):
    """All that is told, also where that is only an address."""
    cdef MessageHead head
    if type(origin) is MessageHead:
        head = <MessageHead>origin
    else:
        head = MessageHead.__new__(MessageHead)
        head.address = origin
    if head.info is None:
        head.info = NOTHING_TOLD
    return head


# -- what control messages say --------------------------------------------------------------------

cdef void no_facts(datagram_facts* facts, int asked) noexcept:
    memset(facts, 0, sizeof(facts[0]))
    facts.ecn = -1
    # The kernel tells of drops only once there were some.
    facts.drops_told = asked & DROPS != 0


NOTHING_TOLD = DatagramInfo()


cdef void note(datagram_facts* facts, const control_message* told) noexcept:
    """Note what a control message says."""
    cdef in_pktinfo info
    cdef in6_pktinfo info6
    cdef int64_t[2] stamp
    cdef int traffic_class = 0
    cdef bint of_ipv4 = told.level == IPPROTO_IP, of_ipv6 = told.level == IPPROTO_IPV6
    if of_ipv4 and told.type == IP_TOS and told.length >= 1:
        facts.ecn = told.data[0] & 3
    elif of_ipv6 and told.type == IPV6_TCLASS and told.length >= sizeof(traffic_class):
        memcpy(&traffic_class, told.data, sizeof(traffic_class))
        facts.ecn = traffic_class & 3
    elif of_ipv4 and told.type == IP_PKTINFO and told.length >= sizeof(info):
        memcpy(&info, told.data, sizeof(info))
        facts.interface_index = info.ipi_ifindex
        if facts.family != AF_INET6:         # an IPv6 socket's own are mapped ones
            facts.family = AF_INET
            memcpy(facts.local, &info.ipi_addr, sizeof(info.ipi_addr))
    elif of_ipv6 and told.type == IPV6_PKTINFO and told.length >= sizeof(info6):
        memcpy(&info6, told.data, sizeof(info6))
        facts.interface_index = info6.ipi6_ifindex
        facts.family = AF_INET6
        memcpy(facts.local, info6.ipi6_addr, sizeof(facts.local))
    elif told.level == SOL_SOCKET and told.length >= sizeof(stamp) and (
            told.type == SO_TIMESTAMPNS_NEW
            or told.type == SO_TIMESTAMPNS_OLD and sizeof(long) == sizeof(stamp[0])):
        memcpy(stamp, told.data, sizeof(stamp))
        # Of no program's or kernel's making it may be anything.
        facts.timestamp_ns = <int64_t>(<uint64_t>stamp[0] * 1000000000 + <uint64_t>stamp[1])
    elif told.level == SOL_SOCKET and told.type == SO_RXQ_OVFL \
            and told.length >= sizeof(facts.drops):
        facts.drops_told = True
        memcpy(&facts.drops, told.data, sizeof(facts.drops))


cdef void read_facts(const msghdr* message, int asked, datagram_facts* facts) noexcept:
    """What the control messages say that came with a datagram."""
    cdef control_walk walk = walk_control(message)
    cdef control_message told
    no_facts(facts, asked)
    while next_message(&walk, &told):
        note(facts, &told)


cdef bint says(DatagramInfo info, const datagram_facts* facts) noexcept:
    """Whether it says that, and nothing else."""
    return info is not None and memcmp(&info.facts, facts, sizeof(facts[0])) == 0


cdef DatagramInfo info_from(const datagram_facts* facts, AddressCache addresses):
    cdef DatagramInfo info = DatagramInfo.__new__(DatagramInfo)
    cdef sockaddr_storage name
    memcpy(&info.facts, facts, sizeof(facts[0]))
    if facts.family == AF_INET:
        memset(&name, 0, sizeof(sockaddr_in))
        (<sockaddr_in*>&name).sin_family = AF_INET
        memcpy(&(<sockaddr_in*>&name).sin_addr, facts.local, 4)
        info.local_address = addresses.to_python(&name, sizeof(sockaddr_in))[0]
    elif facts.family == AF_INET6:
        memset(&name, 0, sizeof(sockaddr_in6))
        (<sockaddr_in6*>&name).sin6_family = AF_INET6
        memcpy((<sockaddr_in6*>&name).sin6_addr, facts.local, 16)
        info.local_address = addresses.to_python(&name, sizeof(sockaddr_in6))[0]
    return info


def info_of(ancdata, int asked):
    """The ``DatagramInfo`` of what ``socket.recvmsg`` has returned."""
    cdef datagram_facts facts
    cdef control_message told
    cdef Py_buffer view
    no_facts(&facts, asked)
    for level, kind, data in ancdata:
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        told.level = level
        told.type = kind
        told.data = <char*>view.buf
        told.length = view.len
        note(&facts, &told)
        PyBuffer_Release(&view)
    return info_from(&facts, own_addresses)


# -- what a socket is asked for --------------------------------------------------------------------

cdef dict OPTIONS = {
    # (level, option) for each
    (ECN, AF_INET): [(IPPROTO_IP, IP_RECVTOS)],
    # Mapped addresses are IPv4's, but for their PKTINFO.
    (ECN, AF_INET6): [(IPPROTO_IPV6, IPV6_RECVTCLASS), (IPPROTO_IP, IP_RECVTOS)],
    (PKTINFO, AF_INET): [(IPPROTO_IP, IP_PKTINFO)],
    (PKTINFO, AF_INET6): [(IPPROTO_IPV6, IPV6_RECVPKTINFO)],
    (TIMESTAMPS, AF_INET): [(SOL_SOCKET, SO_TIMESTAMPNS_NEW)],
    (TIMESTAMPS, AF_INET6): [(SOL_SOCKET, SO_TIMESTAMPNS_NEW)],
    (TIMESTAMPS, AF_UNIX): [(SOL_SOCKET, SO_TIMESTAMPNS_NEW)],
    (DROPS, AF_INET): [(SOL_SOCKET, SO_RXQ_OVFL)],
    (DROPS, AF_INET6): [(SOL_SOCKET, SO_RXQ_OVFL)],
}
cdef dict NAMES = {'ecn': ECN, 'pktinfo': PKTINFO, 'timestamps': TIMESTAMPS, 'drops': DROPS}


def check_asked(family, dict switches):
    """What an endpoint asks for, as a number; ValueError where the family has none of it."""
    asked = 0
    for name, value in switches.items():
        # Where nothing is asked ``family`` may be anything: a test's socket has what it likes.
        if value and family and (NAMES[name], family) not in OPTIONS:
            raise ValueError(f'{name}=True: sockets of {socket.AddressFamily(family).name} '
                             'are not told it')
        asked |= NAMES[name] if value else 0
    return asked


cdef list error_options(object sock):
    return [(IPPROTO_IP, IP_RECVERR), (IPPROTO_IPV6, IPV6_RECVERR)][:1 + (sock.family == AF_INET6)]


def ask_for_errors(sock):
    """Have the kernel queue what the network says of what was sent, for MSG_ERRQUEUE.

    Returns the options that were set for that: none that the program has set already.
    """
    options = [option for option in error_options(sock) if not sock.getsockopt(*option)]
    for option in options:
        sock.setsockopt(*option, 1)
    return options


def ask_for_errors_no_longer(sock, options):
    """Take back what ``ask_for_errors`` has set; the kernel empties the queue, too.

    One that nobody reads takes room from what comes, and an error of one datagram stops another.
    """
    for option in options:
        sock.setsockopt(*option, 0)
    if options:
        try:
            sock.getpeername()
        except OSError:
            # Without these options one that is not connected has no error of another datagram.
            sock.getsockopt(SOL_SOCKET, SO_ERROR)


def ask(sock, int asked):
    """Have the kernel tell it with each datagram."""
    for one in NAMES.values():
        if asked & one:
            for level, option in OPTIONS[one, int(sock.family)]:
                sock.setsockopt(level, option, 1)
