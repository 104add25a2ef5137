"""The socket of a datagram transport: it counts what leaves, comes and is dropped."""
from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uringloop.core.counters import Counters

    # What ``socket.recvmsg`` returns.
    _Received = tuple[bytes, list[tuple[int, int, bytes]], int, Any]

# What a send fails by that has no other's error to tell.
OF_THIS_ONE = (errno.EAGAIN, errno.EINTR, errno.EBADF, errno.EMSGSIZE, errno.ENOBUFS)


def is_of_the_network(error: OSError) -> bool:
    """Whether it is the answer to a datagram, and not to an address that is none."""
    return not isinstance(error, socket.gaierror) and error.errno is not None


class CountingSocket:
    """Stands in for a transport's socket; what is not counted goes on to that."""

    takes_errors = False     # the protocol hears of what the network says by the error queue

    def __init__(self, sock: socket.socket, counters: Counters) -> None:
        self.real = sock
        self._counters = counters

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def attempt(self, method: Callable[..., int], *arguments: Any) -> int:
        """Call ``method``, which sends a datagram, and count that if it has left."""
        if self.takes_errors:
            try:
                sent = method(*arguments)
            except OSError as exc:
                if exc.errno in OF_THIS_ONE or not is_of_the_network(exc):
                    raise
                # That was of another datagram, and this one was not tried.
            else:
                self._counters.datagrams_sent += 1
                return sent
        sent = method(*arguments)
        self._counters.datagrams_sent += 1
        return sent

    def recvfrom(self, size: int) -> tuple[bytes, Any]:
        # One byte more says whether there is more than that.
        data, addr = self.real.recvfrom(size + 1)
        self._counters.datagrams_received += 1
        self._counters.datagrams_truncated += len(data) > size
        return data[:size], addr

    def recvmsg(self, size: int, control_size: int, flags: int) -> _Received:
        received = self.real.recvmsg(size, control_size, flags)
        self._counters.datagrams_received += 1
        self._counters.datagrams_truncated += bool(received[2] & socket.MSG_TRUNC)
        return received

    def error_message(self, size: int, control_size: int) -> _Received:
        return self.real.recvmsg(size, control_size, socket.MSG_ERRQUEUE)
