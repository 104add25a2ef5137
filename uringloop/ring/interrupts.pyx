"""Which of several exceptions is raised, where what has begun goes on to its end all the same."""
from cpython.exc cimport PyErr_GivenExceptionMatches


cdef tuple INTERRUPTS = (KeyboardInterrupt, SystemExit)


cpdef object graver(object first, object then):
    """The first, which may be None; but ``then``, which came later, if only that is an interrupt.

    Nothing of the program is asked: its exceptions may have a ``__bool__`` or a ``__class__``.
    """
    if first is None or (PyErr_GivenExceptionMatches(then, INTERRUPTS)
                         and not PyErr_GivenExceptionMatches(first, INTERRUPTS)):
        return then
    return first
