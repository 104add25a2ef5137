"""Steps of datagram endpoints."""
from __future__ import annotations

import asyncio
import select
import socket
import struct
from typing import Any

from tests.against_asyncio import kernel_state
from tests.against_asyncio.programs import DatagramBehaviour
from tests.against_asyncio.world import CHANCE, MischiefError, World, told
from tests.simulation.ledger import NOISE
from tests.support.cases import ASYNCIO_PAUSES
from tests.support.sockets import LOCAL

HEADER = struct.Struct('<III')           # who, the number, the size
LARGEST = 65_507
NOBODY = ('127.0.0.1', 9)
ROOM = 100_000                 # bytes, of the kernel's, that a socket's queue takes for certain
ECHOES = 5                     # of one protocol: two could go on for ever
OUTSIDER = 1000                # its identity


def datagram(sender: int, number: int, size: int) -> bytes:
    if size < HEADER.size:
        return bytes(size)
    return HEADER.pack(sender, number, size) + NOISE[number:number + size - HEADER.size]


def sender_told(what: str) -> str:
    """Of a note of a datagram; those of several senders come between each other by chance."""
    return what.partition(' from ')[2]


class Endpoint:
    """An endpoint, whoever its protocol is."""

    def __init__(self, world: Datagrams, number: int) -> None:
        self.world = world
        self.number = number
        self.name = f'endpoint {number}'
        self.state = 'new'
        self.transport: Any = None
        self.fd = -1
        self.address: Any = None
        self.peer: Any = None                    # that it is connected with
        self.paused = False
        self.expected = self.received = 0        # datagrams
        self.waiting = 0                         # bytes in its queue, at most
        self.sent = 0
        self.protocols = 0
        self.told: list[str] = []
        self.refused = False                     # an answer of this turn
        self.is_chance = False                   # what happens to it from now on

    def protocol(self, behaviour: DatagramBehaviour) -> DatagramProtocol:
        self.protocols += 1
        return DatagramProtocol(self, behaviour, self.protocols)

    def note(self, what: str) -> None:
        self.world.events += 1
        self.told.append(what)

    def where(self, addr: Any) -> str:
        """What is told of an address, with words before it that it may be told by."""
        return ''

    def is_closing(self) -> bool:
        return self.state == 'lost' or (self.state == 'made' and self.transport.is_closing())

    def is_reading(self) -> bool:
        return self.state == 'made' and not self.paused and not self.is_closing()

    def due(self) -> str:
        what = ''
        if self.state == 'new':
            what = 'connection_made'
        elif self.state == 'made' and self.transport.get_write_buffer_size():
            what = 'something is to be sent'
        elif self.state == 'made' and self.is_closing():
            what = 'connection_lost'
        elif self.is_reading():
            if found := kernel_state.polled(self.fd, select.POLLIN):
                what = f'the socket is ready ({found})'
            elif self.received < self.expected:
                what = f'{self.expected - self.received} datagrams have not come'
        return what and f'{self.name}: {what}'

    def seen(self) -> Any:
        if self.is_reading():
            self.waiting = 0
        if self.state == 'lost' and not self.told:
            return None
        state = 'lost' if self.state == 'lost' else 'closing' if self.is_closing() else 'open'
        # Which of the next datagram and an answer's error it is told of first is chance.
        self.is_chance |= self.refused and sum(' from ' in what for what in self.told) > 1
        self.refused = False
        if self.world.in_bulk:
            self.told.sort(key=sender_told)
        seen = [*self.told, state]
        self.told = []
        return seen

    # -- what programs do ------------------------------------------------------------------------

    def sendto(self, to: Any, size: int, kind: str = 'bytes') -> None:
        """``to``: an endpoint, or an address."""
        if self.state == 'new':
            return
        other = self.peer if self.peer is not None else to
        comes = isinstance(other, Endpoint) and size <= LARGEST and other.takes_from(self)
        if comes and other.waiting + size > ROOM:
            return
        address = to.address_for(self) if isinstance(to, Endpoint) else to
        self.sent += 1
        data: Any = datagram(self.number, self.sent, size)
        if kind == 'bytearray':
            data = bytearray(data)
        elif kind == 'memoryview':
            data = memoryview(b'ab' + data)[2:]
        if not self.is_closing() and comes and size:     # empty ones not all Pythons send
            other.expect(size)
        self.world.attempt(self.name, 'sendto', self.transport.sendto, data,
                           None if self.peer is not None else address)
        if kind == 'bytearray':
            data[:] = bytes(len(data))

    def address_for(self, sender: Any) -> Any:
        return self.address

    def takes_from(self, sender: Any) -> bool:
        """Whether what that sends comes here."""
        return self.state == 'made' and not self.is_closing() \
            and (self.peer is None or self.peer is sender)

    def answer(self, to: Any, size: int) -> None:
        """Send from within the protocol."""
        peer = self.peer
        self.refused |= peer is not None and not (
            isinstance(peer, Endpoint) and peer.takes_from(self))
        self.sendto(to, size)

    def expect(self, size: int) -> None:
        self.expected += 1
        self.waiting += size + 1500

    def pause(self) -> None:
        if ASYNCIO_PAUSES and self.state != 'new':
            self.world.attempt(self.name, 'pause_reading', self.transport.pause_reading)
            self.paused = True

    def resume(self) -> None:
        if ASYNCIO_PAUSES and self.state != 'new':
            self.world.attempt(self.name, 'resume_reading', self.transport.resume_reading)
            self.paused = False

    def close(self) -> None:
        if self.state != 'new':
            self.transport.close()

    def abort(self) -> None:
        if self.state != 'new':
            self.transport.abort()

    def set_protocol(self, behaviour: DatagramBehaviour) -> None:
        if self.state != 'new':
            self.transport.set_protocol(self.protocol(behaviour))


