"""Operations: what the kernel has been asked to do, and what it may still touch.

An operation owns all that the kernel may read or write on its behalf: the
payload (through a reference), and the msghdr and socket address, which
lie inside it.  Up to two completions of it are *due*: the one with the result,
and for a zero-copy send the notification that follows.  ``release`` is the one
place where the references are dropped, and it is reached only when none is due
any more, whatever user code has cancelled, closed or forgotten meanwhile.
"""
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_INCREF
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy
from posix.mman cimport munmap

from uringloop._cpython cimport replace_traverse, traverseproc, visitproc
from uringloop.ring.abi cimport ECANCELED, IORING_CQE_F_MORE, IORING_CQE_F_NOTIF
from uringloop.ring.mapped cimport mapped
from uringloop.ring.payloads cimport payload
from uringloop.ring.registered_memory cimport LentMemory

# Operations are made by the chunk.
cdef uint32_t CHUNK = 64

cdef operation measure
cdef size_t COMPACT = <char*>&measure.sent - <char*>&measure


cdef inline size_t size_of(bint compact) noexcept:
    return COMPACT if compact else sizeof(operation)


cdef class OperationOwner:

    cdef int result(self, operation* op, int res, uint32_t flags) except -1:
        """A completion with a result.  Completions are being settled: no user code may run."""
        raise NotImplementedError

    cdef int notified(self, operation* op) except -1:
        """The kernel has let go of the memory of a zero-copy send.  As in ``result``."""
        return 0

    cdef int orphaned(self, operation* op) except -1:
        """The ring of ``op`` is closed, and its memory is kept until that is torn down."""
        return 0

    cdef int deliver(self) except -1:
        """Called as a callback is, after ``push``."""
        return 0

    cdef int flush(self) except -1:
        """Called before the kernel is entered, after ``flush_soon``: send, prepare submissions."""
        return 0

    cdef int loop_closed(self) except -1:
        """The loop is closed: let go of what is not yet submitted."""
        return 0

    cdef int internal_error(self, object exc) except -1:
        """What one of these has failed with.  No user code may run."""
        raise exc

    cdef int looked_at(self, bint readable) except -1:
        """Whether a socket that was asked about has something; see ``core.short_reads``."""
        return 0

    cdef int send_deferred(self) except -1:
        """Send what waits for the end of the turn: what comes next could tell the difference."""
        return 0

    def _deliver(self):
        # What those who look into the ready queue are shown as its callback.
        self.deliver()


