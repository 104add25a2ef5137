"""Leases: the buffer that they are, by which calls they are sent, and what a released one says."""
import asyncio
import contextlib
import ctypes
import gc
import io
import re
import socket
import struct
import sys
import warnings
import weakref

import pytest

import uringloop
from tests.support.cases import UringCase, on_the_fallback_too, only_uring
from tests.support.process import in_thread
from tests.support.protocols import endpoint
from tests.support.sockets import LOCAL, Sockets, tcp_pair
from tests.support.turns import turns, turns_until


class TestBuffer(UringCase):
    """It is memory, as a bytearray is that cannot be resized."""

    @pytest.fixture
    def lease(self, _fresh_loop):
        with self.loop.create_buffer_pool(2, 1000).acquire_nowait() as lease:
            yield lease

    def test_length_items_and_slices(self, lease):
        assert len(lease) == 1000
        lease[0] = 7
        lease[-1] = 9
        assert (lease[0], lease[999]) == (7, 9)
        lease[10:15] = b'hello'
        assert lease[10:15] == b'hello'
        assert bytes(lease[10:20:2]) == b'hlo\0\0'
        assert isinstance(lease[10:15], memoryview)
        assert not lease[10:15].readonly
        assert len(lease[990:2000]) == 10
        for wrong in (1000, -1001):
            with pytest.raises(IndexError):
                lease[wrong]
        with pytest.raises(ValueError, match=r'^4 bytes do not fit a slice of 3'):
            lease[:3] = b'four'

    def test_views(self, lease):
        view = memoryview(lease)
        assert (view.format, view.itemsize, view.nbytes, view.readonly, view.contiguous) \
            == ('B', 1, 1000, False, True)
        numbers = view.cast('I')
        numbers[3] = 0xdeadbeef
        assert struct.unpack_from('=I', lease, 12) == (0xdeadbeef,)
        grid = view.cast('B', [10, 100])
        grid[1, 5] = 42
        assert lease[105] == 42
        del grid, numbers

    @pytest.mark.skipif(sys.version_info >= (3, 12), reason='None has no references to count')
    def test_views_take_no_reference_to_none(self, lease):
        before = sys.getrefcount(None)
        for _ in range(1000):
            lease[:1].release()
        assert sys.getrefcount(None) < before + 100

    def test_views_are_of_the_form_that_is_asked_for(self, lease):
        view = memoryview(lease)
        assert (view.format, view.itemsize, view.ndim, view.strides, view.shape, view.readonly,
                view.suboffsets, view.obj) == ('B', 1, 1, (1,), (len(lease),), False, (), lease)
        assert bytes(lease) == view.tobytes()          # PyBUF_SIMPLE
        view.release()

    def test_what_fills_buffers_fills_it(self, lease):
        assert io.BytesIO(b'a' * 600).readinto(lease) == 600
        assert io.BytesIO(b'b' * 10).readinto(lease[600:]) == 10
        struct.pack_into('!HI', lease, 994, 513, 0x01020304)
        assert bytes(lease) == b'a' * 600 + b'b' * 10 + bytes(384) + b'\2\1\1\2\3\4'
        ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(lease)), 0x63, 4)
        gc.collect()
        assert bytes(lease[:5]) == b'cccca'
        assert bytearray(lease) == bytes(lease)
        assert b''.join([lease, b'!']) == bytes(lease) + b'!'

    def test_receiving_into_it(self, lease):
        one, two = socket.socketpair()
        with one, two:
            one.sendall(b'received')
            assert two.recv_into(lease) == 8
            one.sendall(b'again')
            two.setblocking(False)
            assert self.run(self.loop.sock_recv_into(two, lease[8:])) == 5
            assert bytes(lease[:13]) == b'receivedagain'

    def test_files(self, lease, tmp_path):
        lease[:] = b'f' * 1000
        path = tmp_path / 'file'
        with path.open('wb') as file:
            assert file.write(lease) == 1000
        lease[:] = bytes(1000)
        with path.open('rb', buffering=0) as file:
            assert file.readinto(lease) == 1000
        assert bytes(lease) == b'f' * 1000

    def test_a_lease_is_of_one_holder(self):
        with pytest.raises(TypeError):
            class Own(uringloop.Lease):
                pass


