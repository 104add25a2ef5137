"""Steps of connections over TLS: made in several ways, or refused; and time that passes."""
from __future__ import annotations

import asyncio
import socket
import ssl
import time
from typing import Any, NamedTuple

from tests.against_asyncio import kernel_state
from tests.against_asyncio.ends import READABLE, ROOM, Direction
from tests.against_asyncio.programs import HUGE, Behaviour
from tests.against_asyncio.secure_ends import GARBAGE, SecureEnd, SecurePeer
from tests.against_asyncio.streams import Streams, prompt, sized
from tests.against_asyncio.world import told
from tests.support.sockets import LOCAL, reset, tcp_pair

HOST = '127.0.0.1'
# TLS reads half a megabyte ahead of who has paused: with it, they take less than HUGE.
ROOM_ASKED_FOR = 1 << 16
LONG_AFTER = 1000.0            # seconds; no time-out is longer
TURNS = 6                      # of the loop, where nobody waits for what has begun


class Contexts(NamedTuple):
    """Of which each kind of connection has two."""

    certificate: str
    key: str

    def server(self, version: str = 'TLSv1_3') -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        context.maximum_version = ssl.TLSVersion[version]
        return context

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certificate)


class Witness(asyncio.Protocol):
    """Of a connection that is not to be: what it was told."""

    def __init__(self, told_of: list[str]) -> None:
        self.told_of = told_of

    def connection_made(self, transport: Any) -> None:
        self.told_of.append('made')

    def data_received(self, data: bytes) -> None:
        self.told_of.append('data')

    def eof_received(self) -> None:
        self.told_of.append('eof')

    def connection_lost(self, exc: Exception | None) -> None:
        self.told_of.append(f'lost {told(exc)}')


