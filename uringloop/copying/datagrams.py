"""asyncio's datagram transport, with what ``uringloop.DatagramTransport`` has besides."""
from __future__ import annotations

import asyncio
import socket
import sys
from asyncio import constants
from asyncio.log import logger
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from uringloop.copying.counting import CountingSocket, is_of_the_network
from uringloop.copying.incoming import ReceivingTransport
from uringloop.copying.outgoing import (
    Datagram,
    Message,
    Report,
    call_each,
    check_address,
    pieces_of,
)
from uringloop.copying.streams import is_lent
from uringloop.datagram.control import (
    checked_flags,
    joined_buffers,
    packed_ancdata,
    packed_metadata,
)
from uringloop.datagram.transport import (
    DatagramTransport,
    check_data,
    items_of,
    pair,
)
from uringloop.memory.registered import RegisteredBuffer
from uringloop.ring.interrupts import graver

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from uringloop.memory.leases import Lease
    from uringloop.ring.zerocopy import SendReport

ROOM_AGAIN = 0.01            # seconds

# As asyncio: see ``uringloop.datagram.transport``.
EMPTY_ALLOWED = sys.version_info >= (3, 13)
# What asyncio adds to each datagram's length in the size of its queue.
HEADER = 8 if sys.version_info >= (3, 13) else 0


