"""Socket addresses between Python's tuples and the kernel's structures.

The servers this is made for answer the peers that they hear from.  So the
conversion each way remembers: a tuple that ``to_python`` made, or that a
program passes again, costs a table look-up.  What is not a plain numeric
address goes the slow way, which follows CPython's ``getsockaddrarg``:
the same exceptions with the same words.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_INCREF
from libc.limits cimport INT_MAX, INT_MIN
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from uringloop.ring.abi cimport AF_INET, AF_INET6, AF_UNIX, sockaddr_storage

import operator
import os
import socket


cdef extern from "<arpa/inet.h>" nogil:
    const char* inet_ntop(int, const void*, char*, unsigned)
    int inet_pton(int, const char*, void*)
    uint16_t htons(uint16_t)
    uint16_t ntohs(uint16_t)
    uint32_t htonl(uint32_t)
    uint32_t ntohl(uint32_t)

cdef extern from "<netinet/in.h>" nogil:
    struct in_addr:
        uint32_t s_addr
    struct in6_addr:
        uint8_t s6_addr[16]
    struct sockaddr_in:
        unsigned short sin_family
        uint16_t sin_port
        in_addr sin_addr
    struct sockaddr_in6:
        unsigned short sin6_family
        uint16_t sin6_port
        uint32_t sin6_flowinfo
        in6_addr sin6_addr
        uint32_t sin6_scope_id
    enum:
        INADDR_BROADCAST

cdef extern from "<sys/un.h>" nogil:
    struct sockaddr_un:
        unsigned short sun_family
        char sun_path[108]

cdef extern from "<string.h>" nogil:
    size_t strnlen(const char*, size_t)

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL
    object PyUnicode_DecodeFSDefaultAndSize(const char*, Py_ssize_t)


cdef enum:
    UNIX_PATH = 2     # offset of sun_path


cdef enum:
    FIRST_PLACES = 512
    MOST_PLACES = 8192     # of each table, which is then 400 KB


cdef inline uint32_t mix_address(const uint8_t* data, uint32_t length) noexcept:
    cdef uint64_t word, key = 0
    cdef uint32_t i = 0
    while i + 8 <= length:
        memcpy(&word, data + i, 8)
        key = (key ^ word) * <uint64_t>0x9e3779b97f4a7c15
        i += 8
    if i < length:
        word = 0
        memcpy(&word, data + i, length - i)
        key ^= word
    return mix(key ^ key >> 32)


cdef inline bint is_same(const void* one, const void* other, uint32_t length) noexcept:
    # Those of IPv4 without a call.
    return memcmp(one, other, 16) == 0 if length == 16 else memcmp(one, other, length) == 0


cdef class AddressCache:
    """The two tables of one loop.

    An address has two places; the older of two that are there goes when a third comes, and that
    only costs time.  When as many have gone as there are places, larger tables begin anew: so
    servers with thousands of peers have theirs, and others don't have the memory.
    """

    def __cinit__(self):
        self.make_tables(FIRST_PLACES)
        if self.places == 0:
            raise MemoryError

    def __dealloc__(self):
        self.clear()
        free(self.from_kernel)
        free(self.from_python)

    cdef void clear(self) noexcept:
        # Tuples of str and int: nothing that could run code when it goes.
        for i in range(self.places):
            Py_CLEAR(self.from_kernel[i].tuple)
            Py_CLEAR(self.from_python[i].tuple)

    cdef void make_tables(self, uint32_t places) noexcept:
        """Empty ones of that size; without memory those that there are stay."""
        cdef cached_address* from_kernel = <cached_address*>calloc(places, sizeof(cached_address))
        cdef cached_address* from_python = <cached_address*>calloc(places, sizeof(cached_address))
        self.displaced = 0
        if from_kernel is NULL or from_python is NULL:
            free(from_kernel)
            free(from_python)
            return
        self.clear()
        free(self.from_kernel)
        free(self.from_python)
        self.from_kernel = from_kernel
        self.from_python = from_python
        self.places = places

    cdef cached_address* kernel_entry(self, const void* address, uint32_t length) noexcept:
        """The first of the two places."""
        return &self.from_kernel[
            mix_address(<const uint8_t*>address, length) & (self.places - 2)]

    cdef object to_python(self, const void* address, uint32_t length):
        """What ``socket.recvfrom`` would return as the address."""
        cdef cached_address* entry
        cdef object made
        if length < 2 or length > 28:
            return make_tuple(address, length)
        entry = self.kernel_entry(address, length)
        if entry.length == length and is_same(entry.bytes, address, length) \
                and entry.tuple is not NULL:
            return <object>entry.tuple
        entry += 1
        if entry.length == length and is_same(entry.bytes, address, length) \
                and entry.tuple is not NULL:
            return <object>entry.tuple
        made = make_tuple(address, length)
        if type(made) is tuple:
            self.keep_both(made, address, length)
        return made

    cdef void keep_both(self, object made, const void* address, uint32_t length) noexcept:
        cdef int family = (<sockaddr_storage*>address).ss_family
        cdef cached_address* entry = self.kernel_entry(address, length)
        self.displaced += entry[1].tuple is not NULL
        if self.displaced > self.places and self.places < MOST_PLACES:
            self.make_tables(4 * self.places)
            entry = self.kernel_entry(address, length)
        keep(entry, made, address, length, family)
        # The answer will name this very tuple.
        keep(python_entry(self, made), made, address, length, family)

    cdef int to_kernel(
            self, object address, int family, sockaddr_storage* into, uint32_t* length) except -1:
        """Fill ``into`` as ``socket.sendto`` would; the same exceptions."""
        if recall(self, address, family, into, length):
            return 0
        if make_sockaddr(address, family, into, length):
            keep(python_entry(self, address), address, into, length[0], family)
        return 0


cdef void keep(cached_address* entry, object address, const void* data, uint32_t length,
               int family) noexcept:
    """At the first of two places: what was there has the second."""
    cdef PyObject* old = entry[1].tuple
    entry[1] = entry[0]
    Py_INCREF(address)
    entry.tuple = <PyObject*>address
    entry.length = length
    entry.family = family
    memcpy(entry.bytes, data, length)
    Py_CLEAR(old)


cdef object make_tuple(const void* address, uint32_t length):
    cdef char text[64]
    cdef const sockaddr_in* v4 = <const sockaddr_in*>address
    cdef const sockaddr_in6* v6 = <const sockaddr_in6*>address
    cdef const sockaddr_un* local = <const sockaddr_un*>address
    cdef uint32_t size
    if length < 2:
        return None
    if v4.sin_family == AF_INET:
        inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text))
        return (text.decode('ascii'), <int>ntohs(v4.sin_port))
    if v4.sin_family == AF_INET6:
        inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text))
        return (text.decode('ascii'), <int>ntohs(v6.sin6_port),
                ntohl(v6.sin6_flowinfo), v6.sin6_scope_id)
    if v4.sin_family == AF_UNIX:
        size = length - UNIX_PATH
        if size > 0 and local.sun_path[0] == 0:   # the abstract namespace
            return PyBytes_FromStringAndSize(local.sun_path, size)
        size = strnlen(local.sun_path, size)
        # (``os.fsdecode`` is Python code, which a signal may interrupt: what has come were lost.)
        return PyUnicode_DecodeFSDefaultAndSize(local.sun_path, size)
    return (<int>v4.sin_family,
            PyBytes_FromStringAndSize(<const char*>address + UNIX_PATH, length - UNIX_PATH))


cdef bint make_sockaddr(object address, int family, sockaddr_storage* into,
                        uint32_t* length) except -1:
    """Returns whether the result may be remembered by the tuple's identity."""
    if family == AF_INET:
        return make_inet(address, <sockaddr_in*>into, length)
    if family == AF_INET6:
        return make_inet6(address, <sockaddr_in6*>into, length)
    if family == AF_UNIX:
        return make_unix(address, <sockaddr_un*>into, length)
    raise OSError(f'address family {family} is not supported')


