"""Leases that the kernel still reads: released, cancelled, closed, moved, forked, collected."""
import asyncio
import contextlib
import gc
import socket
import textwrap

import pytest

import uringloop
from tests.support.cases import UringCase, on_the_fallback_too
from tests.support.features import needs_feature
from tests.support.namespaces import needs_root
from tests.support.process import in_thread
from tests.support.programs import outcome, script
from tests.support.protocols import endpoint
from tests.support.turns import turns, turns_until
from uringloop.ring import orphans

SIZE = 20_000


@needs_feature('send_zc')
@needs_root
class TestHeld(UringCase):
    """The neighbour is unknown: what was sent stays in the kernel, buffers and all."""

    timeout = 10.0

    @pytest.fixture(autouse=True)
    def _hold(self, _fresh_loop, wire):
        wire.hold()
        yield
        wire.release()

    async def transport(self, wire):
        transport, self.protocol = await endpoint(sock=wire.socket(address=('10.98.1.1', 0)))
        return transport

    def send(self, transport, lease, wire, way):
        """The future of the send, if it has one."""
        if way == 'sendto':
            transport.sendto(lease, wire.peer)
        elif way == 'sendto_many':
            transport.sendto_many([lease], wire.peer)
        elif way == 'train':
            return transport.sendto_zerocopy(lease, wire.peer, segment_size=1000)
        else:
            return getattr(transport, way)([lease] if 'many' in way else lease, wire.peer)
        return None

    async def held(self):
        await turns_until(lambda: self.loop.stats().bytes_pinned == SIZE)

    async def free_again(self, pool):
        await turns_until(lambda: pool.free == pool.count)
        assert self.loop.stats().pool_leases == 0

    WAYS = ('sendto', 'sendto_zerocopy', 'sendto_many', 'sendto_many_zerocopy', 'train')

    @pytest.mark.parametrize('way', WAYS)
    def test_released_before_the_notification(self, wire, way):
        async def main():
            transport = await self.transport(wire)
            pool = self.loop.create_buffer_pool(1, SIZE)
            with await pool.acquire() as lease:
                future = self.send(transport, lease, wire, way)
            waiting = asyncio.ensure_future(pool.acquire())
            await self.held()
            await turns(20)
            assert (lease.released, pool.free, waiting.done()) == (True, 0, False)
            assert self.loop.stats().pool_leases == 1
            with pytest.raises(BufferError):
                pool.acquire_nowait()
            wire.release()
            (await waiting).release()
            if future is not None:
                assert (await future).nbytes == SIZE
            assert pool.free == 1
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('way', WAYS)
    def test_released_after_the_notification(self, wire, way):
        async def main():
            transport = await self.transport(wire)
            pool = self.loop.create_buffer_pool(1, SIZE)
            with await pool.acquire() as lease:
                self.send(transport, lease, wire, way)
                await self.held()
                wire.release()
                await turns_until(lambda: self.loop.stats().bytes_pinned == 0)
                assert pool.free == 0
            assert pool.free == 1
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('way', ['sendto_zerocopy', 'sendto_many_zerocopy', 'train'])
    def test_a_cancelled_future_gives_nothing_back(self, wire, way):
        async def main():
            transport = await self.transport(wire)
            pool = self.loop.create_buffer_pool(1, SIZE)
            with await pool.acquire() as lease:
                future = self.send(transport, lease, wire, way)
            await self.held()
            future.cancel()
            await turns()
            assert pool.free == 0
            wire.release()
            await self.free_again(pool)
            assert future.cancelled()
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('way', WAYS)
    @pytest.mark.parametrize('how', ['close', 'abort'])
    def test_the_transport_is_closed(self, wire, how, way):
        """connection_lost does not wait for the notification; the buffer does."""
        async def main():
            transport = await self.transport(wire)
            pool = self.loop.create_buffer_pool(1, SIZE)
            with await pool.acquire() as lease:
                self.send(transport, lease, wire, way)
            await self.held()
            getattr(transport, how)()
            await self.protocol.until(lambda p: p.lost)
            await turns(20)
            assert pool.free == 0
            wire.release()
            await self.free_again(pool)

        self.run(main())

    def test_an_exception_leaves_the_holder(self, wire):
        async def main():
            transport = await self.transport(wire)
            pool = self.loop.create_buffer_pool(1, SIZE)
            with pytest.raises(KeyError):
                with await pool.acquire() as lease:
                    transport.sendto(lease, wire.peer)
                    raise KeyError
            await self.held()
            assert pool.free == 0
            wire.release()
            await self.free_again(pool)
            transport.close()

        self.run(main())

    def test_several_sends_of_one(self, wire):
        """The last notification gives it back, not the first."""
        async def main():
            transport = await self.transport(wire)
            pool = self.loop.create_buffer_pool(1, SIZE)
            with await pool.acquire() as lease:
                for size in (SIZE, 100, SIZE - 100):
                    transport.sendto(lease[:size], wire.peer)
                await turns_until(lambda: self.loop.stats().bytes_pinned == 2 * SIZE)
            assert pool.free == 0
            wire.release()
            await turns_until(lambda: self.loop.stats().buffers_released == 3)
            await self.free_again(pool)
            transport.close()

        self.run(main())

    def test_sock_calls(self, wire):
        async def main():
            pool = self.loop.create_buffer_pool(3, SIZE)
            with wire.socket() as sock:
                with await pool.acquire() as lease:
                    assert await self.loop.sock_sendto(sock, lease, wire.peer) == SIZE
                assert pool.free == 2
                with await pool.acquire() as lease:
                    future = self.loop.sock_sendto_zerocopy(sock, lease, wire.peer)
                with await pool.acquire() as lease:
                    train = self.loop.sock_sendto_zerocopy(
                        sock, lease, wire.peer, segment_size=1000)
            await turns()
            assert pool.free == 0
            assert self.loop.stats().bytes_pinned == 3 * SIZE
            train.cancel()
            wire.release()
            assert (await future).nbytes == SIZE
            await self.free_again(pool)

        self.run(main())

    @pytest.mark.parametrize('segments', [{}, {'segment_size': 100}])
    @pytest.mark.parametrize('end', ['cancelled', 'peer gone'])
    def test_a_sock_call_that_has_waited(self, tmp_path, end, segments):
        """Its future may live on; the lease does not with it."""
        async def main():
            path = str(tmp_path / 'peer')
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer, \
                    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                peer.bind(path)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        sock.sendto(bytes(100), path)
                pool = self.loop.create_buffer_pool(1, 100)
                lease = await pool.acquire()
                future = self.loop.sock_sendto_zerocopy(sock, lease, path, **segments)
                lease.release()
                await turns()
                assert pool.free == 0
                if end == 'cancelled':
                    future.cancel()
                else:
                    peer.close()
                with pytest.raises((asyncio.CancelledError, ConnectionRefusedError)):
                    await future
                await turns()
                assert pool.free == 1
                assert future.done()

        self.run(main())

    def test_dropped_while_the_kernel_reads(self, wire):
        """The send holds it; the warning comes when that is over."""
        async def main():
            transport = await self.transport(wire)
            pool = self.loop.create_buffer_pool(1, SIZE)
            lease = await pool.acquire()
            transport.sendto(lease, wire.peer)
            await self.held()
            with pytest.warns(ResourceWarning, match='was not released'):
                del lease
                gc.collect()
                assert pool.free == 0
                wire.release()
                await self.free_again(pool)
            transport.close()

        self.run(main())

    def test_the_pool_is_dropped_while_the_kernel_reads(self, wire):
        async def main():
            transport = await self.transport(wire)
            receiver, received = await endpoint(sock=wire.far.socket(address=wire.peer))
            with await self.loop.create_buffer_pool(1, SIZE).acquire() as lease:
                lease[:] = b'd' * SIZE
                transport.sendto(lease, wire.peer)
            del lease
            await self.held()
            gc.collect()
            # What takes its place must not be seen there.
            other = self.loop.create_buffer_pool(1, SIZE)
            with await other.acquire() as lease:
                lease[:] = b'!' * SIZE
            wire.release()
            await received.until(lambda p: p.datagrams)
            assert received.datagrams == [b'd' * SIZE]
            transport.close()
            receiver.close()

        self.run(main())

    def test_the_pool_is_closed_while_the_kernel_reads(self, wire):
        async def main():
            transport = await self.transport(wire)
            pool = self.loop.create_buffer_pool(2, SIZE)
            with await pool.acquire() as lease:
                transport.sendto(lease, wire.peer)
            closing = pool.close()
            await self.held()
            await turns(20)
            assert not closing.done()
            wire.release()
            await closing
            assert pool.free == 2
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('released', [True, False])
    def test_the_loop_is_closed_while_the_kernel_reads(self, wire, released):
        """The pages are kept until the ring is dead; only then is the buffer free."""
        async def main():
            transport = await self.transport(wire)
            pool = self.loop.create_buffer_pool(1, SIZE)
            lease = await pool.acquire()
            transport.sendto(lease, wire.peer)
            await self.held()
            waiting = asyncio.ensure_future(pool.acquire())
            closing = asyncio.ensure_future(pool.close()) if released else None
            await turns()
            if released:
                lease.release()
            transport.abort()
            await self.protocol.until(lambda p: p.lost)
            if released:
                assert isinstance(waiting.exception(), RuntimeError)
            waiting.cancel()
            await turns()
            return pool, lease, closing

        pool, lease, closing = self.run(main())
        self.loop.close()
        assert pool.free == 0
        assert orphans.orphaned_rings
        wire.release()
        while orphans.orphaned_rings:
            orphans.release_torn_down()
        if not released:
            assert pool.free == 0
            lease.release()
        assert pool.free == 1
        assert closing is None or not closing.cancelled()

    @needs_feature('registered_buffers')
    def test_the_loop_moves_while_the_kernel_reads(self, wire):
        """The new ring is given the memory anew; the old one has the buffer until its end."""
        async def begin():
            transport = await self.transport(wire)
            pool = self.loop.create_buffer_pool(2, SIZE)
            with await pool.acquire() as lease:
                transport.sendto(lease, wire.peer)
            await self.held()
            return transport, pool

        async def go_on():
            assert pool.free == 1
            before = self.loop.stats().registered_sends
            with await pool.acquire() as lease:
                lease[:] = b'2' * SIZE
                transport.sendto(lease, wire.peer)
            waiting = asyncio.ensure_future(pool.acquire_many(2))
            await turns(20)
            assert (waiting.done(), pool.free) == (False, 0)
            wire.release()
            for lease in await waiting:
                lease.release()
            assert self.loop.stats().registered_sends == before + 1
            assert pool.registered
            transport.close()

        transport, pool = self.run(begin())
        in_thread(lambda: self.run(go_on()))
        assert pool.free == 2


