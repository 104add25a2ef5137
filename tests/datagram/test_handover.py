"""A protocol that pauses at each datagram hands the socket on: the others are there."""
import asyncio
import contextlib

import pytest

from tests.support.cases import UringCase, both_sides
from tests.support.endpoints import Endpoints, QueuingRecorder, numbered, numbers
from tests.support.sockets import bound
from tests.support.turns import turns


class Pausing(QueuingRecorder):
    """Takes one datagram at a time."""

    def datagram_received(self, data, addr):
        super().datagram_received(data, addr)
        self.transport.pause_reading()


def received_by(sock):
    """All that is there."""
    sock.setblocking(False)
    received = []
    with contextlib.suppress(BlockingIOError):
        while True:
            received.append(sock.recv(65536))
    return received


class _TestHandover(Endpoints):

    @pytest.mark.parametrize('size', [100, 20_000])
    def test_after_the_first_pause_nothing_more_is_taken(self, size):
        self.needs_pausing()

        async def main():
            transport, receiver = await self.endpoint(Pausing)
            address = transport.get_extra_info('sockname')
            with bound() as peer:
                for resumed in 1, 2, 3:
                    for data in numbered(resumed, size):
                        peer.sendto(data, address)
                    given = [(await receiver.datagrams.get())[0]]
                    sock = transport.get_extra_info('socket').dup()
                    with sock:
                        await turns(10)
                        assert numbers(given + received_by(sock)) == [*range(resumed)]
                    transport.resume_reading()
            assert receiver.datagrams.empty()

        self.run(main())


class TestTheFirstPause(Endpoints, UringCase):

    def test_those_that_came_by_one_call_stay_with_the_transport(self):
        async def main():
            transport, receiver = await self.endpoint(Pausing)
            with bound() as peer:
                for data in numbered(40):
                    peer.sendto(data, transport.get_extra_info('sockname'))
            given = [(await receiver.datagrams.get())[0]]
            with transport.get_extra_info('socket').dup() as sock:
                assert numbers(received_by(sock)) == [*range(32, 40)]
            while len(given) < 32:
                transport.resume_reading()
                given.append((await receiver.datagrams.get())[0])
                await asyncio.sleep(0)
                assert receiver.datagrams.empty()
            assert numbers(given) == [*range(32)]

        self.run(main())


both_sides(globals(), _TestHandover)
