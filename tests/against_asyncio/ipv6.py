"""Steps of IPv6: addresses in all their forms, and sockets that speak IPv4 as well."""
from __future__ import annotations

import socket
from typing import Any

from tests.against_asyncio.datagrams import Datagrams, Endpoint
from tests.against_asyncio.ends import ROOM, Direction, TransportEnd
from tests.against_asyncio.programs import Behaviour, DatagramBehaviour
from tests.against_asyncio.streams import Streams, prompt, sized

SIX, BOTH, FOUR = '::1', '::', '127.0.0.1'      # what sockets are bound to
MAPPED = '::ffff:127.0.0.1'
LOOPBACK = 1                                     # the index of its interface
FLOW = 0x12345
NOBODY = ('::1', 9, 0, 0)
# How an address of IPv6 can be said.
FORMS: dict[str, Any] = {
    'full': lambda host, port: (host, port, 0, 0),
    'pair': lambda host, port: (host, port),
    'triple': lambda host, port: (host, port, 0),
    'scope': lambda host, port: (host, port, 0, LOOPBACK),
    'flow': lambda host, port: (host, port, FLOW, 0),
    'long': lambda host, port: (host.replace('::', '0:0:0:0:0:0:0:', 1) if host == SIX else host,
                                port),
}
# And how not.
WRONG: dict[str, Any] = {
    'flow': ('::1', 9, 1 << 20, 0),
    'negative flow': ('::1', 9, -1, 0),
    'scope': ('::1', 9, 0, 1 << 32),
    'negative scope': ('::1', 9, 0, -1),
    'scope of nobody': ('fe80::1', 9, 0, 12345),
    'five': ('::1', 9, 0, 0, 0),
    'one': ('::1',),
    'port': ('::1', 70_000),
    'text': ('::1', '9', 0, 0),
    'zone': ('::1%nowhere', 9),
    'zone of loopback': ('::1%lo', 9),
    'link': ('fe80::1', 9),
    'link of loopback': ('fe80::1', 9, 0, LOOPBACK),
    'all': ('ff02::1', 9, 0, LOOPBACK),
    'four': (FOUR, 9),
    'mapped': (MAPPED, 9),
    'nonsense': ('::1::', 9),
}


class Endpoint6(Endpoint):
    """One of IPv6, of both, or of IPv4."""

    def __init__(self, world: Datagrams6, number: int, bound: str) -> None:
        super().__init__(world, number)
        self.bound = bound

    def where(self, addr: Any) -> str:
        return '' if addr is None else f' at {addr[0]} {addr[2:]}'

    def host_for(self, sender: Any) -> str:
        """What it is called by who sends to it; '' if they cannot."""
        bound = getattr(sender, 'bound', SIX)        # as is the outsider's
        if FOUR in (bound, self.bound):
            if SIX in (bound, self.bound):
                return ''
            return FOUR if bound == FOUR else MAPPED
        return SIX

    def address_for(self, sender: Any) -> Any:
        host = self.host_for(sender)
        if not host:
            return NOBODY if isinstance(sender, Endpoint6) and sender.bound != FOUR else (FOUR, 9)
        world = self.world
        assert isinstance(world, Datagrams6)
        form = FORMS['pair' if host == FOUR else world.form]
        return form(host, self.address[1])

    def takes_from(self, sender: Any) -> bool:
        return super().takes_from(sender) and bool(self.host_for(sender))


