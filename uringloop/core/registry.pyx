"""Which transport has which descriptor."""
from cpython.object cimport PyObject
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from uringloop.ring.operations cimport OperationOwner

import weakref


cdef class Registry:
    """What asyncio has as ``loop._transports``, a mapping to weak references, at less cost.

    A transport enters when it is made, and leaves when it is lost, or at the latest
    when its memory goes.  It holds the registry until then, out of the collector's sight.
    """

    def __cinit__(self):
        self.foreign = weakref.WeakValueDictionary()

    def __dealloc__(self):
        free(self.places)

    cdef int enter(self, int fd, object transport) except -1:
        cdef PyObject** bigger
        cdef int size
        if fd < 0:
            raise ValueError(f'Invalid file descriptor: {fd}')
        if fd >= self.size:
            size = 2 * fd + 16
            bigger = <PyObject**>realloc(self.places, size * sizeof(PyObject*))
            if bigger is NULL:
                raise MemoryError
            memset(&bigger[self.size], 0, (size - self.size) * sizeof(PyObject*))
            self.places = bigger
            self.size = size
        self.places[fd] = <PyObject*>transport
        if self.has_foreign:
            self.foreign.pop(fd, None)
        return 0

    cdef void leave(self, int fd, PyObject* transport) noexcept:
        if 0 <= fd < self.size and self.places[fd] is transport:
            self.places[fd] = NULL

    cdef object find(self, int fd):
        if 0 <= fd < self.size and self.places[fd] is not NULL:
            return <object>self.places[fd]
        return self.foreign.get(fd) if self.has_foreign else None

    cdef list own(self):
        """The transports on the ring."""
        return [<object>self.places[fd] for fd in range(self.size)
                if self.places[fd] is not NULL]

    cdef object look_up(self, object fd):
        # asyncio's own transports may be of something that only poses as a socket,
        # whose descriptor is no number.
        if type(fd) is int and 0 <= fd < self.size:
            return self.find(fd)
        return self.foreign.get(fd)

    def get(self, fd, default=None):
        found = self.look_up(fd)
        return default if found is None else found

    def __getitem__(self, fd):
        found = self.look_up(fd)
        if found is None:
            raise KeyError(fd)
        return found

    def __setitem__(self, fd, transport):
        if isinstance(transport, OperationOwner):
            self.enter(fd, transport)
            return
        self.has_foreign = True
        self.foreign[fd] = transport
        if type(fd) is int and 0 <= fd < self.size:
            self.places[<int>fd] = NULL

    def __delitem__(self, fd):
        if type(fd) is int and 0 <= fd < self.size and self.places[<int>fd] is not NULL:
            self.places[<int>fd] = NULL
        else:
            del self.foreign[fd]
