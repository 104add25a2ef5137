"""What lets Python call the parts that show no face to it.  Compiled by the tests that use it."""
from cpython.object cimport PyObject, PyTypeObject, Py_TYPE, visitproc
from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from uringloop.core.loop_core cimport LoopCore
from uringloop.core.ready_queue cimport drop_all, pop_ready, push_ready, ready_queue
from uringloop.datagram.metadata cimport datagram_facts, info_from, read_facts
from uringloop.datagram.offload cimport SIZE_LOST, segment_size_of
from uringloop.datagram.segmentation cimport (
    compare, count_alike, refused, segmentation, sent_by_itself)
from uringloop.memory.leases cimport Lease
from uringloop.ring.abi cimport (
    MSG_CTRUNC, __kernel_timespec, io_uring_cqe, io_uring_register,
    io_uring_submit_and_wait_timeout, msghdr, ring_sqe, ring_take, sockaddr_storage)
from uringloop.ring.addresses cimport AddressCache
from uringloop.ring.operations cimport EXPLICIT, OperationTable, operation
from uringloop.ring.ring cimport Ring
from uringloop.ring.spin_budget cimport SpinBudget
from uringloop.transport.bulk cimport bulk_count, counts_as_bulk


def bulks(turns):
    """Which of the sends, given by the numbers of their turns, wait for the end of the turn."""
    cdef bulk_count count
    memset(&count, 0, sizeof(count))
    return [counts_as_bulk(&count, turn) for turn in turns]


cdef void write_port(sockaddr_storage* into, int port) noexcept:
    memset(into, 0, sizeof(sockaddr_storage))
    (<unsigned char*>into)[2] = port >> 8
    (<unsigned char*>into)[3] = port & 255


def likenesses(limit, datagrams):
    """What ``compare`` says of ``(length, port)`` each: 0 different, 1 the same, 2 shorter."""
    cdef segmentation these
    cdef sockaddr_storage address
    memset(&these, 0, sizeof(these))
    these.limit = limit
    said = []
    for length, port in datagrams:
        write_port(&address, port)
        said.append(compare(&these, length, &address, 16))
    return said


def alike(limit, datagrams, due=0):
    """How many of a queue of ``(length, port, explicit)`` leave as one send."""
    cdef segmentation these
    cdef size_t i, count = len(datagrams)
    cdef operation* queue = <operation*>calloc(count, sizeof(operation))
    memset(&these, 0, sizeof(these))
    these.limit = limit
    these.one_by_one_due = due
    for i in range(count):
        length, port, explicit = datagrams[i]
        queue[i].length = length
        queue[i].traits = EXPLICIT if explicit else 0
        queue[i].address_length = 16
        write_port(&queue[i].address, port)
        queue[i].next = &queue[i + 1] if i + 1 < count else NULL
    try:
        return count_alike(&these, queue)
    finally:
        free(queue)


def learned_from(count, refusal, outcomes):
    """From which size on segments are refused, once such datagrams, ``(length, errno)``, left."""
    cdef segmentation these
    memset(&these, 0, sizeof(these))
    refused(&these, count, refusal)
    learned = [sent_by_itself(&these, length, error) for length, error in outcomes]
    return learned, these.one_by_one_due


def size_told(bytes control, cut_off=False):
    """Of which size datagrams are that came with these control messages; None: that is lost."""
    cdef msghdr message
    memset(&message, 0, sizeof(message))
    message.msg_control = <char*>control
    message.msg_controllen = len(control)
    message.msg_flags = MSG_CTRUNC if cut_off else 0
    size = segment_size_of(&message)
    return None if size == SIZE_LOST else size


def facts_of(bytes control, asked=15):
    """What a protocol would be told by these control messages, as ``DatagramInfo``."""
    cdef msghdr message
    cdef datagram_facts facts
    memset(&message, 0, sizeof(message))
    message.msg_control = <char*>control
    message.msg_controllen = len(control)
    read_facts(&message, asked, &facts)
    return info_from(&facts, AddressCache())


def forget_uses(Lease lease):
    """As if nothing that is sent of it were due any more."""
    lease.uses = 0
    lease.unused()


cdef extern from "Python.h":
    Py_ssize_t references_of "Py_REFCNT" (PyObject*)


cdef struct looking:
    PyObject* at
    Py_ssize_t most
    Py_ssize_t visits


cdef int look(PyObject* visited, void* arg) except -1:
    cdef looking* found = <looking*>arg
    found.most = max(found.most, references_of(found.at))
    found.visits += 1
    return 0


def while_traversed(object thing):
    """The most references that it has while the collector looks at it, those it has otherwise, and
    at how much it looks."""
    cdef looking found
    found.at = <PyObject*>thing
    found.most = found.visits = 0
    (<PyTypeObject*>Py_TYPE(thing)).tp_traverse(<PyObject*>thing, look, &found)
    return found.most, references_of(found.at), found.visits


def operations_of(LoopCore loop):
    return loop.operations


def area_of(LoopCore loop):
    """Where short pieces are received."""
    return <uintptr_t>loop.receive_area.area.content


def spins(hits, spin_ns=50000, timeout=1.0):
    """For each wait whether the loop spins, if spinning goes on as ``hits`` says."""
    cdef SpinBudget budget = SpinBudget.__new__(SpinBudget)
    budget.spin_ns = spin_ns
    done = []
    for hit in hits:
        done.append(budget.may_spin(timeout))
        if done[-1]:
            budget.record(hit)
    return done


def through_the_queue(steps):
    """Push what is not None, pop for None; returns what was popped, and how many are left."""
    cdef ready_queue queue
    memset(&queue, 0, sizeof(queue))
    popped = []
    try:
        for step in steps:
            if step is None:
                popped.append(pop_ready(&queue))
            else:
                push_ready(&queue, step)
        return popped, queue.count
    finally:
        drop_all(&queue)
        free(queue.items)


def a_ring(int marker):
    """One that is enabled."""
    ring = Ring(OperationTable(), 8, 128, marker)
    ring.enable()
    return ring


def answer(Ring ring, int opcode, unsigned flags=0):
    """What the kernel says to such a request, of no file: ``-errno``."""
    cdef io_uring_cqe* waited
    cdef io_uring_cqe answered
    cdef __kernel_timespec second
    second.tv_sec = 1
    second.tv_nsec = 0
    ring_sqe(&ring.ring, opcode, -1, flags, 1)
    io_uring_submit_and_wait_timeout(&ring.ring, &waited, 1, &second, NULL)
    assert ring_take(&ring.ring, &answered, 1) == 1
    return answered.res


def register_answer(Ring ring, unsigned call):
    """What it says to such a register call, of nothing: ``-errno``."""
    return io_uring_register(ring.ring.ring_fd, call, NULL, 0)
