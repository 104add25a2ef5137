"""Trains: one buffer that leaves as datagrams of ``segment_size`` bytes, with one future."""
import asyncio
import errno
import re
import socket

import pytest

from tests.support.cases import UringCase, on_the_fallback_too, only_uring
from tests.support.endpoints import Sending, numbered, numbers
from tests.support.features import needs_feature
from tests.support.namespaces import Hole, needs_root
from tests.support.protocols import endpoint
from tests.support.sockets import LOCAL, bound, deserted, needs_ipv6, unix_pair
from tests.support.turns import turns_until
from tests.support.wires import roomy_peer
from uringloop import SendReport

IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2       # linux/in.h
CONTENT = bytes(range(256)) * 1000


def cut(data, size):
    """The datagrams that it leaves as."""
    return [bytes(data[begin:begin + size]) for begin in range(0, len(data), size)]


class TestCut(Sending, UringCase):

    @needs_feature('report_usage', where='send_zc')
    @pytest.mark.parametrize(('nbytes', 'size'), [
        (12_000, 1200),          # exactly
        (12_001, 1200), (11_999, 1200), (1201, 1200), (1500, 1499),
        (1200, 1200),            # one datagram
        (1199, 1200), (1, 65507), (1, 1), (100, 1), (64, 1), (65, 1), (6400, 100), (6401, 100),
        (65_000, 1000), (66_000, 1000), (65_507, 1400),     # more than one train of the kernel's
        (250_000, 1472), (130_000, 16_384), (200_000, 60_000), (131_014, 65_507),
    ])
    @pytest.mark.parametrize('kind', [bytes, bytearray])
    def test_into_datagrams(self, nbytes, size, kind):
        async def main():
            transport, protocol = await endpoint(local_addr=LOCAL)
            data = CONTENT[:nbytes]
            report = await transport.sendto_zerocopy(kind(data), self.to, segment_size=size)
            assert report == SendReport(nbytes, True)
            expected = cut(data, size)
            assert self.arrived() == expected
            assert self.loop.stats().datagrams_sent == len(expected)
            assert not protocol.errors
            transport.close()

        self.run(main())

    def test_nothing_is_one_empty_datagram(self):
        async def main():
            transport, _ = await endpoint(local_addr=LOCAL)
            for empty in (b'', bytearray(), memoryview(b'')):
                assert await transport.sendto_zerocopy(
                    empty, self.to, segment_size=100) == (0, True)
            assert self.arrived() == [b''] * 3
            transport.close()

        self.run(main())

    @needs_feature('send_zc')
    @only_uring
    def test_a_view_of_a_part(self):
        async def main():
            transport, _ = await endpoint(local_addr=LOCAL)
            data = bytearray(CONTENT[:50_000])
            view = memoryview(data)[7:20_007]
            future = transport.sendto_zerocopy(view, self.to, segment_size=1300)
            view.release()
            with pytest.raises(BufferError):
                data.append(0)
            await future
            assert self.arrived() == cut(CONTENT[7:20_007], 1300)
            data.append(0)
            transport.close()

        self.run(main())

    @needs_ipv6
    def test_ipv6(self):
        async def main():
            with bound(socket.AF_INET6, ('::1', 0)) as peer:
                transport, _ = await endpoint(local_addr=('::1', 0))
                report = await transport.sendto_zerocopy(
                    CONTENT[:30_000], peer.getsockname(), segment_size=1232)
                assert report.nbytes == 30_000
                assert [peer.recv(2000) for _ in range(25)] == cut(CONTENT[:30_000], 1232)
                transport.close()

        self.run(main())

    def test_unix_goes_one_by_one(self):
        async def main():
            one, two = unix_pair()
            sender, _ = await endpoint(sock=one)
            with two:
                assert await sender.sendto_zerocopy(
                    CONTENT[:5000], segment_size=1000) == (5000, True)
                assert [two.recv(2000) for _ in range(5)] == cut(CONTENT[:5000], 1000)
            sender.close()

        self.run(main())

    def test_unix_that_is_full(self):
        """More than the receiver holds: in order, and one future all the same."""
        async def main():
            one, two = unix_pair()
            sender, _ = await endpoint(sock=one)
            receiver, received = await endpoint(sock=two)
            receiver.pause_reading()
            data = b''.join(numbered(300, 50))
            future = sender.sendto_zerocopy(data, segment_size=50)
            assert sender.get_write_buffer_size() > 0
            assert not future.done()
            receiver.resume_reading()
            assert await future == (15_000, True)
            await received.until(lambda p: len(p.datagrams) == 300)
            assert received.datagrams == cut(data, 50)
            sender.close()
            receiver.close()

        self.needs_pausing()
        self.run(main())

    def test_connected(self):
        async def main():
            transport, _ = await endpoint(remote_addr=self.to)
            for address in (None, self.to):
                await transport.sendto_zerocopy(CONTENT[:5000], address, segment_size=1000)
            assert self.arrived() == cut(CONTENT[:5000], 1000) * 2
            with pytest.raises(ValueError, match='Invalid address'):
                transport.sendto_zerocopy(CONTENT[:5000], ('127.0.0.1', 1), segment_size=1000)
            assert self.arrived() == []
            transport.close()

        self.run(main())


