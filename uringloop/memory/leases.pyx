"""Buffer pools and their leases.

A buffer is free again when its lease is released, no send uses it, and no view of it is alive,
whichever is last.  Each lease is a new object, so one that was released can never mean
the buffer of another.
"""
cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES
from cpython.exc cimport PyErr_Fetch, PyErr_Restore
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from posix.mman cimport (
    MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, madvise, mmap, munmap)

from uringloop._cpython cimport pause_collector, resume_collector, set_send
from uringloop.core.lender cimport Lender
from uringloop.ring.guard cimport (
    guard_free, guard_in_flight, guard_lent, guard_shown, guard_unread)
from uringloop.ring.interrupts cimport graver
from uringloop.ring.registered_memory cimport LentMemory, Registration
from uringloop.ring.trains cimport integer

import operator
from collections import deque

from uringloop.core.unclosed import warn_of


cdef extern from *:
    """
    #include <sys/mman.h>
    #ifndef MADV_WIPEONFORK           /* kernel 4.14 */
    #define MADV_WIPEONFORK 18
    #endif
    """
    enum:
        MADV_HUGEPAGE
        MADV_WIPEONFORK

cdef extern from "Python.h":
    int PyIter_Send(object, object, PyObject**) except -1

# Kept: a finalizer may run when the interpreter has emptied the modules already.
cdef object warn_of_unreleased = warn_of

cdef char* BYTES = b'B'            # the format of a view; see the module struct

cdef enum:
    PAGE = 4096
    HUGE_PAGE = 2 << 20


