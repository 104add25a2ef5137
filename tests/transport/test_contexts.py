"""The contexts that a transport calls its protocol in, as asyncio chooses them."""
import asyncio
import contextvars
import socket
import sys

from tests.support.cases import both_sides
from tests.support.endpoints import QueuingRecorder
from tests.support.sockets import LOCAL, bound
from tests.support.streams import Recorder, Streams

variable = contextvars.ContextVar('variable', default='unset')


def called_for(who):
    """Whose context a stream calls in, because of them: from 3.15 on always its own."""
    return 'maker' if sys.version_info >= (3, 15) else who


class Noting(Recorder):
    """Keeps what ``variable`` is in each call."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def note(self, what):
        self.seen[what] = variable.get()
        super().note(what)


class NotingDatagrams(QueuingRecorder):
    """The same for datagrams."""

    def datagram_received(self, data, addr):
        self.seen = variable.get()
        super().datagram_received(data, addr)


class _TestContexts(Streams):

    def test_received_in_the_context_of_who_resumed_reading(self):
        async def main():
            variable.set('maker')
            near, peer = await self.half(Noting)
            variable.set('somebody')
            peer.send(b'first')
            await near.until_length(5)
            assert near.seen == {'made': 'maker', 'data': 'maker'}
            near.transport.pause_reading()
            variable.set('resumer')
            near.transport.resume_reading()
            variable.set('somebody else')
            peer.send(b'second')
            await near.until_length(11)
            assert near.seen['data'] == called_for('resumer')
            peer.shutdown(socket.SHUT_WR)
            await near.until_lost()
            assert near.seen['eof'] == called_for('resumer')

        self.run(main())

    def test_resumed_in_the_context_of_who_filled_the_buffer(self):
        async def main():
            variable.set('maker')
            near, peer = await self.half(Noting)
            variable.set('writer')
            near.transport.write(bytes(5_000_000))
            assert near.seen['pause'] == 'writer'
            variable.set('somebody else')
            await self.read(peer, 5_000_000)
            await near.until(lambda: 'resume' in near.calls)
            assert near.seen['resume'] == called_for('writer')

        self.run(main())

    def test_datagrams(self):
        self.needs_pausing()

        async def main():
            variable.set('maker')
            transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
                NotingDatagrams, local_addr=LOCAL)
            transport.pause_reading()
            variable.set('resumer')
            transport.resume_reading()
            variable.set('somebody else')
            with bound() as peer:
                peer.sendto(b'x', transport.get_extra_info('sockname'))
                await protocol.datagrams.get()
            assert protocol.seen == 'resumer'
            transport.close()
            await protocol.lost

        self.run(main())


both_sides(globals(), _TestContexts)