class DatagramProtocol(asyncio.DatagramProtocol):
    """Tells its endpoint what it is told, and does what its behaviour says."""

    def __init__(self, endpoint: Endpoint, behaviour: DatagramBehaviour, number: int) -> None:
        self.endpoint = endpoint
        self.behaviour = behaviour
        self.number = number
        self.count = 0

    def note(self, what: str) -> None:
        self.endpoint.note(f'{self.number}: {what}')

    def connection_made(self, transport: Any) -> None:
        endpoint = self.endpoint
        endpoint.state, endpoint.transport = 'made', transport
        endpoint.fd = transport._sock_fd
        endpoint.address = transport.get_extra_info('sockname')
        endpoint.world.addresses[endpoint.address] = endpoint
        self.note(f'made{endpoint.where(transport.get_extra_info("peername"))}')

    def datagram_received(self, data: bytes, addr: Any) -> None:
        endpoint = self.endpoint
        endpoint.received += 1
        sender = endpoint.world.sender_of(addr)
        if len(data) < HEADER.size:
            what = f'{len(data)} bytes'
        else:
            who, number, size = HEADER.unpack_from(data)
            what = f'number {number} of {size} bytes'
            if who != sender or data != datagram(who, number, size):
                what = f'something else, said to be of {who}'
        self.note(f'{what} from {sender}{endpoint.where(addr)}')
        if endpoint.state != 'made' or endpoint.paused:
            self.note(f'while it is {endpoint.state}, paused: {endpoint.paused}')
        self.count += 1
        if self.behaviour.datagram == 'echo':
            if self.count <= ECHOES:
                endpoint.answer(endpoint.world.whose(addr), min(len(data), 9000))
        elif self.count == self.behaviour.after:
            self.act(self.behaviour.datagram)

    def error_received(self, exc: Exception) -> None:
        self.note(f'error {told(exc)}')
        action, self.behaviour = self.behaviour.error, self.behaviour._replace(error='')
        self.act(action)                 # once: 'write' would go on for ever

    def pause_writing(self) -> None:
        self.note('pause_writing')

    def resume_writing(self) -> None:
        self.note('resume_writing')

    def connection_lost(self, exc: Exception | None) -> None:
        self.endpoint.state = 'lost'
        self.note(f'lost {told(exc)}')
        self.act(self.behaviour.lost)

    def act(self, action: str) -> None:
        endpoint = self.endpoint
        if action == 'raise':
            raise MischiefError(endpoint)
        if action == 'write':
            endpoint.answer(endpoint.world.any_open(endpoint.number), 100)
        elif action == 'switch':
            endpoint.set_protocol(DatagramBehaviour())
        elif action:
            getattr(endpoint, action)()