class TestRelease(UringCase):

    def test_of_a_with_statement(self):
        pool = self.loop.create_buffer_pool(1, 100)
        with pool.acquire_nowait() as lease:
            assert not lease.released
        assert lease.released
        assert pool.free == 1
        with pool.acquire_nowait() as lease:
            lease.release()              # earlier than its end is nobody's fault
        assert pool.free == 1
        with pytest.raises(KeyError), pool.acquire_nowait():
            raise KeyError
        assert pool.free == 1
        with pytest.raises(ValueError, match=r'^lease \d+ was released: acquire another$'), lease:
            pass

    def test_a_second_time(self):
        pool = self.loop.create_buffer_pool(1, 100)
        lease = pool.acquire_nowait()
        lease.release()
        for _ in range(2):
            with pytest.raises(ValueError, match=r'^lease \d+ was released: acquire another$'):
                lease.release()
        assert pool.free == 1
        # It never means the buffer's next holder.
        other = pool.acquire_nowait()
        with pytest.raises(ValueError, match='was released'):
            lease.release()
        assert (pool.free, other.released) == (0, False)
        other.release()

    @pytest.mark.parametrize('use', [
        memoryview, bytes, lambda lease: lease[0], lambda lease: lease[1:5],
        lambda lease: lease.__setitem__(0, 1), lambda lease: lease.__setitem__(slice(1), b'x'),
        io.BytesIO(b'x').readinto, lambda lease: struct.pack_into('B', lease, 0, 1),
        lambda lease: lease.__enter__()])
    def test_it_is_no_buffer_any_more(self, use):
        lease = self.loop.create_buffer_pool(1, 100).acquire_nowait()
        lease.release()
        with pytest.raises((ValueError, TypeError)):
            use(lease)

    def test_views_keep_the_buffer(self):
        """Of one that was released, too: nobody else gets the memory under them."""
        pool = self.loop.create_buffer_pool(1, 100)
        lease = pool.acquire_nowait()
        view = lease[:50]
        part = view[10:20]
        registered = 'registered' if pool.registered else 'not registered'
        assert f' 0 free, {registered}' in repr(pool)
        lease.release()
        assert (lease.released, pool.free, pool.held) == (True, 0, 1)
        assert ' 0 free, 1 released but still viewed or being sent, ' in repr(pool)
        with pytest.raises(BufferError):
            pool.acquire_nowait()
        part[:] = b'0123456789'
        assert bytes(view[10:20]) == b'0123456789'
        view.release()
        assert pool.free == 0
        part.release()
        assert (pool.free, pool.held) == (1, 0)
        assert self.loop.stats().pool_leases == 0

    def test_a_view_wakes_a_waiter(self):
        async def main():
            pool = self.loop.create_buffer_pool(1, 100)
            lease = await pool.acquire()
            view = memoryview(lease)
            waiting = asyncio.ensure_future(pool.acquire())
            await turns()
            lease.release()
            await turns()
            assert not waiting.done()
            del view
            (await waiting).release()

        self.run(main())

    @pytest.mark.parametrize('kept', [False, True])
    def test_dropped(self, kept):
        """It comes back by itself, when its last view goes, and says what was forgotten."""
        pool = self.loop.create_buffer_pool(1, 100)
        lease = pool.acquire_nowait()
        view = lease[:10] if kept else None
        name = re.escape(repr(lease))
        with pytest.warns(ResourceWarning, match=f'{name} was not released') as warned:
            del lease, view
            gc.collect()
        assert [each.filename for each in warned] == [__file__]
        assert (pool.free, pool.held) == (1, 0)

    def test_dropped_in_a_cycle(self):
        class Packet:
            pass

        pool = self.loop.create_buffer_pool(1, 100)
        packet = Packet()
        packet.lease = pool.acquire_nowait()
        packet.view = packet.lease[3:]
        packet.itself = packet
        gone = weakref.ref(packet)
        with pytest.warns(ResourceWarning, match='was not released'):
            del packet
            gc.collect()
        assert gone() is None
        assert pool.free == 1

    def test_dropped_in_another_thread(self):
        async def main():
            pool = self.loop.create_buffer_pool(1, 100)
            leases = [await pool.acquire()]
            waiting = asyncio.ensure_future(pool.acquire())
            await turns()

            def drop():
                with pytest.warns(ResourceWarning, match='was not released'):
                    leases.clear()

            in_thread(drop)
            (await waiting).release()
            assert pool.free == 1

        self.run(main())

    def test_released_in_another_thread(self):
        """Not promised, and yet nobody waits for ever."""
        async def main():
            pool = self.loop.create_buffer_pool(1, 100)
            lease = await pool.acquire()
            waiting = asyncio.ensure_future(pool.acquire())
            await turns()
            await self.loop.run_in_executor(None, lease.release)
            (await waiting).release()

        self.run(main())