# What is given back to it may come when the collector has been at it: so it clears nothing here.
@cython.no_gc_clear
cdef class PoolCore:
    """A pool but for waiting."""

    def __init__(self, Lender loop, count, size, hugepages=False):
        """Memory for ``count`` buffers of ``size`` bytes; MemoryError if there is not so much."""
        if self.count:
            raise RuntimeError(f'{self!r} is made already')
        self.count = positive(count, 'count')
        self.size = positive(size, 'size')
        self._loop = loop
        loop._check_closed()
        # Long buffers begin with a page, so that they touch as few as possible.  Short ones lie
        # side by side: those sent one after another then leave as one piece of memory.
        self.stride = self.size
        if self.size > PAGE:
            self.stride = (<size_t>self.size + PAGE - 1) // PAGE * PAGE
        self.mapped = <size_t>self.count * self.stride
        check_available(self.count * (<object>self.stride), self)
        self.waiters = deque()
        self.free_numbers = <unsigned*>malloc(self.count * sizeof(unsigned))
        if self.free_numbers is NULL:
            raise MemoryError
        for number in range(self.count):
            self.free_numbers[number] = number
        self.map_memory(hugepages)
        self.free = self.count           # not before there is memory to lend
        self.registration = Registration(<uintptr_t>self.base, self.mapped)
        self.registration.guarded = True
        loop.register_memory(self.registration)
        self.guard_all()

    def __dealloc__(self):
        # The kernel keeps the pages of what it still reads; what is in flight holds the pool.
        if self.base is not NULL:
            guard_shown(self.base, self.mapped)
            munmap(self.base, self.mapped)
        free(self.free_numbers)

    def __del__(self):
        if self.registration is not None:
            self._loop.forget_memory(self.registration)

    cdef void guard_all(self) noexcept:
        """Nothing is lent yet."""
        cdef Py_ssize_t number
        for number in range(self.count):
            guard_free(self.base + <size_t>number * self.stride, self.size)

    cdef int map_memory(self, bint hugepages) except -1:
        cdef size_t length = self.mapped, shift
        cdef char* place
        if hugepages:
            self.mapped = (length + HUGE_PAGE - 1) // HUGE_PAGE * HUGE_PAGE
            length = self.mapped + HUGE_PAGE
        place = <char*>mmap(
            NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        if place == MAP_FAILED:
            raise MemoryError(f'a pool of {self.count} buffers of {self.size} bytes')
        self.base = place
        if hugepages:
            # They begin at multiples of their size.
            shift = (HUGE_PAGE - <uintptr_t>place % HUGE_PAGE) % HUGE_PAGE
            self.base = place + shift
            if shift:
                munmap(place, shift)
            munmap(self.base + self.mapped, HUGE_PAGE - shift)
            madvise(self.base, self.mapped, MADV_HUGEPAGE)
        # A child would copy registered memory at once, since it is pinned: 69 ms for 256 MiB.
        madvise(self.base, self.mapped, MADV_WIPEONFORK)
        if hugepages:
            for offset in range(0, self.mapped, PAGE):
                self.base[<size_t>offset] = 0
            self.hugepages = lies_on_huge_pages(<uintptr_t>self.base)
        return 0

    @property
    def registered(self):
        """Whether the kernel has the memory registered; if not, it is sent as any other."""
        self.check_made()
        return self.registration.ring_id != 0 and self.registration.error == 0

    @property
    def _error(self):
        return self.registration.error

    # -- leases --------------------------------------------------------------------------------

    cdef Lease new_lease(self):
        """One of those that are free."""
        # A finalizer that acquires would have the same one.
        cdef bint paused = pause_collector()
        cdef Lease lease
        try:
            lease = Lease.__new__(Lease)
        finally:
            resume_collector(paused)
        lease.pool = self
        lease.number = self.free_numbers[self.next_free]
        lease.base = self.base + lease.number * self.stride
        lease.length = self.size
        lease.registration = self.registration
        lease.operations = self._loop.operations
        guard_unread(self._loop.operations, lease.base, self.size)
        guard_lent(lease.base, self.size)
        self.free -= 1
        self.next_free += 1
        if self.next_free == self.count:
            self.next_free = 0
        counters = self._loop.counters
        counters.pool_leases += 1
        if counters.pool_leases > counters.pool_leases_high_water:
            counters.pool_leases_high_water = counters.pool_leases
        return lease

    cdef list new_leases(self, Py_ssize_t count):
        cdef bint paused = pause_collector()
        try:
            leases = []
            for _ in range(count):
                leases.append(self.new_lease())
            return leases
        finally:
            resume_collector(paused)

    def _check_open(self):
        self.check_made()
        if self.closed:
            raise RuntimeError(f'{self!r} is closed')

    cdef int check_made(self) except -1:
        if self.registration is None:
            raise RuntimeError('BufferPool.__init__() was not called: '
                               'loop.create_buffer_pool() makes pools')
        return 0

    def acquire_nowait(self):
        """A lease; BufferError if all are out, or others wait for one."""
        if self.free == 0 or self.closed:
            self._check_open()
        if self.free == 0:
            raise BufferError(f'all {self.count} buffers of {self!r} are out')
        if self.waiters:
            raise BufferError(f'others wait for a buffer of {self!r}')
        return self.new_lease()

    def acquire(self):
        """Borrow a buffer: a coroutine that waits, in order, until there is one."""
        cdef Acquisition coroutine = Acquisition.__new__(Acquisition)
        coroutine.pool = self
        return coroutine

    def _acquire_many_now(self, count):
        """As many at once, or None: there are not so many, or others wait."""
        self._check_open()
        number = positive(count, 'n')
        if number > self.count:
            raise ValueError(f'n must be at most {self.count}, the size of the pool, not {count!r}')
        return None if number > self.free or self.waiters else self.new_leases(number)

    def _wait(self, count):
        """A future of so many leases."""
        future = self._loop.create_future()
        self.waiters.append((operator.index(count), future))
        self._loop.counters.pool_waits += 1
        return future

    def _wait_no_longer(self, future):
        """The caller of ``_wait`` was cancelled: what it was given goes back."""
        if future.done() and not future.cancelled() and future.exception() is None:
            for lease in future.result():
                lease.release()
        else:
            for waiter in self.waiters:
                if waiter[1] is future:
                    self.waiters.remove(waiter)
                    break
            self.serve_waiters()

    cdef int give_back(self, unsigned number) except -1:
        """A buffer is free."""
        cdef Py_ssize_t place = self.next_free + self.free
        if place >= self.count:
            place -= self.count
        self.free_numbers[place] = number
        self.free += 1
        self._loop.counters.pool_leases -= 1
        if not self.waiters and self.closing is None:
            return 0
        if self._loop.closing:       # whoever waits will never run
            return 0 if self._loop.is_closed() else self.finish_closing()
        if self._loop.runs_elsewhere():
            self._loop.call_soon_threadsafe(self._given_back)
            return 0
        self.serve_waiters()
        return self.finish_closing()

    def _given_back(self):
        self.serve_waiters()
        self.finish_closing()

    cdef int serve_waiters(self) except -1:
        """In order: whoever wants many is not overtaken by those who want few."""
        cdef bint paused = pause_collector()
        try:
            while self.waiters:
                count, future = self.waiters[0]
                if future.done():
                    self.waiters.popleft()
                elif count <= self.free:
                    try:
                        leases = self.new_leases(count)
                    except MemoryError as exc:
                        # The others don't wait behind it for ever.  (A list that could not be
                        # filled gives back what it has, and may have served them.)
                        if self.waiters and self.waiters[0][1] is future:
                            self.waiters.popleft()
                        if not future.done():
                            future.set_exception(exc)
                        continue
                    self.waiters.popleft()
                    future.set_result(leases)
                else:
                    break
        finally:
            resume_collector(paused)
        return 0

    # -- closing -------------------------------------------------------------------------------

    def close(self):
        """Give out no more leases; returns a future that is done when the last is back.

        Leases that are out stay valid.  Whoever waits for one gets RuntimeError.
        """
        self.check_made()
        if self.closing is None or self.closing.cancelled():     # by whoever waited for it
            text = f'{self!r} was closed'
            self.closing = self._loop.create_future()
            self.closed = True
            try:
                self.refuse_waiters(text)
            finally:
                self.finish_closing()
        return self.closing

    cdef int refuse_waiters(self, str text) except -1:
        """Whatever goes wrong with one (an interrupt, say): all are told."""
        problem = None
        while self.waiters:
            _, future = self.waiters.popleft()
            try:
                if not future.done():
                    future.set_exception(RuntimeError(text))
            except BaseException as exc:
                problem = graver(problem, exc)
                if not future.done():       # without memory for the error
                    future.set_exception(exc)
        if problem is not None:
            raise problem
        return 0

    cdef int finish_closing(self) except -1:
        if self.closing is None or self.free < self.count:
            return 0
        self._loop.forget_memory(self.registration)
        if not self.closing.done():
            self.closing.set_result(None)
        return 0


# A view of it that is in the same garbage may be released after it was cleared.
@cython.no_gc_clear
@cython.final
cdef class Lease(LentMemory):
    """A buffer of a pool, until it is released.  It has the buffer protocol, and is writable.

    A slice of it is a ``memoryview``.  It can be sent, whole or in slices, several times, and
    be released at once: the buffer is free again when the kernel has let go of it too.
    """

    cdef int lend(self, char** base, size_t* length) except -1:
        self.check()
        base[0] = self.base
        length[0] = self.length
        return 0

    cdef int unused(self) except -1:
        if not self.released or self.views or self.given_back:
            return 0
        if self.uses:
            guard_in_flight(self.base, self.length)
            return 0
        self.given_back = True
        self.pool.held -= 1
        guard_free(self.base, self.length)
        return self.pool.give_back(self.number)

    cdef int check(self) except -1:
        if self.released or self.pool is None:
            raise ValueError(self.why_not())
        return 0

    cdef str why_not(self):
        if self.pool is None:
            return 'this lease is of no pool: pool.acquire() makes leases'
        return f'lease {self.number} was released: acquire another'

    def release(self):
        """Give the buffer back; ValueError if that was done already."""
        self.check()
        self.release_now()

    cdef int release_now(self) except -1:
        self.released = True
        self.pool.held += 1
        return self.unused()

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, *_):
        if self.pool is not None and not self.released:
            self.release_now()

    def __del__(self):
        if self.pool is not None and not self.released:
            try:
                text = f'{self!r} was not released'
            finally:
                # Also without memory for a text; and the warning may be an error.
                self.release_now()
            warn_of_unreleased(text, self)

    def __repr__(self):
        if self.pool is None:
            return '<Lease of no pool>'
        return f'<Lease {self.number} of {self.pool!r}{", released" if self.released else ""}>'

    # -- the buffer ----------------------------------------------------------------------------

    def __getbuffer__(self, Py_buffer* view, int flags):
        self.check()
        # Not by PyBuffer_FillInfo: Cython has put a None there, whose reference that would lose.
        view.obj = self
        view.buf = self.base
        view.len = self.length
        view.itemsize = 1
        view.readonly = False
        view.ndim = 1
        view.format = BYTES if flags & PyBUF_FORMAT else NULL
        view.shape = &view.len if flags & PyBUF_ND else NULL
        view.strides = &view.itemsize if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
        view.suboffsets = NULL
        view.internal = NULL
        self.views += 1

    def __releasebuffer__(self, Py_buffer* view):
        # The last view may go by an exception, which passes on afterwards.
        cdef PyObject* kind
        cdef PyObject* value
        cdef PyObject* traceback
        self.views -= 1
        if self.released:
            PyErr_Fetch(&kind, &value, &traceback)
            self.viewed_no_more()
            PyErr_Restore(kind, value, traceback)

    cdef void viewed_no_more(self) noexcept:
        # What fails here is told as in any finalizer (sys.unraisablehook): nobody is called.
        self.unused()

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return PyMemoryView_FromObject(self)[index]

    def __setitem__(self, index, value):
        view = PyMemoryView_FromObject(self)
        try:
            view[index] = value
        except ValueError:
            # A memoryview speaks of structures.
            if not isinstance(index, slice) or memoryview(value).nbytes == view[index].nbytes:
                raise
            raise ValueError(
                f'{memoryview(value).nbytes} bytes do not fit a slice of {view[index].nbytes}: '
                'a lease keeps its length') from None


