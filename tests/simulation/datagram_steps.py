"""Steps that endpoints and their peers take."""
from __future__ import annotations

import contextlib
import socket
from typing import Any

from tests.simulation.ledger import SHORTEST
from tests.simulation.programs import SIZES
from tests.simulation.protocols import DATAGRAM_PROTOCOLS, DatagramProtocol

LOCAL = ('127.0.0.1', 0)
NOBODY = ('127.0.0.1', 9)


class Peer:
    """A socket outside of the loop."""

    def __init__(self, play: Any) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind(LOCAL)
        self.identity = play.ledger.new_sender()
        self.play = play

    def read(self) -> None:
        while True:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                continue
            self.play.ledger.received(self.identity, data)


class DatagramSteps:
    """Of ``Play``."""

    def destination(self, number: int) -> Any:
        """The address of an endpoint, of a peer, or, seldom, of nobody."""
        places = [each.transport.get_extra_info('sockname') for each in self.open_endpoints()]
        places += [peer.sock.getsockname() for peer in self.peers]
        places.append(NOBODY)
        return places[number % (len(places) if number % 7 == 0 else len(places) - 1 or 1)]

    def open_endpoints(self) -> list[DatagramProtocol]:
        return [each for each in self.protocols
                if isinstance(each, DatagramProtocol) and each.state == 'made'
                and not each.transport.is_closing()]

    def any_endpoint(self, number: int) -> Any:
        found = self.open_endpoints()
        return found[number % len(found)] if found else None

    async def step_endpoint(self, kind: int, connected: int, batch: int, gro: int, _: int) -> None:
        make = DATAGRAM_PROTOCOLS[kind % 3]
        name = f'endpoint {len(self.protocols)}'
        options: dict[str, Any] = {'local_addr': LOCAL}
        if batch % 4 == 0:
            options['batch'] = False
        if gro % 4 == 0:
            options['gro'] = False
        if connected % 4 == 0 and self.open_endpoints():
            options['remote_addr'] = self.destination(connected // 4)
        try:
            await self.loop.create_datagram_endpoint(lambda: make(self, name), **options)
        except OSError as exc:
            self.expected(exc)

    def step_peer(self, *_: int) -> None:
        self.peers.append(Peer(self))

    def address(self, endpoint: DatagramProtocol, number: int) -> Any:
        peer = endpoint.transport.get_extra_info('peername')
        return None if peer else self.destination(number)

    def step_send(self, which: int, to: int, size: int, count: int, kind: int) -> None:
        """A few datagrams, or a bulk of them; ``bytes``, or what the caller changes at once."""
        endpoint = self.any_endpoint(which)
        if endpoint is None:
            return
        address = self.address(endpoint, to)
        for _ in range((1, 1, 2, 5, 20, 70)[count % 6]):
            if endpoint.transport.is_closing():
                return
            data = self.ledger.datagram(endpoint.identity, SIZES[size % len(SIZES)])
            self.attempted += 1
            if kind % 3 == 0:
                data = bytearray(data)       # type: ignore[assignment]
            elif kind % 3 == 1:
                data = memoryview(b'xx' + data)[2:]      # type: ignore[assignment]
            endpoint.transport.sendto(data, address)
            if type(data) is bytearray:
                data[:] = bytes(len(data))

    def step_slices(self, which: int, to: int, size: int, count: int, _: int) -> None:
        """Neighbours of one buffer, which become a train."""
        endpoint = self.any_endpoint(which)
        if endpoint is None:
            return
        length = (64, 1200, 1200, 4000)[size % 4]
        number = 2 + count % 60
        whole = memoryview(self.ledger.datagrams(endpoint.identity, number, length))
        address = self.address(endpoint, to)
        for start in range(0, len(whole), length):
            self.attempted += 1
            endpoint.transport.sendto(whole[start:start + length], address)
            if endpoint.transport.is_closing():
                return

    def promised(self, future: Any) -> None:
        """It has to be done in the end."""
        self.futures.append(future)
        future.add_done_callback(lambda _: future.cancelled() or future.exception())

    def lend_out(self, future: Any, data: bytearray | None) -> None:
        """What the future says is the program's again is written to at once.

        But one that was cancelled does not tell: the kernel may have the memory still.
        """
        self.promised(future)
        if data is not None:
            future.add_done_callback(lambda _: future.cancelled() or data.__setitem__(
                slice(None), b'\xee' * len(data)))

    def step_send_zerocopy(self, which: int, to: int, size: int, count: int, kind: int) -> None:
        endpoint = self.any_endpoint(which)
        if endpoint is None:
            return
        address = self.address(endpoint, to)
        for _ in range((1, 1, 2, 9, 40)[count % 5]):
            if endpoint.transport.is_closing():
                return
            data = self.ledger.datagram(endpoint.identity, SIZES[size % len(SIZES)])
            changing = bytearray(data) if kind % 2 else None
            self.attempted += 1
            self.lend_out(endpoint.transport.sendto_zerocopy(
                data if changing is None else changing, address), changing)

    def step_send_train(self, which: int, to: int, size: int, count: int, last: int) -> None:
        endpoint = self.any_endpoint(which)
        if endpoint is None:
            return
        length = (64, 500, 1200, 1200, 9000)[size % 5]
        number = 1 + count % 130
        data = bytearray(self.ledger.datagrams(
            endpoint.identity, number, length, max(SHORTEST, last % length)))
        self.attempted += number
        self.lend_out(endpoint.transport.sendto_zerocopy(
            data, self.address(endpoint, to), segment_size=length), data)

    def many(self, endpoint: DatagramProtocol, size: int, count: int, kind: int) -> list[Any]:
        datagrams = []
        for i in range(1 + count % 80):
            length = SIZES[(size if kind % 3 else size + i) % len(SIZES)]
            datagrams.append(self.ledger.datagram(endpoint.identity, length))
        self.attempted += len(datagrams)
        return datagrams

    def step_send_many(self, which: int, to: int, size: int, count: int, kind: int) -> None:
        endpoint = self.any_endpoint(which)
        if endpoint is not None:
            address = self.address(endpoint, to)
            endpoint.transport.sendto_many(self.many(endpoint, size, count, kind), address)

    def step_send_many_zerocopy(self, which: int, to: int, size: int, count: int,
                                kind: int) -> None:
        endpoint = self.any_endpoint(which)
        if endpoint is not None:
            address = self.address(endpoint, to)
            self.promised(endpoint.transport.sendto_many_zerocopy(
                self.many(endpoint, size, count % 20, kind), address))

    def step_peer_sends(self, which: int, to: int, size: int, count: int, _: int) -> None:
        if not self.peers:
            return
        peer = self.peers[which % len(self.peers)]
        for _each in range(1 + count % 50):
            data = self.ledger.datagram(peer.identity, SIZES[size % len(SIZES)])
            with contextlib.suppress(OSError):
                peer.sock.sendto(data, self.destination(to))
                self.sent_by_peers += 1

    def step_peer_reads(self, *_: int) -> None:
        for peer in self.peers:
            peer.read()