class Senders(Sockets):
    """Every call that sends: a coroutine each, that has sent ``data`` when it is done."""

    async def transport_call(self, name, data, **options):
        receiver, received = await endpoint(local_addr=LOCAL)
        sender, _ = await endpoint(remote_addr=receiver.get_extra_info('sockname'))
        try:
            if 'many' in name:
                data = [data]
            outcome = getattr(sender, name)(data, **options)
            if outcome is not None:
                await outcome
            await received.until(lambda p: sum(map(len, p.datagrams)) >= 1000)
            return b''.join(received.datagrams)
        finally:
            sender.close()
            receiver.close()
            await turns()

    async def socket_call(self, name, data, **options):
        one, two = self.udp(), self.udp()
        await getattr(self.loop, name)(one, data, two.getsockname(), **options)
        received = b''
        while len(received) < 1000:
            received += await self.loop.sock_recv(two, 2000)
        return received

    async def sendall(self, data):
        one, two = self.pair()
        await self.loop.sock_sendall(one, data)
        return await self.loop.sock_recv(two, 2000)

    async def stream_call(self, name, data):
        one, two = tcp_pair()
        _, writer = await asyncio.open_connection(sock=one)
        two.setblocking(False)
        try:
            getattr(writer, name)([data] if name == 'writelines' else data)
            return await self.loop.sock_recv(two, 2000)
        finally:
            two.close()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


CALLS = {
    'sendto': lambda self, data: self.transport_call('sendto', data),
    'sendto_zerocopy': lambda self, data: self.transport_call('sendto_zerocopy', data),
    'sendto_zerocopy in segments':
        lambda self, data: self.transport_call('sendto_zerocopy', data, segment_size=300),
    'sendto_many': lambda self, data: self.transport_call('sendto_many', data),
    'sendto_many_zerocopy':
        lambda self, data: self.transport_call('sendto_many_zerocopy', data),
    'sock_sendto': lambda self, data: self.socket_call('sock_sendto', data),
    'sock_sendto_zerocopy': lambda self, data: self.socket_call('sock_sendto_zerocopy', data),
    'sock_sendto_zerocopy in segments':
        lambda self, data: self.socket_call('sock_sendto_zerocopy', data, segment_size=300),
    'sock_sendall': lambda self, data: self.sendall(data),
    'write': lambda self, data: self.stream_call('write', data),
    'writelines': lambda self, data: self.stream_call('writelines', data),
}
PARTS = {'lease': lambda lease: lease, 'view': memoryview, 'slice': lambda lease: lease[:1000],
         'slice of a cast': lambda lease: memoryview(lease).cast('I')[:250]}
CONTENT = bytes(range(250)) * 4