class TestMoved(UringCase):

    def test_waiters_and_leases_move_along(self):
        async def begin():
            pool = self.loop.create_buffer_pool(1, 100)
            return pool, await pool.acquire(), asyncio.ensure_future(pool.acquire())

        async def go_on():
            await turns()
            lease.release()
            (await waiting).release()
            with await pool.acquire() as last:
                last[:] = b'm' * 100
                receiver, received = await endpoint(local_addr=('127.0.0.1', 0))
                receiver.sendto(last, receiver.get_extra_info('sockname'))
                await received.until(lambda p: p.datagrams == [b'm' * 100])
                receiver.close()
            await pool.close()

        pool, lease, waiting = self.run(begin())
        in_thread(lambda: self.run(go_on()))


class TestClosedAtOnce(UringCase):

    def test_with_everything_under_way(self):
        """Leases out, views alive, sends queued and in flight, and somebody waiting."""
        async def main():
            receiver, _ = await endpoint(local_addr=('127.0.0.1', 0))
            sender, _ = await endpoint(remote_addr=receiver.get_extra_info('sockname'))
            leases = await pool.acquire_many(20)
            waiting = asyncio.ensure_future(pool.acquire())
            await turns()
            views.append(leases[0][:100])
            for lease in leases[:10]:
                sender.sendto(lease)
                futures.append(sender.sendto_zerocopy(lease, segment_size=1000))
            futures.append(sender.sendto_many_zerocopy(leases))
            for lease in leases[:15]:
                lease.release()
            waiting.cancel()
            receiver.abort()
            sender.abort()
            return leases[15:]

        views, futures = [], []
        pool = self.loop.create_buffer_pool(20, 5000)
        kept = self.run(main())
        self.run(turns())
        self.loop.close()
        assert all(future.done() for future in futures)
        assert pool.free == 20 - 5 - 1
        views.clear()
        for lease in kept:
            lease.release()
        assert pool.free == 20


