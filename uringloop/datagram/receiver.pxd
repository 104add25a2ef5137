"""How datagrams come."""
cimport cython
from libc.stdint cimport uint32_t

from uringloop.core.receive_area cimport mmsghdr, receive_area
from uringloop.datagram.metadata cimport DatagramInfo, MessageHead
from uringloop.ring.abi cimport msghdr
from uringloop.ring.operations cimport flag
from uringloop.transport.delivery cimport received_item
from uringloop.transport.receiver cimport Receiver


cdef enum Method:
    # of the protocol, that takes what comes
    EACH = 0                   # datagram_received
    BATCHES = 1                # datagrams_received
    TRAINS = 2                 # datagram_train_received


cdef enum Detail:
    # that the protocol is given besides the address
    NO_DETAIL = 0
    INFO = 1                   # a DatagramInfo
    MESSAGES = 2               # the control messages


@cython.final
cdef class DatagramReceiver(Receiver):
    cdef:
        object kind                # the type of protocol that ``method`` was looked up for
        Method method
        flag takes_trains          # the socket has UDP_GRO, by us
        flag in_trains             # what came last was a train
        Detail detail
        flag describing            # control messages are looked at
        flag heads                 # MessageHeads were posted: see ``hand_over``
        flag takes_errors          # the protocol does, from the error queue
        flag errors_queued         # there is something in that, as far as is known
        list errors_asked          # options of the socket that were set for it
        int asked                  # of metadata.Asked: what the endpoint has asked for
        size_t longest_local       # of AF_UNIX: asyncio's ``max_size``
        uint32_t drops             # that were told of last
        DatagramInfo info          # the last

    cdef int look_up(self, object protocol) except -1
    cdef int look_up_new(self, object kind) except -1
    cdef int have_errors_queued(self) except -1
    cdef int read_received(self) except -1
    cdef int read_batch(self) except -1
    cdef int weight(self) noexcept
    cdef int post_copies(self, receive_area* area, int count) except -1
    cdef int post_copy(self, mmsghdr* received) except -1
    cdef int post_cut(self, const char* content, size_t length, size_t segment_size,
                      object address) except -1
    cdef int post_lost(self) except -1
    cdef object described(self, const msghdr* message, object address)
    cdef int read_errors(self) except -1
    cdef bint read_error(self) except -1
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
    cdef tuple batch_item(self, object data, object origin)
    cdef int call_with_detail(self, object data, size_t segment_size,
                              MessageHead head) except -1
    cdef int deliver(self, object data, size_t segment_size, object address) except -1