cdef bint make_inet(object address, sockaddr_in* into, uint32_t* length) except -1:
    if not isinstance(address, tuple):
        raise TypeError(
            f'sendto(): AF_INET address must be tuple, not {type(address).__name__}: {address!r}')
    cdef tuple parts = <tuple>address
    if len(parts) != 2:
        raise TypeError(f'AF_INET address must be a pair (host, port), not {address!r}')
    name = host_name(parts[0], address)
    port = port_number(parts[1], address)
    memset(into, 0, sizeof(sockaddr_in))
    into.sin_family = AF_INET
    numeric = set_host(AF_INET, name, &into.sin_addr)
    into.sin_port = htons(check_port(port, address))
    length[0] = sizeof(sockaddr_in)
    return numeric and is_fixed(address)


cdef bint make_inet6(object address, sockaddr_in6* into, uint32_t* length) except -1:
    if not isinstance(address, tuple):
        raise TypeError(
            f'sendto(): AF_INET6 address must be tuple, not {type(address).__name__}: {address!r}')
    cdef tuple parts = <tuple>address
    if not 2 <= len(parts) <= 4:
        raise TypeError('AF_INET6 address must be a tuple '
                        f'(host, port[, flowinfo[, scopeid]]), not {address!r}')
    name = host_name(parts[0], address)
    port = port_number(parts[1], address)
    flowinfo = operator.index(parts[2]) & 0xffffffff if len(parts) > 2 else 0
    scope = operator.index(parts[3]) & 0xffffffff if len(parts) > 3 else 0
    memset(into, 0, sizeof(sockaddr_in6))
    into.sin6_family = AF_INET6
    numeric = set_host(AF_INET6, name, into)
    into.sin6_port = htons(check_port(port, address))
    if flowinfo > 0xfffff:                        # CPython looks no further either
        raise OverflowError(f'sendto(): flowinfo must be 0-1048575, not {flowinfo}')
    into.sin6_flowinfo = htonl(<uint32_t>flowinfo)
    # A scope in the host ("fe80::1%eth0") is overridden, as in CPython.
    into.sin6_scope_id = <uint32_t>scope
    length[0] = sizeof(sockaddr_in6)
    return numeric and is_fixed(address)


