"""Who gets a turn, and what is told when: signals, threads, failed writes, the end."""
import asyncio
import functools
import gc
import os
import signal
import socket
import threading
import time
import warnings
import weakref

import pytest

import uringloop
from tests.support.cases import Case, both_sides
from tests.support.sockets import PAIRS
from tests.support.streams import Recorder
from tests.support.turns import turns


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


class _TestFailedWrite(Case):

    def test_closing_at_once(self):
        """A writer that goes on until the transport is closing ends, and keeps nothing."""
        async def main():
            near, far = PAIRS['tcp']()
            transport, protocol = await self.loop.create_connection(Recorder, sock=near)
            transport.pause_reading()
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
            far.close()                    # a reset
            writes = 0
            while not transport.is_closing():
                transport.write(bytes(65536))
                writes += 1
                assert writes < 100
            for _ in range(3):
                transport.write(bytes(65536))
            assert transport.get_write_buffer_size() <= 65536
            assert type(await protocol.until_lost()) in (ConnectionResetError, BrokenPipeError)

        self.run(main())


class _TestHalfClosed(Case):
    """The peer has shut its sending half, and does not read for a while."""

    @pytest.mark.parametrize('how', ['transport', 'sock_sendall'])
    @pytest.mark.parametrize('kind', sorted(PAIRS))
    def test_waits_without_spinning(self, kind, how):
        async def main():
            near, far = PAIRS[kind]()
            near.setblocking(False)
            far.setblocking(False)
            far.shutdown(socket.SHUT_WR)
            data = os.urandom(1 << 23)
            if how == 'transport':
                transport, protocol = await self.loop.create_connection(StaysOpen, sock=near)
                await protocol.until(lambda: 'eof' in protocol.calls)
                transport.write(data)
                sending = None
            else:
                sending = asyncio.ensure_future(self.loop.sock_sendall(near, data))
            await asyncio.sleep(0.05)
            used = time.process_time()
            await asyncio.sleep(0.3)
            assert time.process_time() - used < 0.1
            received = bytearray()
            while len(received) < len(data):
                received += await self.loop.sock_recv(far, 1 << 20)
            assert received == data
            if sending is None:
                transport.close()
                await protocol.until_lost()
            else:
                await sending
                near.close()
            far.close()

        self.run(main())

    @pytest.mark.parametrize('kind', sorted(PAIRS))
    def test_given_up(self, kind):
        async def main():
            near, far = PAIRS[kind]()
            near.setblocking(False)
            far.shutdown(socket.SHUT_WR)
            sending = asyncio.ensure_future(self.loop.sock_sendall(near, bytes(1 << 23)))
            await asyncio.sleep(0.05)
            sending.cancel()
            await asyncio.wait([sending])
            transport, protocol = await self.loop.create_connection(StaysOpen, sock=near)
            transport.write(bytes(1 << 23))
            await asyncio.sleep(0.05)
            transport.abort()
            await protocol.until_lost()
            far.close()

        self.run(main())


class StaysOpen(Recorder):
    keep_open = True


class _TestWakeUps(Case):

    @pytest.mark.parametrize('busy_poll', [0, 50])
    def test_behind_zerocopy_writes(self, busy_poll):
        """Whatever has been sent: a wake-up from a thread is heard at once."""
        async def main():
            listening = socket.create_server(('127.0.0.1', 0))
            with listening:
                transport, _ = await asyncio.get_running_loop().create_connection(
                    asyncio.Protocol, *listening.getsockname())
                for _ in range(3):
                    transport.write(bytes(70_000))
                woken = asyncio.get_running_loop().create_future()
                waker = threading.Timer(0.05, asyncio.get_running_loop().call_soon_threadsafe,
                                        (woken.set_result, None))
                waker.start()
                begin = time.monotonic()
                await asyncio.wait_for(woken, 4)
                assert time.monotonic() - begin < 2
                waker.join()
                transport.abort()
                await turns(3)

        if not self.uring:
            return self.run(main())
        loop = uringloop.new_event_loop(require_uring=True, busy_poll=busy_poll)
        loop.run_until_complete(main())
        loop.close()


