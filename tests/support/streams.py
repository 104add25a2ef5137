"""What the tests of stream transports have in common."""
from __future__ import annotations

import asyncio
import random

import pytest

from tests.support.sockets import LOCAL, PAIRS
from tests.support.turns import turns

MANY_BYTES = random.Random(7).randbytes(10_000_000)
both_kinds = pytest.mark.parametrize('kind', PAIRS)


class _Events:
    """Records every call; ``until`` waits for a condition on the record."""

    keep_open = False          # what eof_received() returns

    def __init__(self):
        self.calls = []
        self.data = bytearray()
        self.transport = None
        self.lost = []
        self._changed = None

    def connection_made(self, transport):
        self.transport = transport
        self.note('made')

    def received(self, data):
        self.data += data
        self.note('data')

    def eof_received(self):
        self.note('eof')
        return self.keep_open

    def pause_writing(self):
        self.note('pause')

    def resume_writing(self):
        self.note('resume')

    def connection_lost(self, exc):
        self.lost.append(exc)
        self.note('lost')

    def note(self, what):
        self.calls.append(what)
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def until(self, condition):
        """Wait until ``condition()``, looking whenever something was recorded."""
        while not condition():
            self._changed = asyncio.get_running_loop().create_future()
            await self._changed

    async def until_length(self, length):
        await self.until(lambda: len(self.data) >= length)

    async def until_lost(self):
        await self.until(lambda: self.lost)
        return self.lost[0]


class Recorder(_Events, asyncio.Protocol):
    """Records what ``data_received`` gets."""

    def data_received(self, data):
        assert type(data) is bytes
        self.received(data)


class Buffered(_Events, asyncio.BufferedProtocol):
    """Records what comes into a buffer of ``size`` bytes."""

    size = 5000

    def __init__(self):
        super().__init__()
        self.buffer = bytearray(self.size)

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        assert nbytes > 0
        self.received(self.buffer[:nbytes])


class Echo(Recorder):
    """Sends back what it receives."""

    def received(self, data):
        self.transport.write(bytes(data))
        super().received(data)


class BufferedEcho(Buffered):
    """Sends back what comes into its buffer."""

    def received(self, data):
        self.transport.write(data)
        super().received(data)


class Named(asyncio.Protocol):
    """Says its name and hangs up."""

    def __init__(self, name):
        self.name = name

    def connection_made(self, transport):
        transport.write(self.name)
        transport.close()


class Streams:
    """Opens streams and closes them when the test is over."""

    def run(self, main):
        self.opened = []
        self.sockets = []
        self.servers = []

        async def bounded():
            try:
                return await main
            finally:
                for server in self.servers:
                    server.close()
                for protocol in self.opened:
                    if protocol.transport is not None and not protocol.lost:
                        protocol.transport.abort()
                        await protocol.until_lost()
                for sock in self.sockets:
                    sock.close()
                await turns()

        return super().run(bounded())

    def kept(self, factory):
        """A factory whose protocols are closed at the end."""
        def make():
            protocol = factory()
            self.opened.append(protocol)
            return protocol
        return make

    async def open(self, sock, factory=Recorder):
        """The protocol of a transport on a connected socket."""
        _, protocol = await self.loop.create_connection(self.kept(factory), sock=sock)
        return protocol

    async def pair(self, near=Recorder, far=Recorder, kind='tcp'):
        """The protocols of two connected transports."""
        one, two = PAIRS[kind]()
        return await self.open(one, near), await self.open(two, far)

    async def half(self, factory=Recorder, kind='tcp'):
        """A transport's protocol, and the plain socket at the other end."""
        one, peer = PAIRS[kind]()
        peer.setblocking(False)
        self.sockets.append(peer)
        return await self.open(one, factory), peer

    async def serve(self, factory=Recorder, **how):
        """A TCP server and its address."""
        server = await self.loop.create_server(self.kept(factory), *LOCAL, **how)
        self.servers.append(server)
        return server, server.sockets[0].getsockname()

    async def connect(self, address, factory=Recorder, **how):
        _, protocol = await self.loop.create_connection(self.kept(factory), *address, **how)
        return protocol

    def others(self, client):
        """The protocols that were made besides that one."""
        return [protocol for protocol in self.opened if protocol is not client]

    async def read(self, sock, length):
        """Exactly ``length`` bytes of a plain socket."""
        data = bytearray()
        while len(data) < length:
            part = await self.loop.sock_recv(sock, min(1 << 18, length - len(data)))
            assert part, f'the stream ended after {len(data)} of {length} bytes'
            data += part
        return data

    async def read_all(self, sock):
        """Everything until the end."""
        data = bytearray()
        while part := await self.loop.sock_recv(sock, 1 << 18):
            data += part
        return data
