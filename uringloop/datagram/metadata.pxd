"""What is told of a datagram besides its bytes and its sender."""
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t

from uringloop.datagram.control cimport control_message
from uringloop.ring.abi cimport msghdr
from uringloop.ring.addresses cimport AddressCache


cdef enum Asked:
    # of the kernel, for each datagram
    ECN = 1
    PKTINFO = 2
    TIMESTAMPS = 4
    DROPS = 8


cdef struct datagram_facts:
    int ecn                    # -1: not told
    int family                 # of ``local``; 0: not told
    uint8_t[16] local
    uint32_t interface_index   # 0: not told
    int drops_told
    uint32_t drops
    int64_t timestamp_ns       # 0: not told


@cython.final
cdef class DatagramInfo:
    cdef:
        datagram_facts facts
        readonly object local_address


@cython.final
cdef class MessageHead:
    cdef:
        object address
        DatagramInfo info
        list ancdata
        int flags


cdef void no_facts(datagram_facts* facts, int asked) noexcept
cdef void note(datagram_facts* facts, const control_message* told) noexcept
cdef void read_facts(const msghdr* message, int asked, datagram_facts* facts) noexcept
cdef DatagramInfo info_from(const datagram_facts* facts, AddressCache addresses)
cdef bint says(DatagramInfo info, const datagram_facts* facts) noexcept
cdef MessageHead head_of(object origin)
