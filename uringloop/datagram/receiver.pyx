"""How datagrams come: short ones by the batch, long ones one by one.

The kernel may put several together (UDP_GRO): a *train*.  It is cut apart here, unless the
protocol takes it whole.

Where more is to be told than the address, there is a ``MessageHead`` in the address's place on
the way to the protocol: an *origin* is either.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_DECREF
from libc.string cimport memset

from uringloop._cpython cimport allocate_bytes, bytes_content, resize_bytes
from uringloop.core.counters cimport Counters
from uringloop.core.receive_area cimport (
    BATCH, CONTROL_ROOM, hide_rest, make_ready, mmsghdr, receive_area)
from uringloop.datagram.control cimport close_descriptors, received_ancdata
from uringloop.datagram.metadata cimport (
    DROPS, MessageHead, datagram_facts, head_of, info_from, read_facts, says)
from uringloop.datagram.offload cimport SIZE_LOST, segment_size_of
from uringloop.ring.abi cimport *
from uringloop.transport.delivery cimport RECEIVE_ERROR, Delivery, received_item
from uringloop.transport.receiver cimport LONG, Receiver
from uringloop.transport.socket_transport cimport CLOSING, SocketTransport

import os

from uringloop.datagram.metadata import ask_for_errors, ask_for_errors_no_longer
from uringloop.datagram.protocol import method_of, takes_errors


cdef extern from "<errno.h>" nogil:
    int errno_now "errno"
    enum:
        EPERM
        ENOSYS

cdef extern from "<poll.h>":
    enum:
        POLLERR

cdef extern from "<sys/socket.h>" nogil:
    enum:
        MSG_CMSG_CLOEXEC
        MSG_ERRQUEUE
        SO_ERROR
    int getsockopt(int, int, int, void*, socklen_t*)
    ssize_t recvmsg(int, msghdr*, int)
    int recvmmsg(int, mmsghdr*, unsigned, int, void*)

cdef enum:
    LONGEST = 65536           # of IP
    LONGEST_LOCAL = 262144    # AF_UNIX; as asyncio
    LOCAL_CONTROL_ROOM = 2048  # for its control messages: 253 descriptors, and credentials

cdef enum:
    # kind of a received_item.  That of a train is larger, by the size of its datagrams.
    DATAGRAM_RECEIVED = RECEIVE_ERROR + 1

cdef enum:
    TRAINS_AT_ONCE = 4        # that are cut in one turn: each is 64 datagrams, or 128
    LARGEST_BATCH = 256


cdef dict CALLED = {
    'datagram_msg_received': (EACH, MESSAGES),
    'datagram_train_received_with_info': (TRAINS, INFO),
    'datagrams_received_with_info': (BATCHES, INFO),
    'datagram_received_with_info': (EACH, INFO),
    'datagram_train_received': (TRAINS, NO_DETAIL),
    'datagrams_received': (BATCHES, NO_DETAIL),
    'datagram_received': (EACH, NO_DETAIL),
}


cdef void take_error(int fd) noexcept:
    """The socket's error is told, and not to be told by what is received next."""
    cdef int error
    cdef socklen_t length = sizeof(error)
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length)


cdef bint forbidden = False         # recvmmsg is, by a filter of system calls