def test_run_ends_with_leases_out():
    """A program that ends in the middle: warned of what it has dropped, and nothing worse."""
    assert script('''
        import asyncio, gc, warnings
        import uringloop

        async def main():
            loop = asyncio.get_running_loop()
            pool = loop.create_buffer_pool(4, 2000)
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=('127.0.0.1', 0))
            lease = await pool.acquire()
            for _ in range(5):
                transport.sendto(lease, transport.get_extra_info('sockname'))
            transport.close()
            global kept
            kept = await pool.acquire(), pool
            raise SystemExit('over')

        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter('always')
            try:
                uringloop.run(main())
            except SystemExit as over:
                print(over)
            gc.collect()
        print([str(each.message)[-16:] for each in told])
        kept[0].release()
        print(kept[1].free)
        ''') == "over\n['was not released']\n4\n"


def test_forgotten_until_the_interpreter_ends():
    """It is said all the same, though the modules are empty by then."""
    code, said = outcome('''
        import asyncio, uringloop
        loop = uringloop.new_event_loop()
        asyncio.kept = loop.create_buffer_pool(2, 100).acquire_nowait()
        loop.close()
        ''', '-X', 'dev')
    assert code == 0
    assert 'ResourceWarning: <Lease 0 of' in said
    assert 'TypeError' not in said


