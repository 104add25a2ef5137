"""Callbacks that take long do not hold back what was sent before, by themselves or by others."""
import asyncio
import contextlib
import socket
import time

from tests.support.cases import both_sides
from tests.support.protocols import endpoint
from tests.support.sockets import LOCAL, udp
from tests.support.streams import Streams
from tests.support.turns import turns

LONG = 0.03         # seconds: what waits may do so for a third of that


def all_of(sock):
    received = b''
    try:
        while True:
            received += sock.recv(1 << 16)
    except BlockingIOError:
        return received


class _TestLongTurns(Streams):

    @contextlib.asynccontextmanager
    async def pairs(self, count):
        """Transports of the loop's own sockets, and sockets that they are connected with."""
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(LOCAL))
            pairs = []
            for _ in range(count):
                near = await self.connect(listener.getsockname())
                peer, _ = listener.accept()
                stack.enter_context(peer).setblocking(False)
                pairs.append((near.transport, peer))
            yield pairs

    def test_streams_that_are_written_by_turns(self):
        async def main():
            async with self.pairs(8) as pairs:
                for _ in range(20):
                    for transport, _ in pairs:
                        transport.write(b'quick')
                    await asyncio.sleep(0)
                await turns()
                for _, peer in pairs:
                    assert all_of(peer) == b'quick' * 20
                for _ in range(2):
                    for transport, _ in pairs:
                        transport.write(b'slow')
                        time.sleep(LONG)
                    for _, peer in pairs:
                        assert all_of(peer) == b'slow'
                    await asyncio.sleep(0)
                for transport, peer in pairs:      # for a while
                    transport.write(b'quick')
                    assert all_of(peer) == b'quick'

        self.run(main())

    async def with_long_callbacks(self, send, peer):
        """``send`` in bulk, in turns that a callback behind it makes long; and then one by one."""
        for turn in range(20):
            for _ in range(10):
                self.loop.call_soon(send, b'.')
            self.loop.call_soon(time.sleep, LONG * (turn > 15))
            await asyncio.sleep(0)
        await turns()
        assert all_of(peer) == b'.' * 200
        for _ in range(10):
            send(b'.')
            assert all_of(peer) == b'.'

    def test_a_stream_that_is_written_in_bulk(self):
        async def main():
            async with self.pairs(1) as [(transport, peer)]:
                await self.with_long_callbacks(transport.write, peer)

        self.run(main())

    def test_a_bulk_of_datagrams(self):
        async def main():
            peer = udp(room=1 << 20)
            transport, _ = await endpoint(remote_addr=peer.getsockname())
            await self.with_long_callbacks(transport.sendto, peer)
            transport.close()
            peer.close()

        self.run(main())


both_sides(globals(), _TestLongTurns)
