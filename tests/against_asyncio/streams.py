"""Steps of connections: made, written to, paused, ended, in the midst of each other."""
from __future__ import annotations

import asyncio
import os
import select
import socket
from typing import Any

from tests.against_asyncio import kernel_state
from tests.against_asyncio.ends import ROOM, ROOM_OF_PIPES, Direction, End, PlainEnd, TransportEnd
from tests.against_asyncio.programs import Behaviour
from tests.against_asyncio.world import CHANCE, World
from tests.support.sockets import LOCAL, tcp_pair

SEGMENTS = 8                   # so many leave at once: TCP's window begins with ten
ROOM_ASKED_FOR = 1 << 18       # buffers of one size, which the kernel does not change


def sized(sock: socket.socket, room: int = ROOM_ASKED_FOR) -> socket.socket:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    return sock


def prompt(sock: socket.socket) -> socket.socket:
    """What is written leaves at once; asyncio sees to that of sockets that were not accepted."""
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class Pair:
    """A connection."""

    def __init__(self, kind: str, one: End, two: End) -> None:
        self.tcp = 'tcp' in kind
        self.one, self.two = one, two
        one.other, two.other = two, one
        one.pair = two.pair = self
        self.is_chance = False           # what happens to it from now on

    def in_motion(self) -> bool:
        """Whether anything is on its way, or waits to be read."""
        return any(end.receives is not None and end.receives.unread > 0
                   for end in (self.one, self.two))

    def due(self) -> str:
        """What is on its way: TCP may take its time."""
        if not self.tcp:
            return ''
        return self.on_its_way(self.one, self.two) or self.on_its_way(self.two, self.one)

    def on_its_way(self, sender: End, receiver: End) -> str:
        if not receiver.has_socket() or sender.fd < 0:
            return ''
        assert sender.sends
        if sender.has_socket():
            mine, theirs = (kernel_state.tcp_counters(end.fd) for end in (sender, receiver))
            if (receiver.takes() and mine.waiting) or mine.sent > theirs.received:
                return f'{sender.name}: {mine} on the way to {theirs}'
            if not sender.wrote_eof or mine.waiting or \
                    (isinstance(sender, TransportEnd) and sender.buffered()):
                return ''
        elif sender.sends.is_stuck() and not receiver.takes():
            return ''
        if receiver.ended or kernel_state.polled(receiver.fd, select.POLLRDHUP) \
                & kernel_state.HANGING_UP:
            return ''
        return f'{sender.name}: its end has not come'


