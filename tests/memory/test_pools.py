"""Buffer pools: who gets a lease and when, what is counted, and how a pool ends."""
import asyncio
import gc
import resource
import weakref
from pathlib import Path

import pytest

import uringloop
from tests.support.cases import UringCase, on_the_fallback_too, only_uring
from tests.support.features import needs_feature
from tests.support.programs import script
from tests.support.protocols import endpoint
from tests.support.turns import turns

LOCAL = ('127.0.0.1', 0)


class TestMaking(UringCase):

    @needs_feature('registered_buffers')
    @only_uring
    def test_it_says_what_it_is(self):
        pool = self.loop.create_buffer_pool(4, 1500)
        assert isinstance(pool, uringloop.BufferPool)
        assert (pool.count, pool.size, pool.free, pool.registered, pool.hugepages) \
            == (4, 1500, 4, True, False)
        assert repr(pool) == '<BufferPool of 4 buffers of 1500 bytes, 4 free, registered>'
        lease = pool.acquire_nowait()
        assert repr(lease) == f'<Lease 0 of {pool!r}>'
        assert '3 free' in repr(pool)
        lease.release()
        assert repr(lease) == f'<Lease 0 of {pool!r}, released>'
        pool.close()
        assert repr(pool).endswith(', closed>')

    @pytest.mark.parametrize(('count', 'size', 'named'), [
        (0, 100, 'count must be at least 1, not 0'),
        (-3, 100, 'count must be at least 1, not -3'),
        (4, 0, 'size must be at least 1, not 0'),
        (4, -1, 'size must be at least 1, not -1'),
        (1 << 40, 1, 'count must be at most .*, not 1099511627776'),
        (1, 1 << 70, f'size must be at most .*, not {1 << 70}'),
    ])
    def test_absurd_numbers(self, count, size, named):
        with pytest.raises(ValueError, match=named):
            self.loop.create_buffer_pool(count, size)

    @pytest.mark.parametrize(('count', 'size'), [
        ('4', 100), (4, 1.5), (None, 100), (4, b'x')])
    def test_what_is_no_number(self, count, size):
        with pytest.raises(TypeError):
            self.loop.create_buffer_pool(count, size)

    def test_more_than_the_machine_has(self):
        with pytest.raises(MemoryError, match='needs 17592186044416 bytes'):
            self.loop.create_buffer_pool(1 << 22, 1 << 22)

    def test_where_nobody_can_say_what_the_machine_has(self):
        """No descriptor is left to read that by; without /proc it is the same."""
        taken = []
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            pools = [self.loop.create_buffer_pool(4, 1000, hugepages=huge)
                     for huge in (False, True)]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for pool in pools:
            taken.append(pool.acquire_nowait())
            pool.close()
        assert [len(bytes(lease)) for lease in taken] == [1000, 1000]
        for lease in taken:
            lease.release()

    def test_made_again(self):
        """Leases that are out are of the memory that it had."""
        pool = self.loop.create_buffer_pool(4, 1000)
        with pool.acquire_nowait(), pytest.raises(RuntimeError, match='is made already'):
            pool.__init__(self.loop, 1, 10)
        registered = self.loop.register_buffer(bytearray(1000))
        with pytest.raises(RuntimeError, match='is made already'):
            registered.__init__(self.loop, bytearray(1000))
        registered.close()
        pool.close()

    def test_of_a_closed_loop(self):
        self.loop.close()
        with pytest.raises(RuntimeError, match='closed'):
            self.loop.create_buffer_pool(1, 1)

    def test_hugepages_are_told_of(self):
        """Whether the kernel has any is its own affair; what the pool says is true."""
        pool = self.loop.create_buffer_pool(64, 65536, hugepages=True)
        assert (', huge pages' in repr(pool)) == pool.hugepages
        with pool.acquire_nowait() as lease:
            lease[:] = bytes(65536)
        if '[never]' in Path('/sys/kernel/mm/transparent_hugepage/enabled').read_text():
            assert not pool.hugepages

    def test_before_the_loop_has_run(self):
        pool = self.loop.create_buffer_pool(2, 2000)
        lease = pool.acquire_nowait()
        lease[:] = b'y' * 2000

        async def main():
            receiver, received = await endpoint(local_addr=LOCAL)
            sender, _ = await endpoint(remote_addr=receiver.get_extra_info('sockname'))
            sender.sendto(lease)
            await received.until(lambda p: p.datagrams)
            assert received.datagrams == [b'y' * 2000]
            lease.release()
            await pool.close()
            sender.close()
            receiver.close()

        self.run(main())

    @pytest.mark.parametrize('size', [1, 100, 1200, 4096, 4097, 65507])
    def test_buffers_do_not_overlap(self, size):
        pool = self.loop.create_buffer_pool(5, size)
        leases = [pool.acquire_nowait() for _ in range(5)]
        for number, lease in enumerate(leases):
            lease[:] = bytes([number]) * size
        assert [bytes(lease) for lease in leases] == [bytes([n]) * size for n in range(5)]
        for lease in leases:
            lease.release()


