"""What comes to asyncio's datagram transport, for the further methods of protocols."""
from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
from typing import Any

from uringloop.copying.counting import CountingSocket
from uringloop.datagram.metadata import ask, ask_for_errors, ask_for_errors_no_longer, info_of
from uringloop.datagram.protocol import check_methods, method_of, takes_errors
from uringloop.datagram.transport import AsyncioTransport

CONTROL_ROOM = 2048
ERRORS_AT_ONCE = 32
SCM_PIDFD = 4                # Linux 6.5; the socket module has no name for it


def _close_descriptors(ancdata: list[tuple[int, int, bytes]]) -> None:
    """Nobody is given the descriptors that have come: they are not to stay open."""
    for level, kind, data in ancdata:
        if level == socket.SOL_SOCKET and kind in (socket.SCM_RIGHTS, SCM_PIDFD):
            for fd in array.array('i', data[:len(data) // 4 * 4]):
                if fd >= 0:
                    os.close(fd)


class ReceivingTransport(AsyncioTransport):  # type: ignore[misc]
    """asyncio's datagram transport, by which protocols are called as ``uringloop`` calls them."""

    _sock: Any
    _counters: Any
    _kind: type | None = None            # of the protocol that was looked at
    _method = 'datagram_received'        # that it has, and is called by
    _takes_errors = False
    _errors_asked: list[tuple[int, int]] = []          # noqa: RUF012 - options that were set for that
    _drops_errors = False                # the program has set them, and nobody takes what comes
    _asked = 0                           # of the kernel: metadata.Asked
    _drops = 0                           # that were told of last

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
        took_errors = self._takes_errors
        self._takes_errors = takes_errors(kind, self._sock.family)
        if isinstance(self._sock, CountingSocket):
            self._sock.takes_errors = self._takes_errors
        if self._takes_errors:
            self._drops_errors = False
            self._errors_asked = self._errors_asked or ask_for_errors(self._sock)
        elif took_errors:
            ask_for_errors_no_longer(self._sock, self._errors_asked)
            self._errors_asked = []
            # Where the program had it itself it stays, and the socket is said to be ready.
            self._drops_errors = True

    def _read_ready(self) -> None:
        # One at a time, as asyncio does.
        self._look_up()
        if self._takes_errors and self._read_errors():
            # The socket has the next one's error, too: that is not to be told twice, nor to keep
            # datagrams from being read where errors come as fast.
            self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if self._closing or self._is_paused():
            return
        self._read_datagram()
        if self._drops_errors:
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
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            # As asyncio: no memory, or a ``max_size`` that is none, would be so each time.
            self._fatal_error(exc, 'Fatal read error on datagram transport')
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

    def _read_errors(self) -> bool:
        """Whether there may be more of them."""
        for _ in range(ERRORS_AT_ONCE):
            if self._closing or self._is_paused() or not self._takes_errors:
                return False
            try:
                error = self._sock.error_message(self.max_size, CONTROL_ROOM)
            except OSError:
                return False
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self._fatal_error(exc, 'Fatal read error on datagram transport')
                return False
            self._protocol.datagram_errqueue_received(*error)
        return True

    def _is_paused(self) -> bool:
        # Before Python 3.11.3 only streams can pause.
        return getattr(self, '_paused', False)

    def _drop_errors(self) -> None:
        with contextlib.suppress(OSError):
            while self._sock is not None:
                self._sock.error_message(0, 0)
