"""Payloads: the memory of what a program hands over to be sent."""
from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_CheckBuffer,
    PyObject_GetBuffer)
from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE)
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from cpython.object cimport PyObject
from libc.stdint cimport uintptr_t

from uringloop.ring.registered_memory cimport LentMemory


cdef object find_payload(object data, payload* into):
    """Find the memory of ``data``; returns what holds it, so that it is not resized or freed.

    Only exact ``bytes``, and contiguous views of exact ``bytes``, are immutable: a
    subclass may lend its memory, and ``bytearray`` changes at will.  Lent memory, and views
    of it, count as immutable, too: who lends it leaves it alone until the kernel has let go.
    """
    cdef Py_buffer view
    into.immutable = True
    into.lent = False
    if PyBytes_CheckExact(data):
        into.base = PyBytes_AS_STRING(data)
        into.length = PyBytes_GET_SIZE(data)
        return data
    owner = None
    if type(data) is memoryview:
        owner = exporter_of(data, into)
    elif isinstance(data, LentMemory):
        into.lent = True
        (<LentMemory>data).lend(&into.base, &into.length)
        return data
    elif not PyObject_CheckBuffer(data):
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)         # raises TypeError
    if owner is None:
        into.immutable = False
        # Of our own: the caller may release theirs.  And before it is asked where it is: the
        # collector may begin in here, and run code of the program that moves it.
        data = owner = PyMemoryView_FromObject(data)
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        into.base = <char*>view.buf
        into.length = view.len
        PyBuffer_Release(&view)
    if into.lent:
        check_lent(<LentMemory>owner)
    return owner


cdef object exporter_of(memory_view, payload* into):
    """What the view is of, if that is immutable or lent; else None, and ``into`` says nothing."""
    cdef Py_buffer view
    cdef PyObject* exporter
    # First of all, for one that was released points to what it was of, which may be gone: then
    # this raises ValueError.  Until the end of it nobody can release it.
    try:
        PyObject_GetBuffer(memory_view, &view, PyBUF_SIMPLE)
    except BufferError:          # it has gaps, but it was not released
        into.lent = isinstance(memory_view.obj, LentMemory)
        raise
    exporter = <PyObject*>PyMemoryView_GET_BUFFER(memory_view).obj
    owner = None
    if exporter is not NULL:
        if PyBytes_CheckExact(<object>exporter):
            owner = <object>exporter
        elif isinstance(<object>exporter, LentMemory):
            owner = <object>exporter
            into.lent = True
    into.base = <char*>view.buf
    into.length = view.len
    PyBuffer_Release(&view)
    return owner


cdef int check_lent(LentMemory memory) except -1:
    """ValueError if a view has outlived what it is a view of."""
    cdef char* base
    cdef size_t length
    return memory.lend(&base, &length)


cdef object copy_payload(object data, payload* into):
    """As ``find_payload``, but what could change is copied: the result is immutable."""
    owner = find_payload(data, into)
    return owner if into.immutable else copied(into)


cdef object copied(payload* memory):
    """A copy, which nobody changes; ``memory`` is its own afterwards."""
    owner = PyBytes_FromStringAndSize(memory.base, memory.length)
    memory.base = PyBytes_AS_STRING(owner)
    memory.immutable = True
    return owner


cdef object writable_view(object buf, str name):
    """A view of contiguous memory that can be written; else TypeError as the socket module's."""
    try:
        view = PyMemoryView_FromObject(buf)
    except TypeError:
        view = None
    if view is None or PyMemoryView_GET_BUFFER(view).readonly \
            or not PyBuffer_IsContiguous(PyMemoryView_GET_BUFFER(view), b'C'):
        raise TypeError(f'{name}() argument 1 must be read-write bytes-like object, '
                        f'not {type(buf).__name__}')
    return view


cdef unsigned fragments(const void* base, size_t length) noexcept:
    """How many pages the memory touches."""
    if length == 0:
        return 0
    return <unsigned>((((<uintptr_t>base + length - 1) >> 12) - (<uintptr_t>base >> 12)) + 1)