class Streams(World):
    """A world of connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop, uring: bool) -> None:
        super().__init__(loop, uring)
        self.violations: list[str] = []
        self.all_ends: list[End] = []
        self.pairs: list[Pair] = []

    def due(self) -> str:
        # All of them are asked: plain sockets are read by that.
        found = [end.due() for end in self.all_ends] + [pair.due() for pair in self.pairs]
        return next(filter(None, found), '')

    def seen(self) -> dict[str, Any]:
        seen = {end.name: what for end in self.all_ends if (what := end.seen()) is not None}
        seen.update({end.name: CHANCE for end in self.all_ends if end.pair.is_chance})
        if self.violations:
            seen['violations'] = self.violations
            self.violations = []
        return seen

    async def finish(self) -> None:
        for end in self.all_ends:
            if isinstance(end, TransportEnd) and end.is_open:
                end.abort()
            elif isinstance(end, PlainEnd):
                end.stop('close')

    # -- making ----------------------------------------------------------------------------------

    async def stream(self, kind: str, left: Behaviour, right: Behaviour) -> None:
        if len(self.pairs) == 4:
            return
        number = len(self.pairs)
        room = ROOM_OF_PIPES if kind == 'pipe' else ROOM
        there = Direction(self, 2 * number, room)
        back = Direction(self, 2 * number + 1, room) if kind != 'pipe' else None
        names = f'{kind} {number} a', f'{kind} {number} b'
        one = TransportEnd(self, names[0], there, back)
        if kind.startswith('half'):
            await self.make_half(kind, one, names[1], left)
            return
        two = TransportEnd(self, names[1], back, there)
        self.keep(kind, one, two)
        if kind == 'pipe':
            await self.make_pipe(one, two, left, right)
        elif kind.endswith('server'):
            await self.make_by_server(kind, one.factory(left), two.factory(right))
        else:
            await self.make_of_sockets(kind, one, two, left, right)
        await self.until(lambda: one.state != 'new' and two.state != 'new')

    def keep(self, kind: str, one: End, two: End) -> None:
        self.pairs.append(Pair(kind, one, two))
        self.all_ends += [one, two]

    def two_sockets(self, kind: str) -> tuple[socket.socket, socket.socket]:
        one, two = tcp_pair() if 'tcp' in kind else socket.socketpair()
        for sock in (one, two):
            sized(sock).setblocking(False)
        return one, two

    async def connect(self, end: TransportEnd, sock: socket.socket, behaviour: Behaviour) -> None:
        end.fd = sock.fileno()
        make = (self.loop.create_unix_connection if sock.family == socket.AF_UNIX
                else self.loop.create_connection)
        await make(end.factory(behaviour), sock=sock)

    async def make_of_sockets(self, kind: str, one: TransportEnd, two: TransportEnd,
                              left: Behaviour, right: Behaviour) -> None:
        socks = self.two_sockets(kind)
        two.fd = socks[1].fileno()
        await self.connect(one, socks[0], left)
        await self.connect(two, socks[1], right)

    async def make_half(self, kind: str, one: TransportEnd, name: str, left: Behaviour) -> None:
        near, far = self.two_sockets(kind)
        self.keep(kind, one, PlainEnd(prompt(far), self, name, one.receives, one.sends))
        await self.connect(one, near, left)

    async def make_pipe(self, one: TransportEnd, two: TransportEnd, left: Behaviour,
                        right: Behaviour) -> None:
        # asyncio's would leave the descriptor of one that ends here in its selector.
        left, right = (each._replace(made='' if each.made in ('close', 'eof', 'pause')
                                     else each.made) for each in (left, right))
        reading, writing = os.pipe()
        one.fd, two.fd = writing, reading
        await self.loop.connect_write_pipe(one.factory(left), os.fdopen(writing, 'wb', 0))
        await self.loop.connect_read_pipe(
            two.factory(right._replace(buffered=False)), os.fdopen(reading, 'rb', 0))

    async def make_by_server(self, kind: str, client: Any, accepted: Any) -> None:
        if 'tcp' in kind:
            listener = sized(socket.create_server(LOCAL))
            server = await self.loop.create_server(accepted, sock=listener)
            sock = sized(socket.socket())
            sock.setblocking(False)
            await self.loop.sock_connect(sock, listener.getsockname())
            await self.loop.create_connection(client, sock=sock)
        else:
            listener = sized(socket.socket(socket.AF_UNIX))
            listener.bind('')                # the kernel gives it an abstract name
            server = await self.loop.create_unix_server(accepted, sock=listener)
            await self.loop.create_unix_connection(client, listener.getsockname())
        await self.until(lambda: self.pairs[-1].two.fd >= 0)
        server.close()

    # -- of transports ---------------------------------------------------------------------------

    def transport(self, which: int) -> TransportEnd | None:
        """One that is not lost, for then methods of asyncio's may raise AttributeError."""
        found = [end for end in self.all_ends if isinstance(end, TransportEnd)]
        return found[which % len(found)] if found and found[which % len(found)].is_open else None

    def write(self, which: int, size: int, kind: str) -> None:
        if end := self.transport(which):
            end.write(size, kind)

    def write_bulk(self, which: int, count: int, size: int) -> None:
        end = self.transport(which)
        if end is None:
            return
        if end.other.acts_on_data():
            count = min(count, SEGMENTS)         # the others would come later, by chance
        for _ in range(count):
            if end.is_open:
                end.write(size)

    def writelines(self, which: int, sizes: tuple[int, ...]) -> None:
        if end := self.transport(which):
            end.writelines(sizes)

    def reads(self, which: int, reads: bool) -> None:
        if end := self.transport(which):
            (end.resume if reads else end.pause)()

    def ends(self, which: int, how: str) -> None:
        """``write_eof``, ``close`` or ``abort``."""
        if end := self.transport(which):
            getattr(end, how)()

    def limits(self, which: int, high: int | None, low: int | None) -> None:
        if end := self.transport(which):
            end.limits(high, low)

    def set_protocol(self, which: int, behaviour: Behaviour) -> None:
        if end := self.transport(which):
            if end.sends is None:        # asyncio's pipes know no buffered protocols
                behaviour = behaviour._replace(buffered=False)
            end.set_protocol(behaviour)

    # -- of plain sockets --------------------------------------------------------------------------

    def plain(self, which: int) -> PlainEnd | None:
        found = [end for end in self.all_ends if isinstance(end, PlainEnd)]
        return found[which % len(found)] if found else None

    def peer_write(self, which: int, size: int) -> None:
        if end := self.plain(which):
            end.write(size)

    def peer_reads(self, which: int, reads: bool) -> None:
        if end := self.plain(which):
            end.paused = not reads

    def peer_ends(self, which: int, how: str) -> None:
        if end := self.plain(which):
            end.stop(how)
