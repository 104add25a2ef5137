"""Reading from a pipe."""
from uringloop.pipe.transport cimport PipeTransport
from uringloop.ring.operations cimport flag


cdef class ReadPipeTransport(PipeTransport):
    cdef:
        public bint _paused
        flag long_ones

    cdef object read(self)
