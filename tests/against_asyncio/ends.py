"""The two ends of a connection: a transport with its protocol, or a plain socket."""
from __future__ import annotations

import asyncio
import select
import socket
import struct
from typing import TYPE_CHECKING, Any

from tests.against_asyncio import kernel_state
from tests.against_asyncio.programs import HUGE, Behaviour
from tests.against_asyncio.world import MischiefError, told
from tests.simulation.ledger import Flow
from tests.support.cases import ASYNCIO_PAUSES

if TYPE_CHECKING:
    from tests.against_asyncio.streams import Pair, Streams

READABLE = select.POLLIN | select.POLLRDHUP
ROOM = 250_000                 # bytes that sockets take while nobody reads
ROOM_OF_PIPES = 40_000
CUTS = ('close', 'abort', 'raise', 'close soon', 'pause', 'switch')
ECHOED = 20_000                # bytes that one protocol sends back: two could go on for ever


class Direction:
    """What goes from one end to the other."""

    def __init__(self, world: Streams, key: int, room: int) -> None:
        self.flow = Flow(key, world.violations.append)
        self.room = room
        self.huge = False            # something was written that does not fit into sockets
        self.read_before = 0         # bytes that had been read by then

    @property
    def unread(self) -> int:
        return self.flow.written - self.flow.read

    def is_stuck(self) -> bool:
        """Whether more is on its way than sockets take."""
        return self.huge and self.unread > 0

    def is_partly_read(self) -> bool:
        """Of what does not fit somebody has read a part: how much of it is chance."""
        return self.is_stuck() and self.flow.read != self.read_before

    def fits(self, size: int) -> bool:
        """Whether it is certain where this goes: all of it into sockets, or not all of it."""
        return (self.huge and self.unread > 0) or size == HUGE or self.unread + size <= self.room

    def piece(self, size: int) -> bytes:
        return self.flow.part(self.flow.written, size)

    def wrote(self, size: int) -> None:
        if not self.is_stuck():
            self.huge, self.read_before = self.unread + size > self.room, self.flow.read
        self.flow.written += size


class End:
    """What both kinds have in common."""

    other: End
    pair: Pair
    behaviour = Behaviour()          # of its protocol

    def __init__(self, world: Streams, name: str, sends: Direction | None,
                 receives: Direction | None) -> None:
        self.world = world
        self.name = name
        self.sends, self.receives = sends, receives
        self.fd = -1
        self.is_open = True
        self.paused = self.ended = self.wrote_eof = False
        self.reads: list[str] = []           # what it was told, of what comes
        self.writes: list[str] = []          # of what it sends
        self.aborted = False

    def note(self, events: list[str], what: str) -> None:
        self.world.events += 1
        events.append(what)

    def is_reading(self) -> bool:
        return self.is_open and not self.paused and not self.ended and self.receives is not None

    def takes(self) -> bool:
        """Whether what comes is taken out of the socket."""
        return self.is_reading()

    def has_socket(self) -> bool:
        """Whether the descriptor may be asked."""
        return self.is_open and self.fd >= 0

    def acts_on_data(self) -> bool:
        """Whether it matters in which pieces data come."""
        return False

    def count(self) -> str:
        if self.receives is None:
            return '-'
        return '?' if self.receives.is_partly_read() else str(self.receives.flow.read)

    def due(self) -> str:
        raise NotImplementedError

    def seen(self) -> Any:
        raise NotImplementedError


