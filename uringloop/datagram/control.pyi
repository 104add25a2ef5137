"""Control messages: what a system call takes and gives besides a datagram's bytes (cmsg(3))."""
from collections.abc import Iterable

from _typeshed import ReadableBuffer

def packed_ancdata(ancdata: Iterable[tuple[int, int, ReadableBuffer]]) -> bytes:
    """What ``socket.sendmsg`` makes of it for the kernel; the same exceptions."""

def unpacked_ancdata(control: bytes) -> list[tuple[int, int, bytes]]:
    """The list that ``packed_ancdata`` was given, or one like it."""

class PassedFiles:
    """Copies of the descriptors that a message passes, closed with this."""

def checked_flags(flags: int) -> int:
    """The flags of ``sendmsg``.  ValueError: what is sent is memory that is let go of at once."""

def with_files_held(control: bytes) -> tuple[bytes, PassedFiles | None]:
    """``(control, files)``: for a message that has to wait, as long as ``files`` is kept.

    The program may close, once it has sent, the descriptors that it passes (unix(7)), and their
    numbers may be other files by then.  OSError: there are none left, or what is passed is none.
    """

def joined_buffers(buffers: Iterable[ReadableBuffer]) -> bytes:
    """The datagram that ``socket.sendmsg`` makes of them; the same exceptions."""

def packed_metadata(fd: int, family: int, ecn: int | None, source: str | None) -> bytes:
    """The control messages for a datagram with that ECN codepoint, from that address.

    ValueError for what is none, or where the family has none.
    """
