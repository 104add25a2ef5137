"""What ``get_extra_info`` tells of a transport's socket."""
from uringloop.ring.addresses cimport AddressCache

cdef object name_of(AddressCache addresses, object sock, int family, bint peer)
