"""``CopyingLoop``: asyncio's own loop, with what ``uringloop.Loop`` has besides."""
from __future__ import annotations

import asyncio
import contextlib
import itertools
import operator
import socket
import sys
from asyncio import base_events
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from uringloop.copying.datagrams import CopyingDatagramTransport
from uringloop.copying.kinds import made_of
from uringloop.copying.outgoing import DONTWAIT, call_each, pieces_of
from uringloop.copying.readiness import ERROR, READABLE, WRITABLE, Readiness
from uringloop.copying.streams import CopyingStreamTransport, is_lent
from uringloop.core.lender import Lender
from uringloop.datagram.metadata import check_asked
from uringloop.datagram.protocol import check_protocol, untold, warn_or_abort
from uringloop.loop import Loop
from uringloop.memory.pools import BufferPool
from uringloop.memory.registered import RegisteredBuffer
from uringloop.options import check_names, check_switches
from uringloop.ring.zerocopy import SendReport
from uringloop.stats import LoopStats

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_Result = TypeVar('_Result')

UDP_GRO = 104                # linux/udp.h

_SelectorEventLoop = asyncio.SelectorEventLoop


class CopyingLoop(Lender, _SelectorEventLoop):
    """asyncio's own loop, with what ``uringloop.Loop`` has besides; nothing of io_uring in it."""

    # Of the datagram transport that asyncio makes next: metadata.Asked, and whether its socket
    # is asyncio's.
    _asked_next = (0, False)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        try:
            self._readiness = Readiness(self)
        except OSError:
            super().close()
            raise

    # So that isinstance() tells on both loops that there is the further API; type() tells them
    # apart.  It may be a class of the program's that is made of it.
    _seems: type = Loop

    @property
    def __class__(self) -> type:
        return self._seems

    @__class__.setter
    def __class__(self, kind: type) -> None:
        object.__dict__['__class__'].__set__(self, made_of(CopyingLoop, kind))

    def __repr__(self) -> str:
        return (f'<{type(self).__name__} running={self.is_running()} closed={self.is_closed()} '
                f'debug={self.get_debug()}>')

    def stats(self) -> LoopStats:
        """The counters of ``uringloop.Loop.stats()``; those of the ring are 0."""
        nothing = dict.fromkeys(LoopStats._fields, 0)
        return LoopStats(**nothing | self._counted.as_dict())

    def close(self) -> None:
        """As asyncio's; what is registered is given up, and who waits for a report cancelled."""
        try:
            if not self.is_running():
                self._drop_queues()
        finally:
            super().close()
        self._readiness.close()
        self._close_lender()

    def _drop_queues(self) -> None:
        own: Any = self
        call_each([
            partial(transport._drop_queue, lambda _, report: report.future.cancel())
            for transport in list(own._transports.values())
            if isinstance(transport, CopyingDatagramTransport)])

    # -- memory ----------------------------------------------------------------------------------

    def create_buffer_pool(
            self, count: int, size: int, *, hugepages: bool = False) -> BufferPool:
        """As ``uringloop.Loop.create_buffer_pool``, of memory that is not registered."""
        return BufferPool(self, count, size, hugepages)

    def register_buffer(self, obj: WriteableBuffer) -> RegisteredBuffer:
        """As ``uringloop.Loop.register_buffer``; there is nothing to register it with."""
        return RegisteredBuffer(self, obj)

    # -- transports ------------------------------------------------------------------------------

    async def create_datagram_endpoint(  # type: ignore[override]
            self, protocol_factory: Callable[[], asyncio.BaseProtocol], *args: Any,
            batch: bool | None = None, gro: bool | None = None, ecn: bool | None = None,
            pktinfo: bool | None = None, timestamps: bool | None = None,
            drops: bool | None = None, **options: Any) -> tuple[
                asyncio.DatagramTransport, asyncio.BaseProtocol]:
        """As ``uringloop.Loop.create_datagram_endpoint``.

        But nothing ever waits for the end of its turn, nor comes put together, whatever ``batch``
        and ``gro`` say.
        """
        metadata = {'ecn': ecn, 'pktinfo': pktinfo, 'timestamps': timestamps, 'drops': drops}
        check_names(options)
        check_switches(batch=batch, gro=gro, **metadata)
        sock = options.get('sock')
        if gro and sock is not None:
            with contextlib.suppress(OSError):
                # By a program that leaves the cutting to the loop.
                sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 0)
        asked = check_asked(getattr(sock, 'family', options.get('family', 0)), metadata)

        def make_protocol() -> asyncio.BaseProtocol:
            protocol = protocol_factory()
            self._asked_next = asked, sock is None       # asyncio makes the transport next
            return protocol

        transport, protocol = await super().create_datagram_endpoint(
            make_protocol, *args, **options)
        told = transport.get_protocol()          # None: it has closed by now
        text = untold(told, metadata) if told is not None else ''
        if text:
            warn_or_abort(text, transport)
        return transport, protocol

    def _make_datagram_transport(
            self, sock: socket.socket, protocol: asyncio.BaseProtocol, *arguments: Any,
            **options: Any) -> CopyingDatagramTransport:
        (asked, own), self._asked_next = self._asked_next, (0, False)
        check_protocol(protocol, sock if own else None)
        self._check_no_transport(sock)
        transport = CopyingDatagramTransport(self, sock, protocol, *arguments, **options)
        if asked:
            transport._receive_metadata(asked)
        return transport

    def _make_socket_transport(
            self, sock: socket.socket, *arguments: Any, **options: Any) -> CopyingStreamTransport:
        self._check_no_transport(sock)
        return CopyingStreamTransport(self, sock, *arguments, **options)

    def _check_no_transport(self, sock: socket.socket) -> None:
        if sys.version_info >= (3, 12):          # as asyncio
            own: Any = self
            own._ensure_fd_no_transport(sock)

    # -- sockets ---------------------------------------------------------------------------------

    def sock_sendto_zerocopy(
            self, sock: socket.socket, data: ReadableBuffer | RegisteredBuffer, address: Any, *,
            segment_size: int | None = None) -> asyncio.Future[SendReport]:
        """Send any buffer, by copying: as ``uringloop.Loop.sock_sendto_zerocopy``."""
        pieces = pieces_of(self._content(data), segment_size)
        future: asyncio.Future[SendReport] = self.create_future()
        done = sent = 0
        try:
            while done < len(pieces):
                sent += self._send_piece(sock, pieces[done], address)
                done += 1
        except (BlockingIOError, InterruptedError):
            return self.create_task(self._send_pieces(sock, pieces[done:], address, sent))
        except OSError as exc:
            if not done:
                raise
            future.set_exception(exc.with_traceback(None))       # which would hold the memory
        else:
            future.set_result(SendReport(sent, True))
        return future

    async def _send_pieces(
            self, sock: socket.socket, pieces: list[bytes], address: Any, sent: int) -> SendReport:
        for piece in pieces:
            sent += await self._retry_until_ready(
                sock, WRITABLE, self._send_piece, sock, piece, address)
        return SendReport(sent, True)

    def _send_piece(self, sock: socket.socket, piece: bytes, address: Any) -> int:
        sent = sock.sendto(piece, DONTWAIT, address)
        self._counted.datagrams_sent += 1
        self._counted.zerocopy_sent += 1
        self._counted.zerocopy_copied += 1
        return sent

    async def sock_sendmsg(
            self, sock: socket.socket, buffers: Iterable[ReadableBuffer],
            ancdata: Iterable[tuple[int, int, ReadableBuffer]] = (), flags: int = 0,
            address: Any = None) -> int:
        """As ``uringloop.Loop.sock_sendmsg``."""
        flags = operator.index(flags) | DONTWAIT
        views = [memoryview(buffer) for buffer in buffers]      # a lease may be released meanwhile
        del buffers                             # an exception would keep them
        destination = () if address is None else (address,)
        try:
            return await self._retry_until_ready(
                sock, WRITABLE, sock.sendmsg, views, list(ancdata), flags, *destination)
        finally:
            for view in views:
                view.release()

    async def sock_recvmsg(
            self, sock: socket.socket, bufsize: int, ancbufsize: int = 0,
            flags: int = 0) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        """As ``uringloop.Loop.sock_recvmsg``."""
        flags = operator.index(flags) | DONTWAIT
        # (AF_UNIX has no error queue, and takes no notice of the flag.)
        errors = flags & socket.MSG_ERRQUEUE and sock.family != socket.AF_UNIX
        return await self._retry_until_ready(
            sock, ERROR if errors else READABLE, sock.recvmsg, bufsize, ancbufsize, flags)

    async def sock_sendall(self, sock: socket.socket, data: Any) -> None:
        """As asyncio's, of leases too."""
        if is_lent(data) or isinstance(data, RegisteredBuffer):
            data = self._content(data, False)
        await super().sock_sendall(sock, data)

    async def sock_sendto(self, sock: socket.socket, data: Any, address: Any) -> int:
        """As asyncio's, of leases too."""
        if is_lent(data) or isinstance(data, RegisteredBuffer):
            data = self._content(data)
        if hasattr(_SelectorEventLoop, 'sock_sendto'):
            sent: int = await super().sock_sendto(sock, data, address)
        else:
            sent = await self._retry_until_ready(sock, WRITABLE, sock.sendto, data, address)
        self._counted.datagrams_sent += 1
        return sent

    if not hasattr(_SelectorEventLoop, 'sock_recvfrom'):       # new in Python 3.11
        async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> tuple[bytes, Any]:
            """As asyncio's of later versions."""
            return await self._retry_until_ready(sock, READABLE, sock.recvfrom, bufsize)

        async def sock_recvfrom_into(
                self, sock: socket.socket, buf: Any, nbytes: int = 0) -> tuple[int, Any]:
            """As asyncio's of later versions."""
            return await self._retry_until_ready(
                sock, READABLE, sock.recvfrom_into, buf, nbytes or len(buf))

    async def _retry_until_ready(
            self, sock: socket.socket, events: int, method: Callable[..., _Result],
            *arguments: Any) -> _Result:
        """Ask the socket, until it need not wait."""
        base_events._check_ssl_socket(sock)  # type: ignore[attr-defined]
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError('the socket must be non-blocking')
        fd, call = sock.fileno(), object()
        errors = 0               # in a row, and nothing else
        try:
            for tries in itertools.count():
                try:
                    return method(*arguments)
                except (BlockingIOError, InterruptedError):
                    pass
                errors = errors + 1 if await self._readiness.wait(call, sock, events) else 0
                if events == WRITABLE and sock.family == socket.AF_UNIX:
                    # One that is not connected is writable at any time: let others run.
                    await asyncio.sleep(0 if tries < 2 else 0.001 * (1 << min(tries - 2, 4)))
                elif errors > 1:
                    # So is one ready, at any time, that has an error which nobody reads.
                    await asyncio.sleep(0.001 * (1 << min(errors - 2, 4)))
        finally:
            self._readiness.leave(call, sock, fd)
        raise AssertionError