@cython.final
@cython.freelist(8)
cdef class Acquisition:
    """The coroutine of ``acquire``.  Where a buffer is free it has nothing to wait for.

    One of Python's own costs as much as all the rest of acquiring; it is made to wait.
    """

    cdef object begin(self):
        """The lease; None: the coroutine ``waiting`` is to be asked."""
        pool, self.pool = self.pool, None
        if pool is None:
            raise RuntimeError('cannot reuse already awaited coroutine')
        if pool.free and not pool.closed and not pool.waiters:
            return pool.new_lease()
        self.waiting = pool._acquire_later()
        return None

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        if self.waiting is None:
            lease = self.begin()
            if lease is not None:
                raise StopIteration(lease)
        return self.waiting.send(value)

    def throw(self, kind, *error):
        if self.waiting is not None:
            return self.waiting.throw(kind, *error)
        self.pool = None
        raise error[0] if error and error[0] is not None else kind

    def close(self):
        self.pool = None
        if self.waiting is not None:
            self.waiting.close()

    def __enter__(self):
        raise TypeError('a lease is had by "with await pool.acquire()": '
                        'did you forget "await"?')

    def __exit__(self, *_):
        """For the with statement, which looks for it before it enters."""

    def __aenter__(self):
        """For whoever writes ``async with pool.acquire()``."""
        self.__enter__()

    def __aexit__(self, *_):
        """The same."""


