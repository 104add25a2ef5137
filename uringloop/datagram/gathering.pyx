"""Datagrams of one call that leave as few sends: what ``sendto_many`` gathers.

Neighbours of one size to one address, the last may be shorter, are sent at once (UDP_SEGMENT),
without an operation for each.  Those that lie side by side in memory are one piece of it; if
it is one piece altogether it is a train, and goes zero-copy if that pays.  Of the program's code
only what sending runs, or the collector, may run while something is gathered: so all is held.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t
from libc.string cimport memmove

from uringloop.core.counters cimport Counters
from uringloop.datagram.segmentation cimport refused
from uringloop.datagram.queue cimport HEADER, QUEUE_LIMIT, TRAINS_LIMIT
from uringloop.datagram.sender cimport DatagramSender
from uringloop.datagram.transport cimport DatagramTransport
from uringloop.ring.abi cimport *
from uringloop.ring.lent_pieces cimport hold_too
from uringloop.ring.operations cimport flag
from uringloop.ring.payloads cimport payload
from uringloop.ring.registered_memory cimport LentMemory
from uringloop.ring.trains cimport SEGMENTED_BYTES, SEGMENTS, is_refusal, send_pieces
from uringloop.ring.zerocopy cimport ZEROCOPY_MINIMUM
from uringloop.transport.sender cimport FULL


cdef int gather(gathering* these, DatagramSender sender, object owner, payload* memory,
                sockaddr_storage* address, uint32_t address_length) except -1:
    """Add a datagram; the caller holds ``owner`` until all are sent."""
    cdef size_t length = memory.length
    if these.count and (
            length > these.segment or length == 0 or these.total % these.segment
            or memory.lent != these.lent
            or these.count == SEGMENTS or these.total + length > SEGMENTED_BYTES):
        send_gathered(these, sender)
    if these.count == 0:
        if not 0 < length <= sender.segments.limit or sender.segments.one_by_one_due \
                or sender.waits() or memory.immutable and length >= ZEROCOPY_MINIMUM:
            return enqueue(sender, owner, memory, address, address_length)
        these.segment = length
        these.total = 0
        these.pieces = 0
        these.lent = memory.lent
        these.all_immutable = True
        these.address = address
        these.address_length = address_length
    if these.pieces and end_of(&these.vectors[these.pieces - 1]) == memory.base and (
            not memory.lent or are_of_one(owner, <object>these.owners[these.count - 1])):
        these.vectors[these.pieces - 1].iov_len += length
    else:
        these.vectors[these.pieces].iov_base = memory.base
        these.vectors[these.pieces].iov_len = length
        these.pieces += 1
    these.owners[these.count] = <PyObject*>owner
    these.immutable[these.count] = memory.immutable
    these.all_immutable = these.all_immutable and memory.immutable
    these.count += 1
    these.total += length
    return 0


cdef inline bint are_of_one(object one, object other) noexcept:
    """Whether leases are of one pool; two may happen to lie side by side."""
    return (<LentMemory>one).registration is (<LentMemory>other).registration


cdef inline char* end_of(iovec* vector) noexcept:
    return <char*>vector.iov_base + vector.iov_len


cdef int send_gathered(gathering* these, DatagramSender sender) except -1:
    """Send what has been gathered, or queue it."""
    transport = <DatagramTransport>sender.transport
    cdef Counters counters = transport.loop.counters
    cdef int error
    if these.count == 0:
        return 0
    if these.count == 1 or sender.waits() or transport.loop.closing \
            or sender.is_refused(these.segment, these.address, these.address_length) \
            or not sender.segments_allowed():
        return enqueue_gathered(these, sender)
    if these.pieces == 1 and these.all_immutable \
            and (these.lent or these.total >= ZEROCOPY_MINIMUM) \
            and sender.goes_zerocopy(
                these.vectors[0].iov_base, these.total, these.segment, these.lent,
                these.address, these.address_length):
        return enqueue_gathered(these, sender)
    if sender.queue is not NULL:
        sender.send_queued()
        if sender.queue is not NULL or sender.waits() or not transport.has_socket():
            return enqueue_gathered(these, sender)
    error = send_pieces(transport._sock_fd, these.vectors, these.pieces, these.segment,
                        these.address, these.address_length)
    if error == 0:
        counters.datagrams_sent += these.count
        counters.datagrams_gathered += these.count
        these.count = 0
        return 0
    if error == EAGAIN or error == EINTR:
        sender.room = FULL
    elif is_refusal(error, transport._sock_fd, 0):
        refused(&sender.segments, these.count, error)
    elif not sender.is_of_before(error):
        first_failed(these, sender, error)
    return enqueue_gathered(these, sender)


cdef int first_failed(gathering* these, DatagramSender sender, int error) except -1:
    """An error that waited in the socket for the next datagram, which this is."""
    transport = <DatagramTransport>sender.transport
    cdef size_t length = min(these.segment, these.total)
    transport.loop.counters.datagrams_dropped += 1
    transport.delivery.post_error(sender.error_of(error, length))
    these.vectors[0].iov_base = <char*>these.vectors[0].iov_base + length
    these.vectors[0].iov_len -= length
    these.total -= length
    these.count -= 1
    memmove(&these.owners[0], &these.owners[1], these.count * sizeof(PyObject*))
    memmove(&these.immutable[0], &these.immutable[1], these.count * sizeof(flag))
    return 0


cdef int enqueue_gathered(gathering* these, DatagramSender sender) except -1:
    """Queue each behind those that wait; what is one piece of memory is queued as a train."""
    if these.pieces == 1 and these.count > 1 and (these.lent or have_one_owner(these)) \
            and not (<DatagramTransport>sender.transport).loop.closing:
        return enqueue_train(these, sender)
    cdef unsigned piece = 0, i, count = these.count
    cdef payload part
    cdef iovec left = these.vectors[0]
    these.count = 0
    part.lent = these.lent
    for i in range(count):
        if left.iov_len == 0:
            piece += 1
            left = these.vectors[piece]
        part.base = <char*>left.iov_base
        part.length = min(these.segment, left.iov_len)
        part.immutable = these.immutable[i]
        enqueue(sender, <object>these.owners[i], &part, these.address, these.address_length)
        left.iov_base = part.base + part.length
        left.iov_len -= part.length
    return 0


cdef bint have_one_owner(gathering* these) noexcept:
    cdef unsigned i
    for i in range(1, these.count):
        if these.owners[i] != these.owners[0]:
            return False
    return these.all_immutable


cdef int enqueue_train(gathering* these, DatagramSender sender) except -1:
    """One operation; of leases it holds all."""
    cdef unsigned i, count = these.count
    cdef size_t length
    cdef payload first
    first.base = <char*>these.vectors[0].iov_base
    first.length = min(these.segment, these.total)
    first.immutable = True
    first.lent = these.lent
    these.count = 0
    sender.append(<object>these.owners[0], &first, these.segment, these.address,
                  these.address_length, None)
    for i in range(1, count):
        # Held first: what is sent is held at any time.
        if these.owners[i] != these.owners[i - 1]:
            hold_too(sender.last, <LentMemory>these.owners[i])
        length = min(these.segment, these.total - sender.last.length)
        sender.last.length += length
        sender.buffered += length + HEADER
    if sender.queued > TRAINS_LIMIT and not sender.waits():
        sender.send_queued()
    return 0


cdef int enqueue(DatagramSender sender, object owner, payload* memory,
                 sockaddr_storage* address, uint32_t address_length) except -1:
    cdef payload kept = memory[0]
    if (<DatagramTransport>sender.transport).loop.closing:
        # The socket may outlive the loop: a last message leaves, at once.
        return sender.send_now(owner, &kept, address, address_length)
    if not kept.immutable:
        owner = PyBytes_FromStringAndSize(kept.base, kept.length)
        kept.base = owner
        kept.immutable = True
    sender.enqueue(owner, &kept, address, address_length, None)
    if sender.queued >= QUEUE_LIMIT and not sender.waits():
        sender.send_queued()
    return 0


cdef int end_batch(gathering* these, DatagramSender sender) except -1:
    """All have been gathered: what is left of them leaves, and errors are told."""
    transport = <DatagramTransport>sender.transport
    send_gathered(these, sender)
    sender.send_queued()
    sender.flush_if_full()
    transport.delivery.tell_failures(False)
    return sender.maybe_pause_full()
