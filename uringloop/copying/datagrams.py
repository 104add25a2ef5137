"""asyncio's datagram transport, with what ``uringloop.DatagramTransport`` has besides."""
from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import os
import socket
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from uringloop.copying.streams import is_lent
from uringloop.datagram.control import (
    checked_flags,
    joined_buffers,
    packed_ancdata,
    packed_metadata,
    unpacked_ancdata,
    with_files_held,
)
from uringloop.datagram.metadata import ask, ask_for_errors, info_of
from uringloop.datagram.protocol import check_methods, method_of, takes_errors
from uringloop.datagram.transport import (
    AsyncioTransport,
    DatagramTransport,
    check_data,
    items_of,
    pair,
)
from uringloop.memory.registered import RegisteredBuffer
from uringloop.ring.trains import check_segment_size
from uringloop.ring.zerocopy import SendReport

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from uringloop.core.counters import Counters
    from uringloop.memory.leases import Lease

    # What is told of a datagram: None if it has left, or why not.
    _Told = Callable[[Exception | None], None]

CONTROL_ROOM = 2048
ERRORS_AT_ONCE = 32
SCM_PIDFD = 4                # Linux 6.5; the socket module has no name for it
# What a send fails by that has no other's error to tell.
OF_THIS_ONE = (errno.EAGAIN, errno.EINTR, errno.EBADF, errno.EMSGSIZE)

# As asyncio: see ``uringloop.datagram.transport``.
EMPTY_ALLOWED = sys.version_info >= (3, 13)