cdef class OperationTable:
    """All operations of one loop, addressed by slot number and generation.

    What an operation refers to is shown to the garbage collector, so that a
    loop which was dropped without ``close()`` is found: its finalizer then
    closes it, and the kernel has let go before anything is cleared.  What is
    orphaned is not shown: it stays, whatever the collector thinks.
    """

    def __cinit__(self):
        self.first_generation = 1

    def __dealloc__(self):
        # Only reached when nothing is live: every live operation's owner
        # holds the loop, and the table of an orphaned one is in ``orphaned_rings``.
        cdef uint32_t i
        for i in range(0, self.capacity, CHUNK):
            self.free_chunk(i)
        free(self.slots)

    cdef int grow(self, bint compact) except -1:
        cdef:
            uint32_t i
            operation* op
            operation** free_list = &self.free_compact if compact else &self.free
            size_t size = size_of(compact)
            char* chunk
            operation** slots = <operation**>realloc(
                self.slots, (self.capacity + CHUNK) * sizeof(operation*))
        if slots is NULL:
            raise MemoryError
        self.slots = slots
        # Chunks never move: the kernel reads msghdr and address in place.
        if self.capacity < KEPT_OPERATIONS:
            chunk = <char*>calloc(CHUNK, size)
            if chunk is NULL:
                raise MemoryError
        else:
            # What is to be given back: at the top of the heap the least thing would hold all of it.
            chunk = <char*>mapped(CHUNK * size)
        for i in range(CHUNK, 0, -1):
            op = <operation*>(chunk + (i - 1) * size)
            slots[self.capacity + i - 1] = op
            op.index = self.capacity + i - 1
            op.generation = self.first_generation
            op.compact = compact
            op.next = free_list[0]
            free_list[0] = op
        self.capacity += CHUNK
        self.trimmed_below = self.capacity // 4
        return 0

    cdef void free_chunk(self, uint32_t begin) noexcept:
        cdef operation* first = self.slots[begin]
        if begin < KEPT_OPERATIONS:
            free(first)
        else:
            munmap(first, CHUNK * size_of(first.compact))

    cdef void trim(self) noexcept:
        """Give back what a flood took: chunks at the end of which nothing is live."""
        cdef uint32_t end = self.capacity, i
        cdef operation* op
        # Again when half of these are gone, so that it costs little where one stays at the end.
        self.trimmed_below = self.live // 2
        while end > KEPT_OPERATIONS and self.is_unused(end - CHUNK):
            end -= CHUNK
            for i in range(end, end + CHUNK):
                # What the kernel may still say of one of these is not taken for a later one's.
                self.first_generation = max(self.first_generation, self.slots[i].generation)
            self.free_chunk(end)
        self.capacity = end
        self.free = self.free_compact = NULL
        for i in range(end, 0, -1):
            op = self.slots[i - 1]
            if op.owner is NULL and op.compact:
                op.next = self.free_compact
                self.free_compact = op
            elif op.owner is NULL:
                op.next = self.free
                self.free = op

    cdef bint is_unused(self, uint32_t chunk) noexcept:
        cdef uint32_t i
        for i in range(chunk, chunk + CHUNK):
            if self.slots[i].owner is not NULL:
                return False
        return True

    cdef operation* acquire(self, OperationOwner owner) except NULL:
        """A fresh operation of ``owner``, not yet known to the kernel."""
        if self.free is NULL:
            self.grow(False)
        return self.pop_free(&self.free, owner)

    cdef operation* acquire_send(
            self, OperationOwner owner, object data, payload* memory,
            const sockaddr_storage* address, uint32_t address_length, object future) except NULL:
        """The same, to send ``memory``, which ``data`` keeps alive.

        ``future``: of whoever waits until the memory is free again, or None.
        """
        cdef operation* op = self.acquire(owner)
        memcpy(&op.address, address, address_length)
        op.address_length = address_length
        Py_INCREF(data)
        op.data = <PyObject*>data
        op.base = memory.base
        op.length = memory.length
        op.sent = 0
        if memory.lent:
            op.traits = LENT
            (<LentMemory>data).uses += 1
        if future is not None:
            Py_INCREF(future)
            op.future = <PyObject*>future
        return op

    cdef operation* acquire_compact(self, OperationOwner owner) except NULL:
        """The same without room for a message and an address, a third as long.

        An idle connection has one of these: its poll.
        """
        if self.free_compact is NULL:
            self.grow(True)
        return self.pop_free(&self.free_compact, owner)

    cdef operation* pop_free(self, operation** free_list, OperationOwner owner) noexcept:
        cdef operation* op = free_list[0]
        free_list[0] = op.next
        op.next = NULL
        op.traits = 0
        op.role = 0
        op.copied = False
        op.status = 0
        op.address_length = 0
        op.segment_size = 0
        Py_INCREF(owner)
        op.owner = <PyObject*>owner
        self.live += 1
        return op

    cdef void begin(self, operation* op, uint32_t ring_id, unsigned traits) noexcept:
        """The operation is in the submission queue: from now on its completions are due."""
        assert op.due == 0
        op.ring_id = ring_id
        op.traits |= traits
        op.due = RESULT_DUE
        if op.traits & ZEROCOPY:
            op.due |= NOTIF_DUE
            self.pinned += op.length
        self.in_flight += 1

    cdef void take_back(self, operation* op) noexcept:
        """It is out of the submission queue again: the kernel has not seen it."""
        if op.due & NOTIF_DUE:
            self.unpin(op)
        op.due = 0
        op.traits &= ~<uint16_t>(MEMORY | SEND | ZEROCOPY | FOLLOWER | REGISTERED)
        self.in_flight -= 1

    cdef operation* find(self, uint64_t user_data) noexcept:
        cdef uint32_t index = <uint32_t>user_data
        cdef operation* op
        if index >= self.capacity:
            return NULL
        op = self.slots[index]
        if op.generation != user_data >> 32 or op.due == 0:
            return NULL
        return op

    cdef int settle(self, uint64_t user_data, int res, uint32_t flags) except -1:
        """One completion: it is no longer due; tell the owner, and release when none is."""
        cdef operation* op = self.find(user_data)
        if op is NULL:
            # A send that was refused for want of memory says that no notification follows,
            # and yet one does (6.18).
            self.unknown += not flags & IORING_CQE_F_NOTIF
            return 0
        try:
            # Before anything else: a notification's res is 0x80000000, negative,
            # when the kernel copied.  It never is an errno.
            if flags & IORING_CQE_F_NOTIF:
                op.copied = res != 0
                if op.due & RESULT_DUE:
                    # Which of the two comes first the kernel does not promise.  Owners are told
                    # as if it were the result: with that they decide what becomes of the send.
                    op.traits |= NOTIFIED
                else:
                    self.let_go(op)
            else:
                if not (op.traits & MULTISHOT and flags & IORING_CQE_F_MORE):
                    op.due &= ~RESULT_DUE
                if op.due & NOTIF_DUE and not flags & IORING_CQE_F_MORE:
                    # Some preparation errors never notify.  But a send that was
                    # cancelled because its chain failed says ECANCELED without
                    # F_MORE, and its notification comes in a later turn (6.18).
                    if not (res == -ECANCELED and op.traits & FOLLOWER):
                        self.unpin(op)
                self.done(op)
                try:
                    (<OperationOwner>op.owner).result(op, res, flags)
                finally:
                    if op.traits & NOTIFIED and op.due & NOTIF_DUE:
                        self.let_go(op)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            # MemoryError, most likely: the end of that owner, not of the loop.
            if op.future is not NULL and op.due == 0 and not (<object>op.future).done():
                (<object>op.future).set_exception(exc)
            (<OperationOwner>op.owner).internal_error(exc)
        finally:
            if op.due == 0:
                self.release(op)
        return 0

    cdef int let_go(self, operation* op) except -1:
        """The kernel has let go of the memory."""
        self.unpin(op)
        self.done(op)
        return (<OperationOwner>op.owner).notified(op)

    cdef void unpin(self, operation* op) noexcept:
        op.due &= ~NOTIF_DUE
        self.pinned -= op.length

    cdef void done(self, operation* op) noexcept:
        if op.due == 0:
            self.in_flight -= 1

    cdef void release(self, operation* op) noexcept:
        """The one place where an operation lets go of memory and references."""
        cdef PyObject* owner = op.owner
        cdef PyObject* data = op.data
        cdef PyObject* future = op.future
        cdef bint lent = op.traits & LENT != 0
        assert op.due == 0
        op.owner = op.data = op.future = NULL
        op.base = NULL
        op.length = 0
        op.generation += 1
        if op.generation == 0:
            op.generation = 1       # with slot 0 it would say UNTRACKED
        if op.compact:
            op.next = self.free_compact
            self.free_compact = op
        else:
            op.next = self.free
            self.free = op
        self.live -= 1
        # Last: these may run destructors, which may come back for operations.
        Py_CLEAR(future)
        try:
            if lent:
                give_back(<LentMemory>data)
        finally:
            Py_CLEAR(data)
            Py_CLEAR(owner)

    cdef operation* clone_for_retry(self, operation* op) except NULL:
        """A fresh operation with the payload and address of ``op``, whose future it takes over.

        ``op`` keeps its own reference to the payload: its notification may
        be still to come.
        """
        cdef operation* again = self.acquire(<OperationOwner>op.owner)
        again.data = op.data
        if again.data is not NULL:
            Py_INCREF(<object>again.data)
        again.future = op.future
        op.future = NULL
        again.base = op.base
        again.length = op.length
        again.sent = op.sent
        again.segment_size = op.segment_size
        again.traits = op.traits & (EXPLICIT | LENT | FELL_BACK)
        if op.traits & LENT:
            (<LentMemory>op.data).uses += 1
        again.address_length = op.address_length
        memcpy(&again.address, &op.address, op.address_length)
        return again

    cdef list ring_closed(self, uint32_t ring_id, bint torn_down):
        """The ring number ``ring_id`` is closed: nothing of it will complete any more.

        Owners hear ECANCELED, as from a cancelled operation.  Memory is
        released at once only if the ring is ``torn_down``; otherwise the
        operation is kept, until ``release_orphans``, and whoever waits for its
        notification waits as long.  Returns the exceptions met.
        """
        cdef uint32_t i, capacity = self.capacity
        cdef operation* op
        cdef bint due
        problems = []
        for i in range(capacity):
            op = self.slots[i]
            if op.due == 0 or op.due & ORPHANED or op.ring_id != ring_id:
                continue
            due = op.due & RESULT_DUE
            if op.due & NOTIF_DUE:
                self.unpin(op)
            op.due = 0 if torn_down else ORPHANED
            op.traits |= UNREPORTED
            self.in_flight -= 1
            try:
                if due:
                    (<OperationOwner>op.owner).result(op, -ECANCELED, 0)
                elif torn_down:
                    (<OperationOwner>op.owner).notified(op)
                else:
                    (<OperationOwner>op.owner).orphaned(op)
            except BaseException as exc:
                problems.append(exc)
            if torn_down:
                self.release(op)
        return problems

    cdef bint ring_holds_memory(self, uint32_t ring_id) noexcept:
        """Whether an operation of the ring number ``ring_id`` points into our memory."""
        cdef uint32_t i
        cdef operation* op
        for i in range(self.capacity):
            op = self.slots[i]
            if op.due and op.ring_id == ring_id and op.traits & MEMORY:
                return True
        return False

    cdef bint ring_holds_files(self, uint32_t ring_id) noexcept:
        """Whether one of its operations holds a file that is not the loop's own."""
        cdef uint32_t i
        cdef operation* op
        for i in range(self.capacity):
            op = self.slots[i]
            if op.due and op.ring_id == ring_id and not op.traits & LOOPS_OWN:
                return True
        return False

    cdef bint orphans_awaited(self, uint32_t ring_id) except -1:
        """Whether somebody waits for the notification of an orphaned operation."""
        cdef uint32_t i
        cdef operation* op
        for i in range(self.capacity):
            op = self.slots[i]
            if op.due & ORPHANED and op.ring_id == ring_id and op.future is not NULL \
                    and not (<object>op.future).done():
                return True
        return False

    cdef int release_orphans(self, uint32_t ring_id) except -1:
        """The ring number ``ring_id`` is known to be torn down: release its orphaned operations."""
        cdef uint32_t i
        cdef operation* op
        for i in range(self.capacity):
            op = self.slots[i]
            if op.due & ORPHANED and op.ring_id == ring_id:
                op.due = 0
                try:
                    if op.future is not NULL:
                        (<OperationOwner>op.owner).notified(op)
                finally:
                    self.release(op)
        return 0

    cdef dict counters(self):
        """What the table has counted, by the names of ``Loop.stats()``."""
        return {
            'operations_live': self.live,
            'operations_in_flight': self.in_flight,
            'bytes_pinned': self.pinned,
            'unknown_completions': self.unknown,
        }


cdef int give_back(LentMemory memory) except? -1:
    memory.uses -= 1
    return memory.unused() if memory.uses == 0 else 0


cdef int visit_operations(PyObject* self, visitproc visit, void* arg) noexcept:
    # It takes no reference: to give that back would free an object that is being freed.
    cdef operation** slots = (<OperationTable>self).slots
    cdef uint32_t i, capacity = (<OperationTable>self).capacity
    cdef operation* op
    cdef int code = traverse_fields(self, visit, arg)
    for i in range(capacity):
        op = slots[i]
        if code or op.owner is NULL or op.due & ORPHANED:
            continue
        code = visit(op.owner, arg)
        if not code and op.data is not NULL:
            code = visit(op.data, arg)
        if not code and op.future is not NULL:
            code = visit(op.future, arg)
    return code


cdef traverseproc traverse_fields = replace_traverse(OperationTable, visit_operations)
