"""Buffers that the kernel still holds: cancelled, closed, moved to another ring, collected."""
import asyncio
import gc
import os
import socket
import sys
import weakref

import pytest

from tests.support.cases import UringCase
from tests.support.features import needs_feature
from tests.support.namespaces import Wire, needs_root
from tests.support.process import in_thread
from tests.support.protocols import endpoint
from tests.support.turns import turns_until
from uringloop import SendReport
from uringloop.ring import orphans


@needs_feature('send_zc')
@needs_root
class TestHeld(UringCase):
    """The kernel has sent, as far as the program can see, and still holds the buffer."""

    timeout = 10.0

    @pytest.fixture(autouse=True)
    def _hold(self, _fresh_loop, wire):
        wire.hold()
        yield
        wire.release()

    async def held(self, transport, size):
        """Wait until the results are in, and the notifications are not."""
        await turns_until(lambda: transport.get_write_buffer_size() == 0)
        assert self.loop.stats().bytes_pinned == size

    def test_bytes_are_referenced_until_the_notification(self, wire):
        async def main():
            transport, _ = await endpoint(sock=wire.socket())
            data = os.urandom(20_000)
            before = sys.getrefcount(data)
            transport.sendto(data, wire.peer)
            future = transport.sendto_zerocopy(data, wire.peer)
            await self.held(transport, 40_000)
            assert sys.getrefcount(data) == before + 2
            assert not future.done()
            wire.release()
            assert (await future).nbytes == 20_000
            await turns_until(lambda: self.loop.stats().buffers_released == 2)
            assert sys.getrefcount(data) == before
            assert self.loop.stats().bytes_pinned == 0
            transport.close()

        self.run(main())

    def test_lent_memory_cannot_be_resized(self, wire):
        async def main():
            transport, _ = await endpoint(sock=wire.socket())
            data = bytearray(20_000)
            future = transport.sendto_zerocopy(data, wire.peer)
            await self.held(transport, 20_000)
            with pytest.raises(BufferError):
                data.append(0)
            wire.release()
            await future
            await asyncio.sleep(0)
            data.append(0)
            transport.close()

        self.run(main())

    def test_cancelled_between_the_two_completions(self, wire):
        async def main():
            receiver, received = await endpoint(sock=wire.far.socket(address=wire.peer))
            transport, protocol = await endpoint(sock=wire.socket())
            data = bytearray(b'x' * 20_000)
            future = transport.sendto_zerocopy(data, wire.peer)
            await self.held(transport, 20_000)
            future.cancel()
            await asyncio.sleep(0)
            with pytest.raises(BufferError):
                data.clear()
            wire.release()
            await received.until(lambda p: p.datagrams)
            assert received.datagrams == [b'x' * 20_000]
            await turns_until(lambda: self.loop.stats().bytes_pinned == 0)
            data.clear()
            assert future.cancelled()
            transport.close()
            receiver.close()
            await protocol.until(lambda p: p.lost)

        self.run(main())

    def test_sock_cancelled_between_the_two_completions(self, wire):
        async def main():
            with wire.socket() as sock:
                data = bytearray(20_000)
                future = self.loop.sock_sendto_zerocopy(sock, data, wire.peer)
                await asyncio.sleep(0)
                assert self.loop.stats().bytes_pinned == 20_000
                future.cancel()
                await asyncio.sleep(0)
                with pytest.raises(BufferError):
                    data.clear()
                wire.release()
                await turns_until(lambda: self.loop.stats().bytes_pinned == 0)
                data.clear()

        self.run(main())

    def test_sock_sendto_does_not_wait_for_the_notification(self, wire):
        async def main():
            with wire.socket() as sock:
                data = bytes(20_000)
                before = sys.getrefcount(data)
                assert await self.loop.sock_sendto(sock, data, wire.peer) == 20_000
                assert self.loop.stats().bytes_pinned == 20_000
                assert sys.getrefcount(data) > before
                wire.release()
                await turns_until(lambda: self.loop.stats().bytes_pinned == 0)
                assert sys.getrefcount(data) == before

        self.run(main())

    @pytest.mark.parametrize('how', ['close', 'abort'])
    def test_a_closed_transport_does_not_wait_but_its_buffer_does(self, wire, how):
        """connection_lost does not wait for the notification; the buffer does."""
        async def main():
            transport, protocol = await endpoint(sock=wire.socket())
            data = bytearray(20_000)
            future = transport.sendto_zerocopy(data, wire.peer)
            await self.held(transport, 20_000)
            getattr(transport, how)()
            await protocol.until(lambda p: p.lost)
            with pytest.raises(BufferError):
                data.clear()
            assert not future.done()
            wire.release()
            assert (await future).nbytes == 20_000
            await asyncio.sleep(0)
            data.clear()

        self.run(main())

    def test_a_buffer_outlives_the_loop(self, wire):
        """The buffer outlives the loop, until the ring is dead."""
        async def main():
            transport, _ = await endpoint(sock=wire.socket())
            transport.sendto(data, wire.peer)
            await self.held(transport, 20_000)
            return transport

        data = os.urandom(20_000)
        before = sys.getrefcount(data)
        transport = self.run(main())
        transport.abort()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()
        assert orphans.orphaned_rings
        assert sys.getrefcount(data) == before + 1
        marker_peer = orphans.orphaned_rings[0][0]
        wire.release()
        assert orphans.hung_up(marker_peer, 10)
        orphans.release_torn_down()
        assert not orphans.orphaned_rings
        assert sys.getrefcount(data) == before
        self.loop = self.new_loop()