class TransportEnd(End):
    """A transport."""

    transport: Any = None
    state = 'new'
    protocols = 0

    def learn(self, transport: Any) -> None:
        """The protocol has been given it."""
        self.transport = transport
        if self.fd < 0:
            self.fd = transport._sock_fd

    def lend(self, buffer: bytearray) -> Any:
        """What ``get_buffer`` returns."""
        return buffer

    def factory(self, behaviour: Behaviour) -> Any:
        return lambda: self.protocol(behaviour)

    def protocol(self, behaviour: Behaviour) -> Any:
        self.protocols += 1
        if behaviour.data == 'echo' and self.other.behaviour.data == 'echo':
            behaviour = behaviour._replace(data='')      # or a byte goes on for long
        self.behaviour = behaviour
        kind = BufferedProtocol if behaviour.buffered else StreamProtocol
        return kind(self, behaviour, self.protocols)

    def is_closing(self) -> bool:
        return self.state == 'lost' or (self.state == 'made' and self.transport.is_closing())

    def is_reading(self) -> bool:
        return super().is_reading() and not self.is_closing()

    def acts_on_data(self) -> bool:
        return self.behaviour.data not in ('', 'echo', 'write', 'eof')

    def buffered(self) -> int:
        if self.sends is None or self.state != 'made':
            return 0
        return self.transport.get_write_buffer_size()      # type: ignore[no-any-return]

    def due(self) -> str:
        if not self.is_open:
            return ''
        if self.state == 'new':
            return f'{self.name}: connection_made'
        events, buffered = 0, self.buffered()
        if self.is_reading():
            events |= READABLE
        if buffered:
            if self.other.is_reading():
                return f'{self.name}: {buffered} bytes are to be written'
            events |= select.POLLOUT
        elif self.is_closing():
            return f'{self.name}: connection_lost'
        watched = events or (self.receives is None and not self.is_closing())
        if watched and (found := kernel_state.polled(self.fd, events)):
            return f'{self.name}: the descriptor is ready ({found})'
        return ''

    def seen(self) -> Any:
        if not self.is_open and not self.reads and not self.writes:
            return None
        if self.sends is not None and self.sends.is_partly_read():
            buffered = '?'
            self.writes = [each for each in self.writes if 'writing' not in each]
        else:
            buffered = 'buffered' if self.is_open and self.buffered() else 'empty'
        state = 'lost' if self.state == 'lost' else 'closing' if self.is_closing() else 'open'
        seen = [*self.reads, '|', *self.writes, '|', state, buffered, self.count()]
        if state == 'open' and self.sends is not None:
            seen.append(str(self.transport.get_write_buffer_limits()))
        self.reads, self.writes = [], []
        return seen

    # -- what programs do ------------------------------------------------------------------------

    def write(self, size: int, kind: str = 'bytes') -> None:
        if self.sends is None or not self.sends.fits(size) or self.state == 'new':
            return
        # After close() it is taken as long as something waits; and then it is nothing.
        taken = not self.is_closing() or self.buffered() > 0
        data: Any = self.sends.piece(size)
        if kind == 'bytearray':
            data = bytearray(data)
        elif kind == 'memoryview':
            data = memoryview(b'ab' + data)[2:]
        self.offer('write', self.transport.write, data, size if taken else 0)
        if kind == 'bytearray':
            data[:] = bytes(len(data))

    def offer(self, name: str, method: Any, data: Any, size: int) -> None:
        """Write; so many bytes are accepted unless it raises."""
        assert self.sends
        before, raised = self.sends.flow.written, len(self.world.calls)
        self.sends.wrote(size)           # first: it may be told to pause, and write then
        self.world.attempt(self.name, name, method, data)
        if len(self.world.calls) > raised and self.sends.flow.written == before + size:
            self.sends.flow.written = before

    def writelines(self, sizes: tuple[int, ...]) -> None:
        if self.sends is None or self.state == 'new' or not self.sends.fits(sum(sizes)):
            return
        taken = not self.is_closing() or self.buffered() > 0
        whole = self.sends.piece(sum(sizes))
        pieces, start = [], 0
        for size in sizes:
            pieces.append(whole[start:start + size])
            start += size
        self.offer('writelines', self.transport.writelines, pieces, len(whole) if taken else 0)

    def write_eof(self) -> None:
        if self.sends is not None and self.state != 'new':
            self.wrote_eof = True
            self.world.attempt(self.name, 'write_eof', self.transport.write_eof)

    def pause(self) -> None:
        if self.receives is not None and self.state != 'new':
            self.world.attempt(self.name, 'pause_reading', self.transport.pause_reading)
            self.paused = True

    def resume(self) -> None:
        if self.receives is not None and self.state != 'new':
            self.world.attempt(self.name, 'resume_reading', self.transport.resume_reading)
            self.paused = False

    def limits(self, high: int | None, low: int | None) -> None:
        if self.sends is not None and self.state != 'new':
            self.world.attempt(self.name, 'limits', self.transport.set_write_buffer_limits,
                               high, low)

    def close(self) -> None:
        if self.state != 'new':
            self.world.attempt(self.name, 'close', self.transport.close)

    def abort(self) -> None:
        if self.state == 'new':
            return
        how = 'abort' if hasattr(self.transport, 'abort') else 'close'     # pipes that are read
        self.world.attempt(self.name, 'abort', getattr(self.transport, how))

    def set_protocol(self, behaviour: Behaviour) -> None:
        if self.state != 'new':
            self.world.attempt(self.name, 'set_protocol', self.transport.set_protocol,
                               self.protocol(behaviour))
            self.note(self.reads, f'protocol {self.protocols} from {self.count()} on')


