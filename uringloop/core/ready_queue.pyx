"""The ready queue: what runs in the next turn, in its order.

It holds handles, and owners of operations that have something to deliver.  A program sees
it by ``core.ready``.
"""
from cpython.object cimport PyObject
from libc.stdlib cimport free, malloc

from uringloop._cpython cimport visitproc


cdef enum:
    FIRST_SIZE = 256


cdef int grow(ready_queue* queue) except -1:
    """Make room for twice as many; an empty structure is a queue without room."""
    cdef size_t i, size = 2 * queue.size if queue.size else FIRST_SIZE
    cdef PyObject** bigger = <PyObject**>malloc(size * sizeof(PyObject*))
    if bigger is NULL:
        raise MemoryError
    for i in range(queue.count):
        bigger[i] = queue.items[(queue.head + i) & (queue.size - 1)]
    free(queue.items)
    queue.items = bigger
    queue.head = 0
    queue.size = size
    return 0


cdef void drop_all(ready_queue* queue) noexcept:
    """Let go of all items; the memory is still to be freed."""
    while queue.count:
        pop_ready(queue)    # whole again before a destructor makes something ready


cdef object item_at(ready_queue* queue, size_t place):
    return <object>queue.items[(queue.head + place) & (queue.size - 1)]


cdef int visit_items(ready_queue* queue, visitproc visit, void* arg) noexcept:
    """Show the collector what is in the queue."""
    cdef size_t i
    cdef int code = 0
    for i in range(queue.count):
        if not code:
            code = visit(queue.items[(queue.head + i) & (queue.size - 1)], arg)
    return code
