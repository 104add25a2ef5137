"""The ring: made, filled, entered, drained and closed."""
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from uringloop.ring.operations cimport Completer, OperationTable, operation
from uringloop.ring.abi cimport __kernel_timespec, io_uring, io_uring_cqe, io_uring_sqe


cdef enum:
    BATCH = 256              # completions taken from the ring at once


cdef class Ring:
    cdef:
        io_uring ring
        io_uring_cqe* fetched         # taken out of the ring and not yet settled
        size_t count                  # of them
        size_t room                   # for them
        size_t cq_entries
        bint done_at_once             # requests are prepared that complete when submitted
        readonly bint is_open
        readonly uint32_t era
        readonly unsigned setup_flags
        unsigned long thread          # that owns it; 0: it is not enabled yet
        int generation                # of fork()
        OperationTable operations
        # registered files; the first is the certificate
        readonly unsigned slot_count
        readonly unsigned slots_used  # from this one on none was ever used
        uint16_t* free_slots          # used before
        unsigned free_slot_count
        unsigned free_slot_room
        readonly bint certified       # its death will be seen
        bint settling                 # completions are being handed to their owners
        unsigned patience             # nanoseconds to look for completions before sleeping
        int luck                      # how well that went lately
        unsigned naps                 # waits since it was last tried
        bint resident                 # the thread's own table has it
        object __weakref__
        list keepalive                # what the kernel may write to: buffer rings
        # statistics
        readonly uint64_t syscalls
        readonly uint64_t submissions
        readonly uint64_t completions
        readonly uint64_t overflows
        readonly uint64_t busy_polls
        readonly uint64_t busy_poll_hits

    cdef int set_up(self, int certificate, unsigned patience) except -1
    cdef int enable(self) except -1
    cdef void give_up(self) noexcept
    cdef bint has_work(self) noexcept
    cdef bint has_unread(self) noexcept
    cdef unsigned reserve(self, unsigned wanted) except? 0
    cdef io_uring_sqe* prepare(
        self, operation* op, int opcode, int fd, unsigned flags, unsigned traits) except NULL
    cdef int fetch(self, bint everything) except -1
    cdef int settle_batch(self) except -1
    cdef int settle_sends(self, Completer owner) except -1
    cdef int settle_those_of(self, Completer owner) except -1
    cdef int cancel(self, operation* op) except -1
    cdef int submit(self) except -1
    cdef int submit_and_get_events(self) except -1
    cdef int submit_sends(self, Completer owner, unsigned count) except -1
    cdef int poll(self) except -1
    cdef int look_again(self) except -1
    cdef int wait(self, double timeout) except -1
    cdef int submit_and_take(self) except -1
    cdef bint look(self, double timeout) except -1
    cdef bint may_spin(self, double timeout) noexcept
    cdef bint spin(self) except -1
    cdef void settle_down(self) noexcept
    cdef void move_out(self) noexcept
    cdef void count_as_missed(self) noexcept
    cdef int take(self) except -1
    cdef int take_all(self) except -1
    cdef int make_room(self) except -1
    cdef int check(self, int code) except -1
    cdef bint is_usable(self) noexcept
    cdef int usable(self) except -1
    cdef int alive(self) except -1
    cdef list take_quietly(self)
    cdef int register_table(self, int certificate) except? -1
    cdef int register_file(self, int fd) except -2
    cdef int unregister_file(self, int slot) except -1
