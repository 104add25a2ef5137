"""Memory is given back without being asked for: dropped, its loop closed, a task cancelled."""
import asyncio
import contextlib
import gc
import os
import socket
import threading

import pytest

import uringloop
from tests.leaks.measure import COUNTS_BLOCKS, resident
from tests.support.cases import UringCase, on_the_fallback_too, only_uring
from tests.support.endpoints import Sending
from tests.support.features import needs_feature
from tests.support.protocols import endpoint
from tests.support.sockets import LOCAL, Sockets, bound
from tests.support.turns import turns, turns_until


class TestAfterAFlood(UringCase):

    @only_uring
    @pytest.mark.skipif(not COUNTS_BLOCKS, reason='what a sanitizer frees it keeps')
    def test_what_kept_track_of_it(self, tmp_path):
        """Of each datagram that waited the loop has noted where it goes: whatever lies on the heap
        behind that."""
        async def main():
            path = str(tmp_path / 'reader')
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reader:
                reader.bind(path)
                reader.setblocking(False)
                transport, _ = await endpoint(family=socket.AF_UNIX, remote_addr=path)
                before = resident()
                for number in range(50_000):
                    transport.sendto(b'%d' % number)
                assert resident() - before > 10_000_000
                behind = [bytearray(1000) for _ in range(100)]
                for number in range(50_000):
                    assert await self.loop.sock_recv(reader, 100) == b'%d' % number
                await asyncio.sleep(0.001)           # so that there is nothing to do once
                assert resident() - before < 5_000_000
                transport.sendto(b'again')
                assert await self.loop.sock_recv(reader, 100) == b'again'
                del behind
                transport.close()

        self.run(main())


class TestDropped(UringCase):

    @needs_feature('registered_buffers')
    @only_uring
    def test_pools_dropped_in_another_thread_leave_their_slots(self):
        """The ring is its own thread's: the loop unregisters them in its next turns."""
        async def main():
            for _ in range(1100):                    # a table has 1,024 slots
                pool = [self.loop.create_buffer_pool(1, 1000)]
                assert pool[0].registered
                thread = threading.Thread(target=pool.clear)
                thread.start()
                thread.join()
                await turns()

        self.timeout = 30
        self.run(main())

    def test_registered_memory_outlives_its_loop(self):
        memory = bytearray(10_000)
        self.loop.register_buffer(memory)
        with pytest.raises(BufferError):
            memory.append(1)
        self.loop.close()
        memory.append(1)

    def test_what_was_never_made(self):
        """Its methods say so, and do not crash."""
        async def main():
            pool = self.loop.create_buffer_pool(1, 10)
            with await pool.acquire() as lease:
                kind = type(lease)
            with pytest.raises(ValueError, match='of no pool'):
                kind().release()
            for method in ('acquire_nowait', 'close', '__repr__'):
                with pytest.raises(RuntimeError, match='create_buffer_pool'):
                    getattr(uringloop.BufferPool.__new__(uringloop.BufferPool), method)()
            with pytest.raises(RuntimeError, match='register_buffer'):
                uringloop.RegisteredBuffer.__new__(uringloop.RegisteredBuffer).close()
            pool.close()

        self.run(main())


class TestWaitingTrains(Sockets, UringCase):

    def test_the_future_of_one_whose_task_is_cancelled_is_done(self):
        """``asyncio.run`` cancels all tasks in the end; whoever waits for the future goes on."""
        async def main():
            full = self.udp(socket.AF_UNIX, f'\0{__name__}-{os.getpid()}')
            future = self.loop.sock_sendto_zerocopy(
                self.udp(socket.AF_UNIX, ''), bytearray(4_000_000), full.getsockname(),
                segment_size=1000)
            await turns()
            assert not future.done()
            waiting = asyncio.all_tasks() - before - {asyncio.current_task()}
            assert len(waiting) == 1
            waiting.pop().cancel()
            await turns_until(future.done)
            assert future.cancelled()

        async def start():
            before.update(asyncio.all_tasks())
            await main()

        before = set()
        self.run(start())


class TestPassingExceptions(UringCase):

    @pytest.mark.parametrize('waits_for', ['acquire', 'close'])
    def test_the_last_view_goes_by_an_exception(self, waits_for):
        """Who waits for the buffer is told, and the exception passes on."""
        def fail():
            raise LookupError('no such peer')

        async def main():
            pool = self.loop.create_buffer_pool(1, 2000)
            with await pool.acquire() as lease:
                views = [lease[:1000]]
            waiting = asyncio.ensure_future(getattr(pool, waits_for)())
            await turns()
            with pytest.raises(LookupError, match='no such peer'):
                bytes.join(views.pop(), fail())
            lease = await waiting
            if lease is not None:
                lease.release()

        self.run(main())


