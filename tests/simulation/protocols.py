"""Protocols that look whether they are called as asyncio promises, and misbehave when told to."""
from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.play import Play


class MischiefError(Exception):
    """What a protocol, or a callback, raises on purpose."""


class Checked:
    """When which method may be called."""

    transport: Any

    def __init__(self, play: Play, name: str) -> None:
        self.play = play
        self.name = name
        self.state = 'new'
        self.writing_paused = self.was_closed = False
        self.lost_with: BaseException | None = None
        self.reactions: deque[str] = deque()
        play.protocols.append(self)

    def fail(self, text: str) -> None:
        self.play.fail(f'{self.name}: {text}')

    def connection_made(self, transport: Any) -> None:
        if self.state != 'new':
            self.fail(f'connection_made while it is {self.state}')
        self.state = 'made'
        self.transport = transport

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.state != 'made':
            self.fail(f'connection_lost while it is {self.state}')
        self.state = 'lost'
        self.lost_with = exc
        if exc is not None and not isinstance(exc, (OSError, MischiefError)):
            self.fail(f'connection_lost({exc!r})')

    def pause_writing(self) -> None:
        if self.writing_paused:
            self.fail('pause_writing twice')
        self.writing_paused = True

    def resume_writing(self) -> None:
        if not self.writing_paused:
            self.fail('resume_writing twice')
        self.writing_paused = False

    def close(self, abort: bool = False) -> None:
        """The program closes it.  (A failed write does, too; what had come is heard of first.)"""
        self.was_closed = True
        if abort:
            self.transport.abort()
        else:
            self.transport.close()

    def called(self, what: str, reading: bool = True) -> None:
        """Before anything else: is this a moment for it?"""
        if self.state != 'made':
            self.fail(f'{what} while it is {self.state}')
        elif reading and self.was_closed:
            self.fail(f'{what} after it was closed')
        elif reading and not self.transport.is_closing() and not self.transport.is_reading():
            self.fail(f'{what} while it does not read')

    def react(self) -> None:
        """Do what it was told to do when something next comes."""
        if self.reactions:
            self.play.react(self, self.reactions.popleft())


class DatagramProtocol(Checked, asyncio.DatagramProtocol):
    """Each datagram by itself."""

    def __init__(self, play: Play, name: str) -> None:
        super().__init__(play, name)
        self.identity = play.ledger.new_sender()
        self.count = 0
        self.errors: list[Exception] = []

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.called('datagram_received')
        self.take(data)
        self.react()

    def take(self, data: bytes) -> None:
        self.count += 1
        self.play.ledger.received(self.identity, data)

    def error_received(self, exc: Exception) -> None:
        self.called(f'error_received({exc!r})', reading=False)
        if not isinstance(exc, OSError):
            self.fail(f'error_received({exc!r})')
        self.errors.append(exc)


class BatchProtocol(DatagramProtocol):
    """All of a turn at once."""

    def datagrams_received(self, batch: list[tuple[bytes, Any]]) -> None:
        self.called('datagrams_received')
        if not batch:
            self.fail('an empty batch')
        for data, _ in batch:
            self.take(data)
        self.react()


class TrainProtocol(DatagramProtocol):
    """Trains uncut."""

    def datagram_train_received(self, data: bytes, segment_size: int, addr: Any) -> None:
        self.called('datagram_train_received')
        if segment_size < 1:
            self.fail(f'a train of datagrams of {segment_size} bytes')
            return
        for start in range(0, len(data), segment_size):
            self.take(data[start:start + segment_size])
        self.react()


DATAGRAM_PROTOCOLS = (DatagramProtocol, BatchProtocol, TrainProtocol)


class StreamProtocol(Checked, asyncio.Protocol):
    """One end of a connection."""

    def __init__(self, play: Play, name: str) -> None:
        super().__init__(play, name)
        self.ended = self.wrote_eof = self.spoilt = False
        self.sends: Any = None           # a Flow
        self.receives: Any = None
        self.keep_open = True

    def data_received(self, data: bytes) -> None:
        self.called('data_received')
        self.came(data)
        self.react()

    def came(self, data: bytes) -> None:
        if self.ended:
            self.fail('data after the end')
        if not data:
            self.fail('data_received of nothing')
        if self.receives is None:
            self.play.know_stream(self)
        self.receives.came(data)

    def eof_received(self) -> bool:
        self.called('eof_received')
        if self.ended:
            self.fail('eof_received twice')
        self.ended = True
        self.react()
        return self.keep_open


class BufferedProtocol(StreamProtocol, asyncio.BufferedProtocol):
    """The same with a buffer of its own."""

    data_received = None                 # type: ignore[assignment]

    def __init__(self, play: Play, name: str) -> None:
        super().__init__(play, name)
        self.buffer = bytearray(5000)

    def get_buffer(self, sizehint: int) -> bytearray:
        self.called('get_buffer')
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.called('buffer_updated')
        self.came(self.buffer[:nbytes])
        self.buffer[:nbytes] = bytes(nbytes)
        self.react()