@cython.final
cdef class DatagramReceiver(Receiver):
    """The ``Receiver`` of datagrams."""

    def __cinit__(self):
        self.longest_local = LONGEST_LOCAL
        self.lasting = True       # each read goes on until nothing is left, or says that there is

    # -- reading -------------------------------------------------------------------------------

    cdef int look_up(self, object protocol) except -1:
        """How the protocol is called: what its type has, for a mock seems to have anything."""
        kind = type(protocol)
        return 0 if kind is self.kind else self.look_up_new(kind)

    cdef int look_up_new(self, object kind) except -1:
        self.method, self.detail = CALLED[method_of(kind)]
        self.describing = self.detail != NO_DETAIL or self.asked & DROPS
        self.takes_errors = takes_errors(kind, (<SocketTransport>self.transport).family)
        if self.takes_errors or self.errors_asked:
            self.have_errors_queued()
        self.kind = kind
        return 0

    cdef int have_errors_queued(self) except -1:
        """Have the kernel queue what the network says of what was sent, or no longer."""
        transport = <SocketTransport>self.transport
        if not transport.has_socket():
            return 0
        transport.sender.options_changed = True
        if not self.takes_errors:
            ask_for_errors_no_longer(transport._sock, self.errors_asked)
            self.errors_asked = None
            self.errors_queued = False
        elif not self.errors_asked:
            self.errors_asked = ask_for_errors(transport._sock)
        return 0

    cdef int noticed(self, int events) except -1:
        if events & POLLERR:
            self.errors_queued = True
        return Receiver.noticed(self, events)

    cdef int read(self) except -1:
        """As many as others may wait for."""
        transport = <SocketTransport>self.transport
        if not transport.has_socket():
            # The program has closed it: the number may be another's.
            return transport.socket_closed()
        self.look_up(transport._protocol)
        if self.errors_queued and self.takes_errors:
            return self.read_errors()
        return self.read_received()

    cdef int read_received(self) except -1:
        transport = <SocketTransport>self.transport
        if self.long_ones or transport.family == AF_UNIX or forbidden \
                or self.has_paused and self.method != BATCHES:
            return self.read_one_by_one()
        return self.read_batch()

    cdef int read_batch(self) except -1:
        """By one system call, from memory that is in the cache."""
        global forbidden
        transport = <SocketTransport>self.transport
        cdef receive_area* area = transport.loop.receive_area.get()
        cdef int most = BATCH // self.weight()
        cdef int count = recvmmsg(transport._sock_fd, area.messages, most, MSG_DONTWAIT, NULL)
        if count < 0 and (errno_now == EPERM or errno_now == ENOSYS):
            forbidden = True
            return self.read_one_by_one()
        if count < 0:
            return self.nothing_read(errno_now)
        hide_rest(area, count)
        try:
            self.post_copies(area, count)
        finally:
            make_ready(area, count)
        # Where there was an error in the midst of it (recvmmsg(2)) the poll has told of that.
        self.readable = count == most
        return 0

    cdef int weight(self) noexcept:
        """How many datagrams one like the last is taken for, that a turn may read so many of.

        (Trains of 44 for ``datagrams_received``: alike with 1 to 16 a turn, but with 32, which
        no cache holds any more, a third less.)
        """
        return BATCH // TRAINS_AT_ONCE if self.in_trains and self.method != TRAINS else 1

    cdef int post_copies(self, receive_area* area, int count) except -1:
        cdef int i
        for i in range(count):
            self.post_copy(&area.messages[i])
        return 0

    cdef int post_copy(self, mmsghdr* received) except -1:
        transport = <SocketTransport>self.transport
        cdef msghdr* message = &received.msg_hdr
        cdef const char* content = <char*>message.msg_iov.iov_base
        cdef ssize_t segment_size = segment_size_of(message) if self.takes_trains else 0
        if segment_size == SIZE_LOST:
            return self.post_lost()
        if <size_t>segment_size >= received.msg_len:
            segment_size = 0
        self.count(message.msg_flags, received.msg_len, segment_size)
        address = transport.loop.addresses.to_python(message.msg_name, message.msg_namelen)
        if self.describing:
            address = self.described(message, address)
        if segment_size and self.method != TRAINS:
            return self.post_cut(content, received.msg_len, segment_size, address)
        data = PyBytes_FromStringAndSize(content, received.msg_len)
        return transport.delivery.post(DATAGRAM_RECEIVED + <int>segment_size, data, address)

    cdef int post_cut(self, const char* content, size_t length, size_t segment_size,
                      object address) except -1:
        """The datagrams of a train."""
        transport = <SocketTransport>self.transport
        cdef size_t start = 0
        while start < length:
            data = PyBytes_FromStringAndSize(content + start, min(segment_size, length - start))
            transport.delivery.post(DATAGRAM_RECEIVED, data, address)
            start += segment_size
        return 0

    cdef int post_lost(self) except -1:
        """Nobody knows where the datagrams of what was received end, if it was several."""
        transport = <SocketTransport>self.transport
        transport.loop.counters.datagrams_truncated += 1
        return transport.delivery.post(RECEIVE_ERROR, OSError(
            EMSGSIZE, f'{os.strerror(EMSGSIZE)}: more than {CONTROL_ROOM} bytes of control '
            f'messages; gro=False is for sockets with such'), None)

    cdef object described(self, const msghdr* message, object address):
        """The origin of a datagram: its address with what its control messages say."""
        transport = <SocketTransport>self.transport
        cdef datagram_facts facts
        cdef MessageHead head
        if self.detail == INFO or self.asked & DROPS:
            read_facts(message, self.asked, &facts)
            if facts.drops:
                # It may have run over.
                transport.loop.counters.datagrams_overflowed += \
                    <uint32_t>(facts.drops - self.drops)
                self.drops = facts.drops
        if self.detail == NO_DETAIL:
            return address
        self.heads = True
        head = MessageHead.__new__(MessageHead)
        head.address = address
        if self.detail == MESSAGES:
            head.ancdata = received_ancdata(message, self.takes_trains)
            head.flags = message.msg_flags & ~MSG_CMSG_CLOEXEC
            return head
        if transport.family == AF_UNIX:
            close_descriptors(message)
        if not says(self.info, &facts):
            self.info = info_from(&facts, transport.loop.addresses)
        head.info = self.info
        return head

    # -- the error queue -----------------------------------------------------------------------

    cdef int read_errors(self) except -1:
        """Hand over what the error queue has, before what was received: that is read next.

        (And so an error of the network is not told by ``error_received``, too: the kernel takes
        that back when the error queue has been read.)
        """
        transport = <SocketTransport>self.transport
        cdef int left = BATCH
        while left > 0 and self.errors_queued and self.takes_errors \
                and transport.state < CLOSING and not transport.delivery.paused \
                and transport.has_socket() and not transport.delivery.is_time_up():
            if not self.read_error():
                self.errors_queued = False
            self.look_up(transport._protocol)
            left -= 1
        if transport.state >= CLOSING or transport.delivery.paused:
            return 0             # ``readable`` stays
        if not self.errors_queued or not self.takes_errors or not transport.has_socket():
            return self.read()       # which looks at all of that
        # They may come as fast as this, without end: what was received has its turn, too.  Not
        # before the error of the newest is taken from the socket: the queue has that, but where it
        # is full and the kernel has thrown it away.
        take_error(transport._sock_fd)
        try:
            return self.read_received()
        finally:
            self.readable = True

    cdef bint read_error(self) except -1:
        """Whether there was one."""
        transport = <SocketTransport>self.transport
        cdef receive_area* area = transport.loop.receive_area.get()
        cdef msghdr* message = &area.messages[0].msg_hdr
        cdef ssize_t length = recvmsg(
            transport._sock_fd, message, MSG_ERRQUEUE | MSG_DONTWAIT)
        if length < 0:
            return False
        try:
            data = PyBytes_FromStringAndSize(<char*>message.msg_iov.iov_base, length)
            address = transport.loop.addresses.to_python(message.msg_name, message.msg_namelen)
            ancdata = received_ancdata(message, False)
            flags = message.msg_flags
        finally:
            make_ready(area, 1)
        try:
            transport._protocol.datagram_errqueue_received(data, ancdata, flags, address)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            transport.report(exc, f'Exception in callback {transport!r}')
        return True

    # -- one by one ----------------------------------------------------------------------------

    cdef int read_one_by_one(self) except -1:
        """Each is answered while it is in the cache, and none taken before the one before it.

        (Datagrams of 60,000 bytes echoed on loopback, 8 of them on the way, medians of twenty
        runs: 42,000/s with four received at a time, 50,000/s so.)
        """
        transport = <SocketTransport>self.transport
        cdef int left = BATCH
        while left > 0 and transport.state < CLOSING and not transport.delivery.paused \
                and transport.has_socket() and self.read_one():
            self.look_up(transport._protocol)
            if transport.delivery.count and self.method != BATCHES:
                break            # another protocol in the midst of a train
            left -= self.weight()
            if transport.delivery.is_time_up():
                break
        return 0

    cdef bint read_one(self) except -1:
        """Whether there was one."""
        transport = <SocketTransport>self.transport
        cdef iovec vector
        cdef msghdr message
        cdef sockaddr_storage name
        cdef char control[LOCAL_CONTROL_ROOM]
        cdef ssize_t length, segment_size = 0
        cdef int error
        cdef size_t longest = self.longest_local if transport.family == AF_UNIX else LONGEST
        cdef PyObject* memory = allocate_bytes(longest)
        vector.iov_base = bytes_content(memory)
        vector.iov_len = longest
        memset(&message, 0, sizeof(message))
        message.msg_iov = &vector
        message.msg_iovlen = 1
        message.msg_name = &name
        message.msg_namelen = sizeof(name)
        if self.takes_trains or self.describing:
            message.msg_control = control
            message.msg_controllen = \
                LOCAL_CONTROL_ROOM if transport.family == AF_UNIX else CONTROL_ROOM
        length = recvmsg(transport._sock_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)
        if length < 0:
            error = errno_now
            Py_CLEAR(memory)
            self.nothing_read(error)
            return False
        if self.takes_trains:
            segment_size = segment_size_of(&message)
        if segment_size == SIZE_LOST:
            Py_CLEAR(memory)
            self.post_lost()
            transport.delivery.hand_over()
            return True
        if segment_size >= length:
            segment_size = 0
        self.count(message.msg_flags, length, segment_size)
        origin = transport.loop.addresses.to_python(&name, message.msg_namelen)
        if self.describing:
            origin = self.described(&message, origin)
        # Let go before the next is made: it is to get the same memory.
        self.give(resize_bytes(memory, length), segment_size, origin)
        return True

    cdef int give(self, bytes data, size_t segment_size, object address) except -1:
        """Hand this over, or have it be of the batch: nothing else that came before it waits."""
        if self.method == BATCHES and segment_size == 0:
            return (<SocketTransport>self.transport).delivery.post(
                DATAGRAM_RECEIVED, data, address)
        if self.method == BATCHES:
            return self.post_cut(
                PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), segment_size, address)
        if self.method == EACH and segment_size:
            return self.deliver_cut(data, segment_size, address)
        return self.deliver(data, segment_size, address)

    cdef int nothing_read(self, int error) except -1:
        transport = <SocketTransport>self.transport
        if error == EAGAIN:
            self.readable = False
            return 0
        exc = OSError(error, os.strerror(error))
        if transport.delivery.count:
            return transport.delivery.post(RECEIVE_ERROR, exc, None)
        # It is told first, whatever else there is.
        return transport.deliver_error(exc)

    cdef int count(self, int flags, size_t length, size_t segment_size) except -1:
        cdef Counters counters = (<SocketTransport>self.transport).loop.counters
        self.in_trains = segment_size != 0
        self.long_ones = length >= LONG and (segment_size == 0 or self.method != BATCHES)
        if flags & MSG_TRUNC:
            counters.datagrams_truncated += 1
        counters.trains_received += self.in_trains
        counters.datagrams_received += datagrams_of(length, segment_size)
        return 0

    # -- delivering ----------------------------------------------------------------------------

    cdef int hand_over(self, received_item* item) except -1:
        transport = <SocketTransport>self.transport
        cdef size_t segment_size = item.kind - DATAGRAM_RECEIVED
        what = <object>item.payload
        address = <object>item.address
        Py_DECREF(what)
        Py_DECREF(address)
        if item.kind == RECEIVE_ERROR:
            return transport.deliver_error(what) if transport.state < CLOSING else 0
        self.look_up(transport._protocol)
        if segment_size and self.method == EACH:
            return self.deliver_cut(what, segment_size, address)
        if segment_size and self.method == BATCHES:
            return self.post_first(what, segment_size, 0, address)
        if self.method == BATCHES:
            return self.deliver_batch(self.rest_of_batch(what, address))
        return self.deliver(what, segment_size, address)

    cdef int deliver_cut(self, bytes train, size_t segment_size, object address) except -1:
        """Each datagram has the memory of the one before it, if the protocol has let go of that.

        (Trains of 44 for ``datagram_received``: 9 % more than with all of a turn cut first.)
        """
        transport = <SocketTransport>self.transport
        cdef size_t start = 0, length = PyBytes_GET_SIZE(train)
        cdef const char* content = PyBytes_AS_STRING(train)
        try:
            while start < length and not transport.delivery.paused and self.method == EACH \
                    and (start == 0 or not transport.delivery.is_time_up()):
                data = PyBytes_FromStringAndSize(content + start,
                                                 min(segment_size, length - start))
                start += segment_size
                self.deliver(data, 0, address)
                data = None
                self.look_up(transport._protocol)
        finally:
            if start < length:
                self.post_first(train, segment_size, start, address)
        return 0

    cdef int post_first(self, bytes train, size_t segment_size, size_t start,
                        object address) except -1:
        """The datagrams of a train, from ``start`` on, have their turn before all that waits."""
        cdef Delivery delivery = (<SocketTransport>self.transport).delivery
        cdef unsigned later = delivery.count
        cdef received_item item
        self.post_cut(PyBytes_AS_STRING(train) + start, PyBytes_GET_SIZE(train) - start,
                      segment_size, address)
        for _ in range(later):
            item = delivery.take()
            delivery.post(item.kind, <object>item.payload, <object>item.address)
            Py_CLEAR(item.payload)
            Py_CLEAR(item.address)
        return 0

    cdef list rest_of_batch(self, object data, object address):
        """That, and the datagrams that wait behind it."""
        cdef Delivery delivery = (<SocketTransport>self.transport).delivery
        cdef received_item item
        cdef list batch = [self.batch_item(data, address)]
        while delivery.count and delivery.items[delivery.first].kind == DATAGRAM_RECEIVED \
                and len(batch) < LARGEST_BATCH:
            item = delivery.take()
            batch.append(self.batch_item(<object>item.payload, <object>item.address))
            Py_CLEAR(item.payload)
            Py_CLEAR(item.address)
        return batch

    cdef tuple batch_item(self, object data, object origin):
        cdef MessageHead head
        if not self.heads and self.detail == NO_DETAIL:
            return (data, origin)
        head = head_of(origin)
        return (data, head.address, head.info) if self.detail == INFO else (data, head.address)

    cdef int deliver_batch(self, list batch) except -1:
        transport = <SocketTransport>self.transport
        try:
            if transport.state >= CLOSING:
                transport.loop.counters.datagrams_discarded += len(batch)
            elif self.detail == INFO:
                transport._protocol.datagrams_received_with_info(batch)
            else:
                transport._protocol.datagrams_received(batch)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            transport.report(exc, f'Exception in callback {transport!r}')
        return 0

    cdef int deliver(self, object data, size_t segment_size, object address) except -1:
        transport = <SocketTransport>self.transport
        try:
            if transport.state >= CLOSING:
                transport.loop.counters.datagrams_discarded += datagrams_of(
                    len(data), segment_size)
            elif self.heads or self.detail != NO_DETAIL:
                self.call_with_detail(data, segment_size, head_of(address))
            elif self.method == TRAINS:
                # Never 0, by which a program might divide.
                transport._protocol.datagram_train_received(
                    data, segment_size or len(data) or 1, address)
            else:
                transport._protocol.datagram_received(data, address)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            transport.report(exc, f'Exception in callback {transport!r}')
        return 0

    cdef int call_with_detail(self, object data, size_t segment_size,
                              MessageHead head) except -1:
        """Call the protocol where there is more than an address, or was once."""
        protocol = (<SocketTransport>self.transport)._protocol
        if self.detail == MESSAGES:
            # A list for each, as from recvmsg, also of a train's.
            protocol.datagram_msg_received(
                data, [] if head.ancdata is None else head.ancdata[:], head.flags, head.address)
        elif self.method == TRAINS and self.detail == INFO:
            protocol.datagram_train_received_with_info(
                data, segment_size or len(data) or 1, head.address, head.info)
        elif self.method == TRAINS:
            protocol.datagram_train_received(data, segment_size or len(data) or 1, head.address)
        elif self.detail == INFO:
            protocol.datagram_received_with_info(data, head.address, head.info)
        else:
            protocol.datagram_received(data, head.address)
        return 0


cdef inline size_t datagrams_of(size_t length, size_t segment_size) noexcept:
    """How many were received together; they are no train if ``segment_size`` is 0."""
    return (length + segment_size - 1) // segment_size if segment_size else 1
