"""Protocols of small buffers: what they have not taken yet waits in the socket."""
import asyncio
import contextlib
import socket

import pytest

from tests.support.cases import Case, UringCase, both_sides
from tests.support.features import needs_feature
from tests.support.sockets import PAIRS
from tests.support.turns import turns

MEBIBYTE = 1 << 20


class SmallBuffer(asyncio.BufferedProtocol):

    def __init__(self) -> None:
        self.buffer = bytearray(256)
        self.received = 0

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.received += nbytes


class TestOnTheRing(UringCase):
    """A protocol of small buffers is slow: what its peer sends waits in the socket."""

    timeout = 20.0

    def test_what_is_not_delivered_waits_in_the_socket(self):
        async def main():
            near, far = PAIRS['tcp']()
            with far:
                far.setblocking(False)
                transport, protocol = await self.loop.create_connection(SmallBuffer, sock=near)
                for sock in near, far:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
                sent = most = 0
                for _ in range(2000):
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            sent += far.send(bytes(1 << 16))
                    await asyncio.sleep(0)
                    most = max(most, sent - protocol.received)
                assert most < 2 * MEBIBYTE
                while protocol.received < sent:
                    await asyncio.sleep(0)
                transport.close()
                await turns(3)

        self.run(main())

    @needs_feature('send_zc')
    @pytest.mark.parametrize('room', [None, 4096, 2304])
    def test_into_a_small_buffer_of_the_peer_is_copied(self, room):
        """What goes there zero-copy comes by 2 KiB each 200 ms."""
        async def main():
            with socket.socket() as listening:
                if room:
                    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
                listening.bind(('127.0.0.1', 0))
                received = 0

                async def serve(reader, writer):
                    nonlocal received
                    while data := await reader.read(1 << 16):
                        received += len(data)
                    writer.close()
                    done.set()

                done = asyncio.Event()
                server = await asyncio.start_server(serve, sock=listening)
                transport, _ = await self.loop.create_connection(
                    asyncio.Protocol, *listening.getsockname())
                for _ in range(16):
                    transport.write(bytes(1 << 16))
                transport.write_eof()
                await done.wait()
                assert received == MEBIBYTE
                assert bool(self.loop.stats().zerocopy_sent) == (room is None)
                transport.close()
                server.close()

        self.run(main())

    @pytest.mark.parametrize('family', [socket.AF_INET, socket.AF_UNIX])
    def test_an_interrupted_get_buffer_loses_nothing(self, family):
        """Nothing of what has come is lost."""
        class Interrupting(SmallBuffer):
            def get_buffer(self, sizehint):
                nonlocal calls
                calls += 1
                if calls % 7 == 0:
                    raise KeyboardInterrupt
                return super().get_buffer(sizehint)

        async def begin():
            near, far = PAIRS['tcp' if family == socket.AF_INET else 'unix']()
            _, protocol = await self.loop.create_connection(Interrupting, sock=near)
            far.sendall(bytes(60_000))
            return protocol, far

        async def wait():
            while protocol.received < 60_000:
                await asyncio.sleep(0)

        calls = 0
        protocol, far = self.loop.run_until_complete(begin())
        interrupts = 0
        while protocol.received < 60_000:
            try:
                self.run(wait())
            except KeyboardInterrupt:  # noqa: PERF203
                interrupts += 1
        assert interrupts > 10
        protocol.transport.abort()
        far.close()
        self.turns(3)


class _TestTurns(Case):

    def test_others_have_their_turn(self):
        """What takes thousands of calls to hand over is handed over in several turns."""
        async def main():
            near, far = PAIRS['tcp']()
            with far:
                _, protocol = await self.loop.create_connection(SmallBuffer, sock=near)
                far.setblocking(False)
                sent = most = 0
                while sent < 1 << 20:
                    try:
                        sent += far.send(bytes(1 << 16))
                    except BlockingIOError:  # noqa: PERF203
                        before = protocol.received
                        await asyncio.sleep(0)
                        most = max(most, protocol.received - before)
                while protocol.received < sent:
                    before = protocol.received
                    await asyncio.sleep(0)
                    most = max(most, protocol.received - before)
                assert 0 < most <= 64 * 256
            await asyncio.sleep(0.01)

        self.run(main())


both_sides(globals(), _TestTurns)
