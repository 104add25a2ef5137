"""Which sockets the ring may serve by their descriptor."""

cdef bint is_plain(object sock) except -1
