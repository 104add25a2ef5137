"""The accepting of connections."""
from uringloop._core cimport LoopCore
from uringloop._operations cimport Completer, operation


cdef class Acceptor(Completer):
    cdef:
        LoopCore loop
        object sock
        object factory
        tuple arguments         # of _accept_connection2, after the connection
        dict options
        object server
        object context
        operation* accepting
        list arrived            # descriptors, or the error
        bint delivering
        bint stopped
