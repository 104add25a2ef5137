"""sock_*"""
from uringloop._core cimport LoopCore

cdef class SocketCore(LoopCore):

    def _set_entries(self, unsigned entries):
        self.entries = entries
