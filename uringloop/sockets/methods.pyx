"""The ``sock_*`` methods' halves that don't wait.

Each tries what it can at once: asyncio's order of events, and often the
cheapest way.  Where the kernel makes it wait there is a ``SocketCall``, on
the ring, that the method's coroutine waits for; see ``coroutines``.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR
from libc.stdint cimport uint32_t

from uringloop._cpython cimport allocate_bytes, bytes_content, family_of, fd_of, resize_bytes
from uringloop.core.loop_core cimport LoopCore, send_deferred_datagrams
from uringloop.core.plain_sockets cimport is_plain
from uringloop.ring.abi cimport *
from uringloop.ring.addresses cimport is_number
from uringloop.ring.lent_pieces cimport HeldPayload
from uringloop.ring.payloads cimport (
    find_payload, payload, writable_view)
from uringloop.ring.registered_memory cimport LentMemory
from uringloop.ring.reports cimport BatchReport
from uringloop.ring.trains cimport (
    check_segment_size, is_refusal, is_udp, longest_train, send_pieces)
from uringloop.ring.zerocopy cimport ZEROCOPY_MINIMUM, send_report, zerocopy_pays
from uringloop.sockets.calls cimport SocketCall
from uringloop.sockets.zerocopy_sends cimport ZerocopySends

import os

from uringloop._cpython import PLAIN_SOCKET

cdef extern from "<poll.h>":
    enum:
        POLLIN
        POLLOUT

cdef extern from "<errno.h>" nogil:
    int errno_now "errno"

cdef extern from "<sys/socket.h>" nogil:
    ssize_t send(int, const void*, size_t, int)
    ssize_t sendto(int, const void*, size_t, int, const sockaddr*, socklen_t)
    int connect(int, const sockaddr*, socklen_t)
    int accept4(int, sockaddr*, socklen_t*, int)
    int getpeername(int, sockaddr*, socklen_t*)
    int getsockopt(int, int, int, void*, socklen_t*)
    enum:
        SO_ERROR
    ssize_t recvfrom(int, void*, size_t, int, sockaddr*, socklen_t*)


try:
    from ssl import SSLSocket
except ImportError:      # a Python without ssl
    SSLSocket = ()

cdef object PlainSocket = PLAIN_SOCKET
cdef enum:
    RECEIVE_MEMORY_LIMIT = 262144       # more is not kept from one call to the next
    COPIED = 8192                       # what is shorter is copied out of it


cdef class SocketCore(LoopCore):
    """The loop with what asyncio's ``sock_*`` methods do before they wait."""

    def __dealloc__(self):
        Py_CLEAR(self.receive_memory)

    def _close_core(self):
        LoopCore._close_core(self)
        self.zerocopy_sends = None
        Py_CLEAR(self.receive_memory)
        self.receive_memory_size = 0

    cdef int check_socket(self, object sock) except -1:
        if type(sock) is not PlainSocket and isinstance(sock, SSLSocket):
            raise TypeError('Socket cannot be of type SSLSocket')
        if self._debug and sock.gettimeout() != 0:
            raise ValueError('the socket must be non-blocking')
        return 0

    cdef bint is_ring_socket(self, object sock) except -1:
        """Whether the ring is for this socket; else asyncio's way, which asks the object."""
        cdef int family
        self.check_socket(sock)
        if not is_plain(sock):
            return False
        family = family_of(sock)
        return family == AF_INET or family == AF_INET6 or family == AF_UNIX

    def _begin_call(self, sock):
        self.before_send()
        return self.is_ring_socket(sock)

    cdef int before_send(self) except -1:
        """What an endpoint has sent in bulk leaves first."""
        return send_deferred_datagrams(self)

    cdef SocketCall new_call(self, object sock):
        cdef SocketCall call = SocketCall.__new__(SocketCall)
        call.loop = self
        call.sock = sock
        call.fd = fd_of(sock)
        return call

    def _poll_now(self, sock, events):
        """The call that waits for POLLIN, POLLOUT or POLLERR."""
        cdef SocketCall call
        if self.ring is None:
            raise RuntimeError('the loop is not running')
        call = self.new_call(sock)
        call.events = events
        return call

    # -- receiving -----------------------------------------------------------------------------
    # Each returns what was received, or the call that waits for it, or None: not for the ring.

    def _recv_now(self, sock, n):
        return self.receive_now(sock, n, False, 'recv')

    def _recvfrom_now(self, sock, bufsize):
        return self.receive_now(sock, bufsize, True, 'recvfrom')

    def _recv_into_now(self, sock, buf):
        return self.receive_into_now(sock, buf, 0, False, 'recv_into')

    def _recvfrom_into_now(self, sock, buf, nbytes):
        return self.receive_into_now(sock, buf, nbytes or len(buf), True, 'recvfrom_into')

    cdef object receive_now(self, object sock, Py_ssize_t size, bint named, str name):
        cdef PyObject* made
        cdef sockaddr_storage peer
        cdef uint32_t peer_length = 0
        cdef ssize_t received
        cdef int fd
        if not self.is_ring_socket(sock):
            return None
        self.before_send()       # what was deferred may be for this one
        if size < 0:
            raise ValueError(f'negative buffersize in {name}: {size}')
        if size == 0 and not named:
            return b''       # as ``socket.recv``, which does not ask the kernel either
        fd = fd_of(sock)         # first: it may be code of the program, and receive by itself
        if self.receive_memory is NULL or self.receive_memory_size != size:
            Py_CLEAR(self.receive_memory)
            self.receive_memory = allocate_bytes(size)
            self.receive_memory_size = size
        received = receive_available(
            fd, bytes_content(self.receive_memory), size, named, &peer, &peer_length)
        if received < 0:
            return self._poll_now(sock, POLLIN)
        if received < COPIED and size <= RECEIVE_MEMORY_LIMIT:
            data = PyBytes_FromStringAndSize(bytes_content(self.receive_memory), received)
        else:
            made = self.receive_memory
            self.receive_memory = NULL
            data = resize_bytes(made, received)
        return (data, self.addresses.to_python(&peer, peer_length)) if named else data

    cdef object receive_into_now(
            self, object sock, object buf, Py_ssize_t nbytes, bint named, str name):
        cdef Py_buffer* view
        cdef sockaddr_storage peer
        cdef uint32_t peer_length = 0
        cdef ssize_t received
        if not self.is_ring_socket(sock):
            return None
        self.before_send()
        if nbytes < 0:
            raise ValueError(f'negative buffersize in {name}: {nbytes}')
        # Each export of an object may be of other memory: this one is held.
        owner = writable_view(buf, name)
        view = PyMemoryView_GET_BUFFER(owner)
        if nbytes > view.len:
            raise ValueError(f'nbytes is greater than the length of the buffer: {nbytes}')
        if view.len == 0 and not named:
            return 0
        received = receive_available(
            fd_of(sock), <char*>view.buf, nbytes or view.len, named, &peer, &peer_length)
        if received < 0:
            return self._poll_now(sock, POLLIN)
        return (received, self.addresses.to_python(&peer, peer_length)) if named else received

    # -- sending -------------------------------------------------------------------------------

    def _send_now(self, sock, data, address):
        """Send a datagram without waiting: the number of bytes, or None if there is no room."""
        cdef ssize_t sent
        if not self.is_ring_socket(sock):
            return None
        sent = self.send_at_once(sock, data, address, None)
        return None if sent == -EAGAIN else sent

    def _send_zerocopy_now(self, sock, data, address):
        """A future of ``SendReport``; or a report of it: there is no room."""
        cdef ssize_t sent
        future = self.new_future()
        sent = self.send_at_once(sock, data, address, future)
        return future if sent != -EAGAIN else self.report_of_refused(future)

    def _send_zerocopy_again(self, sock, data, address, report):
        """The same for one that had no room before: whether it has left, or is about to."""
        cdef ssize_t sent = self.send_at_once(sock, data, address, report)
        return sent != -EAGAIN

    cdef BatchReport report_of_refused(self, object future):
        """What had no room is tried again; but the kernel may have its memory still."""
        report = BatchReport(future)
        if self.zerocopy_sends is not None:
            self.zerocopy_sends.report_refused(future, report)
        return report

    cdef ssize_t send_at_once(self, object sock, object data, object address,
                              object future) except? -1:
        """Send without waiting.  -EAGAIN: there is no room now.

        ``future`` is for the report if the caller has asked for zero-copy, or None.
        """
        cdef:
            payload memory
            sockaddr_storage destination
            uint32_t length = 0
            ssize_t sent = -EAGAIN
            int family = family_of(sock)
            bint tried, refused = False
        self.before_send()
        # First: an address may be code of the program, and that may move the memory.
        self.addresses.to_kernel(address, family, &destination, &length)
        owner = self.own_or_registered(data, &memory, future is not None)
        tried = self.may_go_zerocopy(family, &memory, memory.length, future is not None,
                                     &destination, length)
        if tried:
            sent = self.zerocopy_sends.send(
                fd_of(sock), owner, &memory, 0, &destination, length, future)
            refused = sent < 0 and is_refusal(-sent, fd_of(sock), memory.length)
        if sent == -EAGAIN or refused:
            # One system call either way, and the plain one is the shorter.
            sent = sendto(fd_of(sock), memory.base, memory.length, MSG_DONTWAIT | MSG_NOSIGNAL,
                          <sockaddr*>&destination, length)
            if sent < 0:
                sent = -EAGAIN if errno_now == EINTR else -errno_now
            elif future is not None and not (
                    tried and self.zerocopy_sends.sent_otherwise(sent)):
                sent_by_call(future, sent)
        if sent < 0 and sent != -EAGAIN:
            raise OSError(-sent, os.strerror(-sent))
        if sent >= 0:
            self.counters.datagrams_sent += 1
            self.counters.zerocopy_sent += refused
            self.counters.zerocopy_fell_back += refused
        return sent

    cdef object own_or_registered(self, object data, payload* memory, bint explicit):
        """The memory of ``data``, and what holds it: registered memory, if it lies in such."""
        cdef LentMemory registered
        owner = find_payload(data, memory)
        if memory.lent:
            if (<LentMemory>owner).operations is not self.operations:
                raise ValueError(f'{owner!r} is of another loop')
        elif explicit:
            registered = self.registered_memory.find(memory.base, memory.length)
            if registered is not None:
                memory.lent = memory.immutable = True
                return registered
        return owner

    cdef bint may_go_zerocopy(self, int family, payload* memory, size_t datagram, bint explicit,
                              sockaddr_storage* destination, uint32_t length) except -1:
        cdef bint any_size = explicit or memory.lent
        if not any_size and not (memory.immutable and memory.length >= ZEROCOPY_MINIMUM) \
                or family == AF_UNIX:
            return False
        if self.zerocopy_sends is None:
            self.zerocopy_sends = ZerocopySends.__new__(ZerocopySends)
            self.zerocopy_sends.loop = self
        return self.zerocopy_sends.may_send() and zerocopy_pays(
            memory.base, memory.length, datagram, any_size, destination, length, self.paths,
            self.operations.pinned)

    def _send_trains_now(self, sock, data, address, size_t start, segment_size,
                         BatchReport report):
        """Send as datagrams of ``segment_size`` what there is room for, from ``start``.

        Returns where that ends, and where all does.
        """
        cdef:
            payload memory, part
            sockaddr_storage destination
            uint32_t length = 0
            size_t segment = check_segment_size(segment_size)
            size_t total
            ssize_t sent = 0
            bint refused = False
        self.before_send()
        self.addresses.to_kernel(address, family_of(sock), &destination, &length)
        owner = self.own_or_registered(data, &memory, True)
        total = memory.length
        part = memory
        while start < total and sent != -EAGAIN:
            part.base = memory.base + start
            part.length = min(longest_train(segment), total - start)
            sent = self.send_train(
                sock, owner, &part, segment, &destination, length, report, &refused)
            if sent > 0:
                start += sent
        return start, total

    cdef ssize_t send_train(self, object sock, object owner, payload* part, size_t segment,
                            sockaddr_storage* destination, uint32_t length,
                            BatchReport report, bint* refused) except? -1:
        """Send a train, without copying if that pays; of one that is refused, a datagram.

        Returns the number of bytes; -EAGAIN: there is no room.  ``refused``: the kernel does not
        take such trains.
        """
        cdef ssize_t sent = 0
        cdef size_t first = min(segment, part.length), count
        cdef bint together = not refused[0]
        cdef bint zerocopy = together and self.may_go_zerocopy(
            family_of(sock), part, first, True, destination, length)
        cdef iovec whole
        if zerocopy:
            sent = self.zerocopy_sends.send(
                fd_of(sock), owner, part, segment, destination, length, report)
        elif together and part.length > first and is_udp(sock):
            whole.iov_base = part.base
            whole.iov_len = part.length
            sent = -send_pieces(fd_of(sock), &whole, 1, segment, destination, length)
            if sent == 0:
                sent = part.length
        else:
            together = False
        if sent < 0 and is_refusal(
                -sent, fd_of(sock), 0 if part.length > first else first):
            self.counters.zerocopy_sent += zerocopy
            self.counters.zerocopy_fell_back += zerocopy
            refused[0] = True
            zerocopy = together = False
        if not together:
            sent = sendto(fd_of(sock), part.base, first, MSG_DONTWAIT | MSG_NOSIGNAL,
                          <sockaddr*>destination, length)
            if sent < 0:
                sent = -errno_now
        if sent >= 0:
            count = (sent + first - 1) // first
            self.counters.datagrams_sent += count
            self.counters.datagrams_gathered += count if count > 1 else 0
            if not zerocopy:
                report.add()
                report.told(sent, True, True, None)
        if sent == -EINTR:
            sent = -EAGAIN
        if sent < 0 and sent != -EAGAIN:
            raise OSError(-sent, os.strerror(-sent))
        return sent

    def _held(self, data):
        """What is sent later, in part at least: a lease may be released meanwhile."""
        cdef payload memory
        owner = find_payload(data, &memory)
        return HeldPayload.of(<LentMemory>owner, &memory) if memory.lent else memoryview(data)

    def _kept(self, data):
        """The same, where the caller may change ``data`` meanwhile."""
        cdef payload memory
        owner = find_payload(data, &memory)
        if memory.lent:
            return HeldPayload.of(<LentMemory>owner, &memory)
        if memory.immutable:
            return data
        return PyBytes_FromStringAndSize(memory.base, memory.length)

    def _send_rest(self, sock, data, size_t start):
        """Send what there is room for, from ``start``: where that ends, and where all does."""
        cdef payload memory
        cdef ssize_t sent
        cdef int error
        held = find_payload(data, &memory)
        sent = send(fd_of(sock), memory.base + start, memory.length - start,
                    MSG_DONTWAIT | MSG_NOSIGNAL)
        error = errno_now
        del held                 # which may change it
        if sent < 0:
            if error != EAGAIN and error != EINTR:
                raise OSError(error, os.strerror(error))
            sent = 0
        return start + <size_t>sent, memory.length

    # -- connections ---------------------------------------------------------------------------

    def _can_connect_now(self, sock, address):
        """Whether the ring is for this socket and there is no name to be looked up."""
        return self.is_ring_socket(sock) and (
            family_of(sock) == AF_UNIX or self.is_numeric(address, family_of(sock)))

    def _connect_now(self, sock, address):
        """Begin to connect to a resolved address: None if that is done, or what waits."""
        cdef sockaddr_storage peer
        cdef uint32_t length = 0
        cdef int fd, code, error
        self.before_send()
        try:
            self.addresses.to_kernel(address, family_of(sock), &peer, &length)
        except (OverflowError, TypeError) as exc:
            raise type(exc)(str(exc).replace('sendto()', 'connect()')) from None
        fd = fd_of(sock)         # last: what is above may be code of the program, and close it
        with nogil:
            # The handshake with a socket of this machine is done in here.
            code = connect(fd, <sockaddr*>&peer, length)
            error = errno_now
        if code == 0:
            return None
        if error not in (EINPROGRESS, EINTR, EALREADY, EAGAIN):
            raise OSError(error, os.strerror(error))
        return self.new_turn(sock)

    cdef SocketCall new_turn(self, object sock):
        """A call that the ring has nothing to do with: done in the next turn.

        A server of this loop is told of the connection in that turn, and hears of it
        before the client goes on, as with asyncio.
        """
        self._check_closed()
        cdef SocketCall call = self.new_call(sock)
        call.behind_others = True
        self.deliveries_due.append(call)
        return call

    def _connect_on(self, sock, address, SocketCall waited):
        """Whether the connection that was begun is there: None, or what waits for it.

        ``connect`` is not asked again: it says once that the connection is there, and asyncio
        leaves that answer to the program.
        """
        cdef sockaddr_storage peer
        cdef socklen_t length = sizeof(peer)
        cdef SocketCall call
        cdef int error
        if getpeername(fd_of(sock), <sockaddr*>&peer, &length) == 0:
            return None
        length = sizeof(error)
        if getsockopt(fd_of(sock), SOL_SOCKET, SO_ERROR, &error, &length) < 0:
            error = errno_now
        if not error and waited.events and family_of(sock) != AF_UNIX:
            error = ENOTCONN         # another task has been told why
        if error:
            raise OSError(error, f'Connect call failed {address}')
        if waited.events:
            # An AF_UNIX socket whose listener had no room: there is nothing to wait for, and
            # asyncio leaves it at that.  What is sent fails.
            return None
        call = self._poll_now(sock, POLLOUT)
        call.behind_others = True
        return call

    def _numeric_family(self, host, port):
        """The address family of a host that is a number, or 0."""
        if type(host) is not str or type(port) is not int or not 0 <= port <= 0xffff:
            return 0
        for family in (AF_INET, AF_INET6):
            if is_number(family, host):
                return family
        return 0

    cdef bint is_numeric(self, object address, int family) except -1:
        return (type(address) is tuple and len(<tuple>address) >= 2
                and (<tuple>address)[0] and type((<tuple>address)[0]) is str
                and is_number(family, (<tuple>address)[0])
                # Others, asyncio has looked up, and made into what they mean.
                and type((<tuple>address)[1]) is int
                and len(<tuple>address) <= (2 if family == AF_INET else 4))

    def _accept_now(self, sock):
        """``(descriptor, address)``, or the call that waits for it."""
        cdef sockaddr_storage peer
        cdef socklen_t length = sizeof(peer)
        cdef int fd, listening = fd_of(sock)
        with nogil:          # see Acceptor.accept
            fd = accept4(listening, <sockaddr*>&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd >= 0:
            return fd, self.addresses.to_python(&peer, length)
        if errno_now != EAGAIN and errno_now != EINTR:
            raise OSError(errno_now, os.strerror(errno_now))
        return self._poll_now(sock, POLLIN)


cdef int sent_by_call(object future, size_t sent) except -1:
    if type(future) is BatchReport:
        (<BatchReport>future).add()
        return (<BatchReport>future).told(sent, True, True, None)
    future.set_result(send_report(sent, True, True))
    return 0


cdef ssize_t receive_available(int fd, char* base, size_t length, bint named,
                               sockaddr_storage* peer, uint32_t* peer_length) except? -1:
    """Receive what is there already; -EAGAIN: nothing."""
    cdef ssize_t received
    peer_length[0] = sizeof(sockaddr_storage)
    received = recvfrom(fd, base, length, MSG_DONTWAIT,
                        <sockaddr*>peer if named else NULL,
                        <socklen_t*>peer_length if named else NULL)
    if received >= 0:
        return received
    if errno_now != EAGAIN and errno_now != EINTR:
        raise OSError(errno_now, os.strerror(errno_now))
    return -EAGAIN