class TestBadInput(Sending, UringCase):

    @pytest.mark.parametrize('size', [0, -1, 65508, 1 << 70, -(1 << 70)])
    def test_sizes_that_are_none(self, size):
        async def main():
            transport, _ = await endpoint(local_addr=LOCAL)
            data = bytearray(3000)
            for call in (lambda: transport.sendto_zerocopy(data, self.to, segment_size=size),
                         lambda: self.loop.sock_sendto_zerocopy(
                             sender, data, self.to, segment_size=size)):
                with pytest.raises(
                        ValueError, match=rf'segment_size must be 1 to 65507 bytes, not {size}$'):
                    call()
            data.append(0)          # nothing holds it
            assert self.arrived() == []
            transport.close()

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            self.run(main())

    @pytest.mark.parametrize('size', ['x', 1.5, b'1', [100]])
    def test_sizes_that_are_no_numbers(self, size):
        async def main():
            transport, _ = await endpoint(local_addr=LOCAL)
            with pytest.raises(TypeError, match=type(size).__name__):
                transport.sendto_zerocopy(bytes(3000), self.to, segment_size=size)
            transport.close()

        self.run(main())

    def test_numbers_of_other_kinds(self):
        class Number:
            def __index__(self):
                return 500

        async def main():
            transport, _ = await endpoint(local_addr=LOCAL)
            await transport.sendto_zerocopy(b'abc', self.to, segment_size=True)
            assert self.arrived() == [b'a', b'b', b'c']
            await transport.sendto_zerocopy(CONTENT[:1000], self.to, segment_size=Number())
            assert self.arrived() == cut(CONTENT[:1000], 500)
            with pytest.raises(TypeError):
                transport.sendto_zerocopy(b'abc', self.to, 100)
            transport.close()

        self.run(main())

    def test_payloads_and_addresses(self):
        async def main():
            transport, _ = await endpoint(local_addr=LOCAL)
            for wrong, kind in (('text', TypeError), (None, TypeError), (17, TypeError),
                                (memoryview(b'0123456789')[::2], (BufferError, ValueError))):
                with pytest.raises(kind):
                    transport.sendto_zerocopy(wrong, self.to, segment_size=2)
            with pytest.raises(TypeError):
                transport.sendto_zerocopy(b'abc', 'nowhere', segment_size=2)
            transport.close()
            with pytest.raises(ConnectionAbortedError, match='3 bytes were not sent'):
                await transport.sendto_zerocopy(b'abc', self.to, segment_size=2)
            assert self.loop.stats().datagrams_dropped == 2

        self.run(main())


