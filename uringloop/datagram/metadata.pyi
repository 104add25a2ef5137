"""What is told of a datagram besides its bytes and its sender."""
from collections.abc import Iterable, Mapping
from socket import socket
from typing import final

from _typeshed import ReadableBuffer

@final
class DatagramInfo:
    """What the kernel has told of a datagram; None: what it was not asked for, or has not told.

    It doesn't change: datagrams of which the same is told may have one and the same.
    """

    def __init__(
            self, *, ecn: int | None = None, local_address: str | None = None,
            interface_index: int | None = None, timestamp_ns: int | None = None,
            drops: int | None = None) -> None: ...
    @property
    def ecn(self) -> int | None:
        """The codepoint of RFC 3168: 0 Not-ECT, 1 ECT(1), 2 ECT(0), 3 CE."""
    @property
    def local_address(self) -> str | None:
        """The address that it was sent to."""
    @property
    def interface_index(self) -> int | None:
        """Of the interface that it came through; ``socket.if_indextoname`` has the name."""
    @property
    def timestamp_ns(self) -> int | None:
        """When the kernel got it, in nanoseconds, as ``time.time_ns()``."""
    @property
    def drops(self) -> int | None:
        """How many the socket had no room for before it, since it was made."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

def info_of(ancdata: Iterable[tuple[int, int, ReadableBuffer]], asked: int) -> DatagramInfo:
    """The ``DatagramInfo`` of what ``socket.recvmsg`` has returned."""

def check_asked(family: int, switches: Mapping[str, bool | None]) -> int:
    """What an endpoint asks for, as a number; ValueError where the family has none of it."""

def ask(sock: socket, asked: int) -> None:
    """Have the kernel tell it with each datagram."""

def ask_for_errors(sock: socket) -> list[tuple[int, int]]:
    """Have the kernel queue what the network says of what was sent, for MSG_ERRQUEUE.

    Returns the options that were set for that: none that the program has set already.
    """

def ask_for_errors_no_longer(sock: socket, options: list[tuple[int, int]]) -> None:
    """Take back what ``ask_for_errors`` has set; the kernel empties the queue, too."""
