"""The ring: made, submitted to, settled and closed."""
cimport cython
from libc.stdint cimport uint32_t, uint64_t

from uringloop.ring.abi cimport io_uring, io_uring_sqe
from uringloop.ring.completions cimport completions
from uringloop.ring.operations cimport OperationOwner, OperationTable, operation
from uringloop.ring.registered_files cimport RegisteredFiles
from uringloop.ring.registered_memory cimport LentMemory, RegisteredBuffers, Registration
from uringloop.ring.spin_budget cimport SpinBudget


@cython.final
cdef class Ring:
    cdef:
        io_uring ring
        completions unsettled
        readonly RegisteredFiles files
        RegisteredBuffers buffers
        SpinBudget spin_budget
        size_t cq_entries
        bint sends_prepared           # requests are prepared that complete when submitted
        bint is_open
        uint32_t ring_id
        unsigned setup_flags
        unsigned long thread          # that owns it; 0: it is not enabled yet
        int generation                # of fork()
        OperationTable operations
        bint settling                 # completions are being handed to their owners
        bint restricted               # to what a loop asks for
        bint ring_fd_registered       # the thread's own table has it
        object __weakref__
        uint64_t syscalls
        uint64_t submissions
        uint64_t overflows            # of the completion queue

    cdef int set_up(self, int marker, unsigned busy_poll_ns) except -1
    cdef int enable(self) except -1
    cdef void exit_queue(self) noexcept
    cdef bint has_work(self) noexcept
    cdef bint has_unsettled(self) noexcept
    cdef unsigned sqes_left(self, unsigned wanted) except? 0
    cdef io_uring_sqe* prepare(
        self, operation* op, int opcode, int fd, unsigned flags, unsigned traits) except NULL
    cdef int settle_sends(self, OperationOwner owner) except -1
    cdef int cancel(self, operation* op) except -1
    cdef int cancel_whatever_there_is(self) except -1
    cdef int submit(self) except -1
    cdef int submit_and_get_events(self) except -1
    cdef int submit_sends(self, OperationOwner owner, unsigned count) except -1
    cdef int submit_chain(self, OperationOwner owner, unsigned count, unsigned* left) except -1
    cdef int enter_for_sends(self, unsigned count) except? -1
    cdef int poll(self) except -1
    cdef int recheck_taskrun(self) except -1
    cdef int wait(self, double timeout, unsigned count=*) except -1
    cdef int submit_and_settle(self) except -1
    cdef bint try_spin(self, double timeout) except -1
    cdef bint spin(self) except -1
    cdef void register_ring_fd(self) noexcept
    cdef void unregister_ring_fd(self) noexcept
    cdef int settle_completed(self) except -1
    cdef int settle_all(self) except -1
    cdef int make_room(self) except -1
    cdef int check(self, int code) except -1
    cdef bint is_open_here(self) noexcept
    cdef int check_owner(self) except -1
    cdef int check_open(self) except -1
    cdef list settle_without_entering(self)
    cdef int register_file(self, int fd) except -2
    cdef int unregister_file(self, int slot) except -1
    cdef int register_memory(self, Registration memory) except -1
    cdef bint forget_memory(self, Registration memory) except -1
    cdef int slot_of(self, LentMemory memory, const char* base, size_t length) except -2
    cdef dict counters(self)