class Datagrams(World):
    """A world of endpoints."""

    def __init__(self, loop: asyncio.AbstractEventLoop, uring: bool) -> None:
        super().__init__(loop, uring)
        self.endpoints: list[Endpoint] = []
        self.addresses: dict[Any, Endpoint] = {}
        self.outsider = self.make_outsider()
        self.outsider_sent = 0
        self.in_bulk = False             # in this turn: one receives many while others answer

    def make_outsider(self) -> socket.socket:
        outsider = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        outsider.bind(LOCAL)
        return outsider

    def due(self) -> str:
        return next((found for each in self.endpoints if (found := each.due())), '')

    def seen(self) -> dict[str, Any]:
        seen = {each.name: what for each in self.endpoints if (what := each.seen()) is not None}
        seen.update({each.name: CHANCE for each in self.endpoints if each.is_chance})
        self.in_bulk = False
        return seen

    async def finish(self) -> None:
        self.outsider.close()
        for endpoint in self.endpoints:
            endpoint.abort()

    def whose(self, addr: Any) -> Any:
        """The endpoint, or the address of somebody else."""
        return self.addresses.get(addr, addr)

    def sender_of(self, addr: Any) -> int:
        """Its number: ports are others each time."""
        if addr in self.addresses:
            return self.addresses[addr].number
        try:
            return OUTSIDER if addr == self.outsider.getsockname() else -1
        except OSError:
            return OUTSIDER

    def any(self, which: int) -> Endpoint | None:
        """One that is not lost: then methods of asyncio's may raise AttributeError."""
        found = [each for each in self.endpoints if each.state != 'lost']
        return found[which % len(found)] if found else None

    def any_open(self, which: int) -> Any:
        """Or who never answers."""
        found = [each for each in self.endpoints if each.state == 'made' and not each.is_closing()]
        return found[which % len(found)] if found else NOBODY

    # -- steps -----------------------------------------------------------------------------------

    async def endpoint(self, connected: str, which: int, behaviour: DatagramBehaviour) -> None:
        if len(self.endpoints) == 5:
            return
        endpoint = Endpoint(self, len(self.endpoints))
        options: dict[str, Any] = {'local_addr': LOCAL}
        if connected:
            other = self.any_open(which) if connected == 'peer' else NOBODY
            endpoint.peer = other
            options['remote_addr'] = other.address if isinstance(other, Endpoint) else other
        self.endpoints.append(endpoint)
        await self.loop.create_datagram_endpoint(lambda: endpoint.protocol(behaviour), **options)

    def sendto(self, which: int, to: int, size: int, kind: str) -> None:
        if endpoint := self.any(which):
            endpoint.sendto(self.any_open(to), size, kind)

    def bulk(self, which: int, to: int, count: int, size: int) -> None:
        endpoint, other = self.any(which), self.any_open(to)
        if endpoint is None:
            return
        if self.batching:
            if endpoint.peer is not None:
                other = endpoint.peer
            if not isinstance(other, Endpoint) or not other.takes_from(endpoint):
                return               # how often it would be refused is chance, and by what next
        self.in_bulk = True
        for _ in range(count):
            endpoint.sendto(other, size)

    def sendto_nobody(self, which: int, size: int) -> None:
        if endpoint := self.any(which):
            endpoint.sendto(NOBODY, size)

    def sendto_wrongly(self, which: int, how: str) -> None:
        endpoint = self.any(which)
        if endpoint is None or endpoint.state == 'new':
            return
        data: Any = b'x' if how != 'type' else 'x'
        address: Any = {'type': NOBODY, 'address': ('127.0.0.1',), 'port': ('127.0.0.1', 70_000),
                        'family': ('::1', 9, 0, 0)}[how]
        self.attempt(endpoint.name, 'sendto', endpoint.transport.sendto, data, address)

    def reads(self, which: int, reads: bool) -> None:
        if endpoint := self.any(which):
            (endpoint.resume if reads else endpoint.pause)()

    def ends(self, which: int, how: str) -> None:
        """``close`` or ``abort``."""
        if endpoint := self.any(which):
            getattr(endpoint, how)()

    def set_datagram_protocol(self, which: int, behaviour: DatagramBehaviour) -> None:
        if endpoint := self.any(which):
            endpoint.set_protocol(behaviour)

    def outsider_sends(self, to: int, size: int) -> None:
        endpoint = self.any_open(to)
        if not isinstance(endpoint, Endpoint) or endpoint.waiting + size > ROOM:
            return
        self.outsider_sent += 1
        if endpoint.takes_from(self.outsider):
            endpoint.expect(size)
        self.outsider.sendto(datagram(OUTSIDER, self.outsider_sent, size),
                             endpoint.address_for(self.outsider))
