"""What is assumed of CPython's inside: each assumption, how it is checked, and the way without.

Nothing else in the package relies on how the interpreter is made.  ``make portable`` tests a
build (``URINGLOOP_BUILD=portable``) that takes the way without it everywhere; it is slower.

==================  =====================================  ==========  =========================
what                assumed                                checked     without it
==================  =====================================  ==========  =========================
``socket.socket``   it begins with fd, family, type,       import      its properties are asked
                    proto (Modules/socketmodule.h)
version tags        another one, or 0, whenever the type   0           methods are looked up each
                    or one of its bases is changed                     time
reference counts    exact, with the GIL                    compiling   a list once seen by the
                                                                       program stays one
``memoryview``      slices of one share its ``mbuf``,      compiling   slices of a mutable buffer
                    which holds the memory                             don't leave as one
``tp_dictoffset``   a type may be given one before it has  tests       a subclass made by Python
                    subclasses
==================  =====================================  ==========  =========================

Two more are part of the C API, and only unusual: the traverse function of a type may be
replaced (``tp_traverse``), and the collector be paused (``PyGC_Disable``).
"""
from cpython.object cimport PyObject

import socket
import weakref


cdef extern from "Python.h":
    PyObject* new_bytes "PyBytes_FromStringAndSize" (const char*, Py_ssize_t) except NULL
    int _PyBytes_Resize(PyObject**, Py_ssize_t) except -1
    int PyGC_Disable() noexcept
    int PyGC_Enable() noexcept
    object get_dict "PyObject_GenericGetDict" (object, void*)
    int set_dict "PyObject_GenericSetDict" (object, object, void*) except -1

cdef extern from *:
    """
    /* How every socket object begins, from 3.10 to 3.15. */
    struct socket_fields {
        PyObject_HEAD
        int fd, family, type, proto;
    };

    #ifdef URINGLOOP_PORTABLE
    #define PORTABLE 1
    #else
    #define PORTABLE 0
    #endif

    static inline PyObject *own_reference(PyObject *object) { return object; }

    /* The object's own dict is then made when it is first needed; Cython's, at once. */
    static inquiry set_dict_offset(PyObject *type, Py_ssize_t offset, inquiry clear) {
        PyTypeObject *kind = (PyTypeObject *)type;
        inquiry before = kind->tp_clear;
        if (!PORTABLE) {
            kind->tp_clear = clear;
            kind->tp_dictoffset = offset;
            PyType_Modified(kind);
        }
        return before;
    }

    static traverseproc swap_traverse(PyObject *type, traverseproc traverse) {
        traverseproc before = ((PyTypeObject *)type)->tp_traverse;
        ((PyTypeObject *)type)->tp_traverse = traverse;
        return before;
    }

    typedef int (*plain_send)(PyObject *, PyObject *, PyObject **);
    static void set_am_send(PyObject *type, plain_send send) {
        PyAsyncMethods *methods = ((PyTypeObject *)type)->tp_as_async;
        if (!PORTABLE && methods)
            methods->am_send = (sendfunc)send;
    }
    """
    struct socket_fields:
        int fd
        int family
        int type
        int proto
    bint PORTABLE
    object own_reference(PyObject*)
    inquiry set_dict_offset(object, Py_ssize_t, inquiry) noexcept
    traverseproc swap_traverse(object, traverseproc) noexcept
    void set_am_send(object, coro_send) noexcept


# -- bytes ---------------------------------------------------------------------------------------

cdef PyObject* allocate_bytes(Py_ssize_t size) except NULL:
    """A ``bytes`` object of ``size``, to be filled, and handed over by ``resize_bytes``."""
    return new_bytes(NULL, size)


cdef object resize_bytes(PyObject* made, Py_ssize_t length):
    """The object, which nobody else has seen, as ``bytes`` of ``length``."""
    _PyBytes_Resize(&made, length)
    return own_reference(made)


# -- sockets -------------------------------------------------------------------------------------

def find_plain_socket():
    """``socket.socket`` as Python has it, also where a program has put a subclass in its place."""
    for kind in socket.socket.__mro__:
        if (kind.__module__, kind.__qualname__) == ('socket', 'socket'):
            return kind
    return socket.socket


PLAIN_SOCKET = find_plain_socket()
cdef object PlainSocket = PLAIN_SOCKET
cdef object SystemSocket = socket.SocketType
cdef object family_getter = socket.SocketType.family.__get__
cdef object type_getter = socket.SocketType.type.__get__
cdef object proto_getter = socket.SocketType.proto.__get__