class Datagrams6(Datagrams):
    """A world of endpoints."""

    form = 'full'                # of the addresses that are said

    def make_outsider(self) -> socket.socket:
        outsider = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        outsider.bind((SIX, 0))
        return outsider

    def whose(self, addr: Any) -> Any:
        return next((each for each in self.endpoints
                     if each.address and each.address[1] == addr[1]), addr)

    def sender_of(self, addr: Any) -> int:
        found = self.whose(addr)
        return found.number if isinstance(found, Endpoint) else super().sender_of(addr)

    async def endpoint6(self, bound: str, form: str, connected: bool, which: int,
                        behaviour: DatagramBehaviour) -> None:
        if len(self.endpoints) == 5:
            return
        endpoint = Endpoint6(self, len(self.endpoints), bound)
        options: dict[str, Any] = {'local_addr': (bound, 0)}
        if connected:
            other, self.form = self.any_open(which), form
            if not isinstance(other, Endpoint6) or not other.host_for(endpoint):
                other = (FOUR, 9) if bound == FOUR else NOBODY
            endpoint.peer = other
            address = other.address_for(endpoint) if isinstance(other, Endpoint6) else other
            if len(address) == 2:
                options['remote_addr'] = address
            else:                            # which asyncio's remote_addr is not
                options = {'sock': self.connected(bound, address)}
        self.endpoints.append(endpoint)
        await self.loop.create_datagram_endpoint(lambda: endpoint.protocol(behaviour), **options)

    def connected(self, bound: str, address: Any) -> socket.socket:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind((bound, 0))
        sock.connect(address)
        return sock

    def sendto_as(self, which: int, to: int, size: int, form: str) -> None:
        self.form = form
        self.sendto(which, to, size, 'bytes')

    def sendto_nobody(self, which: int, size: int) -> None:
        if endpoint := self.any(which):
            assert isinstance(endpoint, Endpoint6)
            endpoint.sendto((FOUR, 9) if endpoint.bound == FOUR else NOBODY, size)

    def sendto_wrongly(self, which: int, how: str) -> None:
        endpoint = self.any(which)
        if endpoint is not None and endpoint.state != 'new':
            self.attempt(endpoint.name, 'sendto', endpoint.transport.sendto, b'x', WRONG[how])

    def outsider_sends(self, to: int, size: int) -> None:
        self.form = 'full'
        other = self.any_open(to)
        if isinstance(other, Endpoint6) and other.host_for(self.outsider):
            super().outsider_sends(to, size)

    def any_open(self, which: int) -> Any:
        found = super().any_open(which)
        return found if isinstance(found, Endpoint) else NOBODY


class NamedEnd(TransportEnd):
    """A transport whose addresses are looked at."""

    def learn(self, transport: Any) -> None:
        super().learn(transport)
        sized(transport.get_extra_info('socket'))
        for what in ('sockname', 'peername'):
            address = transport.get_extra_info(what)
            self.note(self.reads, f'{what}: {address[0]} {address[2:]}')


class Streams6(Streams):
    """A world of connections."""

    async def named(self, host: str, bound: str, way: str, left: Behaviour,
                    right: Behaviour) -> None:
        """By an address; ``way``: its form, for ``sock_connect``, or that the loop connects."""
        if len(self.pairs) == 4:
            return
        if bound == FOUR and host == SIX:
            host = FOUR
        elif bound == SIX:
            host = SIX
        # More than sockets take is written to those only whose size is set.
        left, right = (each._replace(made='write' if each.made == 'huge' else each.made)
                       for each in (left, right))
        number = len(self.pairs)
        there, back = (Direction(self, 2 * number + k, ROOM) for k in range(2))
        kind = f'tcp {number} {host} {bound}'
        one = NamedEnd(self, f'{kind} client', there, back)
        two = NamedEnd(self, f'{kind} server', back, there)
        self.keep(kind, one, two)
        listener = self.listener(bound)
        server = await self.loop.create_server(two.factory(right), sock=listener)
        await self.connect_to(one, host, listener.getsockname()[1], way, left)
        await self.until(lambda: one.state != 'new' and two.state != 'new')
        server.close()

    def listener(self, bound: str) -> socket.socket:
        if bound == FOUR:
            return prompt(sized(socket.create_server((FOUR, 0))))
        return prompt(sized(socket.create_server(
            (bound, 0), family=socket.AF_INET6, dualstack_ipv6=bound == BOTH)))

    async def connect_to(self, end: TransportEnd, host: str, port: int, way: str,
                         behaviour: Behaviour) -> None:
        if way == 'loop' or (host == FOUR and way != 'local'):
            await self.loop.create_connection(end.factory(behaviour), host, port)
        elif way == 'local':
            await self.loop.create_connection(
                end.factory(behaviour), host, port,
                local_addr=(BOTH if host == MAPPED else host, 0))
        else:
            sock = sized(socket.socket(socket.AF_INET6))
            sock.setblocking(False)
            await self.loop.sock_connect(sock, FORMS[way](host, port))
            await self.loop.create_connection(end.factory(behaviour), sock=sock)
