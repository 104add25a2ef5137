"""Datagram transports.

How datagrams leave is in ``sender``, how they come in ``receiver``.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t

from uringloop.core.clock cimport clock_coarse
from uringloop.core.loop_core cimport LoopCore
from uringloop.datagram.control cimport (
    checked_flags, joined_buffers, packed_ancdata, packed_metadata)
from uringloop.datagram.gathering cimport end_batch, gather, gathering, send_gathered
from uringloop.datagram.offload cimport switch_on
from uringloop.datagram.receiver cimport DatagramReceiver
from uringloop.datagram.segmentation cimport LONGEST_SEGMENT
from uringloop.datagram.queue cimport QUEUE_LIMIT
from uringloop.datagram.sender cimport DatagramSender
from uringloop.datagram.system_calls cimport TRUSTED
from uringloop.ring.abi cimport AF_INET, AF_INET6, sockaddr_storage
from uringloop.ring.addresses cimport recall
from uringloop.ring.payloads cimport find_payload, payload
from uringloop.ring.registered_memory cimport LentMemory
from uringloop.ring.reports cimport BatchReport
from uringloop.ring.trains cimport check_segment_size, is_udp
from uringloop.transport.sender cimport FULL
from uringloop.transport.socket_transport cimport CLOSING, LOST, UNMADE, SocketTransport

import sys
from asyncio import DatagramTransport as DatagramTransportBase
from asyncio import selector_events

from uringloop._cpython import with_attributes
from uringloop.datagram.metadata import ask
from uringloop.datagram.protocol import check_methods


# Until 3.12 asyncio did not send empty datagrams; from 3.13 on it does.
cdef bint EMPTY_ALLOWED = sys.version_info >= (3, 13)
cdef double DSCP_TRUSTED = 0.01        # seconds


# What isinstance() is to see.  Until 3.11 asyncio's own was no DatagramTransport.
if issubclass(selector_events._SelectorDatagramTransport, DatagramTransportBase):
    AsyncioTransport = selector_events._SelectorDatagramTransport
else:
    class AsyncioTransport(selector_events._SelectorDatagramTransport, DatagramTransportBase):
        """asyncio's transport, as later versions have it."""


