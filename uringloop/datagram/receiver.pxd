"""How datagrams come."""
cimport cython

from uringloop.core.receive_area cimport mmsghdr, receive_area
from uringloop.ring.operations cimport flag
from uringloop.transport.delivery cimport received_item
from uringloop.transport.receiver cimport Receiver


cdef enum Method:
    # of the protocol, that takes what comes
    EACH = 0                   # datagram_received
    BATCHES = 1                # datagrams_received
    TRAINS = 2                 # datagram_train_received


@cython.final
cdef class DatagramReceiver(Receiver):
    cdef:
        object kind                # the type of protocol that ``method`` was looked up for
        Method method
        flag takes_trains          # the socket has UDP_GRO, by us
        flag in_trains             # what came last was a train

    cdef int look_up(self, object protocol) except -1
    cdef int read_batch(self) except -1
    cdef int weight(self) noexcept
    cdef int post_copies(self, receive_area* area, int count) except -1
    cdef int post_copy(self, mmsghdr* received) except -1
    cdef int post_cut(self, const char* content, size_t length, size_t segment_size,
                      object address) except -1
    cdef int post_lost(self) except -1
    cdef int read_one_by_one(self) except -1
    cdef bint read_one(self) except -1
    cdef int give(self, bytes data, size_t segment_size, object address) except -1
    cdef int nothing_read(self, int error) except -1
    cdef int count(self, int flags, size_t length, size_t segment_size) except -1
    cdef int deliver_cut(self, bytes train, size_t segment_size, object address) except -1
    cdef int post_first(self, bytes train, size_t segment_size, size_t start,
                        object address) except -1
    cdef list rest_of_batch(self, object data, object address)
    cdef int deliver_batch(self, list batch) except -1
    cdef int deliver(self, object data, size_t segment_size, object address) except -1
