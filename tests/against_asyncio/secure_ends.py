"""The ends of a connection over TLS: a transport, or a plain socket that speaks it.

What a transport over TLS has still to do is asked of the transport below it, which has the socket.
"""
from __future__ import annotations

import os
import select
import socket
import ssl
from typing import Any

from tests.against_asyncio import kernel_state
from tests.against_asyncio.ends import READABLE, PlainEnd, TransportEnd
from tests.against_asyncio.world import told

NAMES = ('sslcontext', 'peercert', 'cipher', 'compression', 'ssl_object', 'socket', 'peername',
         'sockname', 'nothing')
GARBAGE = b'this is no record of TLS, nor ever was'


class SecureEnd(TransportEnd):
    """A transport."""

    layer: Any = None            # asyncio's SSLProtocol, which is between the program and `below`
    below: Any = None

    def learn(self, transport: Any) -> None:
        self.transport = transport
        self.layer = transport._ssl_protocol
        self.below = self.layer._transport
        self.fd = self.below.get_extra_info('socket').fileno()
        self.note(self.reads, self.extras())

    def extras(self) -> str:
        """What get_extra_info knows, by its kind: more is another with each connection."""
        found = [(name, self.transport.get_extra_info(name)) for name in NAMES]
        return ', '.join(f'{name}: {type(what).__name__}' for name, what in found
                         if what is not None)

    def failed(self, exc: BaseException) -> None:
        """There is no connection."""
        self.note(self.reads, f'connecting: {told(exc)}')
        if self.state == 'new':
            self.state, self.is_open = 'lost', False

    def lend(self, buffer: bytearray) -> Any:
        # asyncio fills the rest of it by way of a slice, which must not be a copy.
        return memoryview(buffer)

    def has_socket(self) -> bool:
        if self.layer is None:
            return super().has_socket()
        return self.is_open and self.layer._transport is not None

    def takes(self) -> bool:
        """TLS reads ahead of a program that has paused."""
        return self.has_socket() and self.below is not None and self.below.is_reading() \
            and not self.layer._eof_received

    def unsent(self) -> int:
        """Bytes that wait below, encrypted."""
        return self.below.get_write_buffer_size()      # type: ignore[no-any-return]

    def buffered(self) -> int:
        if self.state != 'made' or self.transport._ssl_protocol is None:
            return 0                     # closed twice: asyncio's has no more methods then
        return self.transport.get_write_buffer_size()      # type: ignore[no-any-return]

    def due(self) -> str:
        what = ''
        if not self.is_open:
            return ''
        if self.state == 'new':
            what = 'connection_made'
        elif not self.has_socket() or (self.below.is_closing() and not self.unsent()):
            what = 'connection_lost'
        elif self.unsent() and self.other.takes():
            what = f'{self.unsent()} bytes are to be written'
        else:
            events = (READABLE if self.takes() else 0) | (select.POLLOUT if self.unsent() else 0)
            if events and (found := kernel_state.polled(self.fd, events)):
                what = f'the descriptor is ready ({found})'
        return what and f'{self.name}: {what}'

    def seen(self) -> Any:
        assert self.sends
        if not self.is_open and not self.reads and not self.writes:
            return None
        stuck = self.has_socket() and self.unsent() > 0
        if self.sends.is_partly_read():
            buffered = '?'
            self.writes = [each for each in self.writes if 'writing' not in each]
        else:
            buffered = f'{self.buffered()}{" and more" if stuck else ""}'
        state = 'lost' if self.state == 'lost' else 'closing' if self.is_closing() else 'open'
        seen = [*self.reads, '|', *self.writes, '|', state, buffered, self.count()]
        if state == 'open':
            seen += [str(self.transport.get_write_buffer_limits()),
                     f'reading: {self.transport.is_reading()}']
        self.reads, self.writes = [], []
        return seen

    # -- what programs do ------------------------------------------------------------------------

    def write_eof(self) -> None:
        if self.state != 'new':
            self.world.attempt(self.name, 'write_eof', self.transport.write_eof)

    def close_below(self) -> None:
        """One that was closed twice cannot be aborted."""
        if self.below is not None:
            self.below.abort()


class SecurePeer(PlainEnd):
    """A socket that is none of the loop's, and does what asyncio's TLS never does."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *arguments: Any) -> None:
        super().__init__(sock, *arguments)
        self.secure = context.wrap_socket(
            sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False)
        self.sock, self.fd = self.secure, self.secure.fileno()
        self.is_shaken = False

    def shake_hands(self) -> bool:
        """Whether it need not be asked again."""
        if not self.is_shaken and self.is_open:
            try:
                self.secure.do_handshake()
            except ssl.SSLWantReadError:
                return False
            except OSError as exc:
                self.note(self.reads, f'handshake: {told(exc)}')
                self.stop('close')
            self.is_shaken = True
        return True

    def due(self) -> str:
        try:
            return super().due()
        except ValueError as exc:            # OpenSSL's session has ended
            self.ended = True
            self.note(self.reads, told(exc))
            return self.name

    def write(self, size: int) -> None:
        try:
            super().write(size)
        except ValueError as exc:
            self.note(self.writes, told(exc))

    def stop(self, how: str) -> None:
        """``unwrap``: it says that this is the end; ``shutdown``: it does not; ``garbage``."""
        if not self.is_open:
            return
        if how == 'unwrap':
            self.wrote_eof = True
            try:
                self.secure.unwrap()
                self.ended = True
            except ssl.SSLWantReadError:
                pass
            except (OSError, ValueError) as exc:
                self.note(self.writes, f'unwrap: {told(exc)}')
        elif how in ('garbage', 'shutdown'):
            self.wrote_eof = True
            try:
                if how == 'garbage':
                    os.write(self.fd, GARBAGE)
                else:
                    socket.socket.shutdown(self.secure, socket.SHUT_WR)
            except OSError as exc:
                self.note(self.writes, told(exc))
        else:
            super().stop(how)
