"""The timers of a loop: a heap, ordered by time and then by age.

asyncio keeps its timers in a list, ``loop._scheduled``, which is a heap by the functions
of ``heapq``; test clocks look at it, and change it.  Here it exists while somebody
refers to it: the timers are moved into it, and back when nobody does.
"""
cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport free, malloc, realloc

from uringloop._cpython cimport has_references
from uringloop.core.handles cimport TimerHandle

import heapq


cdef enum:
    # As asyncio: timers are swept when more than these are, and half of them cancelled.
    SWEEP_MINIMUM = 100


@cython.final
cdef class Timers:
    """A binary heap of handles, asyncio's own too; each is referred to strongly."""

    def __dealloc__(self):
        self.drop_all()
        free(self.heap)

    cdef void drop_all(self) noexcept:
        while self.count:
            self.count -= 1
            Py_DECREF(<object>self.heap[self.count].handle)
        self.exposed = None

    # -- while a program looks at them -----------------------------------------------------------

    cdef list expose(self):
        """The list that they are in from now on."""
        cdef list handles
        if self.exposed is None:
            handles = []
            while self.count:
                handles.append(self.take())
            self.exposed = handles     # sorted, so a heap
        return self.exposed

    cdef int replace(self, list handles) except -1:
        """Have these timers and no others, in this list."""
        before = self.expose()         # to be dropped last: a destructor may schedule something
        self.exposed = handles
        before = None
        return 0

    cdef int reclaim(self) except -1:
        """Have the timers in the heap again, unless somebody still refers to the list."""
        cdef list handles = self.exposed
        if has_references(handles, 2):
            return 0
        # Those of one time in the order of the list, which is that of their age.
        handles = sorted(handles, key=due)
        self.exposed = None
        for handle in handles:
            self.push(handle._when, handle)
        return 0

    cdef bint any(self) noexcept:
        return self.count != 0 or self.exposed is not None and len(self.exposed) != 0

    cdef double first(self) except? -1:
        """When the first is due; there is one."""
        return self.heap[0].when if self.exposed is None else self.exposed[0]._when

    # -- the heap --------------------------------------------------------------------------------

    cdef int push(self, double when, object handle) except -1:
        cdef timer* bigger
        if self.exposed is not None:
            heapq.heappush(self.exposed, handle)
            return 0
        if self.count == self.size:
            bigger = <timer*>realloc(self.heap, (2 * self.size + 64) * sizeof(timer))
            if bigger is NULL:
                raise MemoryError
            self.heap = bigger
            self.size = 2 * self.size + 64
        Py_INCREF(handle)
        self.heap[self.count].when = when
        self.heap[self.count].order = self.order
        self.heap[self.count].handle = <PyObject*>handle
        self.order += 1
        self.count += 1
        self.sift_up(self.count - 1)
        return 0

    cdef void sift_up(self, size_t place) noexcept:
        cdef timer moving = self.heap[place]
        cdef size_t parent
        while place:
            parent = (place - 1) >> 1
            if not earlier(&moving, &self.heap[parent]):
                break
            self.heap[place] = self.heap[parent]
            place = parent
        self.heap[place] = moving

    cdef void sift_down(self, size_t place) noexcept:
        cdef timer moving = self.heap[place]
        cdef size_t child
        while True:
            child = 2 * place + 1
            if child >= self.count:
                break
            if child + 1 < self.count \
                    and earlier(&self.heap[child + 1], &self.heap[child]):
                child += 1
            if not earlier(&self.heap[child], &moving):
                break
            self.heap[place] = self.heap[child]
            place = child
        self.heap[place] = moving

    cdef object pop(self):
        handle = self.take() if self.exposed is None else heapq.heappop(self.exposed)
        set_scheduled(handle, False)
        return handle

    cdef object take(self):
        cdef PyObject* item = self.heap[0].handle
        self.count -= 1
        if self.count:
            self.heap[0] = self.heap[self.count]
            self.sift_down(0)
        handle = <object>item
        Py_DECREF(handle)
        return handle

    cdef int sweep(self) except -1:
        """Forget cancelled timers: those due first, and all when they are many."""
        if self.exposed is not None:
            self.reclaim()
        if self.exposed is not None:
            return self.sweep_exposed()
        if self.count > SWEEP_MINIMUM \
                and 2 * <size_t>self.cancelled > self.count:
            self.sweep_all()
        while self.count and is_cancelled(<object>self.heap[0].handle):
            self.cancelled -= 1
            self.pop()
        return 0

    cdef int sweep_exposed(self) except -1:
        cdef list handles = self.exposed
        if len(handles) > SWEEP_MINIMUM and 2 * self.cancelled > len(handles):
            gone = [handle for handle in handles if handle._cancelled]
            handles[:] = [handle for handle in handles if not handle._cancelled]
            heapq.heapify(handles)
            self.cancelled = 0
            for handle in gone:
                set_scheduled(handle, False)
        while handles and handles[0]._cancelled:
            self.cancelled -= 1
            self.pop()
        return 0

    cdef int sweep_all(self) except -1:
        cdef size_t i, kept = 0, lost = 0
        cdef PyObject** gone = <PyObject**>malloc(self.count * sizeof(PyObject*))
        if gone is NULL:
            return 0            # another time
        for i in range(self.count):
            if is_cancelled(<object>self.heap[i].handle):
                gone[lost] = self.heap[i].handle
                lost += 1
            else:
                self.heap[kept] = self.heap[i]
                kept += 1
        self.count = kept
        for i in range(kept // 2, 0, -1):
            self.sift_down(i - 1)
        self.cancelled = 0
        # Last, when the heap is one again: a destructor may schedule something.
        for i in range(lost):
            set_scheduled(<object>gone[i], False)
            Py_DECREF(<object>gone[i])
        free(gone)
        return 0


cdef inline bint earlier(const timer* a, const timer* b) noexcept:
    return a.when < b.when or a.when == b.when and a.order < b.order


def due(handle):
    return handle._when


cdef inline bint is_cancelled(object handle) except -1:
    if type(handle) is TimerHandle:
        return (<TimerHandle>handle)._cancelled
    return handle._cancelled


cdef bint is_scheduled(object handle) except -1:
    """Whether it is among the timers of its loop."""
    if type(handle) is TimerHandle:
        return (<TimerHandle>handle)._scheduled
    return handle._scheduled


cdef inline int set_scheduled(object handle, bint value) except -1:
    if type(handle) is TimerHandle:
        (<TimerHandle>handle)._scheduled = value
    else:
        handle._scheduled = value
    return 0