# What a child may do with a pool of its parent's, and what the parent has afterwards.
FORKED = '''
import asyncio, gc, os, socket, sys, warnings
import uringloop

warnings.simplefilter('ignore')

def child(function):
    pid = os.fork()
    if pid == 0:
        try:
            function()
            code = 0
        except BaseException as exc:
            sys.stderr.write(f'{exc!r}\\n')
            code = 1
        gc.collect()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

class Keep(asyncio.DatagramProtocol):
    def __init__(self):
        self.came = asyncio.Queue()
    def datagram_received(self, data, addr):
        self.came.put_nowait(data)

async def echo(pool, letter):
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Keep, local_addr=('127.0.0.1', 0))
    with await pool.acquire() as lease:
        lease[:] = letter * len(lease)
        for _ in range(3):
            transport.sendto(lease, transport.get_extra_info('sockname'))
            assert await protocol.came.get() == letter * len(lease)
        await transport.sendto_zerocopy(lease, transport.get_extra_info('sockname'))
        assert await protocol.came.get() == letter * len(lease)
    transport.close()
    await asyncio.sleep(0)

loop = uringloop.new_event_loop(require_uring=True)
pool = loop.create_buffer_pool(4, 20_000)
'''


class TestForked:

    def test_a_child_lets_go_of_all(self):
        """It drops pool and leases, and closes the loop; the parent's sends go on."""
        assert script(FORKED + textwrap.dedent('''
            def drop():
                global pool, lease, loop
                lease.release()
                loop.close()
                del pool, lease, loop

            registered = pool.registered
            loop.run_until_complete(echo(pool, b'1'))
            lease = pool.acquire_nowait()
            lease[:] = b'L' * 20_000
            print(child(drop))
            print(bytes(lease) == b'L' * 20_000, pool.free, pool.registered == registered)
            lease.release()
            loop.run_until_complete(echo(pool, b'2'))
            loop.close()
            ''')) == '0\nTrue 3 True\n'

    def test_a_child_makes_its_own(self):
        assert script(FORKED + textwrap.dedent('''
            def own():
                async def main():
                    loop = asyncio.get_running_loop()
                    await echo(loop.create_buffer_pool(4, 20_000), b'c')
                uringloop.run(main())

            loop.run_until_complete(echo(pool, b'1'))
            print(child(own))
            loop.run_until_complete(echo(pool, b'2'))
            loop.close()
            ''')) == '0\n'

    def test_of_a_loop_that_has_not_run(self):
        """The loop is the child's too; the memory is, too, and empty there."""
        assert script(FORKED + textwrap.dedent('''
            def run():
                loop.run_until_complete(echo(pool, b'c'))
                assert pool.registered == registered
                loop.close()

            registered = pool.registered
            print(child(run))
            loop.run_until_complete(echo(pool, b'p'))
            print(child(lambda: loop.run_until_complete(echo(pool, b'c'))))
            loop.close()
            ''')) == '0\n1\n'

    def test_with_sends_in_flight(self):
        """The child is made in the middle of a turn that sends in bulk: nothing goes twice."""
        assert script(FORKED + textwrap.dedent('''
            async def main():
                loop = asyncio.get_running_loop()
                transport, protocol = await loop.create_datagram_endpoint(
                    Keep, local_addr=('127.0.0.1', 0))
                for turn in range(5):
                    leases = await pool.acquire_many(4)
                    for n, lease in enumerate(leases):
                        lease[:] = bytes([65 + n]) * 20_000
                        transport.sendto(lease, transport.get_extra_info('sockname'))
                    assert child(lambda: None) == 0
                    for n in range(4):
                        assert await protocol.came.get() == bytes([65 + n]) * 20_000
                    for lease in leases:
                        lease.release()
                assert protocol.came.empty()
                transport.close()
                await asyncio.sleep(0)

            loop.run_until_complete(main())
            print(pool.free)
            loop.close()
            ''')) == '4\n'


def test_the_pools_memory_is_no_file_of_anybody():
    """Two loops, two pools: each sends its own."""
    loops = [uringloop.new_event_loop(require_uring=True) for _ in range(2)]
    pools = [loop.create_buffer_pool(1, 100) for loop in loops]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(('127.0.0.1', 0))
        peer.settimeout(5)

        async def send(pool, content):
            loop = asyncio.get_running_loop()
            with await pool.acquire() as lease, \
                    socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                lease[:] = content
                sock.setblocking(False)
                await loop.sock_sendto_zerocopy(sock, lease, peer.getsockname())

        for loop, pool, letter in zip(loops, pools, (b'1', b'2'), strict=True):
            loop.run_until_complete(send(pool, letter * 100))
            assert peer.recv(200) == letter * 100
    for loop in loops:
        loop.close()

on_the_fallback_too(globals(), TestClosedAtOnce)
