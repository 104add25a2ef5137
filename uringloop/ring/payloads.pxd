"""Payloads: the memory of what a program hands over to be sent."""


cdef struct payload:
    char* base
    size_t length
    bint immutable        # nobody changes it while ``owner`` is referenced, or lent
    bint lent             # ``owner`` is LentMemory


cdef enum:
    MAX_FRAGMENTS = 17    # MAX_SKB_FRAGS: pages of one zero-copy datagram


cdef object find_payload(object data, payload* into)
cdef object copy_payload(object data, payload* into)
cdef object copied(payload* memory)
cdef object writable_view(object buf, str name)
cdef unsigned fragments(const void* base, size_t length) noexcept
