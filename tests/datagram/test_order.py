"""Datagrams arrive in the order in which they were sent, also if some of them cannot be sent."""
import asyncio
import errno
import socket

import pytest

from tests.support.cases import UringCase, both_sides
from tests.support.endpoints import Endpoints, numbered, numbers
from tests.support.features import needs_feature
from tests.support.namespaces import Wire, needs_root
from tests.support.protocols import endpoint
from tests.support.sockets import SO_RCVBUFFORCE, SO_SNDBUFFORCE, deserted, udp
from tests.support.turns import turns_until


class _TestPlainSends(Endpoints):

    def test_of_any_mix_of_sizes(self):
        async def main():
            client, receiver = await self.pair()
            expected = []
            sizes = ([1200] * 13 + [700] + [100] * 3 + [1472, 2000, 9000, 1, 1, 1]
                     + [1 + n for n in range(20)] + [64] * 7)
            n = 0
            for _ in range(10):
                for size in sizes:
                    expected.append((b'%d ' % n * size)[:max(size, 1)])
                    client.sendto(expected[-1])
                    n += 1
                for payload in expected[-len(sizes):]:
                    assert (await receiver.datagrams.get())[0] == payload
            assert n == 500

        self.run(main())

    def test_for_each_of_several_peers(self):
        async def main():
            servers = [await self.endpoint() for _ in range(3)]
            client, _ = await self.endpoint()
            for n in range(90):
                client.sendto(b'%03d' % n, servers[n % 7 % 3][0].get_extra_info('sockname'))
            for number, (_, receiver) in enumerate(servers):
                wanted = [b'%03d' % n for n in range(90) if n % 7 % 3 == number]
                assert [(await receiver.datagrams.get())[0] for _ in wanted] == wanted

        self.run(main())


class TestLentAmongPlainSends(Endpoints, UringCase):

    @needs_feature('report_usage', where='send_zc')
    def test_lent_and_plain_ones_arrive_in_order(self):
        async def main():
            client, receiver = await self.pair()
            futures = []
            for n in range(30):
                payload = b'%d' % n + bytes(n * 50)
                if n % 3:
                    client.sendto(payload)
                else:
                    futures.append(client.sendto_zerocopy(bytearray(payload)))
            for n in range(30):
                assert (await receiver.datagrams.get())[0] == b'%d' % n + bytes(n * 50)
            assert all(report.copied for report in await asyncio.gather(*futures))

        self.run(main())


@needs_root
class TestSlowDevice(UringCase):
    """Notifications of what was sent before come in while the kernel takes more."""

    def far_end(self, number):
        return f'10.97.{number >> 8}.{number & 255}', 4433

    async def busy(self, send):
        """Send so much that notifications are still due, and wait until all of it has left."""
        for turn in range(4):
            for n in range(6):
                send(bytes(60_000), self.far_end(1 + self.sent + 6 * turn + n))
            await asyncio.sleep(0)
        self.sent += 24
        for _ in range(24):
            assert self.far.recv(70_000) == bytes(60_000)

    @pytest.mark.parametrize('other', [False, True])
    def test_the_last_of_a_chain_is_not_overtaken(self, other):
        async def main():
            self.far = wire.far.socket(address=('', 4433))
            self.far.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
            self.far.settimeout(10)          # read without entering the loop's ring
            near = wire.socket()
            near.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 4 << 20)
            transport, _ = await endpoint(sock=near)
            last, _ = await endpoint(sock=wire.socket()) if other else (transport, None)
            self.sent = 0
            for _ in range(5):
                await self.busy(transport.sendto)
                for number in range(1, 13):
                    self.sent += 1
                    transport.sendto(bytes([number]) * 20_000, self.far_end(1 + self.sent))
                last.sendto(bytes([13]) * 60, self.far_end(1))
                assert [self.far.recv(70_000)[0] for _ in range(13)] == list(range(1, 14))
            for each in {transport, last}:
                each.close()
            self.far.close()

        with Wire() as wire:
            wire.slow_down()
            self.run(main())


class TestBrokenChains(UringCase):
    """A send fails in the middle of a chain: the others arrive in order, and one error is told."""

    @pytest.mark.parametrize('size', [100, 9000, 20_000])
    @pytest.mark.parametrize('broken', [0, 7, 20])
    def test_too_long_in_the_middle(self, size, broken):
        async def main():
            receiver, received = await endpoint(sock=udp(room=4 << 20))
            transport, protocol = await endpoint(sock=udp())
            address = receiver.get_extra_info('sockname')
            for i, data in enumerate(numbered(21, size)):
                transport.sendto(data if i != broken else bytes(70_000), address)
            await received.until(lambda p: len(p.datagrams) == 20)
            assert numbers(received.datagrams) == [i for i in range(21) if i != broken]
            await protocol.until(lambda p: p.errors)
            assert [exc.errno for exc in protocol.errors] == [errno.EMSGSIZE]
            assert transport.get_write_buffer_size() == 0
            transport.close()
            receiver.close()
            await protocol.until(lambda p: p.lost)

        self.run(main())

    @needs_feature('report_usage', where='send_zc')
    def test_zerocopy_futures_of_a_broken_chain(self):
        """Followers that were cancelled with their chain are sent again, and notify once each."""
        async def main():
            receiver, received = await endpoint(sock=udp(room=4 << 20))
            transport, protocol = await endpoint(sock=udp())
            address = receiver.get_extra_info('sockname')
            datagrams = numbered(21, 20_000)
            datagrams[7] = bytes(70_000)
            futures = [transport.sendto_zerocopy(data, address) for data in datagrams]
            reports = await asyncio.gather(*futures, return_exceptions=True)
            assert reports[7].errno == errno.EMSGSIZE
            del reports[7]
            assert reports == [(20_000, True)] * 20
            await received.until(lambda p: len(p.datagrams) == 20)
            assert numbers(received.datagrams) == [i for i in range(21) if i != 7]
            assert not protocol.errors
            transport.close()
            receiver.close()

        self.run(main())

    @pytest.mark.parametrize('size', [100, 20_000])
    def test_refused_in_the_middle(self, size):
        """The answer to the first datagram is the error of the second, which is not sent."""
        async def main():
            sock = udp()
            sock.connect(deserted())
            transport, protocol = await endpoint(sock=sock)
            transport.sendto(b'nobody hears this')
            await protocol.until(lambda p: p.errors)
            # Loopback: the ICMP error is there as soon as the send has returned.
            assert sock.send(b'nor this') == 8
            with udp(sock.getpeername(), room=4 << 20) as late:
                receiver, received = await endpoint(sock=late)
                for data in numbered(21, size):
                    transport.sendto(data)
                await received.until(lambda p: len(p.datagrams) + len(protocol.errors) >= 22)
                await turns_until(lambda: transport.get_write_buffer_size() == 0)
                # Either a receive or the first send has met it; no datagram twice, none lost.
                arrived = numbers(received.datagrams)
                assert arrived in (list(range(21)), list(range(1, 21)))
                assert len(protocol.errors) == 2
                receiver.close()
            transport.close()

        self.run(main())


both_sides(globals(), _TestPlainSends)