class TestForgottenAwait(UringCase):

    def test_it_is_asked_for(self):
        pool = self.loop.create_buffer_pool(1, 10)
        with pytest.raises(TypeError, match='did you forget "await"'):
            with pool.acquire():
                pass
        assert pool.free == 1

    def test_async_with(self):
        async def main():
            pool = self.loop.create_buffer_pool(1, 10)
            with pytest.raises(TypeError, match='did you forget "await"'):
                async with pool.acquire():
                    pass
            assert pool.free == 1

        self.run(main())


class TestExhausted(UringCase):

    def test_nowait_raises(self):
        pool = self.loop.create_buffer_pool(2, 100)
        one, two = pool.acquire_nowait(), pool.acquire_nowait()
        with pytest.raises(BufferError, match='all 2 buffers of <BufferPool'):
            pool.acquire_nowait()
        one.release()
        again = pool.acquire_nowait()
        assert pool.free == 0
        again.release()
        two.release()
        assert pool.free == 2

    def test_nowait_does_not_overtake(self):
        async def main():
            pool = self.loop.create_buffer_pool(3, 100)
            one, two, three = await pool.acquire_many(3)
            many = asyncio.ensure_future(pool.acquire_many(2))
            await turns()
            one.release()
            assert pool.free == 1
            with pytest.raises(BufferError):
                pool.acquire_nowait()
            two.release()
            for lease in [three, *await many]:
                lease.release()

        self.run(main())

    def test_waiters_are_served_in_order(self):
        async def main():
            async def hold(number):
                with await pool.acquire():
                    served.append(number)
                    await asyncio.sleep(0)

            pool = self.loop.create_buffer_pool(2, 100)
            served = []
            await asyncio.gather(*map(hold, range(20)))
            assert served == list(range(20))
            assert pool.free == 2
            assert self.loop.stats().pool_waits == 18

        self.run(main())

    def test_many_are_not_overtaken_by_few(self):
        async def main():
            async def take(name, count):
                leases = await pool.acquire_many(count) if count > 1 else [await pool.acquire()]
                assert len(leases) == len(set(map(id, leases))) == count
                order.append(name)
                return leases

            pool = self.loop.create_buffer_pool(4, 100)
            out = await pool.acquire_many(4)
            order = []
            wanted = [('a', 3), ('b', 1), ('c', 4), ('d', 1)]
            tasks = []
            for name, count in wanted:
                tasks.append(asyncio.ensure_future(take(name, count)))
                await turns()
            out.pop().release()
            out.pop().release()
            await turns()
            assert (order, pool.free) == ([], 2)
            # One who comes now waits too, though there is a buffer.
            late = asyncio.ensure_future(take('late', 1))
            await turns()
            assert not late.done()
            out.pop().release()
            got = await tasks[0]
            assert order == ['a']
            out.pop().release()
            got += await tasks[1]
            await turns()
            assert order == ['a', 'b']
            for lease in got:
                lease.release()
            for task in [*tasks[2:], late]:
                for lease in await task:
                    lease.release()
            assert order == ['a', 'b', 'c', 'd', 'late']

        self.run(main())

    @pytest.mark.parametrize('n', [0, -1, 5])
    def test_more_than_there_ever_are(self, n):
        async def main():
            pool = self.loop.create_buffer_pool(4, 100)
            with pytest.raises(ValueError, match=rf'not {n}\b'):
                await pool.acquire_many(n)
            with pytest.raises(TypeError):
                await pool.acquire_many('3')
            assert pool.free == 4

        self.run(main())

    def test_what_was_longest_free_comes_first(self):
        """The kernel may still look at the last one's cache lines."""
        pool = self.loop.create_buffer_pool(3, 10)
        seen = []
        for _ in range(6):
            with pool.acquire_nowait() as lease:
                seen.append(repr(lease).split()[1])
        assert seen == ['0', '1', '2'] * 2


