"""The ring: made, filled, entered, drained and closed."""
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from uringloop.ring.operations cimport OperationOwner, OperationTable, operation
from uringloop.ring.abi cimport __kernel_timespec, io_uring, io_uring_cqe, io_uring_sqe


cdef enum:
    BATCH = 256              # completions taken from the ring at once


cdef class Ring:
    cdef:
        io_uring ring
        io_uring_cqe* cqes         # taken out of the ring and not yet settled
        size_t count                  # of them
        size_t room                   # for them
        size_t cq_entries
        bint sends_prepared             # requests are prepared that complete when submitted
        readonly bint is_open
        readonly uint32_t ring_id
        readonly unsigned setup_flags
        unsigned long thread          # that owns it; 0: it is not enabled yet
        int generation                # of fork()
        OperationTable operations
        # registered files; the first is the marker
        readonly unsigned slot_count
        readonly unsigned slots_used  # from this one on none was ever used
        uint16_t* free_slots          # used before
        unsigned free_slot_count
        unsigned free_slot_room
        readonly bint has_marker       # its death will be seen
        bint settling                 # completions are being handed to their owners
        unsigned busy_poll_ns             # nanoseconds to look for completions before sleeping
        int spin_credit                      # how well that went lately
        unsigned waits_without_spin                 # waits since it was last tried
        bint ring_fd_registered                 # the thread's own table has it
        object __weakref__
        list keepalive                # what the kernel may write to: buffer rings
        # statistics
        readonly uint64_t syscalls
        readonly uint64_t submissions
        readonly uint64_t completions
        readonly uint64_t overflows
        readonly uint64_t busy_polls
        readonly uint64_t busy_poll_hits

    cdef int set_up(self, int marker, unsigned busy_poll_ns) except -1
    cdef int enable(self) except -1
    cdef void exit_queue(self) noexcept
    cdef bint has_work(self) noexcept
    cdef bint has_unsettled(self) noexcept
    cdef unsigned sqes_left(self, unsigned wanted) except? 0
    cdef io_uring_sqe* prepare(
        self, operation* op, int opcode, int fd, unsigned flags, unsigned traits) except NULL
    cdef int fetch(self, bint everything) except -1
    cdef int settle_batch(self) except -1
    cdef int settle_sends(self, OperationOwner owner) except -1
    cdef int settle_sends_of(self, OperationOwner owner) except -1
    cdef int cancel(self, operation* op) except -1
    cdef int submit(self) except -1
    cdef int submit_and_get_events(self) except -1
    cdef int submit_sends(self, OperationOwner owner, unsigned count) except -1
    cdef int poll(self) except -1
    cdef int recheck_taskrun(self) except -1
    cdef int wait(self, double timeout) except -1
    cdef int submit_and_settle(self) except -1
    cdef bint try_spin(self, double timeout) except -1
    cdef bint may_spin(self, double timeout) noexcept
    cdef bint spin(self) except -1
    cdef void register_ring_fd(self) noexcept
    cdef void unregister_ring_fd(self) noexcept
    cdef void spin_was_futile(self) noexcept
    cdef int take(self) except -1
    cdef int settle_all(self) except -1
    cdef int make_room(self) except -1
    cdef int check(self, int code) except -1
    cdef bint is_open_here(self) noexcept
    cdef int check_owner(self) except -1
    cdef int check_open(self) except -1
    cdef list settle_without_entering(self)
    cdef int register_table(self, int marker) except? -1
    cdef int register_file(self, int fd) except -2
    cdef int unregister_file(self, int slot) except -1
