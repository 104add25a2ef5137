"""Code of the program that runs where a call allocates: the collector's finalizers."""
import asyncio
import contextlib

import pytest

from tests.support.cases import UringCase, on_the_fallback_too
from tests.support.collector import collected_after
from tests.support.endpoints import Sending
from tests.support.protocols import endpoint
from tests.support.sockets import LOCAL
from tests.support.turns import turns, turns_until

ALLOCATIONS = range(1, 20)           # more than any of these calls makes


class TestAcquires(UringCase):

    @pytest.mark.parametrize('call', ['acquire_nowait', 'acquire', 'acquire_many'])
    def test_no_buffer_is_lent_twice(self, call):
        async def main():
            def acquire():
                with contextlib.suppress(BufferError):
                    leases.append(pool.acquire_nowait())

            async def acquire_too():
                if call == 'acquire_nowait':
                    acquire()
                elif call == 'acquire':
                    leases.append(await pool.acquire())
                else:
                    leases.extend(await pool.acquire_many(2))

            for allocations in ALLOCATIONS:
                pool = self.loop.create_buffer_pool(2, 64)
                leases = []
                acquiring = acquire_too()
                with collected_after(allocations, acquire):
                    with contextlib.suppress(StopIteration):
                        acquiring.send(None)
                if len(leases) == 1 and call == 'acquire_many':      # they wait for the other one
                    leases.pop().release()
                    acquiring.close()
                assert pool.free == 2 - len(leases)
                for number, lease in enumerate(leases):
                    lease[:] = bytes([number]) * 64
                assert [lease[0] for lease in leases] == list(range(len(leases)))
                for lease in leases:
                    lease.release()
                assert pool.free == 2

        self.run(main())

    def test_who_waits(self):
        """What comes back is lent once, to the one who waits or to the finalizer."""
        async def main():
            def acquire():
                with contextlib.suppress(BufferError):
                    others.append(pool.acquire_nowait())

            for allocations in ALLOCATIONS:
                pool = self.loop.create_buffer_pool(2, 64)
                others = []
                leases = await pool.acquire_many(2)
                waiting = asyncio.ensure_future(pool.acquire_many(2))
                await turns()
                with collected_after(allocations, acquire):
                    for lease in leases:
                        lease.release()
                for lease in others:
                    lease.release()
                for lease in await waiting:
                    lease.release()
                assert pool.free == 2

        self.run(main())


class TestSends(Sending, UringCase):

    async def bulk(self):
        """A transport of which what is sent waits for the end of the turn."""
        transport, _ = await endpoint(local_addr=LOCAL)
        for _ in range(6):
            for _ in range(8):
                transport.sendto(bytes(64), self.to)
            await asyncio.sleep(0)
        self.arrived()
        return transport

    def test_while_a_lease_joins_a_train(self):
        async def main():
            transport = await self.bulk()
            pool = self.loop.create_buffer_pool(8, 64)
            for allocations in ALLOCATIONS:
                leases = [pool.acquire_nowait() for _ in range(8)]
                for number, lease in enumerate(leases):
                    lease[:] = bytes([number]) * 64
                transport.sendto(leases[0], self.to)
                with collected_after(allocations, lambda: transport.sendto(b'other', self.to)):
                    transport.sendto(leases[1], self.to)
                transport.sendto_many(leases[2:], self.to)
                for lease in leases:
                    lease.release()
                await turns_until(lambda: pool.free == 8)
                arrived = self.arrived()
                assert arrived.count(b'other') == 1
                assert [data[0] for data in arrived if data != b'other'] == list(range(8))
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('call', ['sendto', 'sendto_zerocopy', 'sendto_many'])
    @pytest.mark.parametrize('part', ['all', 'slice'])
    def test_what_resizes_the_buffer(self, call, part):
        """It is sent as it was, or is empty."""
        async def main():
            def clear():
                with contextlib.suppress(BufferError):      # it is being sent
                    content.clear()
                    others.append(bytearray(b'B' * 5000))

            transport, _ = await endpoint(local_addr=LOCAL)
            for allocations in ALLOCATIONS:
                content = bytearray(b'A' * 5000)
                others = []
                data = content if part == 'all' else memoryview(content)[:4999]
                sent = [data] if call == 'sendto_many' else data
                whole = bytes(data)
                with collected_after(allocations, clear):
                    sending = getattr(transport, call)(sent, self.to)
                if call == 'sendto_zerocopy':
                    await sending
                await turns()
                assert self.arrived() in ([], [b''], [whole])
                del data, sent
            transport.close()

        self.run(main())


on_the_fallback_too(globals(), TestAcquires)
