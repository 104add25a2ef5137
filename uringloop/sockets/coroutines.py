"""asyncio's ``sock_*`` coroutines: what does not wait is in ``methods``.

They are Python's own, not Cython's: those are awaited without an exception for
their result.
"""
from __future__ import annotations

import asyncio
import itertools
import operator
import select
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

from uringloop.core.plain_sockets import PLAIN_SOCKET
from uringloop.ring.reports import BatchReport
from uringloop.ring.zerocopy import SendReport
from uringloop.sockets.calls import SocketCall
from uringloop.sockets.methods import SocketCore

_Result = TypeVar('_Result')

# A plain number: with a flag of the enum's -1 becomes all flags that that knows.
_DONTWAIT = int(socket.MSG_DONTWAIT)

# From Python 3.11 on; for sockets that want to be asked themselves.
_ASYNCIO_HAS_DATAGRAMS = hasattr(asyncio.SelectorEventLoop, 'sock_sendto')

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from uringloop.memory.registered import RegisteredBuffer

    class _Core(SocketCore, asyncio.AbstractEventLoop):
        """What the loop is besides."""
else:
    _Core = object


def connect_is_known() -> bool:
    """Whether ``socket.socket.connect`` is Python's: a guard of a test suite's is to be asked."""
    return bool(PLAIN_SOCKET.connect is socket.SocketType.connect)


