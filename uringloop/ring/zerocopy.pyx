"""Whether a send goes zero-copy: when that pays, and what paths have reported.

The kernel copies anyway when the receiver is on the same machine, when the
device lacks scatter/gather or checksum offload, and when a datagram is larger
than the path's MTU.  Its notification says so (REPORT_USAGE, kernel 6.2).  Such
a path gets plain sends, which are cheaper than a zero-copy send that copies, and
is tried again after a while.
"""
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, memcpy
from posix.time cimport CLOCK_MONOTONIC_COARSE, clock_gettime, timespec

from uringloop.ring.features cimport features
from uringloop.ring.operations cimport UNREPORTED, ZEROCOPY, operation
from uringloop.ring.payloads cimport MAX_FRAGMENTS, fragments

from collections import namedtuple

cdef double FIRST_BACKOFF = 1.0      # seconds
cdef double LONGEST_BACKOFF = 60.0
cdef size_t PINNED_LIMIT = 64 << 20   # bytes waiting for notifications, of one loop


cdef double now() noexcept:
    cdef timespec ts
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts)
    return ts.tv_sec + ts.tv_nsec * 1e-9


cdef enum:
    HOST = 4                         # where the host begins in a socket address of IP


cdef bint leads_to(const path* known, const void* address, uint32_t length) noexcept:
    """Whether that path is this address's: whatever port, for that is no matter on the way."""
    return known.length == length and (
        length <= HOST
        or memcmp(known.address + HOST, <const uint8_t*>address + HOST, length - HOST) == 0)


cdef class PathReports:
    """What has been learned about destinations: from which size on the kernel does a thing.

    It copies, say, or takes no trains.  It is believed for a second, and each time that it turns
    out to be so again for twice as long.
    """

    cdef path* find(self, const void* address, uint32_t length) noexcept:
        cdef const uint8_t* data = <const uint8_t*>address
        cdef uint32_t h = length, i
        for i in range(HOST, length):
            h = h * 31 + data[i]
        return &self.paths[h % PATHS]

    cdef bint expects(self, const void* address, uint32_t length, size_t size) noexcept:
        """Whether it is known to do so with ``size`` bytes."""
        cdef path* found = self.find(address, length)
        return (found.from_size != 0 and size >= found.from_size
                and leads_to(found, address, length) and now() < found.until)

    cdef void record(self, const void* address, uint32_t length, size_t size, bint so) noexcept:
        """It did so with ``size`` bytes, or did not."""
        cdef path* found
        if length > sizeof(found.address):
            return
        found = self.find(address, length)
        if not leads_to(found, address, length):
            if not so:
                return
            found.length = length
            memcpy(found.address, address, length)
            found.from_size = 0
            found.backoff = 0
        if not so:
            if size >= found.from_size:
                found.from_size = 0
                found.backoff = 0
            return
        if now() < found.until and found.from_size != 0 and size >= found.from_size:
            return      # of the same batch as the one that has reported already
        found.backoff = min(max(2 * found.backoff, FIRST_BACKOFF), LONGEST_BACKOFF)
        found.until = now() + found.backoff
        found.from_size = size


cdef bint zerocopy_pays(const void* base, size_t length, size_t datagram, bint any_size,
                        const void* address, uint32_t address_length,
                        PathReports paths, size_t pinned) noexcept:
    """The predicate: size, kind of memory, what is pinned already, what the path reported.

    ``length`` bytes are to leave as datagrams of ``datagram`` bytes.  ``any_size``: the memory is
    registered, or the caller has asked for it.
    """
    if not features.send_zc or length < ZEROCOPY_MINIMUM and not any_size:
        return False
    if length == 0 or fragments(base, length) > MAX_FRAGMENTS:
        return False
    if pinned + length > PINNED_LIMIT:
        return False
    return paths is None or not paths.expects(address, address_length, datagram)


cdef bint stream_zerocopy_pays(const void* address, uint32_t address_length, size_t length,
                               PathReports paths, size_t pinned) noexcept:
    """The same for a stream: the kernel cuts it into packets, so fragments don't count.

    The notification comes with the peer's acknowledgement, so what is pinned
    stays so for a round trip.
    """
    return (features.send_zc and length >= STREAM_MINIMUM and pinned + length <= PINNED_LIMIT
            and not paths.expects(address, address_length, length))


SendReport = namedtuple('SendReport', ['nbytes', 'copied'], module='uringloop')
SendReport.__doc__ = """What became of a zero-copy send.

``nbytes`` were sent.  ``copied`` says whether the kernel copied them after all: it
does when the receiver is on the same machine, when the device lacks
scatter/gather or checksum offload, and when the datagram exceeds the path's MTU.
None where the kernel can't tell (before Linux 6.2)."""

# Its own constructor is Python's, and no signal handler is to run while completions are settled.
cdef object new_tuple = tuple.__new__


# The one that was made last: most sends are like the one before, and nobody can change it.
cdef object last_report = None
cdef size_t last_nbytes = 0
cdef int last_copied = 0                # 2: unknown


cdef object send_report(size_t nbytes, bint copied, bint reported):
    global last_report, last_nbytes, last_copied
    cdef int said = copied if reported else 2
    if nbytes != last_nbytes or said != last_copied or last_report is None:
        last_report = new_tuple(SendReport, (nbytes, bool(copied) if reported else None))
        last_nbytes = nbytes
        last_copied = said
    return last_report


cdef bint is_reported(operation* op) noexcept:
    """Whether it is known what the kernel did with the memory."""
    return not op.traits & ZEROCOPY or features.report_usage and not op.traits & UNREPORTED