class StreamProtocol(asyncio.Protocol):
    """Tells its end what it is told, and does what its behaviour says."""

    def __init__(self, end: TransportEnd, behaviour: Behaviour, number: int) -> None:
        self.end = end
        self.behaviour = behaviour
        self.number = number
        self.came = self.echoed = 0

    def reads(self, what: str) -> None:
        self.end.note(self.end.reads, f'{self.number}: {what}')

    def writes(self, what: str) -> None:
        self.end.note(self.end.writes, f'{self.number}: {what}')

    def violation(self, what: str) -> None:
        self.end.world.violations.append(f'{self.end.name}: {what}')

    def connection_made(self, transport: Any) -> None:
        end = self.end
        if end.state != 'new':
            self.violation('connection_made twice')
        end.state = 'made'
        end.learn(transport)
        self.reads('made')
        action = self.behaviour.made
        if action != 'pause' or ASYNCIO_PAUSES:
            self.act(action)

    def connection_lost(self, exc: Exception | None) -> None:
        end = self.end
        if end.state != 'made':
            self.violation(f'connection_lost while it is {end.state}')
        end.state, end.is_open = 'lost', False
        # A write that has failed is told by asyncio at once; here after what has come.
        self.reads(f'lost {told(exc)} after {"?" if exc else end.count()}')
        self.act(self.behaviour.lost)

    def data_received(self, data: bytes) -> None:
        self.received(bytes(data))

    def received(self, data: bytes) -> None:
        end = self.end
        end.world.events += 1
        if end.state != 'made':
            self.violation(f'data while it is {end.state}')
        if end.ended:
            self.violation('data after the end')
        if end.paused:
            self.violation('data while it is paused')
        if end.receives is None or not data:
            self.violation(f'{len(data)} bytes for who receives none')
            return
        end.receives.flow.came(data)
        before, self.came = self.came, self.came + len(data)
        if self.behaviour.data == 'echo':
            size = min(len(data), ECHOED - self.echoed)
            self.echoed += size
            if size and not end.wrote_eof and not end.is_closing():
                end.write(size)
        elif before < self.behaviour.after <= self.came:
            self.act_in_motion(self.behaviour.data)

    def eof_received(self) -> bool:
        end = self.end
        if end.ended:
            # asyncio tells it again if reading was paused and resumed after the end.
            if end.world.uring:
                self.violation('eof_received twice')
            return self.behaviour.keep_open
        if end.paused:
            self.violation('eof_received while it is paused')
        end.ended = True
        self.reads(f'eof after {end.count()}')
        self.act(self.behaviour.eof)
        return self.behaviour.keep_open

    def pause_writing(self) -> None:
        self.writes('pause_writing')
        self.act(self.behaviour.pause)

    def resume_writing(self) -> None:
        self.writes('resume_writing')
        action, self.behaviour = self.behaviour.resume, self.behaviour._replace(resume='')
        self.act_in_motion(action)       # once: 'huge' would go on for ever

    def act_in_motion(self, action: str) -> None:
        """What is on its way when it ends or pauses, and so what the other hears, is chance."""
        if action in CUTS and self.end.pair.in_motion():
            self.end.pair.is_chance = True
        self.act(action)

    def act(self, action: str) -> None:
        end = self.end
        if action == 'raise':
            raise MischiefError(end)
        if action in ('write', 'huge'):
            if not end.is_closing():     # whether it is taken then nothing tells
                end.write(HUGE if action == 'huge' else 100)
        elif action == 'eof':
            end.write_eof()
        elif action == 'switch':
            end.set_protocol(Behaviour())
        elif action == 'close soon':
            end.world.loop.call_soon(end.close)
        elif action:
            getattr(end, action)()


class BufferedProtocol(StreamProtocol, asyncio.BufferedProtocol):
    """The same with a buffer of its own."""

    data_received = None                 # type: ignore[assignment]

    def __init__(self, end: TransportEnd, behaviour: Behaviour, number: int) -> None:
        super().__init__(end, behaviour, number)
        self.buffer = bytearray(5000)

    def get_buffer(self, sizehint: int) -> Any:
        return self.end.lend(self.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        self.received(bytes(self.buffer[:nbytes]))


class PlainEnd(End):
    """A socket that is none of the loop's; it is read where the loop is waited for."""

    def __init__(self, sock: socket.socket, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.sock = sock
        self.fd = sock.fileno()
        sock.setblocking(False)

    def due(self) -> str:
        if not self.is_reading():
            return ''
        try:
            data = self.sock.recv(1 << 20)
        except BlockingIOError:
            return ''
        except OSError as exc:
            self.ended = True
            self.note(self.reads, f'{told(exc)} after {self.count()}')
            return self.name
        assert self.receives
        if data:
            self.world.events += 1
            self.receives.flow.came(data)
        else:
            self.ended = True
            self.note(self.reads, f'eof after {self.count()}')
        return self.name

    def seen(self) -> Any:
        if not self.is_open and not self.reads and not self.writes:
            return None
        seen = [*self.reads, '|', *self.writes, '|', self.count()]
        self.reads, self.writes = [], []
        return seen

    def write(self, size: int) -> None:
        if not self.is_open or self.wrote_eof or not self.sends or not self.sends.fits(size):
            return
        try:
            sent = self.sock.send(self.sends.piece(size))
        except OSError as exc:
            self.note(self.writes, told(exc))
        else:
            self.sends.wrote(sent)

    def stop(self, how: str) -> None:
        """``shutdown``, ``close`` or ``reset``."""
        if not self.is_open:
            return
        self.wrote_eof = True
        if how == 'shutdown':
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError as exc:
                self.note(self.writes, told(exc))
            return
        if how == 'reset' and self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.is_open = False
        self.sock.close()
