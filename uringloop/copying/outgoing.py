"""What is sent: datagrams that may have to wait, and the futures that tell of them."""
from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable
from typing import Any

from uringloop.datagram.control import unpacked_ancdata, with_files_held
from uringloop.ring.interrupts import graver
from uringloop.ring.trains import check_segment_size
from uringloop.ring.zerocopy import SendReport

# A plain number: with a flag of the enum's a negative one becomes all flags that that knows.
DONTWAIT = int(socket.MSG_DONTWAIT)


def pieces_of(content: bytes, segment_size: int | None) -> list[bytes]:
    """The datagrams that ``content`` leaves as."""
    size = check_segment_size(segment_size)
    if not size or len(content) <= size:
        return [content]
    return [content[start:start + size] for start in range(0, len(content), size)]


def call_each(calls: Iterable[Callable[[], object]]) -> None:
    """Call all of them, though one may raise: the first exception is raised in the end."""
    problem = None
    for call in calls:
        try:
            call()
        except BaseException as exc:      # noqa: PERF203
            problem = graver(problem, exc)
    if problem is not None:
        try:
            raise problem
        finally:
            problem = None       # it would be in a frame of its own traceback


class Report:
    """A future of ``SendReport``, of one datagram or several."""

    def __init__(self, loop: Any, *, train: bool = False) -> None:
        self.loop = loop
        self.future: asyncio.Future[SendReport] = loop.create_future()
        self.train = train           # what follows one that has failed is not sent
        self.nbytes = 0
        self.due = 1                 # those still to be told of, and until ``close`` one more
        self.any = False             # of none the kernel has copied any
        self.error: Exception | None = None

    def add(self) -> None:
        """There is one more to be told of."""
        self.any = True
        self.due += 1

    def told(self, nbytes: int, error: Exception | None) -> None:
        """One has left, or has not: the first error is the future's, once all have been tried."""
        if error is None:
            self.nbytes += nbytes
            self.loop._counted.zerocopy_sent += 1
            self.loop._counted.zerocopy_copied += 1
        elif self.error is None:
            # Its traceback would keep what was sent, a lease's view say, as long as somebody
            # has the future; and the future, which is in its frames, until the collector comes.
            self.error = error.with_traceback(None)
        self.close()

    def close(self) -> None:
        """There is one less to be told of; or all have been added."""
        self.due -= 1
        # Below zero: an interrupt came in here, and what it ended is done once more.
        if self.due > 0 or self.future.done():
            return
        try:
            if self.error is not None:
                self.future.set_exception(self.error)
            else:
                self.future.set_result(SendReport(self.nbytes, self.any))
        except Exception as exc:
            # A loop's own ``call_soon``: what waits behind this one is to leave all the same.
            self.loop.call_exception_handler({
                'message': f'Exception in telling of {self.future!r}', 'exception': exc,
                'future': self.future})


class Datagram:
    """One that is sent, and may have to wait."""

    __slots__ = 'content', 'report'

    def __init__(self, content: bytes, report: Report | None = None) -> None:
        self.content = content
        self.report = report         # None: the protocol hears of errors

    def __len__(self) -> int:
        return len(self.content)

    def leave_by(self, sock: socket.socket, *address: Any) -> int:
        """Send it; without an address, to where the socket is connected to."""
        if address:
            return sock.sendto(self.content, *address)
        return sock.send(self.content)

    def begin_to_wait(self) -> None:
        """It stays for a while: what it needs until it leaves is to stay, too."""

    def is_of_broken_train(self) -> bool:
        """Whether one before it has failed, and it is not to be sent therefore."""
        return self.report is not None and self.report.train and self.report.error is not None


class Message(Datagram):
    """One that has control messages and flags."""

    __slots__ = 'control', 'files', 'flags'

    def __init__(self, content: bytes, control: bytes, flags: int = 0) -> None:
        super().__init__(content)
        self.control = control
        self.flags = flags
        self.files: object = None    # that it passes: they are open until it is gone

    def leave_by(self, sock: socket.socket, *address: Any) -> int:
        return sock.sendmsg([self.content], unpacked_ancdata(self.control),
                            self.flags | DONTWAIT, *address)

    def begin_to_wait(self) -> None:
        self.control, self.files = with_files_held(self.control)


# Of each family one that looks at addresses, and sends nothing.
_closed_sockets: dict[int, socket.socket] = {}


def check_address(family: int, address: Any) -> None:
    """Raise what the socket module has against an address.

    What waits behind others would otherwise fail by it when the call is over.
    """
    if family not in _closed_sockets:
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM)
        except OSError:
            return               # no descriptor is left to make one: so it will fail later
        sock.close()
        _closed_sockets[family] = sock
    try:
        _closed_sockets[family].sendto(b'', address)
    except OSError as exc:
        if exc.errno != errno.EBADF:
            raise
