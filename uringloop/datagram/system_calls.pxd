"""How what is in the queue of a datagram sender leaves by plain system calls."""
cimport cython
from libc.stdint cimport uint32_t

from uringloop.datagram.outcomes cimport DatagramOutcomes
from uringloop.datagram.segmentation cimport settings
from uringloop.ring.abi cimport MSG_DONTWAIT, MSG_NOSIGNAL, sockaddr, sockaddr_storage, socklen_t
from uringloop.ring.operations cimport flag, operation


cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<sys/socket.h>" nogil:
    ssize_t sendto(int, const void*, size_t, int, const sockaddr*, socklen_t)

cdef enum:
    # Looks, between which no option has changed: 4 ms of processor time, and what a program does
    # for some of its peers only is likely to be among them.
    TRUSTED = 1024
    DISTRUSTED = -1


cdef inline int send_once(int fd, const char* base, size_t length, sockaddr_storage* address,
                          uint32_t address_length) noexcept:
    """By a plain system call: 0 or an errno."""
    return 0 if sendto(fd, base, length, MSG_DONTWAIT | MSG_NOSIGNAL,
                       <sockaddr*>address if address_length else NULL,
                       address_length) >= 0 else errno_now


cdef class DatagramSystemCalls(DatagramOutcomes):
    cdef:
        settings seen               # the options of a socket of the program's
        int trust                   # how often they were seen unchanged; DISTRUSTED: they change
        flag look_due               # behind what was sent when they were last looked at
        flag connected

    @cython.final
    cdef int send_by_calls(self) except -1

    @cython.final
    cdef bint send_mixed(self) except -1

    @cython.final
    cdef int send_alike(self, unsigned count) except -1

    @cython.final
    cdef int send_train_by_calls(self) except -1

    @cython.final
    cdef int send_first(self, size_t length) except -1

    @cython.final
    cdef int try_first(self, size_t length) except -1

    @cython.final
    cdef bint segments_allowed(self) except -1

    @cython.final
    cdef void look_again(self, int worth) noexcept

    cdef int look_at_options(self, bint expected) except -1

    @cython.final
    cdef bint train_allowed(self, operation* op) except -1

    @cython.final
    cdef bint is_refused(self, size_t segment_size, const void* address,
                         uint32_t address_length) noexcept

    @cython.final
    cdef int learn(self, operation* op, size_t length, int error) except -1

    @cython.final
    cdef int sent_by_call(self, unsigned count) except -1

    @cython.final
    cdef int first_failed(self, int error) except -1

    @cython.final
    cdef int first_of_train_failed(self, operation* op, int error) except -1

    @cython.final
    cdef void advance(self, operation* op) noexcept

    @cython.final
    cdef bint is_of_before(self, int error) noexcept