@needs_root
class TestLoopMoves(UringCase):
    """A loop that runs in another thread has another ring; the first may still hold memory."""

    @needs_feature('send_zc')
    def test_no_report_before_the_memory_is_free(self, wire):
        async def send():
            transport, _ = await endpoint(sock=wire.socket(address=('10.98.1.1', 0)))
            wire.hold()
            return transport, transport.sendto_zerocopy(bytearray(30_000), wire.peer)

        async def wait():
            for _ in range(100):
                await asyncio.sleep(0)
            assert not report.done()
            wire.release()
            # The ring that it went out by is not there to tell.
            assert await report == SendReport(30_000, None)
            transport.close()

        transport, report = self.run(send())
        in_thread(lambda: self.run(wait()))

    @needs_feature('send_zc')
    def test_no_report_of_a_closed_loop(self, wire):
        async def send():
            transport, _ = await endpoint(sock=wire.socket(address=('10.98.1.1', 0)))
            wire.hold()
            report = transport.sendto_zerocopy(bytearray(30_000), wire.peer)
            transport.close()
            await turns_until(lambda: transport._sock is None)
            return report

        report = self.run(send())
        self.loop.close()
        assert report.cancelled()
        wire.release()
        while orphans.orphaned_rings:
            orphans.release_torn_down()

    def test_a_paused_endpoint_sends_by_its_own_socket(self):
        """It has registered its socket with the first ring, and its number is another's by now."""
        async def begin():
            paused, _ = await endpoint(local_addr=('127.0.0.1', 0))
            await endpoint(local_addr=('127.0.0.1', 0))
            await asyncio.sleep(0)
            paused.pause_reading()
            await asyncio.sleep(0)
            return paused

        async def send():
            for size in 3000, 20_000:
                await paused.sendto_zerocopy(bytearray(size), peer.getsockname())

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind(('127.0.0.1', 0))
            peer.settimeout(5)
            paused = self.run(begin())
            in_thread(lambda: self.run(send()))
            for size in 3000, 20_000:
                assert peer.recvfrom(65_536) == (bytes(size), paused.get_extra_info('sockname'))
            for fd in range(3, 200):
                if self.loop._transports.get(fd):
                    self.loop._transports[fd].abort()


class TestCollected(UringCase):

    @needs_feature('send_zc')
    @needs_root
    def test_cycle_collected_while_the_kernel_holds_the_buffer(self):
        async def main(wire):
            wire.hold()
            transport, protocol = await endpoint(sock=wire.socket())
            data = bytearray(20_000)
            memory = memoryview(data)
            transport.sendto(bytes(20_000), wire.peer)
            transport.sendto_zerocopy(memory, wire.peer)
            memory.release()
            await turns_until(lambda: self.loop.stats().datagrams_sent == 2)
            assert protocol.transport is transport
            transport.abort()
            await protocol.until(lambda p: p.lost)
            gone = weakref.ref(transport), weakref.ref(protocol)
            del transport, protocol
            gc.collect()
            assert self.loop.stats().bytes_pinned == 40_000
            with pytest.raises(BufferError):
                data.clear()
            wire.release()
            await turns_until(lambda: self.loop.stats().buffers_released == 2)
            await asyncio.sleep(0)
            data.clear()
            gc.collect()
            assert [ref() for ref in gone] == [None, None]
            assert self.loop.stats().bytes_pinned == 0

        with Wire() as wire:
            self.run(main(wire))
