"""Lent memory that is held: a piece of it for later, or several pieces at once."""
cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from uringloop._cpython cimport pause_collector, resume_collector
from uringloop.ring.interrupts cimport graver
from uringloop.ring.operations cimport give_back, operation
from uringloop.ring.payloads cimport payload
from uringloop.ring.registered_memory cimport LentMemory


@cython.no_gc_clear        # gives back what it holds
@cython.final
cdef class HeldPayload(LentMemory):
    """A piece of lent memory that is still to be sent: its owner does not get it back before."""

    @staticmethod
    cdef HeldPayload of(LentMemory owner, payload* memory):
        cdef HeldPayload held
        owner.uses += 1
        try:
            held = HeldPayload.__new__(HeldPayload)
        except BaseException:
            give_back(owner)
            raise
        held.registration = owner.registration
        held.operations = owner.operations
        held.base = memory.base
        held.length = memory.length
        held.owner = owner
        return held

    def __del__(self):
        if self.owner is not None:
            give_back(self.owner)

    cdef int lend(self, char** base, size_t* length) except -1:
        base[0] = self.base
        length[0] = self.length
        return 0


@cython.no_gc_clear        # gives back what it holds
@cython.final
cdef class HeldTogether(LentMemory):
    """Several leases whose memory is that of one operation."""

    cdef int unused(self) except -1:
        owners, self.owners = self.owners, []
        problem = None
        for owner in owners:
            try:
                give_back(<LentMemory>owner)
            except BaseException as exc:
                # That one is free, too; its waiter was not told.
                problem = graver(problem, exc)
        if problem is not None:
            raise problem
        return 0


cdef bint hold_too(operation* op, LentMemory memory) except -1:
    """The operation sends of this lease, too, which is of the same registered memory, or False."""
    cdef LentMemory first = <LentMemory>op.data
    cdef HeldTogether together
    if memory.registration is not first.registration:
        return False
    if type(first) is not HeldTogether:
        together = held_together(first)
        # The use of the first one is the operation's, and now that of what holds them all.
        Py_INCREF(together)
        op.data = <PyObject*>together
        Py_DECREF(first)
    together = <HeldTogether>op.data
    together.owners.append(memory)
    memory.uses += 1
    return True


cdef HeldTogether held_together(LentMemory first):
    # A finalizer that sends would release the operation that the caller has in hand.
    cdef bint paused = pause_collector()
    cdef HeldTogether together
    try:
        together = HeldTogether.__new__(HeldTogether)
        together.owners = [first]
    finally:
        resume_collector(paused)
    together.registration = first.registration
    together.operations = first.operations
    together.uses = 1
    return together
