"""Urgent data of TCP, which no transport receives: it takes nothing with it."""
import socket

import pytest

from tests.support.cases import both_sides
from tests.support.streams import Buffered, Recorder, Streams
from tests.support.turns import turns


class _TestUrgent(Streams):

    @pytest.mark.parametrize('factory', [Recorder, Buffered])
    def test_what_is_sent_around_it_comes(self, factory):
        """A read ends short at its mark, and what is behind that was told of before."""
        async def main():
            near, peer = await self.half(factory)
            for _ in range(2):
                near.data.clear()
                peer.send(b'all is read;')
                await near.until_length(12)
                await turns(10)
                peer.send(b'before;')
                peer.send(b'!', socket.MSG_OOB)
                peer.send(b'behind;')
                await near.until_length(26)
                assert near.data == b'all is read;before;behind;'

        self.run(main())


both_sides(globals(), _TestUrgent)
