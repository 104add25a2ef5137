"""What the kernel tells of sockets: whether anything is still to be done with them.

A program's step has ended when nobody has anything to do any more.  That is asked of the kernel,
not of the clock, and neither of the loops.
"""
from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
from typing import NamedTuple

# struct tcp_info of linux/tcp.h: where the fields are that are looked at.
TCP_INFO_SIZE = 232
BYTES_RECEIVED, NOTSENT, BYTES_SENT, BYTES_RETRANS = 128, 144, 200, 208
FULL = 100_000                 # so many unread bytes: what is behind them may be stuck
HANGING_UP = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class Counters(NamedTuple):
    """Of a TCP socket."""

    received: int              # bytes that have come; the end counts as one
    sent: int                  # bytes that have left
    waiting: int               # bytes that have not left


def tcp_counters(fd: int) -> Counters:
    sock = socket.socket(fileno=fd)
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_SIZE)
    finally:
        sock.detach()
    sent, again = struct.unpack_from('=QQ', info, BYTES_SENT)
    return Counters(struct.unpack_from('=Q', info, BYTES_RECEIVED)[0], sent - again,
                    struct.unpack_from('=I', info, NOTSENT)[0])


def polled(fd: int, events: int) -> int:
    """Which of these events a descriptor has now; and POLLHUP and POLLERR, asked for or not."""
    poll = select.poll()
    poll.register(fd, events)
    found = poll.poll(0)
    return found[0][1] if found else 0


def is_busy(pid: int) -> bool:
    """Whether this process, or a child of it, has something to do: none that wait or have ended."""
    try:
        with open(f'/proc/{pid}/stat', 'rb') as stat:
            state = stat.read().rpartition(b')')[2].split()[0]
        with open(f'/proc/{pid}/task/{pid}/children', 'rb') as children:
            found = children.read().split()
    except OSError:
        return False                 # it has ended while it was looked at
    return state not in (b'S', b'Z') or any(is_busy(int(child)) for child in found)


def has_ended(pid: int) -> bool:
    """Whether this process has: it may wait to be asked for its status."""
    try:
        with open(f'/proc/{pid}/stat', 'rb') as stat:
            return stat.read().rpartition(b')')[2].split()[0] in (b'Z', b'X')
    except OSError:
        return True


def unread(fd: int) -> int:
    """How many bytes wait to be read."""
    return struct.unpack('i', fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0]