@pytest.mark.parametrize('call', CALLS)
@pytest.mark.parametrize('part', PARTS)
class TestSent(Senders, UringCase):

    def test_by_every_call(self, call, part):
        async def main():
            pool = self.loop.create_buffer_pool(1, 1000)
            lease = await pool.acquire()
            lease[:] = CONTENT
            data = PARTS[part](lease)
            assert await CALLS[call](self, data) == CONTENT
            lease.release()
            del data
            await turns_until(lambda: pool.free == 1)

        self.run(main())

    def test_released_and_then_sent(self, call, part):
        async def main():
            pool = self.loop.create_buffer_pool(1, 1000)
            lease = await pool.acquire()
            data = PARTS[part](lease)
            lease.release()
            with pytest.raises(ValueError, match=r'^lease 0 was released: acquire another$'):
                await CALLS[call](self, data)
            del data
            gc.collect()         # a future, its error and the frame that awaited it are a circle
            await turns()
            assert (pool.free, pool.held) == (1, 0)

        self.run(main())

    def test_with_gaps(self, call, part):
        """The caller hears of it, and nothing else comes of it."""
        async def main():
            pool = self.loop.create_buffer_pool(1, 1000)
            with await pool.acquire() as lease, PARTS[part](lease)[::2] as view:
                with pytest.raises(BufferError, match='not C-contiguous'):
                    await CALLS[call](self, view)
                gc.collect()
            await turns_until(lambda: pool.free == 1)

        self.run(main())

    def test_of_another_loop(self, call, part):
        """Its buffer would be given back by a loop that does not own it."""
        async def main():
            data = PARTS[part](lease)
            if call in ('sock_sendall', 'write', 'writelines'):
                # Of these nothing is left with the kernel.
                assert await CALLS[call](self, data) == CONTENT
                return
            with pytest.raises(ValueError, match=r'<Lease 0 of .* is of another loop'):
                await CALLS[call](self, data)

        other = self.new_loop()
        pool = other.create_buffer_pool(1, 1000)
        with pool.acquire_nowait() as lease:
            lease[:] = CONTENT
            self.run(main())
            gc.collect()
        assert pool.free == 1
        other.close()


class TestSentInParts(Senders, UringCase):

    def test_several_times_and_in_slices(self):
        async def main():
            receiver, received = await endpoint(local_addr=LOCAL)
            sender, _ = await endpoint(remote_addr=receiver.get_extra_info('sockname'))
            pool = self.loop.create_buffer_pool(1, 1000)
            with pool.acquire_nowait() as lease:
                lease[:] = CONTENT
                for begin in range(0, 1000, 100):
                    sender.sendto(lease[begin:begin + 100])
                for _ in range(3):
                    sender.sendto(lease)
                futures = [sender.sendto_zerocopy(lease[500:]) for _ in range(3)]
            await asyncio.gather(*futures)
            await received.until(lambda p: len(p.datagrams) == 16)
            assert received.datagrams == [
                CONTENT[begin:begin + 100] for begin in range(0, 1000, 100)] \
                + [CONTENT] * 3 + [CONTENT[500:]] * 3
            await turns_until(lambda: pool.free == 1)
            sender.close()
            receiver.close()

        self.run(main())

    def test_the_length_of_what_was_received(self):
        """Receive into one, send as much of it on."""
        async def main():
            one, two, three = self.udp(), self.udp(), self.udp()
            pool = self.loop.create_buffer_pool(1, 65536)
            for size in (1, 1400, 30_000, 65_507):
                one.sendto(b'r' * size, two.getsockname())
                with await pool.acquire() as lease:
                    n, _ = await self.loop.sock_recvfrom_into(two, lease)
                    assert await self.loop.sock_sendto(two, lease[:n], three.getsockname()) == size
                assert await self.loop.sock_recv(three, 65536) == b'r' * size

        self.run(main())

    @only_uring
    def test_a_stream_keeps_what_it_has_not_sent(self):
        """More than the socket takes: the lease is free when the last byte has left."""
        async def main():
            one, two = tcp_pair()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 200_000)
            two.setblocking(False)
            _, writer = await asyncio.open_connection(sock=one)
            pool = self.loop.create_buffer_pool(1, 2_000_000)
            with pool.acquire_nowait() as lease:
                lease[:] = b's' * 2_000_000
                writer.write(lease)
            assert pool.free == 0
            got = 0
            while got < 2_000_000:
                part = await self.loop.sock_recv(two, 1 << 20)
                assert part == b's' * len(part)
                got += len(part)
            await turns_until(lambda: pool.free == 1)
            two.close()
            writer.close()
            await writer.wait_closed()

        self.run(main())

    @only_uring
    def test_sendall_keeps_what_it_has_not_sent(self):
        async def main():
            one, two = self.pair()
            pool = self.loop.create_buffer_pool(1, 4_000_000)
            with pool.acquire_nowait() as lease:
                lease[:] = b't' * 4_000_000
                sending = asyncio.ensure_future(self.loop.sock_sendall(one, lease))
                await turns()
                assert not sending.done()
            assert pool.free == 0
            got = b''
            while len(got) < 4_000_000:
                got += await self.loop.sock_recv(two, 1 << 20)
            await sending
            assert got == b't' * 4_000_000
            await turns_until(lambda: pool.free == 1)

        self.run(main())

    def test_sendall_cancelled(self):
        async def main():
            one, _ = self.pair()
            pool = self.loop.create_buffer_pool(1, 4_000_000)
            with pool.acquire_nowait() as lease:
                sending = await self.waiting(self.loop.sock_sendall(one, lease))
            await self.cancelled(sending)
            gc.collect()
            assert pool.free == 1

        self.run(main())