cdef bint make_unix(object address, sockaddr_un* into, uint32_t* length) except -1:
    cdef Py_ssize_t size
    cdef Py_buffer view
    if isinstance(address, str):
        path = os.fsencode(address)
    else:
        PyObject_GetBuffer(address, &view, PyBUF_SIMPLE)
        path = PyBytes_FromStringAndSize(<char*>view.buf, view.len)
        PyBuffer_Release(&view)
    size = len(path)
    memset(into, 0, sizeof(sockaddr_un))
    into.sun_family = AF_UNIX
    if size > 108 or (size == 108 and path[0] != 0):
        raise OSError(f'AF_UNIX path too long: {address!r}')
    memcpy(into.sun_path, <const char*><bytes>path, size)
    length[0] = <uint32_t>(UNIX_PATH + size)
    return False


cdef bint is_fixed(object address) except -1:
    """Whether the tuple will mean the same next time."""
    if type(address) is not tuple or type(address[0]) is not str:
        return False
    for number in (<tuple>address)[1:]:
        if type(number) is not int:
            return False
    return True


cdef object port_number(object port, object address):
    """As an integer; what is none, or no C int, is not even looked at behind the host."""
    port = operator.index(port)
    if not INT_MIN <= port <= INT_MAX:
        check_port(port, address)
    return port


cdef uint16_t check_port(object port, object address) except? 0:
    if not 0 <= port <= 0xffff:
        raise OverflowError(f'sendto(): port must be 0-65535, not {port} in {address!r}')
    return port


cdef bytes host_name(object host, object address):
    """As the C library takes it."""
    if isinstance(host, (bytes, bytearray)):
        name = bytes(host)
    elif not isinstance(host, str):
        raise TypeError(
            f'str, bytes or bytearray expected, not {type(host).__name__}: {address!r}')
    else:
        # As in CPython: what is ASCII, and of no subclass, is not looked at any closer.
        plain = type(host) is str and host.isascii()
        try:
            name = host.encode('ascii' if plain else 'idna')
        except UnicodeError:
            raise TypeError(f'encoding of hostname failed: {host!r}') from None
    if 0 in name:
        raise TypeError(f'host name must not contain null character: {host!r}')
    return name


cdef bint set_host(int family, bytes name, void* into) except -1:
    """Returns whether the host was a plain number; names are resolved, blocking, as
    ``socket.sendto`` does it."""
    cdef void* place = into if family == AF_INET else &(<sockaddr_in6*>into).sin6_addr
    if inet_pton(family, <const char*>name, place) == 1:
        return True
    if name == b'':
        memset(place, 0, 4 if family == AF_INET else 16)
        return True
    if name == b'<broadcast>' or name == b'255.255.255.255':
        if family != AF_INET:
            raise OSError(f'address family mismatched: {name!r}')
        (<in_addr*>place).s_addr = INADDR_BROADCAST
        return True
    found = socket.getaddrinfo(name, None, family, socket.SOCK_DGRAM)[0][4]
    numeric = found[0].partition('%')[0].encode()
    inet_pton(family, numeric, place)
    return False


cdef bint is_number(int family, str host) except -1:
    """Whether ``host`` is an address, not a name to be looked up."""
    cdef Py_ssize_t size
    cdef uint8_t place[16]
    return '\0' not in host and inet_pton(family, PyUnicode_AsUTF8AndSize(host, &size), place) == 1
