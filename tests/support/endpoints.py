"""Datagram endpoints whose protocols keep in queues what they are told, for tests that await it."""
import asyncio
import contextlib
import socket
import struct

import pytest

from tests.support.cases import Case
from tests.support.sockets import LOCAL


class QueuingRecorder(asyncio.DatagramProtocol):
    """Queues what it is told, to be awaited item by item; ``calls`` has the order of all.

    ``protocols.Recorder`` keeps lists instead, for tests that wait for a condition on them.
    """

    def __init__(self):
        self.calls = []
        self.datagrams = asyncio.Queue()
        self.errors = asyncio.Queue()
        self.changes = asyncio.Queue()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.calls.append('made')
        self.transport = transport

    def datagram_received(self, data, addr):
        self.calls.append('datagram')
        self.datagrams.put_nowait((data, addr))

    def error_received(self, exc):
        self.calls.append('error')
        self.errors.put_nowait(exc)

    def pause_writing(self):
        self.calls.append('pause')
        self.changes.put_nowait('pause')

    def resume_writing(self):
        self.calls.append('resume')
        self.changes.put_nowait('resume')

    def connection_lost(self, exc):
        self.calls.append('lost')
        self.lost.set_result(exc)


class Endpoints:
    """Opens endpoints and closes them when the test is over."""

    def run(self, main):
        self.opened = []

        async def bounded():
            try:
                return await main
            finally:
                for transport, protocol in self.opened:
                    transport.close()
                    await protocol.lost
                await asyncio.sleep(0)

        return super().run(bounded())

    async def endpoint(self, factory=QueuingRecorder, **kwargs):
        if not kwargs:
            kwargs = {'local_addr': LOCAL}
        transport, protocol = await self.loop.create_datagram_endpoint(factory, **kwargs)
        self.opened.append((transport, protocol))
        return transport, protocol

    async def pair(self):
        """A connected client's transport and the server's protocol."""
        server, receiver = await self.endpoint()
        client, _ = await self.endpoint(remote_addr=server.get_extra_info('sockname'))
        return client, receiver


def numbered(count, size=100):
    """Datagrams that say which they are."""
    return [struct.pack('!I', i).ljust(size, b'.') for i in range(count)]


def numbers(datagrams):
    """Which they are."""
    return [struct.unpack_from('!I', data)[0] for data in datagrams]


class Sending(Case):
    """With ``self.peer``, a plain socket that is only looked at."""

    @pytest.fixture(autouse=True)
    def _peer(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as self.peer:
            self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            self.peer.bind(('127.0.0.1', 0))
            self.peer.setblocking(False)
            self.to = self.peer.getsockname()
            yield

    def arrived(self) -> list[bytes]:
        """What has come so far, on loopback all that was sent."""
        got = []
        with contextlib.suppress(BlockingIOError):
            while True:
                got.append(self.peer.recv(70_000))
        return got