class _TestDying(Case):

    def test_weak_reference(self):
        """What is told of a transport's end does not come upon it once more."""
        async def main():
            with warnings.catch_warnings():
                warnings.simplefilter('ignore', ResourceWarning)
                for _ in range(20):
                    transport, _ = await self.loop.create_datagram_endpoint(
                        asyncio.DatagramProtocol, local_addr=('127.0.0.1', 0))
                    await turns(2)
                    transport.pause_reading()
                    await turns(3)
                    fd = transport._sock_fd
                    found = []
                    reference = weakref.ref(
                        transport, lambda _, fd=fd, found=found: found.append(
                            (self.loop._transports.get(fd), self.loop.remove_reader(fd))))
                    transport = _ = None
                    gc.collect()
                    await turns(2)
                    if reference() is None:
                        assert found[0][0] is None

        self.needs_pausing()
        self.run(main())


class SmallBuffer(asyncio.BufferedProtocol):

    def __init__(self):
        self.buffer = bytearray(256)
        self.received = 0

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.received += nbytes


class _TestSmallBuffers(Case):

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


class _TestInterrupted(Case):
    """What is raised through the loop costs nobody anything once it runs again."""

    @pytest.mark.parametrize('kind', [KeyboardInterrupt, SystemExit])
    def test_datagrams(self, kind):
        class Interrupting(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                got.append(data)
                if len(got) <= 8:
                    raise kind

        async def open_one():
            transport, _ = await self.loop.create_datagram_endpoint(
                Interrupting, local_addr=('127.0.0.1', 0))
            return transport

        async def wait():
            while len(got) < expected:
                await asyncio.sleep(0)

        got = []
        transport = self.loop.run_until_complete(open_one())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for expected in 12, 15:
                for _ in range(expected - len(got)):
                    sender.sendto(b'x', transport.get_extra_info('sockname'))
                for _ in range(20):
                    try:
                        self.run(wait())
                        break
                    except kind:
                        pass
                assert len(got) == expected
        transport.close()
        self.turns(3)

    def test_end_of_a_stream(self):
        class Interrupting(Recorder):
            def eof_received(self):
                super().eof_received()
                if self.calls.count('eof') == 1:
                    raise KeyboardInterrupt

        async def main():
            near, far = PAIRS['tcp']()
            with far:
                _, protocol = await self.loop.create_connection(Interrupting, sock=near)
                protocols.append(protocol)
            await until_lost()

        async def until_lost():
            while not protocols[0].lost:
                await asyncio.sleep(0)

        protocols = []
        with pytest.raises(KeyboardInterrupt):
            self.run(main())
        self.run(until_lost())
        assert protocols[0].calls == ['made', 'eof', 'eof', 'lost']


class _TestEnd(Case):

    @pytest.mark.parametrize('end', ['close', 'abort'])
    @pytest.mark.parametrize('paused', [False, True])
    @pytest.mark.parametrize('kind', sorted(PAIRS))
    def test_told_in_the_next_turn(self, kind, paused, end):
        """Before what is scheduled behind it."""
        async def main():
            near, far = PAIRS[kind]()
            with far:
                transport, protocol = await self.loop.create_connection(Recorder, sock=near)
                if paused:
                    transport.pause_reading()
                await turns(3)
                getattr(transport, end)()
                self.loop.call_soon(protocol.note, 'soon')
                await turns(2)
                assert protocol.calls[-2:] == ['lost', 'soon']

        self.run(main())


both_sides(globals(), _TestCallbacksInC, _TestFailedWrite, _TestHalfClosed, _TestEnd,
           _TestSmallBuffers, _TestInterrupted, _TestWakeUps, _TestDying)
