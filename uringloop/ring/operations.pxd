"""Operations: what the kernel has been asked to do, and what it may still touch."""
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from uringloop.ring.abi cimport iovec, msghdr, sockaddr_storage
from uringloop.ring.payloads cimport payload
from uringloop.ring.registered_memory cimport LentMemory


# A bint of one byte, where there are many of a thing.
ctypedef uint8_t flag


cdef enum Due:
    RESULT_DUE = 1   # the completion that carries the result
    NOTIF_DUE = 2    # the notification that the kernel has let go of the memory
    ORPHANED = 4     # its ring is closed and not yet known to be torn down


cdef enum Trait:
    ZEROCOPY = 1     # a notification may follow the result
    MULTISHOT = 2    # completes many times, until one without F_MORE
    FOLLOWER = 4     # linked behind another operation of its chain
    EXPLICIT = 8     # the caller asked for zero-copy
    UNREPORTED = 64  # its ring is gone: nobody will say whether the kernel copied
    SEND = 16        # its result is wanted at once: see Ring.submit_sends
    MEMORY = 32      # the kernel holds pointers into memory that is ours
    LENT = 128       # ``data`` is LentMemory, whose owner wants it back
    REGISTERED = 256  # from a registered buffer
    FELL_BACK = 512  # zero-copy was refused: it leaves otherwise
    RETRIED = 1024   # another operation sends the same
    LOOPS_OWN = 2048  # on a descriptor of the loop's own
    MESSAGE = 4096   # ``message`` has flags, and control messages, that it is sent with
    NOTIFIED = 8192  # the notification has come before the result


cdef enum Role:
    # What an operation is for, of the transport that owns it.
    SENDS = 0
    POLL_IN = 1      # a poll that waits for something to read
    POLL_OUT = 2     # one that waits for room


cdef struct operation:
    uint32_t index
    uint32_t generation
    uint32_t ring_id          # number of the ring it was given to
    uint8_t due
    uint8_t role
    flag compact              # has nothing from ``sent`` on
    flag copied               # what the notification said
    uint16_t traits
    uint16_t segment_size     # of a train; 0: one datagram
    int status                # the owner's own
    uint32_t address_length
    PyObject* owner           # an OperationOwner; strong
    PyObject* data            # keeps the payload's memory alive; strong or NULL
    PyObject* future          # strong or NULL
    char* base
    size_t length
    operation* next           # the owner's queue, or the free list
    size_t sent               # bytes before ``base``: of a train that leaves piece by piece
    sockaddr_storage address
    msghdr message
    iovec vector
    uint64_t control[3]       # one message with a number of 16 bits


cdef class OperationOwner:
    """What owns operations: told of each completion, later run by the loop."""
    cdef int result(self, operation* op, int res, uint32_t flags) except -1
    cdef int notified(self, operation* op) except -1
    cdef int orphaned(self, operation* op) except -1
    cdef int deliver(self) except -1
    cdef int flush(self) except -1
    cdef int loop_closed(self) except -1
    cdef int internal_error(self, object exc) except -1
    cdef int send_deferred(self) except -1
    cdef int looked_at(self, bint readable) except -1


cdef class OperationTable:
    cdef:
        object collectable              # makes the type one that the collector knows
        operation** slots
        uint32_t capacity
        Py_ssize_t trimmed_below        # so many live: look whether chunks can be given back
        uint32_t first_generation       # of operations that are made now
        operation* free
        operation* free_compact
        Py_ssize_t live                 # acquired and not yet released
        Py_ssize_t in_flight            # with a completion due
        size_t pinned                   # bytes in use by zero-copy sends
        Py_ssize_t unknown              # completions of no known operation

    cdef operation* acquire(self, OperationOwner owner) except NULL
    cdef operation* acquire_send(
        self, OperationOwner owner, object data, payload* memory,
        const sockaddr_storage* address, uint32_t address_length, object future) except NULL
    cdef operation* acquire_compact(self, OperationOwner owner) except NULL
    cdef operation* pop_free(self, operation** free_list, OperationOwner owner) noexcept
    cdef void begin(self, operation* op, uint32_t ring_id, unsigned traits) noexcept
    cdef int settle(self, uint64_t user_data, int res, uint32_t flags) except -1
    cdef void release(self, operation* op) noexcept
    cdef operation* clone_for_retry(self, operation* op) except NULL
    cdef operation* find(self, uint64_t user_data) noexcept
    cdef int let_go(self, operation* op) except -1
    cdef void unpin(self, operation* op) noexcept
    cdef void take_back(self, operation* op) noexcept
    cdef void done(self, operation* op) noexcept
    cdef int grow(self, bint compact) except -1
    cdef void free_chunk(self, uint32_t begin) noexcept
    cdef void trim(self) noexcept
    cdef bint is_unused(self, uint32_t chunk) noexcept
    cdef list ring_closed(self, uint32_t ring_id, bint torn_down)
    cdef bint ring_holds_memory(self, uint32_t ring_id) noexcept
    cdef bint ring_holds_files(self, uint32_t ring_id) noexcept
    cdef bint orphans_awaited(self, uint32_t ring_id) except -1
    cdef int release_orphans(self, uint32_t ring_id) except -1
    cdef dict counters(self)


cdef enum:
    KEPT_OPERATIONS = 4096          # more than a megabyte


cdef inline void trim_operations(OperationTable these) noexcept:
    """To be called when there is nothing else to do, and nobody has an operation in hand."""
    if these.live < these.trimmed_below and these.capacity > KEPT_OPERATIONS:
        these.trim()


cdef inline uint64_t user_data(operation* op) noexcept:
    return (<uint64_t>op.generation << 32) | op.index


# Completions that nobody waits for: cancel requests.
cdef enum:
    UNTRACKED = 0


cdef int give_back(LentMemory memory) except? -1