class TestGarbage(UringCase):

    def test_a_lease_and_its_view_in_one_cycle(self):
        """The collector clears in any order: a view may be released behind its lease."""
        async def main():
            pool = self.loop.create_buffer_pool(2, 2000)
            for _ in range(4):
                lease = pool.acquire_nowait()
                cycle = [lease, lease[:10]]
                cycle.append(cycle)
                lease.release()
                del lease, cycle
                gc.collect()
                assert pool.free == 2
            pool.close()

        self.run(main())

    def test_a_dropped_lease_goes_back_though_warnings_are_errors(self, monkeypatch):
        async def main():
            pool = self.loop.create_buffer_pool(1, 100)
            monkeypatch.setattr(sys, 'unraisablehook', lambda unraisable: None)
            with warnings.catch_warnings():
                warnings.simplefilter('error')
                pool.acquire_nowait()
            assert pool.free == 1

        self.run(main())

on_the_fallback_too(globals(), TestBuffer, TestRelease, TestSent, TestSentInParts, TestGarbage)


class TestWords(UringCase):
    """Errors name what is wrong, and what cures it."""

    def test_a_lease_keeps_its_length(self):
        pool = self.loop.create_buffer_pool(1, 10)
        with pool.acquire_nowait() as lease:
            with pytest.raises(ValueError, match=r'^6 bytes do not fit a slice of 3: a lease'):
                lease[:3] = b'abcdef'
            lease[:3] = b'abc'
            assert lease[:4] == b'abc\0'

    @pytest.mark.parametrize('options', [{'count': '8', 'size': 1}, {'count': 8, 'size': None}])
    def test_of_a_wrong_type_is_named(self, options):
        name = 'count' if options['count'] != 8 else 'size'
        with pytest.raises(TypeError, match=f'^{name} must be an integer, not '):
            self.loop.create_buffer_pool(**options)


def test_a_lease_that_was_never_made():
    """As ``copy`` or a debugger may have one: it can be looked at, and left."""
    lease = uringloop.Lease.__new__(uringloop.Lease)
    repr(lease)
    lease.__exit__(None, None, None)
    with pytest.raises(ValueError, match='of no pool'):
        lease.release()
