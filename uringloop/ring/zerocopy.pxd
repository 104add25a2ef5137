"""Whether a send goes zero-copy: when that pays, and what paths have reported."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from uringloop.ring.abi cimport IORING_SEND_ZC_REPORT_USAGE
from uringloop.ring.features cimport features
from uringloop.ring.operations cimport operation


cdef enum:
    PATHS = 64
    # Ordinary memory, 8 requests a syscall: at 16 KiB zero-copy is 20 % slower than a
    # copy when the payload is hot and 26 % faster when it is cold; below it mostly loses.
    ZEROCOPY_MINIMUM = 16384
    # A stream's memory stays pinned until the peer has acknowledged it.
    STREAM_MINIMUM = 65536


cdef inline uint16_t send_zc_flags() noexcept:
    """Linux 6.1 cannot say what became of a zero-copy send, and refuses to be asked (EINVAL)."""
    return IORING_SEND_ZC_REPORT_USAGE if features.report_usage else 0


cdef struct path:
    uint8_t address[28]
    uint32_t length
    size_t from_size       # so it is with at least so many bytes; 0: it is not
    double until           # when to look again
    double backoff


cdef class PathReports:
    cdef path paths[PATHS]

    cdef path* find(self, const void* address, uint32_t length) noexcept
    cdef bint expects(self, const void* address, uint32_t length, size_t size) noexcept
    cdef void record(self, const void* address, uint32_t length, size_t size, bint so) noexcept


cdef bint zerocopy_pays(const void* base, size_t length, size_t datagram, bint any_size,
                        const void* address, uint32_t address_length,
                        PathReports paths, size_t pinned) noexcept
cdef bint stream_zerocopy_pays(const void* address, uint32_t address_length, size_t length,
                               PathReports paths, size_t pinned) noexcept

cdef bint is_reported(operation* op) noexcept
cdef object send_report(size_t nbytes, bint copied, bint reported)
