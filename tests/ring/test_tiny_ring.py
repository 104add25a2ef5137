"""A submission queue of one entry, and a receiver that is full: the wait for room goes alone."""
import asyncio
import socket

import uringloop
from tests.support.cases import UringCase


class Numbers(asyncio.DatagramProtocol):
    """Keeps the numbers that come, until all have."""

    def __init__(self, count):
        self.count = count
        self.seen = []
        self.done = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, addr):
        self.seen.append(int(data))
        if len(self.seen) == self.count:
            self.done.set_result(None)


class TestTinyRing(UringCase):

    def new_loop(self):
        return uringloop.new_event_loop(require_uring=True, entries=1)

    def test_full_receiver(self):
        async def main():
            loop = asyncio.get_running_loop()
            left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            left.bind(f'\0left-{id(left)}')
            right.bind(f'\0right-{id(right)}')
            for sock in (left, right):
                sock.setblocking(False)
            sender, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, sock=left)
            # Nobody receives yet: the receiver's queue fills up.
            for number in range(500):
                sender.sendto(b'%d' % number)
            before = None
            for _ in range(200):
                await asyncio.sleep(0)
                before, last = loop.stats().submissions, before
            # Once it waits for room, the loop has nothing to tell the kernel.
            assert before == last
            receiver, numbers = await loop.create_datagram_endpoint(
                lambda: Numbers(500), sock=right)
            await numbers.done
            assert numbers.seen == list(range(500))
            assert loop.stats().unknown_completions == 0
            sender.close()
            receiver.close()

        self.run(main())
