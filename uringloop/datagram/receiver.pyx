"""How datagrams come: short ones by the batch, long ones one by one."""
cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_DECREF
from libc.string cimport memset

from uringloop._cpython cimport allocate_bytes, bytes_content, resize_bytes
from uringloop.core.receive_area cimport BATCH, mmsghdr, receive_area
from uringloop.ring.abi cimport *
from uringloop.transport.delivery cimport RECEIVE_ERROR, received_item
from uringloop.transport.receiver cimport LONG, Receiver
from uringloop.transport.socket_transport cimport CLOSING, SocketTransport

import os


cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recvmsg(int, msghdr*, int)
    int recvmmsg(int, mmsghdr*, unsigned, int, void*)

cdef enum:
    LONGEST = 65536           # of IP
    LONGEST_LOCAL = 262144    # AF_UNIX; as asyncio

cdef enum:
    DATAGRAM_RECEIVED = RECEIVE_ERROR + 1     # kind of a received_item


@cython.final
cdef class DatagramReceiver(Receiver):
    """The ``Receiver`` of datagrams."""

    def __cinit__(self):
        self.lasting = True       # each read goes on until nothing is left, or says that there is

    # -- reading -------------------------------------------------------------------------------

    cdef int read(self) except -1:
        """As many as others may wait for."""
        transport = <SocketTransport>self.transport
        if not transport.has_socket():
            # The program has closed it: the number may be another's.
            return transport.socket_closed()
        if self.long_ones or self.has_paused or transport.family == AF_UNIX:
            return self.read_one_by_one()
        return self.read_batch()

    cdef int read_batch(self) except -1:
        """By one system call, from memory that is in the cache."""
        transport = <SocketTransport>self.transport
        cdef receive_area* area = transport.loop.receive_area.get()
        cdef int i, count = recvmmsg(transport._sock_fd, area.messages, BATCH, MSG_DONTWAIT, NULL)
        if count < 0:
            return self.nothing_read(errno_now)
        for i in range(count):
            self.post_copy(&area.messages[i])
        # Where there was an error in the midst of it (recvmmsg(2)) the poll has told of that.
        self.readable = count == BATCH
        return 0

    cdef int post_copy(self, mmsghdr* received) except -1:
        transport = <SocketTransport>self.transport
        cdef msghdr* message = &received.msg_hdr
        data = PyBytes_FromStringAndSize(<char*>message.msg_iov.iov_base, received.msg_len)
        address = transport.loop.addresses.to_python(message.msg_name, message.msg_namelen)
        message.msg_namelen = sizeof(sockaddr_storage)
        self.count(message.msg_flags, received.msg_len)
        return transport.delivery.post(DATAGRAM_RECEIVED, data, address)

    cdef int read_one_by_one(self) except -1:
        """Each is answered while it is in the cache, and none taken before the one before it.

        (Datagrams of 60,000 bytes echoed on loopback, 8 of them on the way, medians of twenty
        runs: 42,000/s with four received at a time, 50,000/s so.)
        """
        transport = <SocketTransport>self.transport
        cdef int left = BATCH
        while left and transport.state < CLOSING and not transport.delivery.paused \
                and transport.has_socket() and self.read_one():
            left -= 1
        return 0

    cdef bint read_one(self) except -1:
        """Whether there was one."""
        transport = <SocketTransport>self.transport
        cdef iovec vector
        cdef msghdr message
        cdef sockaddr_storage name
        cdef ssize_t length
        cdef int error
        cdef size_t longest = LONGEST_LOCAL if transport.family == AF_UNIX else LONGEST
        cdef PyObject* memory = allocate_bytes(longest)
        vector.iov_base = bytes_content(memory)
        vector.iov_len = longest
        memset(&message, 0, sizeof(message))
        message.msg_iov = &vector
        message.msg_iovlen = 1
        message.msg_name = &name
        message.msg_namelen = sizeof(name)
        length = recvmsg(transport._sock_fd, &message, MSG_DONTWAIT)
        if length < 0:
            error = errno_now
            Py_CLEAR(memory)
            self.nothing_read(error)
            return False
        self.count(message.msg_flags, length)
        # Let go before the next is made: it is to get the same memory.
        self.deliver_datagram(resize_bytes(memory, length),
                              transport.loop.addresses.to_python(&name, message.msg_namelen))
        return True

    cdef int nothing_read(self, int error) except -1:
        if error == EAGAIN:
            self.readable = False
            return 0
        # An error is told first, whatever else there is.
        return (<SocketTransport>self.transport).deliver_error(OSError(error, os.strerror(error)))

    cdef int count(self, int flags, Py_ssize_t length) except -1:
        transport = <SocketTransport>self.transport
        self.long_ones = length >= LONG
        transport.loop.counters.datagrams_received += 1
        if flags & MSG_TRUNC:
            transport.loop.counters.datagrams_truncated += 1
        return 0

    # -- delivering ----------------------------------------------------------------------------

    cdef int hand_over(self, received_item* item) except -1:
        what = <object>item.payload
        address = <object>item.address
        Py_DECREF(what)
        Py_DECREF(address)
        if item.kind == RECEIVE_ERROR:
            transport = <SocketTransport>self.transport
            return transport.deliver_error(what) if transport.state < CLOSING else 0
        return self.deliver_datagram(what, address)

    cdef int deliver_datagram(self, object data, object address) except -1:
        transport = <SocketTransport>self.transport
        try:
            if transport.state >= CLOSING:
                transport.loop.counters.datagrams_discarded += 1
            else:
                transport._protocol.datagram_received(data, address)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            transport.report(exc, f'Exception in callback {transport!r}')
        return 0