cdef class DatagramTransport(SocketTransport):
    """asyncio's datagram transport on the ring; made by ``create_datagram_endpoint``."""

    def __cinit__(self):
        self.receiver = DatagramReceiver.__new__(DatagramReceiver)
        self.sender = DatagramSender.__new__(DatagramSender)

    def __init__(self, LoopCore loop, sock, protocol, address=None, waiter=None, extra=None):
        cdef DatagramSender sender = <DatagramSender>self.sender
        self.set_up(loop, sock, protocol, waiter, extra)
        self._address = address
        sender.connected = bool(self.peername)
        sender.zerocopy_able = self.family == AF_INET or self.family == AF_INET6
        if is_udp(sock):
            sender.segments.limit = LONGEST_SEGMENT

    @property
    def __class__(self):
        # asyncio's class cannot be a base: its slots conflict in layout.
        return AsyncioTransport

    @property
    def max_size(self):
        """The longest datagram that AF_UNIX gives: what is longer is cut.  Others are shorter."""
        return (<DatagramReceiver>self.receiver).longest_local

    @max_size.setter
    def max_size(self, size):
        (<DatagramReceiver>self.receiver).longest_local = size

    def _receive_trains(self):
        """Have the kernel put together what comes in a row (UDP_GRO), if it knows how."""
        if is_udp(self._sock):
            (<DatagramReceiver>self.receiver).takes_trains = switch_on(self._sock_fd)

    def _receive_metadata(self, int asked):
        """Have the kernel tell that (metadata.Asked) with each datagram."""
        cdef DatagramReceiver receiver = <DatagramReceiver>self.receiver
        ask(self._sock, asked)
        receiver.asked = asked
        receiver.look_up_new(type(self._protocol))

    def set_protocol(self, protocol):
        """Call another protocol from now on."""
        check_methods(protocol)
        self._protocol = protocol
        if self.loop is not None:
            # It may want to hear of errors before anything is received.
            receiver = <DatagramReceiver>self.receiver
            receiver.look_up(protocol)
            if receiver.takes_errors and receiver.errors_queued and self.state < CLOSING:
                # The one before has left them there.
                receiver.readable = True
                if not self.delivery.paused:
                    self.delivery.schedule()

    def _before_socket_changes(self):
        self.packed_for = None           # it has the DSCP of the socket
        SocketTransport._before_socket_changes(self)

    # -- sending ---------------------------------------------------------------------------------

    def sendto(self, data, addr=None):
        """Send a datagram; never waits.

        It leaves at the call.  In a bulk, many in one turn, it may wait for the end of
        the turn to leave with the others; and where the socket has no room, for that.
        Exact ``bytes`` and views of exact ``bytes`` are not copied then; anything else is
        before this returns.  Errors of the network reach ``protocol.error_received``.
        """
        cdef DatagramSender sender = <DatagramSender>self.sender
        cdef payload memory
        cdef sockaddr_storage address
        cdef uint32_t address_length = 0
        cdef bint exact = PyBytes_CheckExact(data)
        if not exact and type(data) is not memoryview:
            check_data(data)
        if not EMPTY_ALLOWED and (PyBytes_GET_SIZE(data) == 0 if exact else not data):
            return
        if self._address is not None:
            addr = self.checked_address(addr)
        if self._conn_lost and (self._address or self._sock is None):
            self._drop()
            return
        # First: an address may be code of the program, and that may move the memory.
        if not sender.connected \
                and not recall(self.loop.addresses, addr, self.family, &address, &address_length) \
                and not self.to_kernel(addr, &address, &address_length):
            return
        if exact:
            memory.base = PyBytes_AS_STRING(data)
            memory.length = PyBytes_GET_SIZE(data)
            memory.immutable = True
            memory.lent = False
            sender.send(data, &memory, &address, address_length)
            return
        try:
            # Held: what others have deferred leaves first, and that may run code of the
            # program (``call_soon`` of a subclass, a buffer that is given back).
            owner = find_payload(data, &memory)
        except (BufferError, ValueError) as exc:
            if memory.lent:
                raise            # it was released, or a view of it has gaps
            self.loop.counters.datagrams_dropped += 1
            self._fatal_error(exc, 'Fatal write error on datagram transport')
            return
        if memory.lent:
            self.check_loop(<LentMemory>owner)
        sender.send(owner, &memory, &address, address_length)

    def sendto_zerocopy(self, data, addr=None, *, segment_size=None):
        """Send a datagram without copying it; returns a future of ``SendReport``.

        ``data`` may be any contiguous buffer, mutable too.  Leave it alone until the
        future is done: that is when the kernel has let go of it.  Cancelling
        the future does not call the datagram back.  Errors of the network are the
        future's; a bad address or type raises here.

        With ``segment_size`` the buffer leaves as datagrams of so many bytes, the last may be
        shorter (UDP_SEGMENT, udp(7)): in trains of up to 64, by one submission each.  What
        a path or a device refuses goes datagram by datagram.
        """
        cdef payload memory
        cdef sockaddr_storage address
        cdef uint32_t address_length = 0
        cdef size_t segment = check_segment_size(segment_size), count
        self.check_made()
        # First: an address may be code of the program, and that may give the memory up.
        if not self._conn_lost:
            self.to_kernel_or_raise(addr, &address, &address_length)
        # First, too: the collector may begin in here, and run code that gives it up.
        future = self.loop.new_future()
        owner = self.find_registered(data, &memory)
        if self._conn_lost or self.loop.closing:
            count = (memory.length + segment - 1) // segment if segment and memory.length else 1
            self.refuse(future, count, memory.length, 'bytes')
            return future
        (<DatagramSender>self.sender).send_reported(
            owner, &memory, segment, &address, address_length, future)
        return future

    def sendmsg(self, buffers, ancdata=(), flags=0, addr=None):
        """Send ``buffers`` as one datagram with control messages: as ``socket.sendmsg``.

        It leaves at the call, as by ``sendto``, and in the order of the calls; it is copied if it
        has to wait.  What is no buffer, no control message or no address raises here; what the
        kernel has against it reaches ``protocol.error_received``.
        """
        cdef int message_flags = checked_flags(flags)
        self.check_made()
        data = joined_buffers(buffers)
        self.send_with(data, packed_ancdata(ancdata), message_flags, True, addr)

    def sendto_with(self, data, addr=None, *, ecn=None, source=None):
        """Send a datagram as ``sendto`` does, with what a packet says besides.

        ``ecn`` is the codepoint of RFC 3168 (0 to 3); the DSCP is the socket's.  ``source`` is the
        address, of those of this machine, that it comes from: ``DatagramInfo.local_address``,
        for an answer.  What is none, or the family has none of, is a ValueError.
        """
        self.check_made()
        check_data(data)
        asked = ecn, source, type(ecn)
        if asked != self.packed_for or self.sender.given or clock_coarse() >= self.packed_until:
            packed = packed_metadata(self._sock_fd, self.family, ecn, source)
            if packed != self.packed:        # what leaves together has one and the same object
                self.packed = packed
            self.packed_for = asked
            # The program may set the DSCP by the descriptor, too.
            self.packed_until = clock_coarse() + DSCP_TRUSTED
        content = data if PyBytes_CheckExact(data) else self.loop._content(data)
        self.send_with(content, self.packed, 0, False, addr)

    cdef int send_with(self, bytes data, bytes control, int flags, bint alone,
                       object addr) except -1:
        cdef sockaddr_storage address
        cdef uint32_t address_length = 0
        if not self._conn_lost:
            self.to_kernel_or_raise(addr, &address, &address_length)
        if self._conn_lost:
            self._drop()
            return 0
        return (<DatagramSender>self.sender).send_message(
            data, control, flags, alone, &address, address_length)

    def sendto_many(self, buffers, addr=None):
        """Send many datagrams; never waits, returns None.  What sendmmsg(2) is to sendto(2).

        ``buffers`` are what ``sendto`` takes, or pairs of that and an address; ``addr`` is for
        those that come without one.  They leave at the call, in this order, as far as the socket
        has room.  Errors of the network reach ``protocol.error_received``.  A bad type or address
        raises here: those before it have left then, and those behind it don't.
        """
        cdef DatagramSender sender = <DatagramSender>self.sender
        cdef gathering batch
        cdef payload memory
        cdef sockaddr_storage address
        cdef uint32_t address_length = 0
        cdef object known = None           # the address that is in ``address``
        cdef bint resolved = False
        self.check_made()
        items = items_of(buffers)          # which nothing can change meanwhile
        held = []                          # what views are of: they may be released meanwhile
        batch.count = 0
        sender.send_deferred_of_others()
        if sender.given:
            sender.options_changed = True        # by the program, as it may be
        try:
            for item in items:
                data, to = item, addr
                if type(item) is tuple:
                    if len(item) != 2:
                        send_gathered(&batch, sender)      # the error has the ``repr`` of it
                    data, to = pair(item)
                if not resolved or to is not known:
                    # What has been gathered is not to change meanwhile: this may be user code.
                    send_gathered(&batch, sender)
                    self.to_kernel_or_raise(to, &address, &address_length)
                    known = to
                    resolved = True
                if PyBytes_CheckExact(data):
                    memory.base = PyBytes_AS_STRING(data)
                    memory.length = PyBytes_GET_SIZE(data)
                    memory.immutable = True
                    memory.lent = False
                    owner = data
                else:
                    if type(data) is not memoryview and type(data) is not bytearray \
                            and not isinstance(data, LentMemory):
                        send_gathered(&batch, sender)      # so may be what lends this memory
                    owner = self.find_lent(data, &memory)
                    if owner is not data:
                        held.append(owner)
                if not EMPTY_ALLOWED and memory.length == 0:
                    continue
                if self._conn_lost:
                    self._drop()
                else:
                    gather(&batch, sender, owner, &memory, &address, address_length)
        finally:
            end_batch(&batch, sender)

    def sendto_many_zerocopy(self, buffers, addr=None):
        """Send many datagrams without copying them; returns one future of ``SendReport`` for all.

        As ``sendto_many``, but any contiguous buffer is referenced, mutable ones too: leave them
        alone until the future is done.  So it tells of a bad type or address, too, when the
        kernel has let go of what has left before.
        """
        cdef DatagramSender sender = <DatagramSender>self.sender
        cdef payload memory
        cdef sockaddr_storage address
        cdef uint32_t address_length = 0
        cdef object known = None
        cdef bint resolved = False
        cdef Py_ssize_t taken = 0
        self.check_made()
        items = items_of(buffers)
        future = self.loop.new_future()
        if self._conn_lost or self.loop.closing:
            self.refuse(future, len(items), len(items), 'datagrams')
            return future
        report = BatchReport(future)
        sender.send_deferred_of_others()
        try:
            for item in items:
                if self._conn_lost:
                    # By code of the program that sending has run.
                    self.refuse(report, len(items) - taken, len(items) - taken, 'datagrams')
                    return future
                taken += 1
                data, to = item, addr
                if type(item) is tuple:
                    data, to = pair(item)
                if not resolved or to is not known:
                    self.to_kernel_or_raise(to, &address, &address_length)
                    known = to
                    resolved = True
                owner = self.find_registered(data, &memory)
                sender.enqueue(owner, &memory, &address, address_length, report)
                if sender.queued >= QUEUE_LIMIT and not sender.waits():
                    sender.send_queued()
        except Exception as exc:
            report.fail(exc.with_traceback(None))     # which would hold the memory
        finally:
            sender.send_queued()
            report.close()
            sender.maybe_pause_full()
        return future

    cdef object find_lent(self, object data, payload* memory):
        """As ``find_payload``, of what may be sent by this loop."""
        owner = find_payload(data, memory)
        if memory.lent:
            self.check_loop(<LentMemory>owner)
        return owner

    cdef object find_registered(self, object data, payload* memory):
        """The memory of ``data``, and what holds it: registered memory, if it lies in such."""
        cdef LentMemory registered
        owner = find_payload(data, memory)
        if not memory.lent:
            registered = self.loop.registered_memory.find(memory.base, memory.length)
            if registered is not None:
                memory.lent = True
                return registered
        else:
            self.check_loop(<LentMemory>owner)
        return owner

    cdef int check_loop(self, LentMemory memory) except -1:
        if memory.operations is not self.loop.operations:
            raise ValueError(f'{memory!r} is of another loop')
        return 0

    cdef int check_made(self) except -1:
        if self.state == UNMADE:
            self._drop()
        return 0

    cdef int to_kernel_or_raise(self, object addr, sockaddr_storage* into,
                                uint32_t* length) except -1:
        """The kernel's form of ``addr``; none where the socket is connected."""
        addr = self.checked_address(addr)
        length[0] = 0
        if not self.needs_no_address(addr):
            if addr is None:
                raise TypeError('an address is needed: the socket is not connected')
            self.loop.addresses.to_kernel(addr, self.family, into, length)
        return 0

    cdef object checked_address(self, object addr):
        if self._address is None:
            return addr
        if addr is not None:
            self._check_address(addr)
        return self._address

    cdef int refuse(self, object future, size_t dropped, size_t count, str of) except -1:
        self.loop.counters.datagrams_dropped += dropped
        what = f'{count} {of} were' if count != 1 else f'1 {of.removesuffix("s")} was'
        error = ConnectionAbortedError(f'{self.description()} is closed: {what} not sent')
        if type(future) is BatchReport:
            (<BatchReport>future).fail(error)
        else:
            future.set_exception(error)
        return 0

    def _check_address(self, addr):
        if self._address and addr is not None and addr != self._address:
            raise ValueError(f'Invalid address: must be None or {self._address}, not {addr!r}')

    def _drop(self):
        if self.state == UNMADE:
            raise RuntimeError(f'{type(self).__name__}.__init__() was not called')
        self.loop.counters.datagrams_dropped += 1
        self._write_on_lost()

    cdef bint needs_no_address(self, object addr) noexcept:
        # An AF_UNIX peer may have no name; asyncio then wants an address.
        return (<DatagramSender>self.sender).connected \
            or addr is None and self.peername is not None

    cdef bint to_kernel(self, object addr, sockaddr_storage* into, uint32_t* length) except -1:
        """The kernel's form of ``addr``.  False: there is none, and that has been told."""
        if self.needs_no_address(addr):
            return True
        try:
            self.loop.addresses.to_kernel(addr, self.family, into, length)
        except OSError as exc:
            self.loop.counters.datagrams_dropped += 1
            self._protocol.error_received(exc)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.loop.counters.datagrams_dropped += 1
            self._fatal_error(exc, 'Fatal write error on datagram transport')
        else:
            return True
        return False

    # -- the ring ----------------------------------------------------------------------------------

    cdef int flush(self) except -1:
        cdef DatagramSender sender = <DatagramSender>self.sender
        self.flush_scheduled = False
        if self._sock is None or self.loop.closing:
            return 0
        # Without a slot this only looks whether the number is still this socket's.
        if self.slot < 0 or self.ring_id != self.loop.ring.ring_id:
            self.register_socket()
        self.receiver.arm_or_cancel()
        if sender.look_due and 0 <= sender.trust < TRUSTED:
            sender.look_again(0)
        sender.send_queued()
        if sender.room == FULL and self.state < LOST:
            sender.wait_for_room()
        # Of what was deferred it is known only now whether the socket has room for it.
        return sender.maybe_pause_full() if self.state < CLOSING else 0

    cdef int join_ring(self) except -1:
        """If the ring is new to this transport, register the socket with it."""
        return self.register_socket() if self.ring_id != self.loop.ring.ring_id else 0

    cdef int register_socket(self) except -1:
        """Have the ring keep the file: so the socket stays what it is until ``close``."""
        if not self.has_socket():
            # The program has closed the socket under us: the number may be another's.
            return 0 if self.state >= CLOSING else self.socket_closed()
        if self.ring_id != self.loop.ring.ring_id:
            self.ring_id = self.loop.ring.ring_id
            self.slot = self.loop.ring.register_file(self._sock_fd)
        return 0

    cdef int release_slot(self) except -1:
        if self.slot >= 0 and self.loop.ring is not None \
                and self.ring_id == self.loop.ring.ring_id:
            # Before close(), or the port would stay in use.
            self.loop.ring.unregister_file(self.slot)
        self.slot = -1
        return 0

    cdef int release_slot_later(self) except -1:
        if self.slot >= 0 and self.loop.ring is not None \
                and self.ring_id == self.loop.ring.ring_id:
            self.loop.slots_to_free.append((self.slot, self.loop.ring))
            self.loop._write_to_self()
        self.slot = -1
        return 0

    # -- delivering --------------------------------------------------------------------------------

    cdef int tell_errors(self) except -1:
        # Those of a bulk, too: nothing is told once the transport is closing that was sent before.
        self.send_all_deferred()
        return self.delivery.tell_failures(False)

    cdef int deliver_error(self, object exc) except -1:
        try:
            if self._protocol is not None and not self.aborted:
                self._protocol.error_received(exc)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as problem:
            self.report(problem, f'Exception in callback {self!r}')
        return 0


cpdef int check_data(object data) except -1:
    """TypeError for what ``sendto`` does not take."""
    if not isinstance(data, (bytes, bytearray, memoryview, LentMemory)):
        raise TypeError(f'data argument must be a bytes-like object, not {type(data).__name__!r}')
    return 0


cpdef tuple items_of(object buffers):
    """What ``sendto_many`` is given; TypeError if that is a single buffer, or text."""
    if isinstance(buffers, str):
        raise TypeError('buffers must be an iterable of datagrams, not str: datagrams are bytes, '
                        'so encode the text')
    if isinstance(buffers, (bytes, bytearray, memoryview, LentMemory)):
        raise TypeError(f'buffers must be an iterable of datagrams, not {type(buffers).__name__}: '
                        f'that is one, for sendto()')
    return tuple(buffers)


cpdef tuple pair(tuple item):
    """A datagram and its address; TypeError if it is something else."""
    if len(item) != 2:
        raise TypeError(f'a datagram must be a bytes-like object or (data, addr), not {item!r}')
    return item


globals()['DatagramTransport'] = with_attributes(DatagramTransport)
