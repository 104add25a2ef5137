"""Groups of provided buffers: the memory that a loop's transports receive into.

The transports of one kind share a group, which is made when one of them first receives.
A page of each group counts as locked memory, which may be used up, or given up by the
program after it has made the loop.  Where there is none, it is asked for again after a while.
"""
cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize

from uringloop.core.clock cimport monotonic
from uringloop.ring.buffers cimport ReceiveBuffers
from uringloop.ring.features cimport features
from uringloop.ring.ring cimport Ring


cdef double AGAIN = 1.0              # seconds after which there may be memory again

cdef enum:
    DATAGRAM_BUFFERS = 256           # of 66 KB: the memory is touched only as it is needed
    LOCAL_BUFFERS = 16               # AF_UNIX datagrams may be much longer
    STREAM_BUFFERS = 256
    HEADROOM = 256                   # address and control messages
    HOT_BUFFERS = 4
    RESERVE = 262144                 # as much as asyncio's loop asks for each time it receives


@cython.final
cdef class BufferGroups:
    """The groups of one ring."""

    cdef ReceiveBuffers find(self, BufferGroup group):
        """The buffers of this group; None: they are not made yet."""
        if group == STREAM:
            return self.stream
        return self.datagram if group == DATAGRAM else self.local

    cdef ReceiveBuffers make(self, BufferGroup group, Ring ring):
        """The same, which are made now; None: there is no memory for them."""
        if not features.multishot or self.is_short():
            return None
        try:
            if group == STREAM:
                self.stream = ReceiveBuffers(
                    ring, group, STREAM_BUFFERS, 65536, HOT_BUFFERS, True)
            elif group == DATAGRAM:
                self.datagram = ReceiveBuffers(
                    ring, group, DATAGRAM_BUFFERS, 65536 + HEADROOM, HOT_BUFFERS, False)
            else:
                self.local = ReceiveBuffers(
                    ring, group, LOCAL_BUFFERS, 262144 + HEADROOM, LOCAL_BUFFERS, False)
        except (MemoryError, OSError):
            self.retry_at = monotonic() + AGAIN
        return self.find(group)

    cdef object new_reserve(self):
        """Memory that is not touched, to be let go of when there is no other; None: there is none.

        It is for the program, when memory runs out and a transport ends: asyncio's loop asks
        for as much each time it receives, and so leaves as much.
        """
        if self.is_short():
            return None
        try:
            return PyBytes_FromStringAndSize(NULL, RESERVE)
        except MemoryError:
            self.retry_at = monotonic() + AGAIN
            return None

    cdef bint is_short(self) noexcept:
        """Whether there was no memory a moment ago."""
        return self.retry_at != 0 and monotonic() < self.retry_at

    cdef void forget(self) noexcept:
        """The ring is closed, and its groups with it."""
        self.datagram = self.local = self.stream = None
        self.retry_at = 0
