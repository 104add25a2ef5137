"""A program's own memory, registered with the ring: made by ``loop.register_buffer``."""
cimport cython
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from libc.stdint cimport uintptr_t

from uringloop.core.lender cimport Lender
from uringloop.ring.abi cimport EFAULT, ENOMEM, ENOSPC
from uringloop.ring.payloads cimport writable_view
from uringloop.ring.registered_memory cimport LentMemory, Registration

import os
import resource

from uringloop.memory.entering import enter, leave


@cython.no_gc_clear        # told of the last use when the collector may have been at it
@cython.final
cdef class RegisteredBuffer(LentMemory):
    """Memory of the program that the kernel has registered.

    The buffer is exported until ``close``: a ``bytearray`` cannot be resized meanwhile.  Whatever
    lies inside it and is sent by a ``*_zerocopy`` call goes from registered memory.

    Keep it to close it: the loop holds it until then, or until its own end, so one that is dropped
    leaves the memory exported and its pages pinned.
    """

    def __init__(self, Lender loop, obj):
        cdef Py_buffer* buffer
        if self.loop is not None:
            raise RuntimeError(f'{self!r} is made already')
        loop._check_closed()
        try:
            self.view = writable_view(obj, 'register_buffer')
        except TypeError as exc:
            raise TypeError(f'{exc}{unfit(obj)}') from None
        buffer = PyMemoryView_GET_BUFFER(self.view)
        self.nbytes = buffer.len
        if buffer.len == 0:
            raise ValueError(f'register_buffer: {obj!r} is empty')
        self.registration = Registration(<uintptr_t>buffer.buf, buffer.len)
        self.loop = loop
        self.operations = loop.operations
        loop.register_memory(self.registration)
        if self.registration.error:
            raise refused(self.registration.error, self.nbytes)
        loop.registered_memory.add(self)

    cdef int lend(self, char** base, size_t* length) except -1:
        if self.view is None or self.closing is not None:
            raise ValueError(f'{self!r} is closed')
        base[0] = self.registration.base
        length[0] = self.nbytes
        return 0

    cdef int loop_closed(self) except -1:
        self.close()
        return 0

    cdef int unused(self) except -1:
        return self.finish_closing() if self.closing is not None else 0

    def close(self):
        """Unregister the memory; returns a future, done when no send uses it any more.

        The export is given up then.  Sends that begin from now on go from ordinary memory.
        """
        if self.loop is None:
            raise RuntimeError('RegisteredBuffer.__init__() was not called: '
                               'loop.register_buffer() makes them')
        if self.closing is None or self.closing.cancelled():     # by whoever waited for it
            self.closing = self.loop.create_future()
            self.loop.registered_memory.discard(self)
            if self.uses == 0:
                self.finish_closing()
        return self.closing

    cdef int finish_closing(self) except -1:
        if self.view is not None:
            self.loop.forget_memory(self.registration)
            # Not released: a destructor of the program's may hang on it.
            self.view = None
        if not self.closing.done() and not self.loop.is_closed():
            self.closing.set_result(None)
        return 0

    def __aenter__(self):
        return enter(self)

    def __aexit__(self, *_):
        return leave(self)

    def __len__(self):
        return self.nbytes

    def __repr__(self):
        state = 'closed' if self.view is None else 'closing' if self.closing is not None else 'open'
        return f'<RegisteredBuffer of {self.nbytes} bytes, {state}>'


cdef str unfit(object obj):
    """What a buffer has against it."""
    try:
        view = memoryview(obj)
    except TypeError:
        return ''
    if not view.c_contiguous:
        return ': it is not contiguous'
    return ': it is read-only; bytes need no registering, sendto() does not copy them'


cdef object refused(int error, size_t nbytes):
    """The OSError that says what the kernel does not take, and what helps."""
    text = f'{os.strerror(error)}: register_buffer of {nbytes} bytes'
    if error == ENOMEM:
        limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
        allowed = 'unlimited' if limit < 0 else f'{limit} bytes'
        text += (f': the limit of locked memory is {allowed} (RLIMIT_MEMLOCK), for all rings of a '
                 f'user; raise it with "ulimit -l", LimitMEMLOCK= of systemd, or '
                 f'/etc/security/limits.conf')
    elif error == EFAULT:
        text += ': the kernel takes private memory that can be written, no shared mapping of a file'
    elif error == ENOSPC:
        text += ': all slots of the ring are in use; close those that are not needed'
    return OSError(error, text)
