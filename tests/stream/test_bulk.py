"""Streams that carry much: whatever way it is received, every byte comes once and in order."""
import asyncio
import random
import socket
import threading

import pytest

from tests.support.cases import both_sides
from tests.support.sockets import PAIRS, reset
from tests.support.streams import Buffered, Recorder, Streams
from tests.support.turns import turns

MEBIBYTE = 1 << 20


class RoomyBuffered(Buffered):
    size = 100_000


def pattern(length, seed=7):
    return random.Random(seed).randbytes(length)


class Sender(threading.Thread):
    """Sends from a thread, as fast as the socket takes it."""

    def __init__(self, sock, data, sizes):
        super().__init__(daemon=True)
        self.sock = sock
        self.data = memoryview(data)
        self.sizes = sizes
        self.sent = 0
        self.start()

    def run(self):
        try:
            n = 0
            while self.sent < len(self.data):
                part = self.data[self.sent:self.sent + self.sizes[n % len(self.sizes)]]
                self.sock.sendall(part)
                self.sent += len(part)
                n += 1
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass            # the receiver has gone

    def done(self):
        self.join(5)
        assert not self.is_alive()
        self.sock.close()


class _TestBulk(Streams):
    timeout = 30.0

    async def receiving(self, factory, kind, data, sizes):
        near, far = PAIRS[kind]()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
        protocol = await self.open(near, factory)
        return protocol, Sender(far, data, sizes)

    @pytest.mark.parametrize('kind', PAIRS)
    @pytest.mark.parametrize('factory', [Recorder, Buffered, RoomyBuffered])
    @pytest.mark.parametrize('sizes', [
        (MEBIBYTE,), (100,), (MEBIBYTE, MEBIBYTE, 10, 10, 10, 10, 10, 10), (60_000, 1)],
        ids=['long', 'short', 'both', 'alternating'])
    def test_everything_comes(self, kind, factory, sizes):
        data = pattern(max(200_000, min(8 * MEBIBYTE, 2000 * max(sizes))))

        async def main():
            protocol, sender = await self.receiving(factory, kind, data, sizes)
            await protocol.until_lost()
            assert protocol.data == data
            assert protocol.calls[-2:] == ['eof', 'lost']
            sender.done()

        self.run(main())

    @pytest.mark.parametrize('kind', PAIRS)
    @pytest.mark.parametrize('base', [Recorder, Buffered, RoomyBuffered])
    def test_pausing_after_each_piece_leaves_the_rest_with_the_sender(self, kind, base):
        data = pattern(24 * MEBIBYTE)
        ahead = []

        class Pausing(base):
            def received(self, piece):
                self.transport.pause_reading()
                asyncio.get_running_loop().call_soon(self.transport.resume_reading)
                super().received(piece)
                ahead.append(sender.sent - len(self.data))

        async def main():
            nonlocal sender
            protocol, sender = await self.receiving(Pausing, kind, data, (MEBIBYTE,))
            await protocol.until_lost()
            assert protocol.data == data
            # What the sockets' buffers hold, and what one receive had taken at most.
            assert max(ahead) < 8 * MEBIBYTE
            sender.done()

        sender = None
        self.run(main())

    @pytest.mark.parametrize('kind', PAIRS)
    def test_pausing_at_random(self, kind):
        data = pattern(16 * MEBIBYTE)
        dice = random.Random(3)

        async def main():
            protocol, sender = await self.receiving(Recorder, kind, data, (MEBIBYTE, 7, 100_000))
            transport = protocol.transport
            while not protocol.lost and 'eof' not in protocol.calls:
                if dice.random() < 0.5:
                    transport.pause_reading()
                    seen = len(protocol.data)
                    await turns(dice.randrange(4))
                    assert len(protocol.data) == seen
                transport.resume_reading()
                await asyncio.sleep(dice.choice([0, 0, 0.0005]))
            assert protocol.data == data
            sender.done()

        self.run(main())

    @pytest.mark.parametrize('kind', PAIRS)
    def test_another_protocol_takes_over(self, kind):
        data = pattern(16 * MEBIBYTE)

        async def main():
            got = bytearray()

            class Relay(Recorder):
                def received(self, piece):
                    got.extend(piece)
                    self.relay()

                def relay(self):
                    if len(got) // MEBIBYTE > len(made):
                        successor = made[-1].other()
                        successor.transport = self.transport
                        made.append(successor)
                        self.transport.set_protocol(successor)

                def eof_received(self):
                    ended.set()

            class BufferedRelay(RoomyBuffered):
                received, relay, eof_received = Relay.received, Relay.relay, Relay.eof_received

            Relay.other, BufferedRelay.other = BufferedRelay, Relay
            made, ended = [], asyncio.Event()

            def first():
                made.append(Relay())
                return made[0]

            near, far = PAIRS[kind]()
            await self.loop.create_connection(first, sock=near)
            sender = Sender(far, data, (MEBIBYTE,))
            await ended.wait()
            assert got == data
            assert len(made) > 4
            await made[-1].until_lost()
            sender.done()

        self.run(main())

    @pytest.mark.parametrize('factory', [Recorder, RoomyBuffered])
    @pytest.mark.parametrize('way', ['close', 'abort'])
    def test_closing_in_the_midst_ends_delivery(self, factory, way):
        async def main():
            protocol, sender = await self.receiving(
                factory, 'tcp', bytes(64 * MEBIBYTE), (MEBIBYTE,))
            await protocol.until_length(4 * MEBIBYTE)
            getattr(protocol.transport, way)()
            seen = len(protocol.data)
            assert await protocol.until_lost() is None
            await turns()
            assert len(protocol.data) == seen
            sender.done()

        self.run(main())

    def test_a_reset_in_the_midst_is_told(self):
        async def main():
            protocol, sender = await self.receiving(
                Recorder, 'tcp', bytes(4 * MEBIBYTE), (MEBIBYTE,))
            await protocol.until_length(3 * MEBIBYTE)
            protocol.transport.pause_reading()
            reset(sender.sock)
            protocol.transport.resume_reading()
            assert isinstance(await protocol.until_lost(), ConnectionResetError)
            sender.done()

        self.run(main())

    def test_a_buffer_that_cannot_be_had_in_the_midst_is_fatal(self):
        class Failing(RoomyBuffered):
            def get_buffer(self, sizehint):
                return self.buffer if len(self.data) < 3 * MEBIBYTE else b''

        async def main():
            protocol, sender = await self.receiving(
                Failing, 'tcp', bytes(64 * MEBIBYTE), (MEBIBYTE,))
            assert isinstance(await protocol.until_lost(), RuntimeError)
            assert len(self.problems) == 1
            assert 'get_buffer() call failed' in self.problems[0]['message']
            sender.done()

        self.run(main())

    def test_an_end_right_behind_the_data_is_heard(self):
        """Whatever the receiver is doing when the peer closes, it hears of it."""
        async def main():
            for _ in range(150):
                protocol, sender = await self.receiving(Recorder, 'unix', bytes(20_000), (100,))
                await protocol.until_lost()
                assert protocol.data == bytes(20_000)
                sender.done()

        self.run(main())


both_sides(globals(), _TestBulk)
