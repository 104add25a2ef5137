"""What ``stats`` counts of datagrams: sent, gathered, dropped, copied, refused."""
import asyncio
import errno
import mmap

import pytest

from tests.support.cases import UringCase, on_the_fallback_too, only_uring
from tests.support.endpoints import Endpoints
from tests.support.features import needs_feature
from tests.support.namespaces import Namespace, needs_root
from tests.support.protocols import endpoint
from tests.support.turns import turns


class TestStats(Endpoints, UringCase):

    @only_uring
    def test_plain_sends_and_receives_are_counted(self):
        async def main():
            client, receiver = await self.pair()
            await turns()
            before = self.loop.stats()
            client.sendto(b'one')
            client.sendto(b'two, not gathered: longer')
            await receiver.datagrams.get()
            await receiver.datagrams.get()
            await turns()
            after = self.loop.stats()
            assert after.datagrams_sent - before.datagrams_sent == 2
            assert after.datagrams_received - before.datagrams_received == 2
            assert after.datagrams_gathered == before.datagrams_gathered
            # A plain system call each, without the ring.
            assert after.submissions == before.submissions
            assert after.completions > before.completions
            assert after.syscalls > before.syscalls
            assert after.operations_live >= after.operations_in_flight > 0
            assert after.zerocopy_sent == before.zerocopy_sent
            assert after.datagrams_dropped == 0

        self.run(main())

    @only_uring
    def test_gathered_ones_are_counted(self):
        async def main():
            client, receiver = await self.pair()
            # Some leave at the call; from then on it is a bulk, and only the first does.
            for gathered in 6, 6 + 9:
                for _ in range(10):
                    client.sendto(bytes(1200))
                for _ in range(10):
                    assert (await receiver.datagrams.get())[0] == bytes(1200)
                stats = self.loop.stats()
                assert stats.datagrams_gathered == gathered
            assert stats.datagrams_sent == 20

        self.run(main())

    @needs_feature('send_zc', 'report_usage')
    @only_uring
    def test_zerocopy_sends_are_counted(self):
        async def main():
            client, receiver = await self.pair()
            await client.sendto_zerocopy(bytearray(30000))
            await receiver.datagrams.get()
            stats = self.loop.stats()
            assert stats.zerocopy_sent == 1
            assert stats.zerocopy_copied == 1
            assert stats.zerocopy_bytes == 0
            assert stats.buffers_released == 1
            assert stats.bytes_pinned == 0
            assert stats.zerocopy_fell_back == 0

        self.run(main())

    def test_dropped_ones_are_counted(self):
        async def main():
            client, _ = await self.pair()
            client.sendto(bytes(65508))
            await client.get_protocol().errors.get()
            client.close()
            client.sendto(b'too late')
            assert self.loop.stats().datagrams_dropped == 2
            assert self.loop.stats().datagrams_sent == 0

        self.run(main())

    @needs_feature('taskrun_flag')
    def test_a_turn_without_input_makes_no_syscall(self):
        async def main():
            await turns()
            before = self.loop.stats().syscalls
            await turns(100)
            assert self.loop.stats().syscalls == before

        self.run(main())


class TestRefusedSend(UringCase):

    def test_refused_send_does_not_count_as_copied(self):
        async def main():
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=('127.0.0.1', 0))
            # Page-aligned: 17 fragments, which zero-copy takes, but no UDP datagram is as long.
            memory = mmap.mmap(-1, 66_000)
            with pytest.raises(OSError) as caught:
                await transport.sendto_zerocopy(memory, transport.get_extra_info('sockname'))
            assert caught.value.errno == errno.EMSGSIZE
            transport.close()
            return loop.stats()

        stats = self.run(main())
        # Neither way did it go out.
        assert stats.zerocopy_sent == stats.zerocopy_fell_back == stats.datagrams_sent == 0
        assert stats.zerocopy_copied == 0


class TestFailingSends(UringCase):

    @needs_root
    def test_cost_is_linear_and_counts_are_true(self):
        async def main():
            transport, _ = await endpoint(sock=namespace.socket())
            before = self.loop.stats().submissions
            futures = [transport.sendto_zerocopy(bytes(1000), ('10.1.2.3', 9)) for _ in range(200)]
            await asyncio.wait(futures)
            assert {future.exception().errno for future in futures} == {errno.ENETUNREACH}
            stats = self.loop.stats()
            assert stats.submissions - before < 4 * len(futures)
            assert stats.zerocopy_sent - stats.zerocopy_copied - stats.zerocopy_fell_back == 0
            transport.close()

        with Namespace() as namespace:
            self.run(main())

on_the_fallback_too(globals(), TestStats, TestRefusedSend)
