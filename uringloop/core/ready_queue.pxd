"""The ready queue: what runs in the next turn, in its order."""
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from uringloop._cpython cimport visitproc


cdef struct ready_queue:
    PyObject** items        # a circular buffer of strong references
    size_t head
    size_t count
    size_t size             # a power of two

cdef int grow(ready_queue* queue) except -1
cdef void drop_all(ready_queue* queue) noexcept
cdef object item_at(ready_queue* queue, size_t place)
cdef int visit_items(ready_queue* queue, visitproc visit, void* arg) noexcept


cdef inline int push_ready(ready_queue* queue, object item) except -1:
    """Append an item."""
    if queue.count == queue.size:
        grow(queue)
    Py_INCREF(item)
    queue.items[(queue.head + queue.count) & (queue.size - 1)] = <PyObject*>item
    queue.count += 1
    return 0


cdef inline object pop_ready(ready_queue* queue):
    """Remove the first item and return it; there is one."""
    cdef PyObject* first = queue.items[queue.head]
    queue.head = (queue.head + 1) & (queue.size - 1)
    queue.count -= 1
    item = <object>first
    Py_DECREF(item)
    return item
