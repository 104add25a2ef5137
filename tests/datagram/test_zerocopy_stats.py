"""What LoopStats says of zero-copy sends that the kernel refused."""
import asyncio
import errno
import mmap

import pytest

from tests.support.cases import UringCase


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