class TestCancelledWaiters(UringCase):

    def test_those_behind_are_served(self):
        async def main():
            pool = self.loop.create_buffer_pool(1, 100)
            out = await pool.acquire()
            first, second = (asyncio.ensure_future(pool.acquire()) for _ in range(2))
            await turns()
            first.cancel()
            await turns()
            assert first.cancelled()
            out.release()
            (await second).release()
            assert pool.free == 1

        self.run(main())

    def test_one_who_wants_many_makes_room_for_one_who_wants_one(self):
        async def main():
            pool = self.loop.create_buffer_pool(2, 100)
            out = await pool.acquire()
            many = asyncio.ensure_future(pool.acquire_many(2))
            few = asyncio.ensure_future(pool.acquire())
            await turns()
            assert not few.done()
            many.cancel()
            (await few).release()
            out.release()
            assert (many.cancelled(), pool.free) == (True, 2)

        self.run(main())

    @pytest.mark.parametrize('count', [1, 2])
    def test_cancelled_after_having_been_served(self, count):
        """The lease was on its way: it goes to the next, or back."""
        async def main():
            pool = self.loop.create_buffer_pool(2, 100)
            out = await pool.acquire_many(2)
            first = asyncio.ensure_future(pool.acquire_many(count))
            second = asyncio.ensure_future(pool.acquire_many(count))
            await turns()
            for lease in out[:count]:
                lease.release()
            first.cancel()               # in the turn in which it has been served
            got = await second
            assert first.cancelled()
            assert len(got) == count
            for lease in got + out[count:]:
                lease.release()
            assert (pool.free, self.loop.stats().pool_leases) == (2, 0)

        self.run(main())

    def test_timeouts(self):
        async def main():
            pool = self.loop.create_buffer_pool(1, 100)
            out = await pool.acquire()
            for _ in range(3):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(pool.acquire(), 0.001)
            out.release()
            with await pool.acquire():
                assert pool.free == 0
            assert pool.free == 1

        self.run(main())

    def test_all_at_once(self):
        async def main():
            pool = self.loop.create_buffer_pool(3, 100)
            out = await pool.acquire_many(3)
            tasks = [asyncio.ensure_future(pool.acquire_many(1 + n % 3)) for n in range(30)]
            await turns()
            for task in tasks[::2]:
                task.cancel()
            for lease in out:
                lease.release()
            for task in tasks[1::2]:
                for lease in await task:
                    lease.release()
            assert all(task.cancelled() for task in tasks[::2])
            assert pool.free == 3

        self.run(main())


