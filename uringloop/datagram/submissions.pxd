"""How what is in the queue of a datagram sender leaves by the ring."""
cimport cython
from libc.stdint cimport uint32_t

from uringloop.datagram.system_calls cimport DatagramSystemCalls
from uringloop.ring.operations cimport flag, operation


cdef class DatagramSubmissions(DatagramSystemCalls):
    cdef:
        operation* retried          # of the present chain, in order
        operation** retried_end
        size_t retried_count
        unsigned chain_limit
        unsigned accepted_of_chain
        flag zerocopy_able

    @cython.final
    cdef bint goes_by_ring(self, operation* op) except -1

    @cython.final
    cdef bint operation_goes_zerocopy(self, operation* op) noexcept

    @cython.final
    cdef bint goes_zerocopy(self, const void* base, size_t length, size_t datagram,
                            bint any_size, const void* address,
                            uint32_t address_length) noexcept

    @cython.final
    cdef int send_chain(self) except -1

    @cython.final
    cdef unsigned prepare_chain(self, operation** chain, unsigned room) except? 0

    @cython.final
    cdef int put_back(self, operation** chain, unsigned count, unsigned left) except -1

    @cython.final
    cdef int requeue_retried(self) except -1

    @cython.final
    cdef int retry_or_fail(self, operation* op, int error) except -1