class SocketCoroutines(_Core):
    """asyncio's ``sock_*`` methods on the ring."""

    async def _wait_for(self, call: SocketCall, tries: int = 0) -> None:
        """Wait until the operation is done; when cancelled, call it back first.

        ``tries``: so often what waits was in vain.
        """
        try:
            await call.begin_to_wait()
        except BaseException:
            call.abandon()
            raise
        if tries and call.error_alone:
            # An error queue that nobody reads, say, is told of at any time: don't spin.
            await asyncio.sleep(0.001 * (1 << min(tries - 1, 4)))

    async def _wait_for_data(self, sock: socket.socket, tries: int) -> None:
        """Wait until there is something to receive."""
        await self._wait_for(self._poll_now(sock, select.POLLIN), tries)

    async def _wait_for_error(self, sock: socket.socket, tries: int) -> None:
        """Wait until there is something in the error queue, whatever there is to receive."""
        await self._wait_for(self._poll_now(sock, select.POLLERR), tries)

    async def _wait_for_room(self, sock: socket.socket, tries: int) -> None:
        """Wait until the socket takes more."""
        await self._wait_for(self._poll_now(sock, select.POLLOUT), tries)
        if tries and sock.family == socket.AF_UNIX:
            # One that is not connected is writable at any time: let others run, and don't spin.
            await asyncio.sleep(0 if tries < 2 else 0.001 * (1 << min(tries - 2, 4)))

    async def _retry_until_ready(
            self, sock: socket.socket, wait: Callable[[socket.socket, int], Awaitable[None]],
            method: Callable[..., _Result], *arguments: Any) -> _Result:
        """Ask the socket itself, until it need not wait."""
        for tries in itertools.count():
            try:
                return method(*arguments)
            except (BlockingIOError, InterruptedError):  # noqa: PERF203
                await wait(sock, tries)
        raise AssertionError

    # -- receiving -----------------------------------------------------------------------------

    async def sock_recv(self, sock: socket.socket, n: int) -> bytes:
        """Receive up to ``n`` bytes."""
        received = self._recv_now(sock, n)
        tries = 0
        while type(received) is SocketCall:
            await self._wait_for(received, tries)
            tries += 1
            received = self._recv_now(sock, n)
        if received is None:
            return await super().sock_recv(sock, n)
        return received  # type: ignore[return-value]

    async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> tuple[bytes, Any]:
        """Receive a datagram of up to ``bufsize`` bytes; returns ``(data, address)``."""
        received = self._recvfrom_now(sock, bufsize)
        tries = 0
        while type(received) is SocketCall:
            await self._wait_for(received, tries)
            tries += 1
            received = self._recvfrom_now(sock, bufsize)
        if received is None:
            if _ASYNCIO_HAS_DATAGRAMS:
                return await super().sock_recvfrom(sock, bufsize)
            return await self._retry_until_ready(
                sock, self._wait_for_data, sock.recvfrom, bufsize)
        return received  # type: ignore[return-value]

    async def sock_recv_into(self, sock: socket.socket, buf: WriteableBuffer) -> int:
        """Receive into the writable buffer ``buf``; returns the number of bytes."""
        received = self._recv_into_now(sock, buf)
        tries = 0
        while type(received) is SocketCall:
            await self._wait_for(received, tries)
            tries += 1
            received = self._recv_into_now(sock, buf)
        if received is None:
            return await super().sock_recv_into(sock, buf)
        return received  # type: ignore[return-value]

    async def sock_recvfrom_into(
            self, sock: socket.socket, buf: WriteableBuffer, nbytes: int = 0) -> tuple[int, Any]:
        """Receive a datagram into the writable ``buf``; returns ``(number of bytes, address)``."""
        received = self._recvfrom_into_now(sock, buf, nbytes)
        tries = 0
        while type(received) is SocketCall:
            await self._wait_for(received, tries)
            tries += 1
            received = self._recvfrom_into_now(sock, buf, nbytes)
        if received is None:
            if _ASYNCIO_HAS_DATAGRAMS:
                return await super().sock_recvfrom_into(sock, buf, nbytes)
            return await self._retry_until_ready(
                sock, self._wait_for_data, sock.recvfrom_into, buf,
                nbytes or len(buf))  # type: ignore[arg-type]
        return received  # type: ignore[return-value]

    # -- sending -------------------------------------------------------------------------------

    async def sock_sendto(self, sock: socket.socket, data: ReadableBuffer, address: Any) -> int:
        """Send a datagram; returns the number of bytes.

        Exact ``bytes`` and views of them may go zero-copy; the loop then keeps
        the reference until the kernel has let go.  A lease may be released as soon as this
        waits.  Any other buffer is sent or copied before that.
        """
        sent = self._send_now(sock, data, address)
        if sent is not None:
            return sent
        if not self._begin_call(sock):
            if _ASYNCIO_HAS_DATAGRAMS:
                return await super().sock_sendto(sock, data, address)
            return await self._retry_until_ready(
                sock, self._wait_for_room, sock.sendto, data, address)
        data = self._kept(data)
        try:
            tries = 0
            while sent is None:
                await self._wait_for_room(sock, tries)
                sent = self._send_now(sock, data, address)
                tries += 1
        finally:
            del data                            # an exception would keep it
        return sent

    def sock_sendto_zerocopy(
            self, sock: socket.socket, data: ReadableBuffer | RegisteredBuffer, address: Any, *,
            segment_size: int | None = None) -> asyncio.Future[SendReport]:
        """Send a datagram without copying it; returns a future of ``SendReport``.

        ``data`` may be any contiguous buffer, mutable too.  Leave it alone until the
        future is done: that is when the kernel has let go of it.  With ``segment_size`` the
        buffer leaves as datagrams of so many bytes, the last may be shorter (UDP_SEGMENT).
        """
        if segment_size is not None:
            future = self._send_trains(sock, data, address, segment_size)
            if future is not None:
                return future
        sending = self._send_zerocopy_now(sock, data, address)
        if type(sending) is BatchReport:
            return self.create_task(
                self._send_zerocopy_later(sending, sock, self._held(data), address))
        return cast('asyncio.Future[SendReport]', sending)

    async def _send_zerocopy_later(
            self, report: BatchReport, sock: socket.socket,
            data: ReadableBuffer | RegisteredBuffer, address: Any) -> SendReport:
        try:
            for tries in itertools.count():
                await self._wait_for_room(sock, tries)
                if self._send_zerocopy_again(sock, data, address, report):
                    break
        except OSError as exc:
            # The kernel may still read what was tried before.
            report.fail(exc.with_traceback(None))
        else:
            report.close()
        finally:
            del data                            # an exception would keep it
        return await report.future

    def _send_trains(
            self, sock: socket.socket, data: ReadableBuffer | RegisteredBuffer, address: Any,
            segment_size: int) -> asyncio.Future[SendReport] | None:
        """None: ``data`` is empty, which is a datagram too, but no train."""
        report = BatchReport(self.create_future())
        try:
            sent, total = self._send_trains_now(sock, data, address, 0, segment_size, report)
        except OSError as exc:
            if not report.due and not report.nbytes:
                raise
            # Some have left before, which the kernel may still read.
            report.fail(exc.with_traceback(None))
            return report.future
        if total == 0:
            return None
        if sent == total:
            report.close()
        else:
            held = self._held(data)
            waiting = self.create_task(self._send_trains_later(
                report, sent, sock,
                lambda start: self._send_trains_now(
                    sock, held, address, start, segment_size, report)))
            report.future.add_done_callback(lambda _: waiting.cancel())
        return report.future

    async def _send_trains_later(
            self, report: BatchReport, sent: int, sock: socket.socket,
            send_from: Callable[[int], tuple[int, int]]) -> None:
        try:
            total = sent + 1
            tries = 0
            while sent < total:
                await self._wait_for_room(sock, tries)
                before = sent
                sent, total = send_from(sent)
                tries = tries + 1 if sent == before else 0
        except Exception as exc:
            report.fail(exc.with_traceback(None))     # which would hold the memory
        except BaseException:                         # the task was cancelled, or is interrupted
            report.fail(asyncio.CancelledError())
            raise
        else:
            report.close()

    async def sock_sendall(self, sock: socket.socket, data: ReadableBuffer) -> None:
        """Send all of ``data`` to a connected socket."""
        if not self._begin_call(sock):
            return await super().sock_sendall(sock, data)
        sent, total = self._send_rest(sock, data, 0)
        if sent < total:
            data = self._held(data)             # so that it keeps its size meanwhile
            try:
                tries = 0
                while sent < total:
                    before = sent
                    await self._wait_for_room(sock, tries)
                    sent, total = self._send_rest(sock, data, sent)
                    tries = tries + 1 if sent == before else 0
            finally:
                del data                        # an exception would keep it
        return None

    async def sock_sendfile(
            self, sock: socket.socket, file: IO[bytes], offset: int = 0,
            count: int | None = None, *, fallback: bool | None = True) -> int:
        """Send a file by a connected socket; as asyncio's."""
        self._send_deferred()
        return await super().sock_sendfile(sock, file, offset, count, fallback=fallback)

    # -- messages ------------------------------------------------------------------------------

    async def sock_sendmsg(
            self, sock: socket.socket, buffers: Iterable[ReadableBuffer],
            ancdata: Iterable[tuple[int, int, ReadableBuffer]] = (), flags: int = 0,
            address: Any = None) -> int:
        """Send ``buffers`` as one message, with ancillary data, as ``socket.sendmsg``.

        Returns the number of bytes.  The message is the socket module's to build;
        this waits, on the ring, while there is no room for it.
        """
        flags = operator.index(flags) | _DONTWAIT
        views = [memoryview(buffer) for buffer in buffers]      # a lease may be released meanwhile
        del buffers                             # an exception would keep them
        self._begin_call(sock)
        destination = () if address is None else (address,)
        try:
            return await self._retry_until_ready(
                sock, self._wait_for_room, sock.sendmsg, views, list(ancdata), flags, *destination)
        finally:
            for view in views:
                view.release()

    async def sock_recvmsg(
            self, sock: socket.socket, bufsize: int, ancbufsize: int = 0,
            flags: int = 0) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        """Receive a message as ``socket.recvmsg``: ``(data, ancdata, msg_flags, address)``.

        Nothing is taken before it can be returned, so a cancelled call loses nothing.
        """
        self._begin_call(sock)
        flags = operator.index(flags) | _DONTWAIT
        # (AF_UNIX has no error queue, and takes no notice of the flag.)
        errors = flags & socket.MSG_ERRQUEUE and sock.family != socket.AF_UNIX
        wait = self._wait_for_error if errors else self._wait_for_data
        return await self._retry_until_ready(sock, wait, sock.recvmsg, bufsize, ancbufsize, flags)

    # -- connections ---------------------------------------------------------------------------

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect to ``address``; host names are resolved."""
        if not connect_is_known() or not self._can_connect_now(sock, address):
            if not connect_is_known() or not self._begin_call(sock):
                return await super().sock_connect(sock, address)
            resolved = await self._ensure_resolved(  # type: ignore[attr-defined]
                address, family=sock.family, type=sock.type, proto=sock.proto, loop=self)
            address = resolved[0][4]
        pending = self._connect_now(sock, address)
        while pending is not None:
            await self._wait_for(pending)
            pending = self._connect_on(sock, address, pending)
        return None

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        """Accept a connection; returns ``(socket, address)``."""
        if not self._begin_call(sock):
            return await super().sock_accept(sock)
        accepted: Any = self._accept_now(sock)
        while type(accepted) is SocketCall:
            await self._wait_for(accepted)
            accepted = self._accept_now(sock)
        fd, address = accepted
        connection = socket.socket(sock.family, sock.type, sock.proto, fileno=fd)
        connection.setblocking(False)
        return connection, address
