"""``register_buffer``: which memory, what is sent from it, and how it is given back."""
import array
import asyncio
import errno
import gc
import mmap
import os
import sys
import textwrap
from contextlib import contextmanager
from multiprocessing import shared_memory

import pytest

import uringloop
from tests.support.cases import UringCase, on_the_fallback_too, only_uring
from tests.support.features import needs_feature
from tests.support.namespaces import Hole, needs_root
from tests.support.process import in_thread
from tests.support.programs import script
from tests.support.protocols import endpoint
from tests.support.sockets import LOCAL
from tests.support.turns import turns, turns_until
from tests.support.work import WORK

SIZE = 40_000


@pytest.fixture(scope='module')
def hole():
    """Where zero-copy happens; datagrams that fit an ordinary MTU."""
    with Hole(mtu=1500) as namespace:
        yield namespace


@contextmanager
def anonymous():
    with mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        yield memory


@contextmanager
def anonymous_shared():
    with mmap.mmap(-1, SIZE) as memory:
        yield memory


@contextmanager
def memfd():
    fd = os.memfd_create('test')
    try:
        os.truncate(fd, SIZE)
        with mmap.mmap(fd, SIZE) as memory:
            yield memory
    finally:
        os.close(fd)


@contextmanager
def shared():
    memory = shared_memory.SharedMemory(create=True, size=SIZE)
    try:
        yield memory.buf
    finally:
        memory.close()
        memory.unlink()


@contextmanager
def plain(kind):
    yield kind()