class TestReleasedWhileItWaits(UringCase):

    @pytest.mark.parametrize('part', [slice(None), slice(10, 1990)])
    @pytest.mark.parametrize('call', ['sendto', 'sendto_zerocopy', 'sendmsg', 'sendall'])
    def test_for_room(self, call, part):
        """It is sent as it was, whoever has the buffer next."""
        async def main():
            near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            with near, far:
                for sock in near, far:
                    sock.setblocking(False)
                far.bind(f'\0{__name__}-{os.getpid()}')
                waiting = 0
                with contextlib.suppress(BlockingIOError):
                    while True:
                        near.send(b'full')
                        waiting += 1
                with await pool.acquire() as lease:
                    lease[:] = b'A' * 2000
                    data = lease if part == slice(None) else lease[part]
                    length = len(data)
                    address = (far.getsockname(),) if 'sendto' in call else ()
                    sending = asyncio.ensure_future(getattr(self.loop, f'sock_{call}')(
                        near, [data] if call == 'sendmsg' else data, *address))
                    await turns()
                    del data
                with contextlib.suppress(BufferError), pool.acquire_nowait() as other:
                    other[:] = b'B' * 2000
                for _ in range(waiting):
                    assert far.recv(100) == b'full'
                await sending
                assert far.recv(9000) == b'A' * length
                await turns_until(lambda: pool.free == 1)

        pool = self.loop.create_buffer_pool(1, 2000)
        self.run(main())


class TestReleasedWithinACall(UringCase):

    def test_by_error_received(self):
        """What had failed before is told of first; the datagram leaves as it was."""
        class Releases(asyncio.DatagramProtocol):
            def error_received(self, exc):
                if leases:
                    leases.pop().release()
                    with contextlib.suppress(BufferError):
                        later.append(pool.acquire_nowait())
                        later[-1][:] = b'B' * 5000

        async def main():
            with bound() as receiver:
                transport, _ = await self.loop.create_datagram_endpoint(
                    Releases, local_addr=LOCAL)
                for _ in range(3):
                    for _ in range(10):
                        transport.sendto(b'x' * 100, ('127.0.0.1', 0))
                    lease = pool.acquire_nowait()
                    lease[:] = b'A' * 5000
                    leases.append(lease)
                    transport.sendto(lease, receiver.getsockname())
                    await turns()
                    assert set(receiver.recv(9000)) == {ord('A')}
                    for lease in leases + later:
                        lease.release()
                    leases.clear()
                    later.clear()
                    await turns_until(lambda: pool.free == 1)
                transport.close()

        leases, later = [], []
        pool = self.loop.create_buffer_pool(1, 5000)
        self.run(main())


class TestFailed(UringCase):

    @pytest.mark.parametrize('call', ['sendto', 'sendto_zerocopy', 'sendmsg'])
    def test_an_exception_that_is_kept_keeps_no_buffer(self, call):
        async def main():
            far = bound(socket.AF_UNIX, '')
            pool = self.loop.create_buffer_pool(1, 100)
            to = far.getsockname()
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as near:
                near.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        near.sendto(b'full', to)
                with await pool.acquire() as lease:
                    data = lease[:50]
                    what = ([data], (), 0, to) if call == 'sendmsg' else (data, to)
                    sending = asyncio.ensure_future(
                        getattr(self.loop, f'sock_{call}')(near, *what))
                    await turns()
                    del data, what
                far.close()
                await asyncio.wait([sending])
                kept = sending.exception()
                del sending
                await turns()
                assert isinstance(kept, ConnectionRefusedError)
                assert pool.free == 1

        self.run(main())


class TestGivenBackWithinASend(Sending, UringCase):

    def new_loop(self):
        class Loop(uringloop.Loop):
            def call_soon(self, *args, **options):
                if sends:
                    sends.pop()()
                return super().call_soon(*args, **options)

        self.sends = sends = []
        return Loop()

    def test_what_is_sent_there_leaves_too(self):
        """It does not become part of what has left already."""
        async def main():
            transport, _ = await endpoint(local_addr=LOCAL)
            for _ in range(6):                       # so that what is sent waits for the turn's end
                for _ in range(8):
                    transport.sendto(bytes(64), self.to)
                await asyncio.sleep(0)
            self.arrived()
            awaited = self.loop.create_buffer_pool(1, 64)
            pool = self.loop.create_buffer_pool(2, 64)
            lease, first, second = awaited.acquire_nowait(), *await pool.acquire_many(2)
            for number, each in enumerate((lease, first, second)):
                each[:] = bytes([number]) * 64
            waiting = asyncio.ensure_future(awaited.acquire())
            await asyncio.sleep(0)
            for _ in range(8):
                transport.sendto(b'x' * 64, self.to)
            transport.sendto(lease, self.to)
            lease.release()
            transport.sendto(first, self.to)
            self.sends.append(lambda: transport.sendto(second, self.to))
            (await waiting).release()
            await turns()
            assert [data[0] for data in self.arrived() if data[0] != ord('x')] == [0, 1, 2]
            for each in first, second:
                each.release()
            transport.close()

        self.run(main())


@pytest.mark.parametrize(
    'call', ['sendto', 'sendto_zerocopy', 'sendto_many', 'sendto_many_zerocopy'])
class TestAddress(UringCase):

    def test_one_that_releases_the_lease(self, call):
        """An address may be code of the program: what it gives up is not sent."""
        class Port:
            def __index__(self):
                if not lease.released:
                    lease.release()
                return 9

        async def main():
            transport, _ = await endpoint(local_addr=LOCAL)
            data = [lease] if 'many' in call else lease
            with pytest.raises(ValueError, match='released'):
                await getattr(transport, call)(data, ('127.0.0.1', Port()))
            transport.close()
            gc.collect()
            assert pool.free == 1

        pool = self.loop.create_buffer_pool(1, 1000)
        lease = pool.acquire_nowait()
        self.run(main())

on_the_fallback_too(globals(), TestDropped, TestWaitingTrains, TestPassingExceptions,
                    TestReleasedWhileItWaits, TestReleasedWithinACall)
