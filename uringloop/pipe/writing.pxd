"""Writing to a pipe."""
from uringloop.pipe.transport cimport PipeTransport
from uringloop.ring.abi cimport iovec
from uringloop.ring.operations cimport flag


cdef class WritePipeTransport(PipeTransport):
    cdef:
        object pieces               # deque of bytes that wait for room
        Py_ssize_t offset           # how much of the first of them is written
        Py_ssize_t buffered         # what is left of all
        public Py_ssize_t _conn_lost
        public size_t _high_water
        public size_t _low_water
        public bint _protocol_paused
        flag for_hang_up

    cdef Py_ssize_t write_now(self, const iovec* memory, int count) except? -1
    cdef Py_ssize_t write_pieces(self, Py_ssize_t* tried) except? -1
    cdef int strike_off(self, Py_ssize_t written) except -1
    cdef int forget_queue(self) except -1
    cdef int write_failed(self, int error) except -1
    cdef int closed_by_peer(self) except -1
    cdef int write_queued(self) except -1
    cdef int maybe_pause(self) except -1