class TestOrder(Sending, UringCase):

    def test_between_plain_ones(self):
        async def main():
            transport, _ = await endpoint(local_addr=LOCAL)
            sent, futures = [], []
            for turn in range(8):
                for i in range(turn):
                    sent.append(b'%d-%d' % (turn, i))
                    transport.sendto(sent[-1], self.to)
                data = numbered(turn * 30 + 1, 700)
                sent += data
                futures.append(transport.sendto_zerocopy(
                    b''.join(data), self.to, segment_size=700))
                sent += [b'n' * 700] * 12
                for _ in range(12):
                    transport.sendto(b'n' * 700, self.to)
                if turn % 2:
                    await asyncio.sleep(0)
            assert [report.nbytes for report in await asyncio.gather(*futures)] \
                == [(turn * 30 + 1) * 700 for turn in range(8)]
            assert self.arrived() == sent
            transport.close()

        self.run(main())

    def test_in_bulk(self):
        """Many in a turn wait for its end, or until they are enough; and keep their order."""
        async def main():
            transport, _ = await endpoint(local_addr=LOCAL)
            data = [b''.join(numbered(10, 100 + n)) for n in range(40)]
            futures = [transport.sendto_zerocopy(each, self.to, segment_size=100 + n)
                       for n, each in enumerate(data)]
            await asyncio.gather(*futures)
            assert self.arrived() == [
                part for n, each in enumerate(data) for part in cut(each, 100 + n)]
            transport.close()

        self.run(main())

    @needs_feature('report_usage', where='send_zc')
    @pytest.mark.parametrize('end', ['close', 'abort'])
    def test_those_that_wait_leave_before_the_end(self, end):
        async def main():
            transport, protocol = await endpoint(local_addr=LOCAL)
            futures = [transport.sendto_zerocopy(CONTENT[:5000], self.to, segment_size=1000)
                       for _ in range(8)]
            getattr(transport, end)()
            await protocol.until(lambda p: p.lost)
            assert await asyncio.gather(*futures) == [(5000, True)] * 8
            assert self.arrived() == cut(CONTENT[:5000], 1000) * 8

        self.run(main())


@pytest.fixture(scope='module')
def hole():
    with Hole(mtu=1500) as namespace:
        yield namespace