MEMORY = {
    'bytearray': lambda: plain(lambda: bytearray(SIZE)),
    'view': lambda: plain(lambda: memoryview(bytearray(SIZE + 100))[50:-50]),
    'array': lambda: plain(lambda: array.array('I', bytes(SIZE))),
    'cast': lambda: plain(lambda: memoryview(bytearray(SIZE)).cast('B', [SIZE // 100, 100])),
    'mmap': anonymous, 'shared mmap': anonymous_shared, 'memfd': memfd, 'shared_memory': shared}


@pytest.mark.parametrize('kind', MEMORY)
class TestKinds(UringCase):

    @needs_feature('send_zc', 'report_usage', 'registered_buffers')
    def test_sent_from(self, kind):
        async def main(memory):
            receiver, received = await endpoint(local_addr=LOCAL)
            to = receiver.get_extra_info('sockname')
            content = os.urandom(SIZE)
            async with self.loop.register_buffer(memory) as registered:
                assert isinstance(registered, uringloop.RegisteredBuffer)
                assert registered.nbytes == len(registered) == SIZE
                with memoryview(memory) as view, view.cast('B') as part:
                    part[:] = content
                    assert await receiver.sendto_zerocopy(part[100:30_100], to) == (30_000, True)
                assert await receiver.sendto_zerocopy(registered, to) == (SIZE, True)
            assert repr(registered) == f'<RegisteredBuffer of {SIZE} bytes, closed>'
            await received.until(lambda p: len(p.datagrams) == 2)
            assert received.datagrams == [content[100:30_100], content]
            stats = self.loop.stats()
            # The second one knows that loopback copies.
            assert stats.registered_sends == 1
            receiver.close()

        with MEMORY[kind]() as memory:
            self.run(main(memory))

    @needs_feature('send_zc', 'report_usage', 'registered_buffers', 'registered_messages')
    @needs_root
    def test_really_without_a_copy(self, kind, hole):
        async def main(memory):
            transport, _ = await endpoint(sock=hole.socket())
            async with self.loop.register_buffer(memory) as registered:
                with memoryview(memory) as view, view.cast('B') as part:
                    assert await transport.sendto_zerocopy(part[:1400], hole.peer) == (1400, False)
                    assert await transport.sendto_zerocopy(
                        part[5000:35_000], hole.peer, segment_size=1200) == (30_000, False)
                assert await transport.sendto_zerocopy(
                    registered, hole.peer, segment_size=1472) == (SIZE, False)
            stats = self.loop.stats()
            assert (stats.registered_sends, stats.trains_sent, stats.zerocopy_copied) == (3, 2, 0)
            transport.close()

        with MEMORY[kind]() as memory:
            self.run(main(memory))


class TestEntered(UringCase):

    def test_it_takes_no_reference_for_good(self):
        """Each coroutine of Cython's does, to its type."""
        async def main():
            memory = bytearray(SIZE)
            counts = []
            for _ in range(500):
                buffer = self.loop.register_buffer(memory)
                entering = buffer.__aenter__()
                counts.append(sys.getrefcount(type(entering)))
                assert await entering is buffer
                assert await buffer.__aexit__(None, None, None) is None
            assert counts[-1] < counts[0] + 100
            memory.append(0)

        self.run(main())


class TestRecognised(UringCase):

    @needs_feature('send_zc', 'registered_buffers', 'registered_messages')
    @needs_root
    def test_by_every_zerocopy_call_and_by_no_other(self, hole):
        async def main():
            def of():
                return self.loop.stats().registered_sends

            transport, _ = await endpoint(sock=hole.socket())
            memory = bytearray(SIZE)
            view = memoryview(memory)
            async with self.loop.register_buffer(memory):
                with hole.socket() as sock:
                    for data in view[:1400], view[1:2], view[SIZE - 1:]:
                        before = of()
                        await transport.sendto_zerocopy(data, hole.peer)
                        await transport.sendto_many_zerocopy([data, data], hole.peer)
                        await self.loop.sock_sendto_zerocopy(sock, data, hole.peer)
                        await self.loop.sock_sendto_zerocopy(
                            sock, view[:2400], hole.peer, segment_size=1200)
                        assert of() == before + 5
                    before = of()
                    transport.sendto(view[:1400], hole.peer)      # may be changed at once
                    transport.sendto_many([view[:1400]], hole.peer)
                    await self.loop.sock_sendto(sock, view[:1400], hole.peer)
                    # Not all of it inside.
                    await transport.sendto_zerocopy(bytearray(1400), hole.peer)
                    assert of() == before
            before = of()
            await transport.sendto_zerocopy(view[:1400], hole.peer)
            assert of() == before
            transport.close()

        self.run(main())

    @needs_feature('send_zc', 'report_usage', 'registered_buffers', 'registered_messages')
    @needs_root
    def test_overlapping_pieces(self, hole):
        """What lies inside either goes from registered memory; what lies across as any other."""
        async def main():
            transport, _ = await endpoint(sock=hole.socket())
            memory = bytearray(SIZE)
            view = memoryview(memory)
            low = self.loop.register_buffer(view[:3000])
            high = self.loop.register_buffer(view[2000:5000])
            twice = self.loop.register_buffer(view[2000:5000])
            expected = [(0, 3000, True), (1999, 3000, True), (2000, 3001, True),
                        (2500, 3500, True), (4000, 5000, True), (1999, 3001, False),
                        (4500, 5001, False), (6000, 7000, False)]
            for begin, end, inside in expected:
                before = self.loop.stats().registered_sends
                report = await transport.sendto_zerocopy(
                    view[begin:end], hole.peer, segment_size=1000)
                assert report == (end - begin, False)
                trains = -(-(end - begin) // 65_000)
                assert self.loop.stats().registered_sends - before == trains * inside
            # One after the other is closed: the rest still serves.
            await twice.close()
            before = self.loop.stats().registered_sends
            await transport.sendto_zerocopy(view[4000:5000], hole.peer)
            await transport.sendto_zerocopy(view[2500:2800], hole.peer)
            assert self.loop.stats().registered_sends == before + 2
            await high.close()
            await transport.sendto_zerocopy(view[2500:2800], hole.peer)
            await transport.sendto_zerocopy(view[4000:5000], hole.peer)
            assert self.loop.stats().registered_sends == before + 3
            await low.close()
            await transport.sendto_zerocopy(view[2500:2800], hole.peer)
            assert self.loop.stats().registered_sends == before + 3
            view.release()
            memory.append(0)
            transport.close()

        self.run(main())

    def test_of_another_loop_is_ordinary_memory(self):
        async def main():
            receiver, received = await endpoint(local_addr=LOCAL)
            to = receiver.get_extra_info('sockname')
            await receiver.sendto_zerocopy(memory, to)
            await received.until(lambda p: p.datagrams == [bytes(1000)])
            assert self.loop.stats().registered_sends == 0
            with pytest.raises(ValueError, match=r'<RegisteredBuffer of 1000 .* of another loop'):
                receiver.sendto_zerocopy(registered, to)
            receiver.close()

        memory = bytearray(1000)
        other = self.new_loop()
        registered = other.register_buffer(memory)
        self.run(main())
        other.run_until_complete(registered.close())
        other.close()


class TestRefused(UringCase):

    @pytest.mark.parametrize('obj', [
        b'read-only', memoryview(b'too'), memoryview(bytearray(10)).toreadonly(), 'text', 17, None])
    def test_what_cannot_be_written(self, obj):
        with pytest.raises(TypeError, match=rf'read-write bytes-like.*, not {type(obj).__name__}'):
            self.loop.register_buffer(obj)

    @pytest.mark.parametrize('view', [
        memoryview(bytearray(100))[::2], memoryview(bytearray(100))[::-1]])
    def test_what_is_not_contiguous(self, view):
        with pytest.raises(TypeError, match=r'object, not memoryview: it is not contiguous$'):
            self.loop.register_buffer(view)

    @pytest.mark.parametrize('obj', [bytearray(), memoryview(bytearray(10))[5:5]])
    def test_what_is_empty(self, obj):
        with pytest.raises(ValueError, match='is empty'):
            self.loop.register_buffer(obj)

    def test_a_closed_loop(self):
        memory = bytearray(10)
        self.loop.close()
        with pytest.raises(RuntimeError, match='closed'):
            self.loop.register_buffer(memory)
        memory.append(0)

    @only_uring
    def test_a_read_only_mapping(self):
        with mmap.mmap(-1, 4096, prot=mmap.PROT_READ) as memory:
            with pytest.raises(TypeError):
                self.loop.register_buffer(memory)

    @only_uring
    def test_a_mapping_of_a_file(self, tmp_path):
        """Some file systems' pages the kernel does not pin: that is told, and nothing is held."""
        path = tmp_path / 'file'
        path.write_bytes(bytes(8192))
        with path.open('r+b') as file, mmap.mmap(file.fileno(), 8192) as memory:
            try:
                registered = self.loop.register_buffer(memory)
            except OSError as exc:
                assert exc.errno in (errno.EFAULT, errno.EOPNOTSUPP)
            else:
                self.run(registered.close())

    @needs_feature('registered_buffers')
    @only_uring
    def test_no_slot(self):
        """The table is full: told, and all serves again when one is closed."""
        memory = bytearray(10)
        all_of_them = [self.loop.register_buffer(memory) for _ in range(1024)]
        with pytest.raises(OSError, match='close those that are not needed') as caught:
            self.loop.register_buffer(memory)
        assert caught.value.errno == errno.ENOSPC
        all_of_them.pop().close()
        all_of_them.append(self.loop.register_buffer(memory))
        for registered in all_of_them:
            registered.close()
        memory.append(0)

    @needs_feature('registered_buffers')
    @needs_root
    @pytest.mark.parametrize('work', ['', 'print(work_on(loop))'])
    @only_uring
    def test_beyond_the_limit_of_locked_memory(self, work):
        """As somebody who may lock 1 MiB: refused with limit, need and cure; all else works."""
        told, *rest = script(WORK + textwrap.dedent('''
            become(20_000, 1 << 20)
            loop = uringloop.new_event_loop(require_uring=True)
            memory = bytearray(8 << 20)
            try:
                loop.register_buffer(memory)
            except OSError as exc:
                print(exc.errno, exc.strerror)
            memory.append(0)                    # nothing holds it
            pool = loop.create_buffer_pool(128, 65536)
            print(pool.registered, repr(pool))

            async def main():
                receiver, received = await endpoint(local_addr=('127.0.0.1', 0))
                to = receiver.get_extra_info('sockname')
                for n in range(50):
                    with await pool.acquire() as lease:
                        lease[:60_000] = bytes([n]) * 60_000
                        receiver.sendto(lease[:60_000], to)
                        await receiver.sendto_zerocopy(lease[:60_000], to, segment_size=1200)
                    await received.until(lambda p: len(p.datagrams) == 51)
                    assert received.datagrams == [bytes([n]) * 60_000] + [bytes([n]) * 1200] * 50
                    received.datagrams.clear()
                assert loop.stats().registered_sends == 0
                receiver.close()

            loop.run_until_complete(main())
            ''') + work + '\nloop.close()\n').splitlines()
        assert told.startswith(f'{errno.ENOMEM} Cannot allocate memory: register_buffer of 8388608 '
                               'bytes: the limit of locked memory is 1048576 bytes')
        for cure in 'RLIMIT_MEMLOCK', 'ulimit -l', 'LimitMEMLOCK=':
            assert cure in told
        assert rest[0] == ('False <BufferPool of 128 buffers of 65536 bytes, 128 free, '
                           'not registered (beyond the limit of locked memory, RLIMIT_MEMLOCK)>')
        assert rest[1:] == (['Loop'] if work else [])


class TestClosing(UringCase):

    def test_the_export_is_given_back(self):
        memory = bytearray(5000)
        registered = self.loop.register_buffer(memory)
        with pytest.raises(BufferError):
            memory.append(0)
        closing = registered.close()
        memory.append(0)
        assert closing.done()
        assert registered.close() is closing

    @needs_feature('send_zc', 'registered_buffers')
    @needs_root
    @pytest.mark.parametrize('way', [
        'sendto_zerocopy', pytest.param('train', marks=needs_feature('registered_messages')),
        'sendto_many_zerocopy', 'sock'])
    @only_uring
    def test_it_waits_for_what_is_in_flight(self, wire, way):
        async def main():
            wire.hold()
            transport, protocol = await endpoint(sock=wire.socket())
            receiver, received = await endpoint(sock=wire.far.socket(address=wire.peer))
            memory = bytearray(b'r' * SIZE)
            registered = self.loop.register_buffer(memory)
            with wire.socket() as sock, memoryview(memory) as view, view[100:20_100] as data:
                if way == 'train':
                    future = transport.sendto_zerocopy(data, wire.peer, segment_size=1000)
                elif way == 'sendto_many_zerocopy':
                    future = transport.sendto_many_zerocopy([data], wire.peer)
                elif way == 'sock':
                    future = self.loop.sock_sendto_zerocopy(sock, data, wire.peer)
                else:
                    future = transport.sendto_zerocopy(data, wire.peer)
            await turns_until(lambda: self.loop.stats().bytes_pinned == 20_000)
            assert self.loop.stats().registered_sends == 1
            closing = registered.close()
            assert 'closing' in repr(registered)
            await turns(20)
            assert not closing.done()
            # Unregistered or not, it cannot be freed.
            with pytest.raises(BufferError):
                memory.append(0)
            with pytest.raises(ValueError, match='is closed'):
                transport.sendto_zerocopy(registered, wire.peer)
            transport.close()
            await protocol.until(lambda p: p.lost)
            assert not closing.done()
            wire.release()
            await closing
            memory.append(0)
            assert (await future).nbytes == 20_000
            await received.until(lambda p: sum(map(len, p.datagrams)) == 20_000)
            assert b''.join(received.datagrams) == b'r' * 20_000
            receiver.close()

        try:
            self.run(main())
        finally:
            wire.release()

    @needs_feature('send_zc')
    @needs_root
    @only_uring
    def test_a_cancelled_wait(self, wire):
        async def main():
            wire.hold()
            transport, _ = await endpoint(sock=wire.socket())
            memory = bytearray(SIZE)
            registered = self.loop.register_buffer(memory)
            transport.sendto_zerocopy(memory, wire.peer)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(registered.close(), 0.001)
            wire.release()
            await registered.close()
            memory.append(0)
            await registered.close()
            transport.close()

        try:
            self.run(main())
        finally:
            wire.release()

    def test_an_exception_leaves_the_with_statement(self):
        async def main():
            with pytest.raises(KeyError):
                async with self.loop.register_buffer(memory):
                    raise KeyError
            memory.append(0)

        memory = bytearray(10)
        self.run(main())

    @pytest.mark.parametrize('when', ['before', 'after'])
    def test_the_loop_is_closed(self, when):
        async def main():
            registered = self.loop.register_buffer(memory)
            if when == 'before':
                waiting.append(asyncio.ensure_future(wait(registered)))
                await turns()
            return registered

        async def wait(registered):
            await registered.close()

        waiting = []
        memory = bytearray(10)
        registered = self.run(main())
        self.loop.close()
        memory.append(0)         # given back with the loop
        if when == 'after':
            registered.close()

    @needs_feature('send_zc', 'registered_buffers')
    def test_dropped(self):
        """The loop holds what is registered with it: it goes on being recognised."""
        async def main():
            memory = bytearray(30_000)
            self.loop.register_buffer(memory)
            gc.collect()
            receiver, _ = await endpoint(local_addr=LOCAL)
            await receiver.sendto_zerocopy(memory, receiver.get_extra_info('sockname'))
            assert self.loop.stats().registered_sends == (1 if self.uring else 0)
            with pytest.raises(BufferError):
                memory.append(0)
            receiver.close()

        self.run(main())

    @only_uring
    def test_slots_are_used_again(self):
        memory = bytearray(10)
        for _ in range(3000):
            self.loop.register_buffer(memory).close()
        memory.append(0)


class TestMoved(UringCase):

    @needs_feature('send_zc', 'report_usage', 'registered_buffers', 'registered_messages')
    @needs_root
    def test_the_new_ring_knows_it(self, hole):
        async def send():
            transport, _ = await endpoint(sock=hole.socket())
            assert await transport.sendto_zerocopy(view[:1400], hole.peer) == (1400, False)
            assert await transport.sendto_zerocopy(
                view, hole.peer, segment_size=1400) == (SIZE, False)
            transport.close()
            await turns()

        memory = bytearray(SIZE)
        view = memoryview(memory)
        registered = self.loop.register_buffer(memory)
        self.run(send())
        in_thread(lambda: self.run(send()))
        self.run(send())
        assert self.loop.stats().registered_sends == 6

        async def close():
            await registered.close()

        in_thread(lambda: self.run(close()))
        view.release()
        memory.append(0)

    @needs_feature('send_zc', 'registered_buffers')
    def test_forked(self):
        """The child has a copy of its own; the parent's goes on being sent."""
        assert script('''
            import asyncio, os
            import uringloop

            class Keep(asyncio.DatagramProtocol):
                def __init__(self):
                    self.came = asyncio.Queue()
                def datagram_received(self, data, addr):
                    self.came.put_nowait(data)

            async def echo():
                transport, protocol = await loop.create_datagram_endpoint(
                    Keep, local_addr=('127.0.0.1', 0))
                await transport.sendto_zerocopy(memory, transport.get_extra_info('sockname'))
                assert await protocol.came.get() == memory
                transport.close()
                await asyncio.sleep(0)

            loop = uringloop.new_event_loop(require_uring=True)
            memory = bytearray(b'm' * 30_000)
            registered = loop.register_buffer(memory)
            loop.run_until_complete(echo())
            pid = os.fork()
            if pid == 0:
                memory[:] = b'c' * 30_000
                registered.close()
                loop.close()
                memory.append(0)
                os._exit(0)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            loop.run_until_complete(echo())
            print(memory == b'm' * 30_000, loop.stats().registered_sends)
            loop.run_until_complete(registered.close())
            memory.append(0)
            loop.close()
            ''') == '0\nTrue 2\n'

on_the_fallback_too(globals(), TestRefused, TestClosing)