class SecureStreams(Streams):
    """A world of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, uring: bool, contexts: Contexts) -> None:
        super().__init__(loop, uring)
        self.contexts = contexts
        self.passed = 0.0
        self.refusals: list[str] = []

    def seen(self) -> dict[str, Any]:
        seen = super().seen()
        if self.refusals:
            seen['refused'], self.refusals = self.refusals, []
        return seen

    async def finish(self) -> None:
        await super().finish()
        for end in self.all_ends:
            if isinstance(end, SecureEnd) and end.is_open:
                end.close_below()

    def time_passes(self) -> None:
        """All time-outs that are under way are over."""
        self.passed += LONG_AFTER
        self.loop.time = lambda: time.monotonic() + self.passed

    def flood(self, which: int) -> None:
        """Write what neither sockets nor TLS take, for the other end does not read."""
        end = self.transport(which)
        if end is None:
            return
        if isinstance(end.other, SecureEnd):
            end.other.pause()
        end.other.paused = True
        for _ in range(2):
            end.write(HUGE)

    # -- making ----------------------------------------------------------------------------------

    async def secure(self, kind: str, version: str, left: Behaviour, right: Behaviour) -> None:
        if len(self.pairs) == 3:
            return
        # asyncio's then keeps the last message of the handshake to itself until it is resumed.
        left, right = (each._replace(made='' if each.made == 'pause' else each.made)
                       for each in (left, right))
        number = len(self.pairs)
        there, back = Direction(self, 2 * number, ROOM), Direction(self, 2 * number + 1, ROOM)
        one = SecureEnd(self, f'{kind} {number} client', there, back)
        server = self.contexts.server(version)
        near, far = map(prompt, self.two_sockets(kind))
        if kind.startswith('half'):
            await self.make_with_peer(kind, one, left, (near, far), server)
            return
        for sock in (near, far):
            sized(sock, ROOM_ASKED_FOR)
        two = SecureEnd(self, f'{kind} {number} server', back, there)
        self.keep(kind, one, two)
        if kind.startswith('server'):
            near.close()
            far.close()
            await self.make_by_server_of(kind, server, left, right)
        elif kind.startswith('upgraded'):
            await self.upgrade((one, near, left), (two, far, right), server)
        else:
            one.fd, two.fd = near.fileno(), far.fileno()
            await asyncio.gather(
                self.made(one, self.client(one, left, near)),
                self.made(two, self.loop.connect_accepted_socket(
                    two.factory(right), far, ssl=server)))

    def client(self, end: SecureEnd, behaviour: Behaviour, sock: socket.socket) -> Any:
        connect = (self.loop.create_unix_connection if sock.family == socket.AF_UNIX
                   else self.loop.create_connection)
        return connect(end.factory(behaviour), sock=sock, ssl=self.contexts.client(),
                       server_hostname=HOST)

    async def made(self, end: SecureEnd, connecting: Any) -> None:
        task = self.spawn(connecting)
        await self.until(task.done)
        if exc := task.exception():
            end.failed(exc)

    async def make_by_server_of(self, kind: str, server: ssl.SSLContext, left: Behaviour,
                                right: Behaviour) -> None:
        if left.made == 'raise':             # no server is told of that: nor is who waits for it
            left = left._replace(made='')
        one, two = self.all_ends[-2:]
        assert isinstance(one, SecureEnd) and isinstance(two, SecureEnd)
        if 'tcp' in kind:
            listener, sock = socket.create_server(LOCAL), socket.socket()
            make: Any = self.loop.create_server
        else:
            listener, sock = (socket.socket(socket.AF_UNIX) for _ in range(2))
            listener.bind('')
            make = self.loop.create_unix_server
        for each in (listener, sock):
            prompt(sized(each, ROOM_ASKED_FOR)).setblocking(False)
        serving = await make(two.factory(right), sock=listener, ssl=server)
        await self.loop.sock_connect(sock, listener.getsockname())
        await self.made(one, self.client(one, left, sock))
        await self.until(lambda: two.state != 'new')
        serving.close()

    async def upgrade(self, one: Any, two: Any, server: ssl.SSLContext) -> None:
        """By ``start_tls``; a protocol is told only then that there is a connection."""
        plain = []
        for end, sock, _ in (one, two):
            end.fd = sock.fileno()
            make = (self.loop.create_unix_connection if sock.family == socket.AF_UNIX
                    else self.loop.create_connection)
            plain.append((await make(asyncio.Protocol, sock=sock))[0])
        protocols = [end.protocol(behaviour) for end, _, behaviour in (one, two)]
        transports = await asyncio.gather(
            self.loop.start_tls(plain[0], protocols[0], self.contexts.client(),
                                server_hostname=HOST),
            self.loop.start_tls(plain[1], protocols[1], server, server_side=True))
        for protocol, transport in zip(protocols, transports, strict=True):
            self.attempt(protocol.end.name, 'made', protocol.connection_made, transport)

    async def make_with_peer(self, kind: str, one: SecureEnd, left: Behaviour,
                             socks: tuple[socket.socket, socket.socket],
                             server: ssl.SSLContext) -> None:
        near, far = socks
        peer = SecurePeer(far, server, self, f'{one.name} peer', one.receives, one.sends)
        self.keep(kind, one, peer)
        one.fd = near.fileno()
        connecting = self.spawn(self.made(one, self.client(one, left, near)))
        await self.until(lambda: peer.shake_hands() and connecting.done())

    # -- refused ---------------------------------------------------------------------------------

    async def refused(self, how: str, side: str) -> None:
        """A handshake that comes to nothing: for a client, a server, or by start_tls."""
        told_of: tuple[list[str], list[str]] = [], []
        near, far = tcp_pair()
        for sock in (near, far):
            sock.setblocking(False)
        task = self.spawn(self.shake_hands(side, near, how, told_of[0]))
        tasks = [task]
        if how in ('authority', 'name', 'version'):
            other = 'client' if side == 'server' else 'server'
            tasks.append(self.spawn(self.shake_hands(other, far, how, told_of[1])))
        else:
            await self.disturb(how, side, far, task)
        await asyncio.wait(tasks)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        outcomes = [f'{outcome(task)} {told_of[k]}' for k, task in enumerate(tasks)]
        self.refusals.append(f'{side}, {how}: {"; ".join(outcomes)}')
        if len(tasks) == 1:
            far.close()

    async def shake_hands(self, side: str, sock: socket.socket, how: str,
                          told_of: list[str]) -> None:
        def factory() -> Witness:
            return Witness(told_of)

        if side == 'server':
            server = self.contexts.server('TLSv1_2' if how == 'version' else 'TLSv1_3')
            await self.loop.connect_accepted_socket(factory, sock, ssl=server)
            return
        client = (ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if how == 'authority'
                  else self.contexts.client())
        if how == 'version':
            client.minimum_version = ssl.TLSVersion.TLSv1_3
        name = 'elsewhere.example' if how == 'name' else HOST
        if side == 'client':
            await self.loop.create_connection(factory, sock=sock, ssl=client, server_hostname=name)
            return
        transport, protocol = await self.loop.create_connection(factory, sock=sock)
        await self.loop.start_tls(transport, protocol, client, server_hostname=name)

    async def disturb(self, how: str, side: str, peer: socket.socket, task: Any) -> None:
        """The peer of a handshake does not do its part."""
        if side == 'server':
            for _ in range(TURNS):
                await asyncio.sleep(0)
        else:                                    # the client speaks first
            await self.until(lambda: kernel_state.polled(peer.fileno(), READABLE))
        if how == 'plain text':
            peer.send(GARBAGE)
        elif how == 'end':
            peer.shutdown(socket.SHUT_WR)
        elif how == 'reset':
            reset(peer)
        elif how == 'cancelled':
            task.cancel()
        else:
            await self.until(lambda: self.time_passes() or task.done())


def outcome(task: asyncio.Task[Any]) -> str:
    """What has become of it."""
    exc = asyncio.CancelledError() if task.cancelled() else task.exception()
    return f'{told(exc)} {getattr(exc, "reason", "")}'
