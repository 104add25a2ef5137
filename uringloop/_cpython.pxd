"""What is assumed of CPython's inside; see the module."""
from cpython.object cimport PyObject

ctypedef int (*visitproc)(PyObject*, void*) noexcept
ctypedef int (*traverseproc)(PyObject*, visitproc, void*) noexcept
ctypedef int (*inquiry)(PyObject*) noexcept
ctypedef int (*coro_send)(PyObject*, PyObject*, PyObject**) except -1


cdef extern from *:
    """
    #ifdef URINGLOOP_PORTABLE
    #define type_version(type) 0u
    #define object_type_version(object) 0u
    #define has_references(object, count) 1
    #define of_one_export(view, other) 0
    #else
    #define type_version(type) (((PyTypeObject *)(type))->tp_version_tag)
    #define object_type_version(object) (Py_TYPE(object)->tp_version_tag)
    #define has_references(object, count) (Py_REFCNT(object) > (count))
    #define of_one_export(view, other) \\
        (PyMemoryView_Check(view) && PyMemoryView_Check(other) \\
         && ((PyMemoryViewObject *)(view))->mbuf == ((PyMemoryViewObject *)(other))->mbuf)
    #endif
    """
    # A number that changes with the type; 0: there is none, and nothing is known.
    unsigned type_version(object)
    unsigned object_type_version(object)
    # Whether more than ``count`` references to the object exist; if in doubt, yes.
    bint has_references(object, Py_ssize_t count)
    # Whether two objects are views, and slices of one: either keeps the memory of both.
    bint of_one_export(PyObject* view, PyObject* other)

cdef extern from "Python.h":
    char* bytes_content "PyBytes_AS_STRING" (PyObject*)

cdef PyObject* allocate_bytes(Py_ssize_t size) except NULL
cdef object resize_bytes(PyObject* made, Py_ssize_t length)

cdef int fd_of(object sock) except? -1
cdef int family_of(object sock) except? -1
cdef int type_of(object sock) except? -1
cdef int proto_of(object sock) except? -1

cdef traverseproc replace_traverse(object kind, traverseproc traverse) noexcept
cdef void set_send(object kind, coro_send send) noexcept
cdef object plain_attributes_of(object self)
cpdef object attributes_of(object self)
cdef inquiry give_attributes(object kind, Py_ssize_t offset, inquiry clear) noexcept
cdef bint pause_collector() noexcept
cdef void resume_collector(bint paused) noexcept