class TestClosing(UringCase):

    def test_with_nothing_out(self):
        async def main():
            pool = self.loop.create_buffer_pool(2, 100)
            assert await pool.close() is None
            assert pool.close().done()
            with pytest.raises(RuntimeError, match='is closed'):
                pool.acquire_nowait()
            with pytest.raises(RuntimeError, match='is closed'):
                await pool.acquire()
            with pytest.raises(RuntimeError, match='is closed'):
                await pool.acquire_many(1)

        self.run(main())

    def test_waiters_are_told_and_leases_stay(self):
        async def main():
            pool = self.loop.create_buffer_pool(2, 100)
            one, two = await pool.acquire_many(2)
            waiting = [asyncio.ensure_future(pool.acquire()),
                       asyncio.ensure_future(pool.acquire_many(2))]
            await turns()
            closing = pool.close()
            for task in waiting:
                with pytest.raises(RuntimeError, match='was closed'):
                    await task
            one[:5] = b'still'
            receiver, received = await endpoint(local_addr=LOCAL)
            receiver.sendto(one[:5], receiver.get_extra_info('sockname'))
            await received.until(lambda p: p.datagrams == [b'still'])
            one.release()
            await turns()
            assert not closing.done()
            two.release()
            await closing
            receiver.close()

        self.run(main())

    def test_interrupted(self, monkeypatch):
        """An interrupt may come wherever there is Python code: in the text of the error, say."""
        async def main():
            pool = self.loop.create_buffer_pool(1, 100)
            lease = await pool.acquire()
            waiting = [asyncio.ensure_future(pool.acquire()) for _ in range(3)]
            await turns()
            with monkeypatch.context() as patch:
                patch.setattr(type(pool), '__repr__', interrupt)
                with pytest.raises(KeyboardInterrupt):
                    pool.close()
            closing = pool.close()
            for task in waiting:
                with pytest.raises(RuntimeError, match='was closed'):
                    await task
            lease.release()
            await closing

        def interrupt(pool):
            raise KeyboardInterrupt

        self.run(main())

    def test_a_cancelled_wait_for_the_end_closes_all_the_same(self):
        async def main():
            pool = self.loop.create_buffer_pool(1, 100)
            lease = await pool.acquire()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(pool.close(), 0.001)
            lease.release()
            await turns()
            assert (pool.free, pool.registered) == (1, False)
            await pool.close()

        self.run(main())

    @needs_feature('registered_buffers')
    @only_uring
    def test_its_slot_is_free_again(self):
        """There are 1,024; more pools than that, one after another."""
        async def main():
            for _ in range(1100):
                pool = self.loop.create_buffer_pool(1, 100)
                assert pool.registered
                await pool.close()
                assert not pool.registered

        self.run(main())

    @needs_feature('registered_buffers')
    @only_uring
    def test_more_pools_than_slots(self):
        """What the ring has no slot for is sent as ordinary memory."""
        async def main():
            pools = [self.loop.create_buffer_pool(1, 100) for _ in range(1030)]
            assert [pool.registered for pool in pools].count(False) == 6
            assert 'not registered (No space left on device)' in repr(pools[-1])
            receiver, received = await endpoint(local_addr=LOCAL)
            with pools[-1].acquire_nowait() as lease:
                lease[:] = b'z' * 100
                await receiver.sendto_zerocopy(lease, receiver.get_extra_info('sockname'))
            await received.until(lambda p: p.datagrams == [b'z' * 100])
            receiver.close()

        self.run(main())


