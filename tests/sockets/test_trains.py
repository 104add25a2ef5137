"""``sock_sendto_zerocopy(segment_size=)``: trains on the program's own sockets."""
import asyncio
import contextlib
import errno
import socket

import pytest

from tests.support.cases import UringCase, on_the_fallback_too, only_uring
from tests.support.endpoints import numbered, numbers
from tests.support.features import needs_feature
from tests.support.namespaces import Hole, needs_root
from tests.support.sockets import LOCAL, SO_RCVBUFFORCE, Sockets, bound, deserted, needs_ipv6
from tests.support.turns import turns, turns_until

CONTENT = bytes(range(256)) * 1000


def cut(data, size):
    """The datagrams that it leaves as."""
    return [bytes(data[begin:begin + size]) for begin in range(0, len(data), size)]


def arrived(sock):
    got = []
    with contextlib.suppress(BlockingIOError):
        while True:
            got.append(sock.recv(70_000))
    return got


class TestTrains(Sockets, UringCase):

    def roomy(self):
        sock = self.udp()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        return sock

    @pytest.mark.parametrize('warm', [False, True])
    def test_an_error_once_some_have_left_is_the_futures(self, warm):
        """Whether or not those went without a copy."""
        async def main():
            sock = self.udp()
            if warm:             # it is known by then that this path copies
                other = self.udp()
                for size in 1000, 20_000:
                    await self.loop.sock_sendto_zerocopy(
                        sock, CONTENT[:size], other.getsockname(), segment_size=1000)
            gone = deserted()
            sock.connect(gone)
            # The second train is told that nobody has received the first.
            sending = self.loop.sock_sendto_zerocopy(
                sock, CONTENT[:200_000], gone, segment_size=1000)
            with pytest.raises(ConnectionRefusedError):
                await sending

        self.run(main())

    @needs_feature('report_usage', where='send_zc')
    @pytest.mark.parametrize(('nbytes', 'size'), [
        (12_000, 1200), (12_001, 1200), (1200, 1200), (1199, 1200), (1, 1), (65, 1),
        (66_000, 1000), (250_000, 1472), (131_014, 65_507)])
    @pytest.mark.parametrize('kind', [bytes, bytearray])
    def test_into_datagrams(self, nbytes, size, kind):
        async def main():
            one, two = self.udp(), self.roomy()
            data = kind(CONTENT[:nbytes])
            report = await self.loop.sock_sendto_zerocopy(
                one, data, two.getsockname(), segment_size=size)
            assert report == (nbytes, True)
            expected = cut(CONTENT[:nbytes], size)
            assert arrived(two) == expected
            assert self.loop.stats().datagrams_sent == len(expected)

        self.run(main())

    @needs_feature('send_zc', 'report_usage')
    @only_uring
    def test_where_the_kernel_copies(self):
        """Such a path is remembered; a train then leaves as one plain send."""
        async def main():
            one, two = self.udp(), self.roomy()
            for _ in range(3):
                report = await self.loop.sock_sendto_zerocopy(
                    one, CONTENT[:50_010], two.getsockname(), segment_size=1000)
                assert report == (50_010, True)
                assert arrived(two) == cut(CONTENT[:50_010], 1000)
            stats = self.loop.stats()
            assert (stats.datagrams_sent, stats.datagrams_gathered) == (153, 153)
            assert (stats.zerocopy_sent, stats.zerocopy_fell_back) == (1, 0)

        self.run(main())

    def test_without_segments(self, tmp_path):
        """AF_UNIX takes no notice of UDP_SEGMENT."""
        async def main():
            path = str(tmp_path / 'peer')
            one, two = (self.udp(socket.AF_UNIX, name) for name in ('', path))
            report = await self.loop.sock_sendto_zerocopy(
                one, CONTENT[:2500], path, segment_size=1000)
            assert report == (2500, True)
            assert arrived(two) == cut(CONTENT[:2500], 1000)

        self.run(main())

    def test_nothing_is_one_empty_datagram(self):
        async def main():
            one, two = self.udp(), self.udp()
            for empty in b'', bytearray():
                assert await self.loop.sock_sendto_zerocopy(
                    one, empty, two.getsockname(), segment_size=100) == (0, True)
            assert arrived(two) == [b''] * 2

        self.run(main())

    @needs_ipv6
    def test_ipv6(self):
        async def main():
            with bound(socket.AF_INET6, ('::1', 0)) as peer:
                sock = self.udp(socket.AF_INET6, ('::1', 0))
                assert (await self.loop.sock_sendto_zerocopy(
                    sock, CONTENT[:30_000], peer.getsockname(), segment_size=1232)
                        ).nbytes == 30_000
                assert [peer.recv(2000) for _ in range(25)] == cut(CONTENT[:30_000], 1232)

        self.run(main())

    def test_in_the_order_of_the_calls(self):
        async def main():
            one, two = self.udp(), self.roomy()
            to = two.getsockname()
            data = numbered(300, 500)
            futures = []
            for begin in range(0, 300, 100):
                futures.append(self.loop.sock_sendto_zerocopy(
                    one, b''.join(data[begin:begin + 99]), to, segment_size=500))
                await self.loop.sock_sendto(one, data[begin + 99], to)
            await asyncio.gather(*futures)
            assert arrived(two) == data

        self.run(main())

    @pytest.mark.parametrize('sized', [0, -1, 65508])
    def test_bad_sizes(self, sized):
        async def main():
            one = self.udp()
            data = bytearray(100)
            for wrong in b'', data:
                with pytest.raises(ValueError, match=f'not {sized}'):
                    self.loop.sock_sendto_zerocopy(
                        one, wrong, one.getsockname(), segment_size=sized)
            for wrong in 'x', 1.5:
                with pytest.raises(TypeError):
                    self.loop.sock_sendto_zerocopy(
                        one, data, one.getsockname(), segment_size=wrong)
            data.append(0)
            assert arrived(one) == []

        self.run(main())

    def test_bad_payloads_addresses_and_sockets(self):
        async def main():
            one = self.udp()
            to = one.getsockname()
            for payload, address, kind in (
                    ('text', to, TypeError), (memoryview(CONTENT)[::2], to, Exception),
                    (CONTENT[:10], 'nowhere', TypeError)):
                with pytest.raises(kind):
                    self.loop.sock_sendto_zerocopy(one, payload, address, segment_size=5)
            one.close()
            with pytest.raises(OSError) as caught:
                await self.loop.sock_sendto_zerocopy(one, CONTENT[:10], to, segment_size=5)
            assert caught.value.errno == errno.EBADF

        self.run(main())

    def test_refused_in_the_middle(self):
        """The answer to the first train is the error of the second."""
        async def main():
            one = self.udp()
            to = deserted()
            one.connect(to)
            data = bytearray(CONTENT[:200_000])
            with pytest.raises(ConnectionRefusedError):
                await self.loop.sock_sendto_zerocopy(one, data, to, segment_size=1000)
            await turns()
            data.append(0)

        self.run(main())

    def test_a_loop_that_does_not_run(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(LOCAL)
            sock.setblocking(False)
            sending = self.loop.sock_sendto_zerocopy(
                sock, CONTENT[:5000], sock.getsockname(), segment_size=1000)
            assert sending.result() == (5000, True)
            assert arrived(sock) == cut(CONTENT[:5000], 1000)


@needs_feature('send_zc', 'report_usage')
@needs_root
class TestPaths(Sockets, UringCase):

    @needs_feature('registered_buffers', 'registered_messages')
    def test_really_without_a_copy(self):
        async def main():
            pool = self.loop.create_buffer_pool(1, 120_000)
            memory = bytearray(120_000)
            with hole.socket() as sock, await pool.acquire() as lease:
                for data in CONTENT[:120_000], bytearray(120_000), memory, lease, lease[:60_000]:
                    before = self.loop.stats()
                    if data is memory:
                        registered = self.loop.register_buffer(memory)
                    assert await self.loop.sock_sendto_zerocopy(
                        sock, data, hole.peer, segment_size=1200) == (len(data), False)
                    after = self.loop.stats()
                    trains = -(-len(data) // 64_800)
                    assert after.trains_sent - before.trains_sent == trains
                    known = not isinstance(data, bytes) and (
                        data is memory or not isinstance(data, bytearray))
                    assert after.registered_sends - before.registered_sends == trains * known
                await registered.close()
                assert self.loop.stats().zerocopy_copied == 0
                del data
            await turns_until(lambda: pool.free == 1)

        with Hole(mtu=1500) as hole:
            self.run(main())

    async def full(self, wire):
        """A sender without room for more than a train or two, and a receiver."""
        wire.hold()
        far = wire.far.socket(address=wire.peer)
        far.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        near = wire.socket()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 60_000)
        self.opened += [far, near]
        return near, far

    @pytest.mark.parametrize('end', ['await', 'cancel', 'release'])
    def test_a_full_socket(self, wire, end):
        """What it has no room for follows; a cancelled future sends no more of it."""
        async def main():
            near, far = await self.full(wire)
            pool = self.loop.create_buffer_pool(1, 400_000)
            data = numbered(400, 1000)
            with await pool.acquire() as lease:
                lease[:] = b''.join(data)
                future = self.loop.sock_sendto_zerocopy(near, lease, wire.peer, segment_size=1000)
                await turns(20)
                sent = self.loop.stats().datagrams_sent
                assert 0 < sent < 400
                assert not future.done()
                if end == 'cancel':
                    future.cancel()
                    await turns()
            assert pool.free == 0
            wire.release()
            if end == 'cancel':
                await turns_until(lambda: pool.free == 1)
                assert numbers(arrived(far)) == list(range(sent))
                assert self.loop.stats().datagrams_sent == sent
            else:
                assert (await future).nbytes == 400_000
                assert arrived(far) == data
                await turns_until(lambda: pool.free == 1)

        try:
            self.run(main())
        finally:
            wire.release()

    def test_closed_while_it_waits(self, wire):
        """The rest has no socket any more: that is the future's."""
        async def main():
            near, far = await self.full(wire)
            memory = bytearray(400_000)
            future = self.loop.sock_sendto_zerocopy(near, memory, wire.peer, segment_size=1000)
            await turns()
            sent = self.loop.stats().datagrams_sent
            near.close()
            await turns()
            wire.release()
            await turns()
            if not future.done():
                future.cancel()       # as of every call whose socket is closed under it
            await asyncio.wait([future])
            await turns_until(lambda: self.loop.stats().bytes_pinned == 0)
            assert len(arrived(far)) == sent
            await turns()
            memory.append(0)

        try:
            self.run(main())
        finally:
            wire.release()

on_the_fallback_too(globals(), TestTrains)