class CopyingDatagramTransport(ReceivingTransport):
    """asyncio's datagram transport, with the further calls of ``uringloop.DatagramTransport``.

    Its queue has ``Datagram``s in it, by whatever call.
    """

    _aborted = False
    _buffer_size = 0             # asyncio's own from 3.11.3 on; before, it adds up what waits

    def __init__(self, loop: Any, sock: socket.socket, *arguments: Any) -> None:
        super().__init__(loop, sock, *arguments)
        self._home = loop                # asyncio forgets it when all is over
        self._counters = loop._counted
        self._sock: Any = CountingSocket(sock, self._counters)
        self._sock.takes_errors = self._takes_errors

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        # So that isinstance() tells on both loops that there are the further calls.
        return DatagramTransport

    def sendto(self, data: bytes | bytearray | memoryview | Lease, addr: Any = None) -> None:
        """Send a datagram; never waits.  As asyncio's, which takes no leases."""
        if type(data) is not bytes:
            check_data(data)
            if is_lent(data) or isinstance(data, RegisteredBuffer):
                data = self._home._content(data)
        if not EMPTY_ALLOWED and not data:
            return
        if self._address:
            if addr not in (None, self._address):
                raise ValueError(f'Invalid address: must be None or {self._address}')
            addr = self._address
        if self._conn_lost and (self._address or self._sock is None):
            self._drop()
            return
        if not self._buffer:
            sock = self._sock
            peer = self._extra['peername']
            try:
                # The peer of an AF_UNIX pair may have no name.
                if peer or (addr is None and peer is not None):
                    sock.attempt(sock.real.send, data)
                else:
                    sock.attempt(sock.real.sendto, data, addr)
                return
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as exc:
                self._counters.datagrams_dropped += 1
                self._protocol.error_received(exc.with_traceback(None))
                return
            except Exception as exc:
                self._counters.datagrams_dropped += 1
                self._fatal_error(exc, 'Fatal write error on datagram transport')
                return
        self._wait(Datagram(bytes(data)), addr)
        self._pause_if_full()

    def sendto_zerocopy(
            self, data: ReadableBuffer | RegisteredBuffer, addr: Any = None, *,
            segment_size: int | None = None) -> asyncio.Future[SendReport]:
        """Send any buffer, by copying: as ``uringloop.DatagramTransport.sendto_zerocopy``."""
        content = self._home._content(data)
        pieces = pieces_of(content, segment_size)
        if self._is_over():
            return self._refused(len(pieces), len(content), 'bytes')
        report = Report(self._home, train=True)
        try:
            for piece in pieces:
                report.add()
                self._send(Datagram(piece, report), addr)
        finally:
            report.close()
            self._pause_if_full()
        return report.future

    def sendto_many(
            self, buffers: Iterable[ReadableBuffer | tuple[ReadableBuffer, Any]],
            addr: Any = None) -> None:
        """Send many datagrams: as ``uringloop.DatagramTransport.sendto_many``."""
        errors: list[OSError] = []
        try:
            for item in items_of(buffers):
                data, to = pair(item) if type(item) is tuple else (item, addr)
                content = self._home._content(data)
                if content or EMPTY_ALLOWED:
                    errors += self._send(Datagram(content), to)
        finally:
            call_each([self._pause_if_full,
                       *(partial(self._tell_protocol, error) for error in errors)])

    def sendto_many_zerocopy(
            self, buffers: Iterable[
                ReadableBuffer | RegisteredBuffer | tuple[ReadableBuffer | RegisteredBuffer, Any]],
            addr: Any = None) -> asyncio.Future[SendReport]:
        """Send many datagrams with one future: as ``uringloop.DatagramTransport`` does."""
        items = items_of(buffers)
        if self._is_over():
            return self._refused(len(items), len(items), 'datagrams')
        report = Report(self._home)
        try:
            for item in items:
                report.add()
                data, to = pair(item) if type(item) is tuple else (item, addr)
                self._send(Datagram(self._home._content(data), report), to)
        except Exception as exc:
            report.told(0, exc)
        except BaseException:
            report.future.cancel()       # an interrupt: nobody is told of those before
            raise
        finally:
            report.close()
            self._pause_if_full()
        return report.future

    def sendmsg(
            self, buffers: Iterable[ReadableBuffer],
            ancdata: Iterable[tuple[int, int, ReadableBuffer]] = (), flags: int = 0,
            addr: Any = None) -> None:
        """Send one datagram with control messages: as ``uringloop.DatagramTransport.sendmsg``."""
        flags = checked_flags(flags)
        self._send_message(
            Message(joined_buffers(buffers), packed_ancdata(ancdata), flags), addr)

    def sendto_with(
            self, data: bytes | bytearray | memoryview | Lease, addr: Any = None, *,
            ecn: int | None = None, source: str | None = None) -> None:
        """Send a datagram with metadata: as ``uringloop.DatagramTransport.sendto_with``."""
        check_data(data)
        if self._sock is None:
            self._drop()
            return
        control = packed_metadata(self._sock.fileno(), int(self._sock.family), ecn, source)
        self._send_message(Message(self._home._content(data), control), addr)

    def _send_message(self, message: Message, addr: Any) -> None:
        for error in self._send(message, addr):
            self._protocol.error_received(error)
        self._pause_if_full()

    # -- how they leave --------------------------------------------------------------------------

    def _send(self, datagram: Datagram, addr: Any) -> list[OSError]:
        """Send what a further call sends, or queue it behind what waits for room.

        What is no address is raised.  What the network says is told to its report; without one it
        is returned, for the protocol.  Who has sent all tells that, and says so by
        ``_pause_if_full``: what a protocol does then is not to come between datagrams of a call.
        """
        if self._is_over() or datagram.is_of_broken_train():
            self._give_up(datagram)
            return []
        address = self._address_for(addr)
        waits = bool(self._buffer)
        if waits and address:
            check_address(self._sock.family, *address)
        error = None
        try:
            if waits or not self._has_left(datagram, address):
                datagram.begin_to_wait()
                self._wait(datagram, addr)
                return []
        except OSError as exc:
            if not is_of_the_network(exc):
                raise
            self._counters.datagrams_dropped += 1
            error = exc.with_traceback(None)         # see ``Report.told``
        if datagram.report is not None:
            datagram.report.told(len(datagram), error)
            return []
        return [] if error is None else [error]

    def _address_for(self, addr: Any) -> tuple[Any, ...]:
        """What the socket is to be given for an address; nothing where it is connected."""
        if self._address:
            if addr not in (None, self._address):
                raise ValueError(
                    f'Invalid address: must be None or {self._address}, not {addr!r}')
            addr = self._address
        peer = self._extra['peername']
        # (asyncio wants an address where the peer has no name.)
        if peer or (addr is None and peer is not None):
            return ()
        if addr is None:
            raise TypeError('an address is needed: the socket is not connected')
        return (addr,)

    def _has_left(self, datagram: Datagram, address: tuple[Any, ...]) -> bool:
        """Send it, if the socket has room."""
        try:
            self._sock.attempt(datagram.leave_by, self._sock.real, *address)
        except (BlockingIOError, InterruptedError):
            return False
        return True

    def _wait(self, datagram: Datagram, addr: Any) -> None:
        """Put it into asyncio's queue."""
        if self._is_over():
            self._give_up(datagram)      # by code of the program, in its address
            return
        if not self._buffer:
            self._loop._add_writer(self._sock_fd, self._sendto_ready)
        self._buffer.append((datagram, addr))
        self._buffer_size += len(datagram) + HEADER

    def _pause_if_full(self) -> None:
        if self._buffer:
            self._maybe_pause_protocol()

    def _tell_protocol(self, error: Exception) -> None:
        if self._protocol is None or self._aborted:
            return
        try:
            self._protocol.error_received(error)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._home.call_exception_handler({
                'message': f'Exception in callback {self!r}', 'exception': exc,
                'transport': self, 'protocol': self._protocol})

    # -- what waits ------------------------------------------------------------------------------

    def _sendto_ready(self) -> None:
        """The socket has room: as asyncio's."""
        waited = len(self._buffer)
        while self._buffer:
            datagram, addr = self._buffer.popleft()
            self._buffer_size -= len(datagram) + HEADER
            try:
                self._leave(datagram, addr)
            except (BlockingIOError, InterruptedError):
                self._wait_on(datagram, addr)
                break
            except OSError as exc:
                self._protocol.error_received(exc.with_traceback(None))
                return
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self._fatal_error(exc, 'Fatal write error on datagram transport')
                return
        if self._conn_lost:
            return
        if waited and len(self._buffer) == waited:
            self._rest()
        self._maybe_resume_protocol()
        if not self._buffer and not self._conn_lost:
            self._loop._remove_writer(self._sock_fd)
            if self._closing:
                self._conn_lost += 1
                self._call_connection_lost(None)

    def _leave(self, datagram: Datagram, addr: Any) -> None:
        """Send what has waited.  What has no report raises, and the protocol is told of that."""
        report = datagram.report
        if datagram.is_of_broken_train():
            self._give_up(datagram)
            return
        error = None
        try:
            self._sock.attempt(datagram.leave_by, self._sock.real, *self._address_for(addr))
        except (BlockingIOError, InterruptedError):
            raise
        except BaseException as exc:
            self._counters.datagrams_dropped += 1
            if report is None:
                raise
            if not isinstance(exc, Exception):       # an interrupt, by code in its address
                report.future.cancel()
                report.close()
                raise
            error = exc.with_traceback(None)
        if report is not None:
            report.told(len(datagram), error)

    def _wait_on(self, datagram: Datagram, addr: Any) -> None:
        """There is no room for it yet."""
        if self._conn_lost:
            self._give_up(datagram)
        else:
            self._buffer.appendleft((datagram, addr))
            self._buffer_size += len(datagram) + HEADER

    def _rest(self) -> None:
        """The socket is ready, and has no room: it may have an error that is not read now.

        It would say so at any time.
        """
        if not self._takes_errors:
            return
        if self._closing:
            self._drop_errors()              # nobody is told of them any more
        elif self._is_paused():
            self._loop._remove_writer(self._sock_fd)
            self._loop.call_later(ROOM_AGAIN, self._look_for_room)

    def _look_for_room(self) -> None:
        if self._buffer and not self._conn_lost:
            self._loop._add_writer(self._sock_fd, self._sendto_ready)

    # -- what does not leave ---------------------------------------------------------------------

    def _is_over(self) -> bool:
        return bool(self._conn_lost) or self._home.is_closed()

    def _refused(self, dropped: int, count: int, of: str) -> asyncio.Future[SendReport]:
        self._counters.datagrams_dropped += dropped
        what = f'{count} {of} were' if count != 1 else f'1 {of.removesuffix("s")} was'
        future: asyncio.Future[SendReport] = self._home.create_future()
        future.set_exception(ConnectionAbortedError(f'{self!r} is closed: {what} not sent'))
        return future

    def _give_up(self, datagram: Datagram) -> None:
        """It is not sent, for what it belongs to has failed."""
        report = datagram.report
        if report is None:
            self._drop()
            return
        self._counters.datagrams_dropped += 1
        report.told(len(datagram), report.error or ConnectionAbortedError(
            f'{self!r} is closed: {len(datagram)} bytes were not sent'))

    def _drop(self) -> None:
        self._counters.datagrams_dropped += 1
        if self._conn_lost:
            if self._conn_lost >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
                logger.warning('socket.send() raised exception.')
            self._conn_lost += 1

    def _drop_queue(self, tell: Callable[[Datagram, Report], object]) -> None:
        """Nothing of it is sent; ``tell`` is called for each of which somebody is to hear.

        Whatever that raises all are told of.  Each is in the queue until then: where a signal
        interrupts this, whoever calls it once more goes on.
        """
        # asyncio leaves it where an empty queue has just been sent.  A descriptor that is closed
        # while it is watched costs the next of that number whatever would come.
        self._home._remove_writer(self._sock_fd)
        problem = again = None
        while self._buffer:
            datagram, _ = self._buffer[0]
            try:
                if datagram.report is not None:
                    tell(datagram, datagram.report)
            except BaseException as exc:
                problem = graver(problem, exc)
                if again is not datagram:
                    again = datagram     # an interrupt, before it was told: once more
                    continue
            # Who was told may have dropped them all.
            if self._buffer and self._buffer[0][0] is datagram:
                self._buffer.popleft()
                self._buffer_size -= len(datagram) + HEADER
                self._counters.datagrams_dropped += 1
        if problem is not None:
            try:
                raise problem
            finally:
                problem = None       # it would be in a frame of its own traceback

    def _force_close(self, exc: BaseException | None) -> None:
        if self._conn_lost:
            return
        self._aborted = True
        what = f'{self!r} was aborted'

        def tell(datagram: Datagram, report: Report) -> None:
            report.told(len(datagram), ConnectionAbortedError(
                f'{what}: {len(datagram)} bytes were not sent'))

        try:
            self._drop_queue(tell)
        finally:
            self._drop_queue(tell)       # what an interrupt has left
            super()._force_close(exc)
