"""One future for several sends."""

cdef class BatchReport:
    cdef:
        readonly object future
        readonly size_t nbytes     # sent
        readonly Py_ssize_t due    # sends that have not been told of
        bint copied            # one of them was
        bint unknown           # the kernel has not told of one
        bint complete          # no more are added
        object error           # the first

    cdef int add(self) except -1
    cpdef int close(self) except -1
    cdef int told(self, size_t nbytes, bint copied, bint reported, object error) except -1
    cdef int resolve(self) except -1
