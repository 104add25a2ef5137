"""Whoever is always busy leaves timers, signals, threads and other tasks their turns."""
import asyncio
import contextlib
import functools
import os
import signal
import socket
import threading
import time

from tests.support.cases import Case, both_sides
from tests.support.protocols import Recorder
from tests.support.sockets import PAIRS
from tests.support.streams import Recorder as StreamRecorder
from tests.support.streams import Streams
from tests.support.turns import turns

MEBIBYTE = 1 << 20


class _TestCallbacksInC(Case):
    """A loop that is never idle and whose callbacks run no Python code."""

    timeout = 20.0

    def keep_busy(self):
        step = functools.partial(int)
        step.__setstate__((self.loop.call_soon, (step,), {}, {}))      # schedules itself
        self.loop.call_soon(step)

    def test_a_signal_is_handled(self):
        caught = []
        before = signal.signal(signal.SIGUSR1, lambda *_: (caught.append(1), self.loop.stop()))
        try:
            sender = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
            sender.start()
            self.keep_busy()
            self.forever()
            sender.join()
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert caught

    def test_other_threads_run(self):
        done = threading.Event()

        def count():
            for _ in range(50):
                time.sleep(0.0001)         # gives the GIL up, and wants it back
            done.set()
            self.loop.call_soon_threadsafe(self.loop.stop)

        counting = threading.Thread(target=count)
        counting.start()
        self.keep_busy()
        self.forever()
        counting.join()
        assert done.is_set()


class Amplifier(StreamRecorder):
    """Writes twice what it reads, and counts how often it is called in a turn."""

    calls_now = calls_at_most = 0

    def data_received(self, data):
        if not self.calls_now:
            asyncio.get_running_loop().call_soon(self.next_turn)
        self.calls_now += 1
        self.transport.write(data + data)

    def next_turn(self):
        self.calls_at_most = max(self.calls_at_most, self.calls_now)
        self.calls_now = 0


class Flood:
    """Calls ``send`` in a thread, for up to 3 seconds."""

    def __init__(self, send):
        self.send = send
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.end = threading.Timer(3, self.over.set)

    def run(self):
        while not self.over.is_set():
            with contextlib.suppress(OSError):
                self.send()

    def __enter__(self):
        self.thread.start()
        self.end.start()
        return self

    def __exit__(self, *exc):
        self.over.set()
        self.end.cancel()
        self.end.join()
        self.thread.join()


class _TestGreedyProtocols(Streams):
    """One busy socket whose every event makes more work leaves the timers their turns."""

    timeout = 10.0

    async def timers_run(self, flood, count):
        for _ in range(count):
            await asyncio.sleep(0.01)
        assert not flood.over.is_set(), 'timers waited for the end of the flood'

    def test_stream_that_writes_more_than_it_reads(self):
        async def main():
            near, far = PAIRS['tcp']()
            reading = threading.Thread(target=read_all, args=[far], daemon=True)
            protocol = await self.open(near, Amplifier)
            reading.start()
            with Flood(lambda: far.send(bytes(200_000))) as flood:
                await self.timers_run(flood, 50)
                far.shutdown(socket.SHUT_RDWR)
            assert protocol.calls_at_most < 100
            protocol.transport.abort()
            await protocol.until_lost()
            reading.join()
            far.close()

        def read_all(sock):
            try:
                while sock.recv(1 << 20):
                    pass
            except OSError:
                pass

        self.run(main())

    def test_datagram_protocol_that_answers_many_times(self):
        """Nor does the loop collect what the protocol has no time for."""
        class Answering(Recorder):
            handled = 0

            def datagram_received(self, data, addr):
                self.handled += 1
                for _ in range(70):
                    self.transport.sendto(bytes(100), addr)

        async def main():
            transport, protocol = await self.loop.create_datagram_endpoint(
                Answering, local_addr=('127.0.0.1', 0))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.connect(transport.get_extra_info('sockname'))
                with Flood(lambda: sock.send(bytes(1400))) as flood:
                    await self.timers_run(flood, 5)
                    if self.uring:
                        received = self.loop.stats().datagrams_received
                        assert received - protocol.handled < 1000
            transport.abort()
            await protocol.until(lambda p: p.lost)

        self.run(main())


class _TestDrainingWriter(Case):

    timeout = 20.0

    def test_others_have_their_turns(self):
        """A coroutine that writes and drains, and a reader and a ticker beside it."""
        async def main():
            async def serve(reader, writer):
                nonlocal received
                while data := await reader.read(MEBIBYTE):
                    received += len(data)
                writer.close()

            async def tick():
                nonlocal ticks
                while True:
                    ticks += 1
                    await asyncio.sleep(0)

            received = ticks = behind = 0
            server = await asyncio.start_server(serve, '127.0.0.1', 0)
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            ticker = asyncio.ensure_future(tick())
            for i in range(1, 501):
                writer.write(bytes(200_000))
                await writer.drain()
                behind = max(behind, i * 200_000 - received)
            assert behind < 32 * MEBIBYTE
            assert ticks > 100
            ticker.cancel()
            writer.close()
            await writer.wait_closed()
            while received < 500 * 200_000:
                await asyncio.sleep(0)
            server.close()
            await turns(5)

        self.run(main())


both_sides(globals(), _TestCallbacksInC, _TestGreedyProtocols, _TestDrainingWriter)
