"""Control messages: what a system call takes and gives besides a datagram's bytes (cmsg(3))."""
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from uringloop.ring.abi cimport cmsghdr, msghdr, sockaddr_storage


cdef struct control_message:
    int level
    int type
    const char* data
    size_t length            # as much as there was room for


cdef struct control_walk:
    const char* place
    size_t left


cdef inline control_walk walk_control(const msghdr* message) noexcept:
    """From the first control message that was received; see ``next_message``."""
    cdef control_walk walk
    walk.place = <const char*>message.msg_control
    walk.left = message.msg_controllen
    return walk


cdef inline bint next_message(control_walk* walk, control_message* found) noexcept:
    """Whether there is one more, which is then ``found``."""
    cdef cmsghdr header
    cdef size_t step
    if walk.left < sizeof(header):
        return False
    memcpy(&header, walk.place, sizeof(header))
    if header.cmsg_len < sizeof(header):
        return False
    found.level = header.cmsg_level
    found.type = header.cmsg_type
    found.data = walk.place + sizeof(header)
    found.length = min(header.cmsg_len, walk.left) - sizeof(header)
    step = (header.cmsg_len + sizeof(size_t) - 1) // sizeof(size_t) * sizeof(size_t)
    step = walk.left if header.cmsg_len >= walk.left else min(step, walk.left)
    walk.place += step
    walk.left -= step
    return True


cdef class PassedFiles:
    cdef int* fds
    cdef size_t count


cdef list received_ancdata(const msghdr* message, bint without_size)
cdef void close_descriptors(const msghdr* message) noexcept
cpdef bytes packed_ancdata(object ancdata)
cpdef list unpacked_ancdata(bytes control)
cpdef int checked_flags(object flags) except? -1
cpdef tuple with_files_held(bytes control)
cpdef bytes joined_buffers(object buffers)
cpdef bytes packed_metadata(int fd, int family, object ecn, object source)
cdef int send_at_once(int fd, const char* base, size_t length, const char* control,
                      size_t control_length, int flags, const sockaddr_storage* address,
                      uint32_t address_length) noexcept
