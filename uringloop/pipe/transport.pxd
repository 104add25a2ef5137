"""What pipe transports have in common."""
from uringloop.core.loop_core cimport LoopCore
from uringloop.ring.operations cimport Role, flag, operation
from uringloop.ring.watched cimport WatchedSocket


cdef class PipeTransport(WatchedSocket):
    cdef:
        object __weakref__
        dict __dict__
        LoopCore loop
        public object _pipe
        public object _protocol
        public dict _extra
        object context              # that the protocol is called in
        object lost_context
        object lost_exc             # for connection_lost, which waits for the kernel to let go
        operation* reading          # polls in flight: for something to read, or a hang-up
        operation* writing          # for room
        public bint _closing
        flag scheduled              # in the ready queue
        flag flush_scheduled
        flag readable               # the polls have told
        flag writable
        flag losing                 # connection_lost is scheduled
        flag held                   # connection_lost was due, but a poll was still in flight

    cdef int poll(self, Role role, operation** place) except -1
    cdef int flush_later(self) except -1
    cdef int schedule(self) except -1
    cdef int schedule_next(self) except -1
    cdef int check_made(self) except -1
    cdef int stop(self) except -1
    cdef int lose(self, object exc) except -1
    cdef int report(self, object exc, str message) except -1
    # what each end has its own of
    cdef bint wants_to_read(self) noexcept
    cdef bint wants_to_write(self) noexcept
    cdef int ready(self) except -1


cdef str describe(PipeTransport end, str state)