@needs_feature('send_zc', 'report_usage', 'registered_buffers')
@needs_root
class TestWithoutCopies(UringCase):

    @pytest.mark.parametrize('family', [socket.AF_INET, socket.AF_INET6])
    @pytest.mark.parametrize('size', [1, 100, 1200, 1452])
    @pytest.mark.parametrize('kind', [bytes, bytearray])
    def test_at_an_mtu_of_1500(self, hole, family, size, kind):
        async def main():
            peer = Hole.peer if family == socket.AF_INET else Hole.peer6
            transport, _ = await endpoint(sock=hole.socket(family))
            data = kind(size * 200 + 1)
            packets, nbytes = hole.taken()
            assert await transport.sendto_zerocopy(
                data, peer, segment_size=size) == (len(data), False)
            stats = self.loop.stats()
            datagrams = len(cut(data, size))
            trains = [len(cut(train, size)) for train in cut(data, size * min(65_000 // size, 64))]
            assert stats.datagrams_sent == datagrams
            assert stats.trains_sent == sum(count > 1 for count in trains)
            assert (stats.zerocopy_copied, stats.zerocopy_fell_back) == (0, 0)
            headers = 14 + 8 + (20 if family == socket.AF_INET else 40)
            after = hole.taken()
            assert after[0] - packets == stats.zerocopy_sent == len(trains)
            assert after[1] - nbytes == len(data) + len(trains) * headers
            transport.close()

        self.run(main())

    @needs_feature('registered_messages')
    def test_leases_and_slices_of_them(self, hole):
        """By the calls that do not ask for zero-copy, too."""
        async def main():
            transport, _ = await endpoint(sock=hole.socket(), batch=True)
            pool = self.loop.create_buffer_pool(2, 60_000)
            packets, nbytes = hole.taken()
            with await pool.acquire() as lease:
                assert await transport.sendto_zerocopy(
                    lease, hole.peer, segment_size=1200) == (60_000, False)
                assert (self.loop.stats().trains_sent, hole.taken()[0] - packets) == (1, 1)
                assert await transport.sendto_zerocopy(lease[:1400], hole.peer) == (1400, False)
                transport.sendto(lease[:1400], hole.peer)
                parts = [lease[n:n + 1200] for n in range(0, 60_000, 1200)]
                transport.sendto_many(parts, hole.peer)
                await turns_until(lambda: self.loop.stats().buffers_released == 4)
                stats = self.loop.stats()
                assert (stats.registered_sends, stats.trains_sent) == (4, 2)
                for part in parts:
                    transport.sendto(part, hole.peer)
                assert await transport.sendto_many_zerocopy(parts, hole.peer) == (60_000, False)
                del parts, part
            await turns_until(lambda: pool.free == 2)
            stats = self.loop.stats()
            assert stats.datagrams_sent == 202
            assert stats.zerocopy_sent == hole.taken()[0] - packets
            assert hole.taken()[1] - nbytes == 4 * 60_000 + 2 * 1400 + stats.zerocopy_sent * 42
            assert (stats.zerocopy_copied, stats.zerocopy_fell_back) == (0, 0)
            assert stats.registered_sends == stats.zerocopy_sent
            # The first few left at their calls; the others together.
            assert 4 <= stats.trains_sent <= 6
            transport.close()

        self.run(main())

    def test_neighbouring_slices_of_bytes(self, hole):
        """An unmodified program's ``sendto`` in a loop."""
        async def main():
            transport, _ = await endpoint(sock=hole.socket(), batch=True)
            data = memoryview(bytes(1200 * 64))
            for _ in range(3):
                for begin in range(0, len(data), 1200):
                    transport.sendto(data[begin:begin + 1200], hole.peer)
                await asyncio.sleep(0)
            await turns_until(lambda: self.loop.stats().bytes_pinned == 0)
            stats = self.loop.stats()
            assert stats.datagrams_sent == 192
            assert stats.trains_sent >= 3
            assert stats.zerocopy_copied == 0
            transport.close()

        self.run(main())

    def test_the_rest_of_a_train_is_copied_where_it_is_short(self, hole):
        async def main():
            transport, _ = await endpoint(sock=hole.socket())
            data = memoryview(bytes(1200 * 64))
            transport.sendto_many(
                [data[begin:begin + 1200] for begin in range(0, len(data), 1200)], hole.peer)
            await turns_until(lambda: self.loop.stats().bytes_pinned == 0)
            stats = self.loop.stats()
            assert (stats.datagrams_sent, stats.trains_sent) == (64, 1)
            assert stats.zerocopy_bytes == 54 * 1200        # 65,000 bytes hold no more
            transport.close()

        self.run(main())


@needs_root
class TestFullSocket(UringCase):

    timeout = 10.0

    @pytest.fixture(autouse=True)
    def _hold(self, _fresh_loop, wire):
        wire.hold()
        yield
        wire.release()

    async def full(self, wire):
        """A sender whose socket takes a train or two, and a receiver."""
        receiver, received = await roomy_peer(wire)
        out = wire.socket()
        out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 60_000)
        transport, protocol = await endpoint(sock=out)
        return transport, protocol, receiver, received

    def test_order_holds(self, wire):
        async def main():
            transport, protocol, receiver, received = await self.full(wire)
            data = numbered(600, 900)
            sent = []
            futures = []
            for begin in range(0, 600, 150):
                part = data[begin:begin + 150]
                futures.append(transport.sendto_zerocopy(
                    b''.join(part), wire.peer, segment_size=900))
                transport.sendto(b'%d' % begin, wire.peer)
                sent += [*part, b'%d' % begin]
            assert transport.get_write_buffer_size() > 0
            assert protocol.pauses == 1
            wire.release()
            reports = await asyncio.gather(*futures)
            assert [report.nbytes for report in reports] == [135_000] * 4
            await received.until(lambda p: len(p.datagrams) == 604)
            assert received.datagrams == sent
            await protocol.until(lambda p: p.resumes)
            assert not protocol.errors
            transport.close()
            receiver.close()

        self.run(main())

    @only_uring
    def test_a_cancelled_future_calls_nothing_back(self, wire):
        async def main():
            transport, _, receiver, received = await self.full(wire)
            data = numbered(400, 900)
            memory = bytearray(b''.join(data))
            future = transport.sendto_zerocopy(memory, wire.peer, segment_size=900)
            future.cancel()
            await asyncio.sleep(0)
            with pytest.raises(BufferError):
                memory.append(0)
            wire.release()
            await received.until(lambda p: len(p.datagrams) == 400)
            assert received.datagrams == data
            await turns_until(lambda: self.loop.stats().bytes_pinned == 0)
            await turns_until(lambda: transport.get_write_buffer_size() == 0)
            await asyncio.sleep(0)
            memory.append(0)
            transport.close()
            receiver.close()

        self.run(main())

    @pytest.mark.parametrize('how', ['close', 'abort'])
    def test_ended_with_trains_queued(self, wire, how):
        async def main():
            transport, protocol, receiver, received = await self.full(wire)
            data = numbered(400, 900)
            futures = [transport.sendto_zerocopy(
                b''.join(data[n:n + 100]), wire.peer, segment_size=900) for n in (0, 100, 200, 300)]
            assert transport.get_write_buffer_size() > 0
            getattr(transport, how)()
            if how == 'abort':
                await protocol.until(lambda p: p.lost)
                wire.release()
                reports = await asyncio.gather(*futures, return_exceptions=True)
                assert isinstance(reports[-1], ConnectionAbortedError)
                assert re.search('aborted: .* bytes were not sent', str(reports[-1]))
            else:
                wire.release()
                assert [report.nbytes for report in await asyncio.gather(*futures)] == [90_000] * 4
                await protocol.until(lambda p: p.lost)
            stats = self.loop.stats()
            assert stats.datagrams_sent + stats.datagrams_dropped == 400
            assert (stats.datagrams_dropped > 0) == (how == 'abort')
            await received.until(lambda p: len(p.datagrams) == stats.datagrams_sent)
            assert numbers(received.datagrams) == list(range(stats.datagrams_sent))
            await turns_until(lambda: self.loop.stats().bytes_pinned == 0)
            receiver.close()

        self.run(main())

    @only_uring
    def test_a_closed_loop_tells_the_futures(self, wire):
        async def main():
            transport, _, receiver, _ = await self.full(wire)
            futures = [transport.sendto_zerocopy(memory, wire.peer, segment_size=900)
                       for _ in range(4)]
            receiver.abort()
            await asyncio.sleep(0)
            transport.abort()
            return futures

        memory = bytearray(90_000)
        futures = self.run(main())
        wire.release()
        self.loop.run_until_complete(asyncio.wait(futures))
        assert any(isinstance(future.exception(), ConnectionAbortedError) for future in futures)
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()
        memory.append(0)


class TestNobodyThere(UringCase):

    @needs_feature('report_usage', where='send_zc')
    def test_the_second_train_is_told(self):
        """The answer to the first is the error of the second, of which nothing leaves."""
        async def main():
            transport, protocol = await endpoint(remote_addr=deserted())
            transport.pause_reading()
            await asyncio.sleep(0)
            futures = [transport.sendto_zerocopy(CONTENT[:3000], segment_size=1000)
                       for _ in range(2)]
            reports = await asyncio.gather(*futures, return_exceptions=True)
            assert reports[0] == (3000, True)
            told = reports[1:] + protocol.errors
            assert errno.ECONNREFUSED in [exc.errno for exc in told if isinstance(exc, OSError)]
            transport.close()

        self.run(main())

on_the_fallback_too(globals(), TestCut, TestBadInput, TestOrder, TestFullSocket)
