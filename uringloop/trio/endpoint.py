"""A datagram endpoint for trio's tasks."""
from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import trio

from uringloop.datagram.protocol import DatagramProtocol
from uringloop.datagram.transport import DatagramTransport
from uringloop.loop import Loop
from uringloop.ring.zerocopy import SendReport
from uringloop.trio.bridge import host_loop, run_asyncio, until_done
from uringloop.trio.ticks import CURRENT, unpark

if TYPE_CHECKING:
    import socket

    from _typeshed import ReadableBuffer

    from uringloop.memory.registered import RegisteredBuffer

    _Batch = list[tuple[bytes, Any]]
    _Lent = ReadableBuffer | RegisteredBuffer


class Inbox(DatagramProtocol):
    """What the transport tells: kept until tasks ask, and no more of it than ``limit``."""

    transport: DatagramTransport

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.ticks = CURRENT.get()
        self.batch: _Batch = []
        self.error: Exception | None = None         # to be told by the next ``receive``
        self.of_send: list[Exception] | None = None     # what a send that goes on is told
        self.lost = self.broken = self.paused = self.full = False
        # Without a ring, asyncio's transports of Python 3.10 and the first of 3.11 cannot.
        self.can_pause = True
        self.why: Exception | None = None
        self.lent = 0                               # zero-copy sends whose memory is not ours
        self.readers = trio.lowlevel.ParkingLot()
        self.writers = trio.lowlevel.ParkingLot()
        self.enders = trio.lowlevel.ParkingLot()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, DatagramTransport)
        self.transport = transport

    def datagrams_received(self, batch: _Batch) -> None:
        if self.batch:
            self.batch += batch
        else:
            self.batch = batch
        if len(self.batch) >= self.limit:
            self.hold_on()
        unpark(self.readers, self.ticks, 1)

    def hold_on(self) -> None:
        """What comes now waits in the socket, or is dropped by the kernel."""
        if not self.paused:
            self.paused = True
            try:
                self.transport.pause_reading()
            except NotImplementedError:
                self.can_pause = False
        if not self.can_pause:
            del self.batch[self.limit:]

    def take(self) -> _Batch:
        """All that has come."""
        batch, self.batch = self.batch, []
        if self.paused:
            self.paused = False
            if self.can_pause and not self.transport.is_closing():
                self.transport.resume_reading()
        return batch

    def error_received(self, exc: Exception) -> None:
        if self.of_send is not None:
            self.of_send.append(exc)
        else:
            self.error = self.error or exc
            unpark(self.readers, self.ticks, 1)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        unpark(self.writers, self.ticks)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost, self.broken, self.why = True, exc is not None, exc
        for lot in self.readers, self.writers, self.enders:
            unpark(lot, self.ticks)

    def borrowed(self, future: asyncio.Future[SendReport]) -> None:
        """What was sent belongs to the kernel until then."""
        self.lent += 1
        future.add_done_callback(self.given_back)

    def given_back(self, future: asyncio.Future[SendReport]) -> None:
        self.lent -= 1
        if not future.cancelled():
            future.exception()          # its task may be gone, and nobody else asks
        if not self.lent:
            unpark(self.enders, self.ticks)