def _close_descriptors(ancdata: list[tuple[int, int, bytes]]) -> None:
    """Nobody is given the descriptors that have come: they are not to stay open."""
    for level, kind, data in ancdata:
        if level == socket.SOL_SOCKET and kind in (socket.SCM_RIGHTS, SCM_PIDFD):
            for fd in array.array('i', data[:len(data) // 4 * 4]):
                if fd >= 0:
                    os.close(fd)


def pieces_of(content: bytes, segment_size: int | None) -> list[bytes]:
    """The datagrams that ``content`` leaves as."""
    size = check_segment_size(segment_size)
    if not size or len(content) <= size:
        return [content]
    return [content[start:start + size] for start in range(0, len(content), size)]


class _Datagram(bytes):
    """One of which somebody is to hear that it has left, or why not.

    It is so also while it waits in asyncio's queue.
    """

    told: _Told | None       # None: asyncio tells the protocol

    def __bytes__(self) -> bytes:
        return self               # asyncio makes ``bytes`` of what it queues

    def __bool__(self) -> bool:
        return True               # before Python 3.13 asyncio leaves empty ones out


class _Message(_Datagram):
    """One that has control messages and flags."""

    ancdata: list[tuple[int, int, Any]]
    flags: int
    files: object            # that it passes: they are open until it is gone


class _Report:
    """A future of ``SendReport``, of one datagram or several."""

    def __init__(self, future: asyncio.Future[SendReport], counters: Counters) -> None:
        self.future = future
        self.counters = counters
        self.nbytes = 0
        self.due = 1                 # those still to be told of, and until ``close`` one more
        self.any = False             # of none the kernel has copied any
        self.error: Exception | None = None

    def add(self, nbytes: int) -> None:
        """There is one more to be told of."""
        self.nbytes += nbytes
        self.any = True
        self.due += 1

    def told(self, error: Exception | None) -> None:
        """One has left, or has not: the first error is the future's, once all have been tried."""
        if error is None:
            self.counters.zerocopy_sent += 1
            self.counters.zerocopy_copied += 1
        else:
            self.failed(error)
        self.close()

    def failed(self, error: Exception) -> None:
        """What the future tells, unless there was an error before."""
        self.error = self.error or error

    def close(self) -> None:
        """There is one less to be told of; or all have been added."""
        self.due -= 1
        if self.due or self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(SendReport(self.nbytes, self.any))


class _CountingSocket:
    """A transport's socket: counts datagrams, and says of each ``_Datagram`` what became of it."""

    takes_errors = False     # the protocol hears of what the network says by the error queue

    def __init__(self, sock: socket.socket, counters: Counters) -> None:
        self._sock = sock
        self._counters = counters

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def send(self, data: bytes) -> int:
        if isinstance(data, _Message):
            return self._counted(data, self._sock.sendmsg, [data], data.ancdata, data.flags)
        return self._counted(data, self._sock.send, data)

    def sendto(self, data: bytes, address: Any) -> int:
        if isinstance(data, _Message):
            return self._counted(
                data, self._sock.sendmsg, [data], data.ancdata, data.flags, address)
        return self._counted(data, self._sock.sendto, data, address)

    def recvfrom(self, size: int) -> tuple[bytes, Any]:
        received = self._sock.recvfrom(size)
        self._counters.datagrams_received += 1
        return received

    def recvmsg(
            self, size: int, control_size: int,
            flags: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        received = self._sock.recvmsg(size, control_size, flags)
        self._counters.datagrams_received += 1
        return received

    def error_message(
            self, size: int,
            control_size: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        return self._sock.recvmsg(size, control_size, socket.MSG_ERRQUEUE)

    def _counted(self, data: bytes, method: Callable[..., int], *arguments: Any) -> int:
        told = data.told if isinstance(data, _Datagram) else None
        try:
            try:
                method(*arguments)
            except OSError as exc:
                if not self.takes_errors or exc.errno in OF_THIS_ONE:
                    raise
                method(*arguments)       # that was of another datagram, and this one was not tried
        except (BlockingIOError, InterruptedError):
            raise
        except Exception as exc:
            self._counters.datagrams_dropped += 1
            if told is None:
                raise
            # And not the protocol.  A traceback would keep what was sent, a lease's view say.
            told(exc.with_traceback(None))
        else:
            self._counters.datagrams_sent += 1
            if told is not None:
                told(None)
        return len(data)


def _is_of_the_network(error: Exception) -> bool:
    """Whether it is the answer to a datagram, and not to an address that is none."""
    return isinstance(error, OSError) and not isinstance(error, socket.gaierror) \
        and error.errno is not None


class CopyingDatagramTransport(AsyncioTransport):  # type: ignore[misc]
    """asyncio's datagram transport, with the further calls of ``uringloop.DatagramTransport``."""

    _sock: Any
    _kind: type | None = None            # of the protocol that was looked at
    _method = 'datagram_received'        # that it has, and is called by
    _takes_errors = False
    _errors_asked = False                # the socket has IP_RECVERR, by us
    _asked = 0                           # of the kernel: metadata.Asked
    _drops = 0                           # that were told of last

    def __init__(self, loop: Any, sock: socket.socket, *arguments: Any) -> None:
        super().__init__(loop, sock, *arguments)
        self._home = loop                # asyncio forgets it when all is over
        self._counters = loop._counted
        self._sock = _CountingSocket(sock, self._counters)
        self._sock.takes_errors = self._takes_errors

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        # So that isinstance() tells on both loops that there are the further calls.
        return DatagramTransport

    def sendto(self, data: bytes | bytearray | memoryview | Lease, addr: Any = None) -> None:
        """Send a datagram; never waits.  As asyncio's, which takes no leases."""
        check_data(data)
        if self._conn_lost and (self._address or self._sock is None):
            self._drop()
            return
        if is_lent(data) or isinstance(data, RegisteredBuffer):
            data = self._home._content(data)
        super().sendto(data, addr)

    def sendto_zerocopy(
            self, data: ReadableBuffer | RegisteredBuffer, addr: Any = None, *,
            segment_size: int | None = None) -> asyncio.Future[SendReport]:
        """Send any buffer, by copying: as ``uringloop.DatagramTransport.sendto_zerocopy``."""
        content = self._home._content(data)
        pieces = pieces_of(content, segment_size)
        future: asyncio.Future[SendReport] = self._home.create_future()
        if self._conn_lost:
            self._refuse(future, len(pieces), len(content), 'bytes')
            return future
        report = _Report(future, self._counters)
        for piece in pieces:
            self._send(piece, addr, report)
        report.close()
        return future

    def sendto_many(
            self, buffers: Iterable[ReadableBuffer | tuple[ReadableBuffer, Any]],
            addr: Any = None) -> None:
        """Send many datagrams: as ``uringloop.DatagramTransport.sendto_many``."""
        for item in items_of(buffers):
            data, to = pair(item) if type(item) is tuple else (item, addr)
            content = self._home._content(data)
            if self._conn_lost:
                self._drop()
            elif content or EMPTY_ALLOWED:
                self._send(content, to, None)

    def sendto_many_zerocopy(
            self, buffers: Iterable[
                ReadableBuffer | RegisteredBuffer | tuple[ReadableBuffer | RegisteredBuffer, Any]],
            addr: Any = None) -> asyncio.Future[SendReport]:
        """Send many datagrams with one future: as ``uringloop.DatagramTransport`` does."""
        items = items_of(buffers)
        future: asyncio.Future[SendReport] = self._home.create_future()
        if self._conn_lost:
            self._refuse(future, len(items), len(items), 'datagrams')
            return future
        report = _Report(future, self._counters)
        try:
            for item in items:
                data, to = pair(item) if type(item) is tuple else (item, addr)
                self._send(self._home._content(data), to, report)
        except Exception as exc:
            report.failed(exc)
        finally:
            report.close()
        return future

    def sendmsg(
            self, buffers: Iterable[ReadableBuffer],
            ancdata: Iterable[tuple[int, int, ReadableBuffer]] = (), flags: int = 0,
            addr: Any = None) -> None:
        """Send one datagram with control messages: as ``uringloop.DatagramTransport.sendmsg``."""
        message = _Message(joined_buffers(buffers))
        packed = packed_ancdata(ancdata)
        message.flags = checked_flags(flags) | socket.MSG_DONTWAIT
        if self._sock is not None and self._sock.family == socket.AF_UNIX:
            try:
                packed, message.files = with_files_held(packed)
            except OSError as exc:
                self._counters.datagrams_dropped += 1
                self._tell_protocol(exc)
                return
        message.ancdata = unpacked_ancdata(packed)
        self._send_message(message, addr)

    def sendto_with(
            self, data: bytes | bytearray | memoryview | Lease, addr: Any = None, *,
            ecn: int | None = None, source: str | None = None) -> None:
        """Send a datagram with metadata: as ``uringloop.DatagramTransport.sendto_with``."""
        check_data(data)
        if self._sock is None:
            self._drop()
            return
        message = _Message(self._home._content(data))
        message.ancdata = unpacked_ancdata(packed_metadata(
            self._sock.fileno(), int(self._sock.family), ecn, source))
        message.flags = socket.MSG_DONTWAIT
        self._send_message(message, addr)

    def _send_message(self, message: _Message, addr: Any) -> None:
        if addr is None and self.get_extra_info('peername') is None and not self._conn_lost:
            raise TypeError('an address is needed: the socket is not connected')
        if self._conn_lost:
            self._drop()
        else:
            self._send(message, addr, None)

    # -- what becomes of them --------------------------------------------------------------------

    def _send(self, content: bytes, addr: Any, report: _Report | None) -> None:
        """Send a datagram, or queue it.

        Errors of the network are told to the report, or to the protocol; others are raised.
        """
        outcomes: list[Exception | None] = []
        datagram = content if isinstance(content, _Message) else _Datagram(content)
        datagram.told = outcomes.append
        super().sendto(datagram, addr)
        error = outcomes[0] if outcomes else None
        # Within the call, by a protocol that was told to pause.
        aborted = isinstance(error, ConnectionAbortedError) and error.errno is None
        if error is not None and not aborted and not _is_of_the_network(error):
            self._counters.datagrams_dropped -= 1
            raise error
        if report is not None:
            report.add(len(content))
        told = report.told if report is not None else None
        if not outcomes:
            datagram.told = told              # it waits for room
        elif told is not None:
            told(error)
        elif error is not None and not aborted:
            self._tell_protocol(error)

    def _tell_protocol(self, error: Exception) -> None:
        if self._protocol is None:
            return
        try:
            self._protocol.error_received(error)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._home.call_exception_handler({
                'message': f'Exception in callback {self!r}', 'exception': exc,
                'transport': self, 'protocol': self._protocol})

    # -- receiving -------------------------------------------------------------------------------

    def _receive_metadata(self, asked: int) -> None:
        ask(self._sock, asked)
        self._asked = asked

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Call another protocol from now on."""
        check_methods(protocol)
        super().set_protocol(protocol)
        self._look_up()

    def _look_up(self) -> None:
        kind = type(self._protocol)
        if kind is self._kind or self._sock is None:
            return
        self._kind = kind
        self._method = method_of(kind)
        self._takes_errors = takes_errors(kind, self._sock.family)
        if isinstance(self._sock, _CountingSocket):
            self._sock.takes_errors = self._takes_errors
        if self._takes_errors and not self._errors_asked:
            self._errors_asked = True
            ask_for_errors(self._sock)

    def _read_ready(self) -> None:
        # One at a time, as asyncio does.
        self._look_up()
        if self._takes_errors:
            self._read_errors()
        if self._conn_lost or getattr(self, '_paused', False):
            return
        self._read_datagram()
        if self._errors_asked and not self._takes_errors:
            # A protocol before this one took them.  This one has been told, since the socket has
            # such an error, too; and whatever is left there, the socket is said to be ready.
            self._drop_errors()

    def _read_datagram(self) -> None:
        method = self._method
        if method == 'datagram_received' and not self._asked:
            super()._read_ready()
            return
        try:
            data, ancdata, flags, addr = self._sock.recvmsg(
                self.max_size, CONTROL_ROOM, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self._protocol.error_received(exc)
            return
        if method != 'datagram_msg_received':
            _close_descriptors(ancdata)
        info = info_of(ancdata, self._asked)
        self._counters.datagrams_overflowed += (info.drops or self._drops) - self._drops
        self._drops = info.drops or self._drops
        told = (info,) if method.endswith('_with_info') else ()
        call = getattr(self._protocol, method)
        if method == 'datagram_msg_received':
            call(data, ancdata, int(flags) & ~int(socket.MSG_CMSG_CLOEXEC), addr)
        elif method.startswith('datagram_train_received'):
            call(data, len(data) or 1, addr, *told)
        elif method.startswith('datagrams_received'):
            call([(data, addr, *told)])
        else:
            call(data, addr, *told)

    def _read_errors(self) -> None:
        for _ in range(ERRORS_AT_ONCE):
            if self._conn_lost or getattr(self, '_paused', False) or not self._takes_errors:
                return
            try:
                error = self._sock.error_message(self.max_size, CONTROL_ROOM)
            except OSError:
                return
            self._protocol.datagram_errqueue_received(*error)

    def _drop_errors(self) -> None:
        with contextlib.suppress(OSError):
            while self._sock is not None:
                self._sock.error_message(0, 0)

    def _refuse(
            self, future: asyncio.Future[SendReport], dropped: int, count: int, of: str) -> None:
        self._counters.datagrams_dropped += dropped
        what = f'{count} {of} were' if count != 1 else f'1 {of.removesuffix("s")} was'
        future.set_exception(ConnectionAbortedError(f'{self!r} is closed: {what} not sent'))

    def _drop(self) -> None:
        self._counters.datagrams_dropped += 1
        self._conn_lost += 1

    def _force_close(self, exc: BaseException | None) -> None:
        queued = [] if self._conn_lost else list(self._buffer)
        super()._force_close(exc)
        self._counters.datagrams_dropped += len(queued)
        for data, _ in queued:
            # Futures; the protocol hears that the connection is lost.
            if isinstance(data, _Datagram) and data.told is not None:
                data.told(ConnectionAbortedError(
                    f'{self!r} was aborted: {len(data)} bytes were not sent'))
