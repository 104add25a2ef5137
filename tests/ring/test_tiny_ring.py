"""Queues of one or two entries: more than they hold is submitted, completed, and in order."""
import asyncio
import socket

import uringloop
from tests.support.cases import UringCase
from tests.support.endpoints import numbered, numbers
from tests.support.features import needs_feature
from tests.support.namespaces import needs_root
from tests.support.protocols import Recorder, endpoint
from tests.support.sockets import SO_RCVBUFFORCE, udp


class _TinyRing(UringCase):
    entries = 1

    def new_loop(self):
        return uringloop.new_event_loop(require_uring=True, entries=self.entries)


class TestTinyRing(_TinyRing):

    def test_many_sends_in_a_turn_keep_their_order(self):
        async def main():
            sock = udp(room=4 << 20)
            receiver, received = await endpoint(sock=sock)
            transport, protocol = await endpoint(sock=udp())
            # Of two sizes, so that they are not gathered.
            datagrams = [data[:50 + i % 2] for i, data in enumerate(numbered(200))]
            for data in datagrams:
                transport.sendto(data, sock.getsockname())
            await received.until(lambda p: len(p.datagrams) == 200)
            assert received.datagrams == datagrams
            assert not protocol.errors
            transport.close()
            receiver.close()

        self.run(main())

    @needs_feature('report_usage', where='send_zc')
    def test_many_lent_buffers_are_reported(self):
        async def main():
            sock = udp(room=8 << 20)
            receiver, received = await endpoint(sock=sock)
            transport, _ = await endpoint(sock=udp())
            datagrams = numbered(100, 20_000)
            reports = await asyncio.gather(
                *(transport.sendto_zerocopy(data, sock.getsockname()) for data in datagrams))
            assert reports == [(20_000, True)] * 100
            await received.until(lambda p: len(p.datagrams) >= 60)
            arrived = numbers(received.datagrams)
            assert arrived == list(range(len(arrived)))
            transport.close()
            receiver.close()

        self.run(main())

    def test_an_overflow_of_completions_loses_none(self):
        """More completions at once than the queue has room for: the kernel keeps them."""
        async def main():
            pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(100)]
            for pair in pairs:
                for sock in pair:
                    sock.setblocking(False)
            tasks = [asyncio.ensure_future(self.loop.sock_recv(mine, 10)) for mine, _ in pairs]
            await asyncio.sleep(0)
            assert self.loop.stats().operations_in_flight >= 100
            for i, (_, other) in enumerate(pairs):
                other.send(b'%d' % i)
            assert await asyncio.gather(*tasks) == [b'%d' % i for i in range(100)]
            if self.entries == 1:
                # With more room the kernel hands them over before the queue is full.
                assert self.loop.stats().cq_overflows > 0
            for pair in pairs:
                for sock in pair:
                    sock.close()

        self.run(main())

    def test_echo_both_ways(self):
        """2,000 datagrams echoed, hundreds under way: all come back, in order."""
        async def main():
            class Echo(Recorder):
                def datagram_received(self, data, addr):
                    self.transport.sendto(data, addr)

            one, two = udp(room=4 << 20), udp(room=4 << 20)
            server, _ = await self.loop.create_datagram_endpoint(Echo, sock=one)
            two.connect(one.getsockname())
            client, received = await endpoint(sock=two)
            datagrams = [data[:60 + i % 3] for i, data in enumerate(numbered(2000))]
            for start in range(0, 2000, 100):
                for data in datagrams[start:start + 100]:
                    client.sendto(data)
                await received.until(lambda p, n=start: len(p.datagrams) >= n + 50)
            await received.until(lambda p: len(p.datagrams) == 2000)
            assert received.datagrams == datagrams
            client.close()
            server.close()

        self.run(main())

    @needs_root
    def test_an_overflow_of_datagrams_loses_none(self):
        """A flood of datagrams overflows the queue; reception goes on and loses none."""
        async def main():
            sock = udp()
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
            receiver, received = await endpoint(sock=sock)
            datagrams = numbered(2000)
            with udp() as sender:
                await asyncio.sleep(0)
                for data in datagrams:
                    sender.sendto(data, sock.getsockname())
                await received.until(lambda p: len(p.datagrams) == 2000)
            assert received.datagrams == datagrams
            receiver.close()

        self.run(main())


class TestSmallRing(TestTinyRing):
    entries = 2


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


class TestFullReceiver(UringCase):

    def new_loop(self):
        return uringloop.new_event_loop(require_uring=True, entries=1)

    def test_the_wait_for_room_goes_alone(self):
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