class DatagramEndpoint(trio.abc.AsyncResource):
    """A socket of datagrams on this loop, for trio's tasks; made by ``open_datagram_endpoint``.

    ``async for batch in endpoint`` has what has come, as lists of ``(data, addr)``.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._closed = False

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.transport!r}>'

    @property
    def transport(self) -> DatagramTransport:
        """The transport, for what needs no waiting: options, names, ``sendto`` in bulk."""
        return self._inbox.transport

    @property
    def address(self) -> Any:
        """The local address, as ``socket.getsockname`` has it."""
        return self.transport.get_extra_info('sockname')

    # -- receiving -------------------------------------------------------------------------------

    async def receive(self) -> _Batch:
        """All that has come since, in its order; waits until there is something.

        Of several tasks that wait one gets it.  OSError: what the network has told
        (ECONNREFUSED); the endpoint goes on.
        """
        inbox = self._inbox
        if self._closed or inbox.batch or inbox.error is not None or inbox.lost:
            await trio.lowlevel.checkpoint()
        while True:
            if self._closed:
                self._check()
            if inbox.batch:
                return inbox.take()
            if inbox.error is not None:
                error, inbox.error = inbox.error, None
                raise error
            if inbox.lost:
                self._check()
            await inbox.readers.park()

    def __aiter__(self) -> DatagramEndpoint:
        return self

    async def __anext__(self) -> _Batch:
        return await self.receive()

    # -- sending ---------------------------------------------------------------------------------

    async def send(self, data: ReadableBuffer, addr: Any = None) -> None:
        """Send a datagram; waits while the socket has no room.

        It is ``transport.sendto``: ``bytes`` of 16 KiB or more go zero-copy by themselves.
        OSError: what the network says.  Cancelled: it was not sent.
        """
        await self.send_many((data,), addr)

    async def send_many(
            self, buffers: Iterable[ReadableBuffer | tuple[ReadableBuffer, Any]],
            addr: Any = None) -> None:
        """Send many datagrams, which leave together: buffers, or pairs ``(data, addr)``.

        What ``receive`` has returned can be given to it.  As ``send``; an error is that of the
        first that has one, and the others leave.
        """
        await self._room()
        inbox = self._inbox
        errors: list[Exception] = []
        inbox.of_send = errors
        try:
            self.transport.sendto_many(buffers, addr)
        finally:
            inbox.of_send = None
        await trio.lowlevel.cancel_shielded_checkpoint()
        if errors:
            raise errors[0]

    async def send_zerocopy(
            self, data: _Lent, addr: Any = None, *,
            segment_size: int | None = None) -> SendReport:
        """Send any buffer without copying it, and wait until the kernel has let go of it.

        As ``transport.sendto_zerocopy``.  Where it is cancelled the datagram may leave all the
        same, and the kernel reads the buffer until ``wait_released`` returns: leave it alone.
        """
        await self._room()
        return await self._reported(
            self.transport.sendto_zerocopy(data, addr, segment_size=segment_size))

    async def send_many_zerocopy(
            self, buffers: Iterable[_Lent | tuple[_Lent, Any]], addr: Any = None) -> SendReport:
        """Send many datagrams without copying them: as ``send_zerocopy``, with one report."""
        await self._room()
        return await self._reported(self.transport.sendto_many_zerocopy(buffers, addr))

    async def wait_released(self) -> None:
        """Wait until the kernel has let go of all that was sent zero-copy, cancelled or not."""
        await trio.lowlevel.checkpoint()
        while self._inbox.lent:
            await self._inbox.enders.park()

    async def _room(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check()
        while self._inbox.full:
            await self._inbox.writers.park()
            self._check()

    async def _reported(self, future: asyncio.Future[SendReport]) -> SendReport:
        if future.done():
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            self._inbox.borrowed(future)
            await until_done(future)
        return future.result()

    # -- the end ---------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError('this endpoint was closed')
        if self._inbox.broken:
            raise trio.BrokenResourceError(str(self._inbox.why)) from self._inbox.why
        if self._inbox.lost or self.transport.is_closing():
            raise trio.ClosedResourceError("this endpoint's transport was closed")

    def close(self) -> None:
        """Receive no more; what waits for room is sent.

        Tasks that wait here get ClosedResourceError.
        """
        self._closed = True
        self.transport.close()
        unpark(self._inbox.readers, self._inbox.ticks)
        unpark(self._inbox.writers, self._inbox.ticks)

    async def aclose(self) -> None:
        """``close``, and wait until the socket is closed and all buffers are let go of.

        Cancelled: what waits for room is dropped; the kernel may still have buffers.
        """
        self.close()
        try:
            await trio.lowlevel.checkpoint()
            while self._inbox.lent or not self._inbox.lost:
                await self._inbox.enders.park()
        except trio.Cancelled:
            self.transport.abort()
            raise


async def open_datagram_endpoint(
        local_addr: Any = None, remote_addr: Any = None, *, receive_limit: int = 1024,
        batch: bool | None = None, gro: bool | None = None, drops: bool | None = None,
        family: int = 0, proto: int = 0, flags: int = 0, reuse_port: bool | None = None,
        allow_broadcast: bool | None = None,
        sock: socket.socket | None = None) -> DatagramEndpoint:
    """Make a ``DatagramEndpoint``, in a trio task.

    The options are those of ``loop.create_datagram_endpoint``, but for what is told with each
    datagram: that is for protocols.  Once ``receive_limit`` datagrams wait for a task to receive
    them nothing more is taken from the socket: the kernel keeps what its buffer has room for, and
    drops the rest.
    """
    if receive_limit < 1:
        raise ValueError(f'receive_limit must be at least 1, not {receive_limit}')
    try:
        inbox = Inbox(receive_limit)
    except RuntimeError:             # trio's: no task of its is running
        raise RuntimeError("open_datagram_endpoint is for trio's tasks: start trio by "
                           'uringloop.trio.run()') from None
    loop = host_loop()
    if not isinstance(loop, Loop):
        raise RuntimeError('this trio runs on another event loop: start it by uringloop.trio.run()')
    await run_asyncio(loop.create_datagram_endpoint(
        lambda: inbox, local_addr, remote_addr, batch=batch, gro=gro, drops=drops, family=family,
        proto=proto, flags=flags, reuse_port=reuse_port, allow_broadcast=allow_broadcast,
        sock=sock))
    return DatagramEndpoint(inbox)
