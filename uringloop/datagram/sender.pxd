"""How datagrams leave."""
cimport cython
from libc.stdint cimport uint32_t

from uringloop.datagram.segmentation cimport Likeness
from uringloop.datagram.submissions cimport DatagramSubmissions
from uringloop.ring.abi cimport sockaddr_storage
from uringloop.ring.operations cimport flag
from uringloop.ring.payloads cimport payload


@cython.final
cdef class DatagramSender(DatagramSubmissions):
    cdef:
        double answered_at          # when the first of the answers that wait was sent; 0: none does
        double deferred_at          # the same of a bulk, by ``clock_coarse``
        double at_once_until        # nothing waits so long; 0: it may
        double next_look            # at the options of a socket of the program's
        flag delays                 # that last bulk waited too long
        flag drop_due               # the transport was aborted while its queue was being sent

    cdef int send(self, object owner, payload* memory, sockaddr_storage* address,
                  uint32_t address_length) except -1
    cdef int send_likely(self, object owner, payload* memory, sockaddr_storage* address,
                         uint32_t address_length, Likeness likeness) except -1
    cdef int send_reported(self, object owner, payload* memory, size_t segment_size,
                           sockaddr_storage* address, uint32_t address_length,
                           object future) except -1
    cdef bint answers_many(self, size_t length) noexcept
    cdef bint options_stay(self, sockaddr_storage* address, uint32_t length) except -1
    cdef void look_now_and_then(self) noexcept
    cdef bint is_bulk(self) noexcept
    cdef bint may_wait(self) noexcept
    cdef bint have_waited(self) noexcept
    cdef void note_wait(self) noexcept
    cdef void note_delay(self) noexcept
    cdef bint nothing_before(self) except -1
    cdef int send_or_defer(self, bint deferred, bint bulk) except -1
    cdef int send_now(self, object owner, payload* memory, sockaddr_storage* address,
                      uint32_t address_length) except -1
    cdef int failed_now(self, int error, size_t length) except -1
    cdef int send_message(self, bytes data, bytes control, int flags, bint alone,
                          sockaddr_storage* address, uint32_t address_length) except -1
    cdef int send_message_now(self, bytes data, bytes control, int flags,
                              sockaddr_storage* address, uint32_t address_length) except -1
    cdef int defer(self) except -1
    cdef int send_deferred_of_others(self) except -1
    cdef int flush_if_full(self) except -1
    cdef int wait_for_room(self) except -1
    cdef int maybe_pause_full(self) except -1