def has_socket_fields():
    """Whether socket objects begin as ``socket_fields`` says, seen by looking at some."""
    cdef socket_fields* fields
    if PORTABLE:
        return False
    for kind in ((socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP),
                 (socket.AF_UNIX, socket.SOCK_STREAM, 0)):
        with socket.socket(*kind) as sock:
            fields = <socket_fields*><PyObject*>sock
            if (fields.fd, fields.family, fields.type, fields.proto) != (sock.fileno(), *kind):
                return False
    return True


cdef bint FIELDS_KNOWN = has_socket_fields()


cdef int fd_of(object sock) except? -1:
    """``sock.fileno()``; -1 once it is closed."""
    if FIELDS_KNOWN and type(sock) is PlainSocket:
        return (<socket_fields*><PyObject*>sock).fd
    return sock.fileno()


# The properties ``family`` and ``type`` of a socket make an enum each time.  A subclass may
# override them; what the kernel was told counts.  (What only poses as a socket has no fields.)

cdef int family_of(object sock) except? -1:
    """The address family, as a number."""
    if FIELDS_KNOWN and type(sock) is PlainSocket:
        return (<socket_fields*><PyObject*>sock).family
    return family_getter(sock) if issubclass(type(sock), SystemSocket) else sock.family


cdef int type_of(object sock) except? -1:
    """The type, SOCK_STREAM say, as a number."""
    if FIELDS_KNOWN and type(sock) is PlainSocket:
        return (<socket_fields*><PyObject*>sock).type
    return type_getter(sock) if issubclass(type(sock), SystemSocket) else sock.type


cdef int proto_of(object sock) except? -1:
    """The protocol number."""
    if FIELDS_KNOWN and type(sock) is PlainSocket:
        return (<socket_fields*><PyObject*>sock).proto
    return proto_getter(sock) if issubclass(type(sock), SystemSocket) else sock.proto


# -- the collector -------------------------------------------------------------------------------

cdef traverseproc replace_traverse(object kind, traverseproc traverse) noexcept:
    """Have ``traverse`` show the collector what objects of this type refer to; returns the former.

    Cython's shows the fields that are Python objects, but not what C structures refer to.
    """
    return swap_traverse(kind, traverse)


cdef bint pause_collector() noexcept:
    """Have no collection begin; returns what ``resume_collector`` wants."""
    return PyGC_Disable()


cdef void resume_collector(bint paused) noexcept:
    if paused:
        PyGC_Enable()


# -- coroutines ----------------------------------------------------------------------------------

cdef void set_send(object kind, coro_send send) noexcept:
    """Have such objects, which are coroutines, be awaited by ``send``: am_send, new in 3.10.

    The interpreter asks for that first, and it needs no StopIteration for a result.  Cython
    has no name for it.
    """
    set_am_send(kind, send)


# -- attributes ----------------------------------------------------------------------------------

class Attributes(dict):
    """What ``vars()`` gives of a loop or a transport: what asyncio has there and C has here, too.

    ``unittest.mock`` looks there for what it is to put back when a patch ends.
    """

    __slots__ = ('_owner',)

    def __init__(self, owner, attributes=()):
        super().__init__(attributes)
        self._owner = weakref.ref(owner)

    def __missing__(self, name):
        owner = self._owner()
        if type(name) is str and not name.startswith('__') \
                and hasattr(getattr(type(owner), name, None), '__set__'):
            return getattr(owner, name)
        raise KeyError(name)


cdef object plain_attributes_of(object self):
    """The attributes that a program has given it."""
    return get_dict(self, NULL)


cpdef object attributes_of(object self):
    """``vars()`` of an object that programs may give attributes.

    They are as before until it is asked for: the interpreter is quicker with a plain ``dict``.
    """
    attributes = get_dict(self, NULL)
    if type(attributes) is not Attributes:
        attributes = Attributes(self, attributes)
        set_dict(self, attributes, NULL)
    return attributes


cdef inquiry give_attributes(object kind, Py_ssize_t offset, inquiry clear) noexcept:
    """Let programs set attributes of such objects, and replace methods, as with asyncio's.

    At ``offset`` objects have a pointer that is to be NULL until then; ``clear`` clears it, and
    then calls the former ``tp_clear``, which is returned.
    """
    return set_dict_offset(kind, offset, clear)


def with_attributes(kind):
    """The type itself, or a subclass that has attributes."""
    if not PORTABLE:
        return kind
    return type(kind.__name__, (kind,), {
        '__module__': kind.__module__, '__doc__': kind.__doc__, '__slots__': ('__dict__',)})