class TestLoopClosed(UringCase):
    """With leases out, or somebody waiting: nothing breaks, and leases can be released."""

    def test_leases_out(self):
        async def main():
            return pool.acquire_nowait()

        pool = self.loop.create_buffer_pool(2, 100)
        lease = self.run(main())
        self.loop.close()
        lease[:4] = b'mine'
        assert bytes(lease[:4]) == b'mine'
        lease.release()
        assert pool.free == 2
        with pytest.raises(ValueError, match='was released'):
            lease.release()

    def test_closing_out(self):
        async def main():
            waiting.append(asyncio.ensure_future(wait()))
            await turns()

        async def wait():
            await pool.close()

        waiting = []
        pool = self.loop.create_buffer_pool(2, 100)
        lease = pool.acquire_nowait()
        self.run(main())
        self.loop.close()
        lease.release()
        assert pool.free == 2
        assert not waiting[0].done()
        waiting[0]._log_destroy_pending = False

    def test_waiters(self):
        async def main():
            task = asyncio.ensure_future(pool.acquire())
            await turns()
            return task

        pool = self.loop.create_buffer_pool(1, 100)
        lease = pool.acquire_nowait()
        task = self.run(main())
        self.loop.close()
        lease.release()
        assert not task.cancelled()
        task._log_destroy_pending = False

    def test_waiters_are_cancelled_by_run(self):
        """``uringloop.run`` cancels what is left, as asyncio's does."""
        async def main():
            pool = asyncio.get_running_loop().create_buffer_pool(1, 100)
            lease = await pool.acquire()
            tasks.append(asyncio.ensure_future(pool.acquire()))
            await turns()
            return pool, lease

        tasks = []
        pool, lease = uringloop.run(main())
        assert tasks[0].cancelled()
        lease.release()
        assert pool.free == 1


class TestCounters(UringCase):

    def test_leases_high_water_and_waits(self):
        async def main():
            def counted():
                stats = self.loop.stats()
                return stats.pool_leases, stats.pool_leases_high_water, stats.pool_waits

            one, two = (self.loop.create_buffer_pool(3, 100) for _ in range(2))
            assert counted() == (0, 0, 0)
            leases = await one.acquire_many(3) + await two.acquire_many(2)
            assert counted() == (5, 5, 0)
            for lease in leases[1:]:
                lease.release()
            assert counted() == (1, 5, 0)
            waiting = asyncio.ensure_future(one.acquire_many(3))
            await turns()
            assert counted() == (1, 5, 1)
            leases[0].release()
            for lease in await waiting:
                lease.release()
            assert counted() == (0, 5, 1)

        self.run(main())


class TestCollected(UringCase):

    def test_a_dropped_pool(self):
        pool = self.loop.create_buffer_pool(2, 100)
        lease = pool.acquire_nowait()
        gone = weakref.ref(pool)
        del pool
        gc.collect()
        # Its lease holds it.
        lease[:] = b'w' * 100
        assert bytes(lease) == b'w' * 100
        lease.release()
        del lease
        gc.collect()
        assert gone() is None

    def test_in_a_cycle_with_its_lease(self):
        class Holder:
            pass

        holder = Holder()
        holder.pool = self.loop.create_buffer_pool(1, 100)
        holder.lease = holder.pool.acquire_nowait()
        holder.lease.release()
        holder.self = holder
        gone = weakref.ref(holder), weakref.ref(holder.pool)
        del holder
        gc.collect()
        assert [ref() for ref in gone] == [None, None]

    def test_waiters_of_a_dropped_pool(self):
        """Whoever waits holds the pool; a task that nobody holds is reported by asyncio."""
        async def main():
            pool = self.loop.create_buffer_pool(1, 100)
            lease = await pool.acquire()
            task = asyncio.ensure_future(pool.acquire())
            await turns()
            del pool
            gc.collect()
            lease.release()
            (await task).release()

        self.run(main())

    def test_memory_is_given_back(self):
        """Pools that come and go: neither mappings nor registrations stay."""
        assert script('''
            import gc, uringloop

            def mappings():
                gc.collect()
                return open('/proc/self/maps').read().count('\\n')

            def locked():
                gc.collect()
                return [line for line in open('/proc/self/status') if line.startswith('VmPin')]

            loop = uringloop.new_event_loop(require_uring=True)
            for _ in range(3):
                loop.create_buffer_pool(100, 5000)
            before = mappings(), locked()
            for _ in range(200):
                loop.create_buffer_pool(100, 5000)
            print(mappings() - before[0] < 20, locked() == before[1])
            loop.close()
            ''') == 'True True\n'

on_the_fallback_too(globals(), TestMaking, TestExhausted, TestCancelledWaiters, TestClosing,
                    TestLoopClosed, TestCounters, TestCollected)
