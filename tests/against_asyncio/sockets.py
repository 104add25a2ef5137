"""Steps of sockets of the program's own: ``sock_*`` calls, and descriptors that are watched."""
from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Coroutine
from typing import Any

from tests.against_asyncio import kernel_state
from tests.against_asyncio.ends import READABLE, ROOM, Direction
from tests.against_asyncio.streams import sized
from tests.against_asyncio.world import CHANCE, World, told
from tests.support.sockets import LOCAL, tcp_pair

ROOM_OF_DATAGRAMS = 20_000


class SocketEnd:
    """A socket, and who waits for it."""

    other: SocketEnd

    def __init__(self, world: Sockets, name: str, sock: socket.socket, sends: Direction,
                 receives: Direction) -> None:
        self.world, self.name, self.sock = world, name, sock
        self.fd = sock.fileno()
        self.sends, self.receives = sends, receives
        self.is_datagram = sock.type == socket.SOCK_DGRAM
        self.is_tcp = sock.family == socket.AF_INET and not self.is_datagram
        self.is_open = True
        self.shut = self.broken = self.watched = self.is_chance = False
        self.reading: Any = None
        self.writing: Any = None
        self.told: list[str] = []

    def note(self, what: str) -> None:
        self.world.events += 1
        self.told.append(what)

    def waits(self, task: Any) -> bool:
        return task is not None and not task.done()

    def due(self) -> str:
        if not self.is_open:
            return ''
        events = 0
        if self.waits(self.reading) or self.watched:
            events |= READABLE
        if self.waits(self.writing):
            events |= select.POLLOUT
        if events and (found := kernel_state.polled(self.fd, events)):
            return f'{self.name}: the socket is ready ({found})'
        return self.on_its_way()

    def on_its_way(self) -> str:
        other = self.other
        if not self.is_tcp or not self.is_open or self.receives.is_stuck():
            return ''
        if other.is_open:
            mine, theirs = (kernel_state.tcp_counters(end.fd) for end in (self, other))
            if theirs.sent > mine.received or theirs.waiting:
                return f'{other.name}: {theirs} on the way to {mine}'
        if (other.shut or not other.is_open) and not kernel_state.polled(
                self.fd, select.POLLRDHUP) & kernel_state.HANGING_UP:
            return f'{other.name}: its end has not come'
        return ''

    def seen(self) -> Any:
        if self.is_chance:
            return CHANCE
        waiting = [what for what, task in (('reads', self.reading), ('writes', self.writing))
                   if self.waits(task)]
        seen, self.told = [*self.told, *waiting, str(self.receives.flow.read)], []
        return seen if self.is_open or len(seen) > 1 else None

    # -- what is called --------------------------------------------------------------------------

    async def told_of(self, what: str, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """The result of a call, or None."""
        try:
            result = await coroutine
        except asyncio.CancelledError:
            self.note(f'{what} cancelled')
            raise
        except Exception as exc:
            self.note(f'{what} {told(exc)}')
            return None
        return result

    async def receive(self, how: str, size: int) -> None:
        loop = self.world.loop
        buffer = bytearray(size)
        call = {'sock_recv': lambda: loop.sock_recv(self.sock, size),
                'sock_recv_into': lambda: loop.sock_recv_into(self.sock, buffer),
                'sock_recvfrom': lambda: loop.sock_recvfrom(self.sock, size)}[how]
        result = await self.told_of(how, call())
        if result is None:
            return
        if how == 'sock_recvfrom':
            result = result[0]
        data = bytes(buffer[:result]) if isinstance(result, int) else result
        self.note(f'{how} {len(data)}')
        self.came(data)

    def came(self, data: bytes) -> None:
        if not self.is_datagram:
            self.receives.flow.came(data)
            return
        # Datagrams that are longer than the buffer are cut.
        expected = self.receives.flow.part(self.receives.flow.read, len(data))
        if data != expected:
            self.world.violations.append(f'{self.name}: another datagram')
        self.receives.flow.read += self.world.lengths[id(self.receives)].pop(0)

    async def send(self, size: int, data: Any) -> None:
        await self.told_of('sock_sendall', self.world.loop.sock_sendall(self.sock, data))
        self.note(f'sock_sendall {size} done')

    async def sendto(self, size: int, data: Any) -> None:
        result = await self.told_of('sock_sendto', self.world.loop.sock_sendto(
            self.sock, data, self.other.sock.getsockname()))
        self.note(f'sock_sendto {result}')

    def readable(self) -> None:
        """It is watched: read all there is."""
        while True:
            try:
                data = self.sock.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError as exc:
                self.note(f'watched: {told(exc)}')
                self.unwatch()
                return
            self.world.events += 1
            if not data:
                self.note('watched: the end')
                self.unwatch()
                return
            self.came(data)

    def unwatch(self) -> None:
        self.watched = False
        self.note(f'remove_reader {self.world.loop.remove_reader(self.sock)}')


class Sockets(World):
    """A world of sockets."""

    def __init__(self, loop: asyncio.AbstractEventLoop, uring: bool) -> None:
        super().__init__(loop, uring)
        self.violations: list[str] = []
        self.ends: list[SocketEnd] = []
        self.lengths: dict[int, list[int]] = {}      # of datagrams on their way

    def due(self) -> str:
        return next((found for end in self.ends if (found := end.due())), '')

    def seen(self) -> dict[str, Any]:
        seen = {end.name: what for end in self.ends if (what := end.seen()) is not None}
        if self.violations:
            seen['violations'], self.violations = self.violations, []
        return seen

    async def finish(self) -> None:
        for end in self.ends:
            for task in (end.reading, end.writing):
                if task is not None:
                    task.cancel()
            if end.watched:
                end.unwatch()
        await asyncio.sleep(0)
        for number in range(len(self.ends)):
            self.close_socket(number)

    # -- steps -----------------------------------------------------------------------------------

    async def sockets(self, kind: str) -> None:
        number = len(self.ends) // 2
        if number == 3:
            return
        if kind == 'accepted':
            pair = await self.connected()
        elif kind == 'udp':
            pair = self.udp_pair()
        else:
            pair = tcp_pair() if kind == 'tcp' else socket.socketpair()
        for sock in pair:
            if kind != 'udp':
                sized(sock)
            sock.setblocking(False)
        room = ROOM_OF_DATAGRAMS if kind == 'udp' else ROOM
        ways = [Direction(self, 2 * number + i, room) for i in range(2)]
        one = SocketEnd(self, f'{kind} {number} a', pair[0], ways[0], ways[1])
        two = SocketEnd(self, f'{kind} {number} b', pair[1], ways[1], ways[0])
        one.other, two.other = two, one
        self.lengths.update({id(way): [] for way in ways})
        self.ends += [one, two]

    def udp_pair(self) -> tuple[socket.socket, socket.socket]:
        one, two = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for sock in (one, two):
            sock.bind(LOCAL)
        return one, two

    async def connected(self) -> tuple[socket.socket, socket.socket]:
        """By ``sock_accept`` and ``sock_connect``."""
        with socket.create_server(LOCAL) as listener:
            listener.setblocking(False)
            accepting = self.spawn(self.loop.sock_accept(listener))
            one = socket.socket()
            one.setblocking(False)
            await self.loop.sock_connect(one, listener.getsockname())
            two, address = await accepting
            if address != one.getsockname():
                self.violations.append(f'accepted of {address}')
        return one, two

    def any(self, which: int) -> SocketEnd | None:
        end = self.ends[which % len(self.ends)] if self.ends else None
        return end if end is not None and end.is_open else None

    def receive(self, which: int, how: str, size: int) -> None:
        end = self.any(which)
        if end is None or end.waits(end.reading) or end.watched:
            return
        if end.receives.is_stuck():
            size = min(size, 3000)           # of more a part would come: which is chance
        end.reading = self.spawn(end.receive(how, size))

    def send(self, which: int, size: int, kind: str) -> None:
        end = self.any(which)
        if end is None or end.waits(end.writing) or end.broken or not end.sends.fits(size) \
                or end.watched:              # which of the two hears of an error first is chance
            return
        if end.is_datagram and size > 9000:
            return
        data: Any = end.sends.piece(size)
        if kind != 'bytes':
            data = bytearray(data) if kind == 'bytearray' else memoryview(b'ab' + data)[2:]
        if end.is_datagram and not end.other.is_open:
            return
        if end.is_datagram:
            end.sends.flow.written += size
            self.lengths[id(end.sends)].append(size)
            end.writing = self.spawn(end.sendto(size, data))
        else:
            end.sends.wrote(size)
            end.writing = self.spawn(end.send(size, data))

    def push(self, which: int, size: int) -> None:
        """Not by the loop."""
        end = self.any(which)
        if end is None or end.waits(end.writing) or end.broken or end.is_datagram \
                or end.sends.is_stuck() or not end.sends.fits(size):
            return
        try:
            sent = end.sock.send(end.sends.piece(size))
        except OSError as exc:
            end.note(f'send {told(exc)}')
        else:
            end.sends.wrote(sent)

    def cancel(self, which: int, reading: bool) -> None:
        end = self.any(which)
        if end is None:
            return
        task = end.reading if reading else end.writing
        if task is not None and not task.done():
            task.cancel()
            if not reading:
                # A part of what it was to send may have left.
                end.broken = True
                end.is_chance = end.other.is_chance = end.is_chance or end.sends.is_stuck()

    def watch(self, which: int) -> None:
        end = self.any(which)
        if end is None or end.waits(end.reading) or end.waits(end.writing):
            return
        self.loop.add_reader(end.sock, end.readable)
        end.watched = True

    def unwatch(self, which: int) -> None:
        end = self.any(which)
        if end is not None and end.watched:
            end.unwatch()

    def shut(self, which: int) -> None:
        end = self.any(which)
        if end is None or end.waits(end.writing) or end.is_datagram:
            return
        end.shut = end.broken = True
        try:
            end.sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            end.note(f'shutdown {told(exc)}')

    def close_any(self, which: int) -> None:
        end = self.any(which)
        if end is not None:
            self.close_socket(self.ends.index(end))

    def close_socket(self, number: int) -> None:
        """Where nobody waits for it: a closed socket is never heard of."""
        end = self.ends[number]
        if not end.is_open or end.waits(end.reading) or end.waits(end.writing):
            return
        if end.watched:
            end.unwatch()
        end.is_open = False
        end.sock.close()
