"""The timers of a loop: a heap, ordered by time and then by age."""
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport free, malloc, realloc

from uringloop._handles cimport TimerHandle


cdef enum:
    # As asyncio: timers are swept when more than these are, and half of them cancelled.
    SWEEP_MINIMUM = 100


cdef class Timers:
    """A binary heap of handles, asyncio's own too; each is referred to strongly."""

    def __dealloc__(self):
        self.drop_all()
        free(self.heap)

    cdef void drop_all(self) noexcept:
        while self.count:
            self.count -= 1
            Py_DECREF(<object>self.heap[self.count].handle)

    cdef list copy(self):
        """The handles, in the heap's order."""
        return [<object>self.heap[i].handle for i in range(self.count)]

    cdef int push(self, double when, object handle) except -1:
        cdef timer* bigger
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
        cdef PyObject* item = self.heap[0].handle
        self.count -= 1
        if self.count:
            self.heap[0] = self.heap[self.count]
            self.sift_down(0)
        handle = <object>item
        Py_DECREF(handle)
        set_scheduled(handle, False)
        return handle

    cdef int sweep(self) except -1:
        """Forget cancelled timers: those due first, and all when they are many."""
        if self.count > SWEEP_MINIMUM \
                and 2 * <size_t>self.cancelled > self.count:
            self.sweep_all()
        while self.count and is_cancelled(<object>self.heap[0].handle):
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


cdef inline bint is_cancelled(object handle) except -1:
    if type(handle) is TimerHandle:
        return (<TimerHandle>handle)._cancelled
    return handle._cancelled


cdef inline int set_scheduled(object handle, bint value) except -1:
    if type(handle) is TimerHandle:
        (<TimerHandle>handle)._scheduled = value
    else:
        handle._scheduled = value
    return 0
