"""Zero-copy writes of streams: what asks for them, and where they are given up."""
from tests.support.cases import UringCase
from tests.support.features import needs_feature
from tests.support.sockets import udp
from tests.support.streams import MANY_BYTES, Echo, Streams, both_kinds
from tests.support.turns import turns_until


class TestZerocopy(Streams, UringCase):
    """Which writes ask for it shows in the counters."""

    @needs_feature('send_zc', 'report_usage')
    def test_given_up_where_it_is_copied(self):
        async def main():
            near, peer = await self.half()
            near.transport.write(MANY_BYTES[:1_000_000])
            assert await self.read(peer, 1_000_000) == MANY_BYTES[:1_000_000]
            await turns_until(lambda: self.loop.stats().zerocopy_copied)
            before = self.loop.stats()
            assert before.zerocopy_sent >= before.zerocopy_copied
            assert before.zerocopy_bytes == 0
            near.transport.write(MANY_BYTES[:1_000_000])
            assert await self.read(peer, 1_000_000) == MANY_BYTES[:1_000_000]
            assert self.loop.stats().zerocopy_sent == before.zerocopy_sent
            # Nor does another connection to that host ask for it.
            _, address = await self.serve(Echo)
            client = await self.connect(address)
            client.transport.write(MANY_BYTES[:1_000_000])
            await client.until_length(1_000_000)
            assert self.loop.stats().zerocopy_sent == before.zerocopy_sent

        self.run(main())

    @needs_feature('send_zc', 'report_usage')
    def test_a_long_datagram_that_is_copied_says_nothing_of_streams(self):
        """It is copied where it exceeds the path's MTU; a stream is cut to that."""
        async def main():
            with udp() as sender, udp() as receiver:
                report = await self.loop.sock_sendto_zerocopy(
                    sender, bytes(20_000), receiver.getsockname())
                assert report.copied
            before = self.loop.stats().zerocopy_sent
            near, peer = await self.half()
            near.transport.write(MANY_BYTES[:1_000_000])
            assert await self.read(peer, 1_000_000) == MANY_BYTES[:1_000_000]
            assert self.loop.stats().zerocopy_sent > before

        self.run(main())

    @both_kinds
    def test_short_and_unix_data_do_not_ask_for_it(self, kind):
        async def main():
            near, peer = await self.half(kind=kind)
            near.transport.write(MANY_BYTES[:10])
            if kind == 'unix':
                near.transport.write(MANY_BYTES[:1_000_000])
                await self.read(peer, 1_000_010)
            else:
                await self.read(peer, 10)
            assert self.loop.stats().zerocopy_sent == 0

        self.run(main())
