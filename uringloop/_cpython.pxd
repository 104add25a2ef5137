"""What a Python socket is, without asking its properties, which make enums."""

cdef bint is_plain(object sock) except -1
cdef int fd_of(object sock) except? -1
cdef int family_of(object sock) except? -1
cdef int type_of(object sock) except? -1
cdef int proto_of(object sock) except? -1