cdef int send_to_acquisition(PyObject* self, PyObject* value, PyObject** result) except -1:
    cdef Acquisition coroutine = <Acquisition>self
    result[0] = NULL
    if coroutine.waiting is None:
        lease = coroutine.begin()          # an exception is PYGEN_ERROR, -1
        if lease is not None:
            Py_INCREF(lease)
            result[0] = <PyObject*>lease
            return 0                       # PYGEN_RETURN
    return PyIter_Send(coroutine.waiting, <object>value, result)


set_send(Acquisition, send_to_acquisition)


cdef Py_ssize_t positive(object value, str name) except -1:
    number = integer(value, name)
    if number < 1:
        raise ValueError(f'{name} must be at least 1, not {value!r}')
    if number > 1 << 32:
        raise ValueError(f'{name} must be at most {1 << 32}, not {value!r}')
    return number


cdef list lines_of(str path):
    """Of a file of the kernel's; [] if it cannot be read: no /proc, or no descriptor is left."""
    try:
        with open(path, 'rb') as file:
            return file.readlines()
    except OSError:
        return []


cdef int check_available(object needed, PoolCore pool) except -1:
    """MemoryError if the machine has not so much: registering would have it make room."""
    for line in lines_of('/proc/meminfo'):
        if line.startswith(b'MemAvailable:'):
            available = int(line.split()[1]) * 1024
            if needed > available:
                raise MemoryError(
                    f'a pool of {pool.count} buffers of {pool.size} bytes needs {needed} '
                    f'bytes; {available} are available')
            break
    return 0


cdef bint lies_on_huge_pages(uintptr_t base) except -1:
    """Whether the kernel has backed the mapping at ``base`` by huge pages, in part at least."""
    found = False
    for line in lines_of('/proc/self/smaps'):
        fields = line.split()
        if b'-' in fields[0] and not fields[0].endswith(b':'):
            begin, end = fields[0].split(b'-')
            found = int(begin, 16) <= base < int(end, 16)
        elif found and fields[0] == b'AnonHugePages:':
            return int(fields[1]) > 0
    return False
