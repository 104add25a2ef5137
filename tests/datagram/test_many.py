"""``sendto_many`` and ``sendto_many_zerocopy``: many datagrams by one call."""
import asyncio
import errno
import gc
import os
import socket
import sys

import pytest

from tests.support.cases import UringCase, on_the_fallback_too, only_uring
from tests.support.endpoints import Sending, numbered, numbers
from tests.support.features import needs_feature
from tests.support.namespaces import Hole, needs_root
from tests.support.protocols import endpoint
from tests.support.sockets import LOCAL, bound, deserted, needs_ipv6, udp, unix_pair
from tests.support.turns import turns, turns_until
from tests.support.wires import roomy_peer

# From 3.13 on asyncio sends empty datagrams.
EMPTY = [b''] if sys.version_info >= (3, 13) else []
BOTH = ['sendto_many', 'sendto_many_zerocopy']
PORTABLE = os.environ.get('URINGLOOP_BUILD') == 'portable'


class Many(Sending):

    async def open(self, **how):
        return await endpoint(**(how or {'local_addr': LOCAL}))

    async def send(self, transport, way, *arguments):
        """Send, and wait until it is done; what the report counts."""
        outcome = getattr(transport, way)(*arguments)
        if way == 'sendto_many':
            assert outcome is None
            return None
        return (await outcome).nbytes


@pytest.mark.parametrize('way', BOTH)
class TestWhatIsSent(Many, UringCase):

    @pytest.mark.parametrize('sizes', [
        [100] * 64, [1200] * 200, [1200] * 63 + [5], [5, 1200], [1200, 5, 1200, 5],
        [1, 2, 3, 4, 5] * 30, [5, 4, 3, 2, 1] * 30, [16_384] * 5, [16_385] * 3, [65_507, 1, 65_507],
        [30_000, 1000, 1000, 1000, 30_000], list(range(1, 200)), [64] * 3000, [1]])
    @pytest.mark.parametrize('kind', [bytes, bytearray])
    def test_all_sizes_in_their_order(self, way, sizes, kind):
        async def main():
            transport, protocol = await self.open()
            data = [kind((b'%d,' % n * size)[:size]) for n, size in enumerate(sizes)]
            assert await self.send(transport, way, data, self.to) in (None, sum(sizes))
            assert self.arrived() == data
            assert self.loop.stats().datagrams_sent == len(sizes)
            assert not protocol.errors
            transport.close()

        self.run(main())

    def test_neighbours_in_one_buffer(self, way):
        """Slices of one ``bytes``, side by side or not."""
        async def main():
            transport, _ = await self.open()
            data = bytes(range(256)) * 300
            view = memoryview(data)
            parts = [view[n:n + 700] for n in range(0, 70_000, 700)]
            for some in parts, parts[::2], parts[::-1], parts[:3] * 5, [view[:700], view[350:1050]]:
                await self.send(transport, way, some, self.to)
                assert self.arrived() == [bytes(part) for part in some]
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('make', [
        list, tuple, iter, lambda data: (each for each in data), dict.fromkeys,
        lambda data: map(bytes, data)])
    def test_any_iterable(self, way, make):
        async def main():
            transport, _ = await self.open()
            await self.send(transport, way, make(numbered(100)), self.to)
            assert self.arrived() == numbered(100)
            transport.close()

        self.run(main())

    def test_nothing(self, way):
        async def main():
            transport, _ = await self.open()
            assert await self.send(transport, way, [], self.to) in (None, 0)
            assert await self.send(transport, way, iter(())) in (None, 0)
            assert self.arrived() == []
            transport.close()

        self.run(main())

    def test_pairs(self, way):
        """Each with an address of its own; those without one go to that of the call."""
        async def main():
            with udp() as other:
                transport, _ = await self.open()
                there = other.getsockname()
                data = numbered(60)
                await self.send(transport, way, [
                    each if n % 3 == 0 else (each, (self.to, there)[n % 3 - 1])
                    for n, each in enumerate(data)], self.to)
                assert numbers(self.arrived()) == [n for n in range(60) if n % 3 < 2]
                assert [other.recv(200) for _ in range(20)] == data[2::3]
                # A pair may say None, too.
                await self.send(transport, way, [(data[0], self.to), (data[1], self.to)])
                assert self.arrived() == data[:2]
                transport.close()

        self.run(main())

    def test_connected(self, way):
        async def main():
            transport, _ = await self.open(remote_addr=self.to)
            data = numbered(10)
            await self.send(transport, way, data)
            await self.send(transport, way, data, self.to)
            await self.send(transport, way, [(each, None) for each in data])
            assert self.arrived() == data * 3
            with pytest.raises(ValueError, match='Invalid address'):
                await self.send(transport, way, data, ('127.0.0.1', 1))
            assert self.arrived() == []
            transport.close()

        self.run(main())

    @needs_ipv6
    def test_ipv6(self, way):
        async def main():
            with bound(socket.AF_INET6, ('::1', 0)) as peer:
                transport, _ = await self.open(local_addr=('::1', 0))
                await self.send(transport, way, numbered(70), peer.getsockname())
                assert [peer.recv(200) for _ in range(70)] == numbered(70)
                transport.close()

        self.run(main())

    def test_unix(self, way):
        async def main():
            one, two = unix_pair()
            sender, _ = await self.open(sock=one)
            receiver, received = await self.open(sock=two)
            await self.send(sender, way, numbered(300))
            await received.until(lambda p: len(p.datagrams) == 300)
            assert received.datagrams == numbered(300)
            sender.close()
            receiver.close()

        self.run(main())

    def test_leases_and_views_of_them(self, way):
        async def main():
            transport, _ = await self.open()
            pool = self.loop.create_buffer_pool(50, 300)
            leases = await pool.acquire_many(50)
            for n, lease in enumerate(leases):
                lease[:] = bytes([n]) * 300
            mixed = [lease if n % 2 else lease[n:n + 200] for n, lease in enumerate(leases)]
            expected = [bytes(each) for each in mixed]
            report = getattr(transport, way)(mixed + [b'bytes', bytearray(b'array')], self.to)
            del mixed
            for lease in leases:
                lease.release()
            if report is not None:
                await report
            assert self.arrived() == expected + [b'bytes', b'array']
            await turns_until(lambda: pool.free == 50)
            transport.close()

        self.run(main())


class TestOwnership(Many, UringCase):

    @needs_root
    def test_mutable_ones_are_the_callers_at_once(self, wire):
        async def main():
            receiver, received = await roomy_peer(wire)
            out = wire.socket()
            out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 30_000)
            transport, _ = await self.open(sock=out)
            expected = []
            for size in (100, 1200, 20_000):
                data = [bytearray(each) for each in numbered(100, size)]
                expected += [bytes(each) for each in data]
                transport.sendto_many(data, wire.peer)
                for each in data:
                    each[:] = b'!' * size
                    each.append(0)
            assert transport.get_write_buffer_size() > 0
            wire.release()
            await received.until(lambda p: len(p.datagrams) == 300)
            assert received.datagrams == expected
            transport.close()
            receiver.close()

        wire.hold()
        try:
            self.run(main())
        finally:
            wire.release()

    @needs_feature('send_zc')
    @needs_root
    @pytest.mark.parametrize('slices', [False, True])
    @only_uring
    def test_zerocopy_holds_them(self, wire, slices):
        async def main():
            wire.hold()
            receiver, received = await roomy_peer(wire)
            transport, _ = await self.open(sock=wire.socket())
            data = [bytearray(each) for each in numbered(30, 2000)]
            if slices:
                data = [bytearray().join(data)]
                with memoryview(data[0]) as view:
                    parts = [view[n:n + 2000] for n in range(0, 60_000, 2000)]
                future = transport.sendto_many_zerocopy(parts, wire.peer)
                for part in parts:
                    part.release()
            else:
                future = transport.sendto_many_zerocopy(data, wire.peer)
            await turns_until(lambda: self.loop.stats().bytes_pinned == 60_000)
            await turns(20)
            assert not future.done()
            for each in data:
                with pytest.raises(BufferError):
                    each.append(0)
            wire.release()
            assert (await future).nbytes == 60_000
            await turns()
            for each in data:
                each.append(0)
            await received.until(lambda p: len(p.datagrams) == 30)
            transport.close()
            receiver.close()

        try:
            self.run(main())
        finally:
            wire.release()

    @only_uring
    def test_what_an_address_does_meanwhile(self):
        """It is code of the program: what it changes is not what was handed over."""
        class Port:
            def __index__(self):
                data.clear()
                gc.collect()
                return port

        async def main():
            transport, _ = await self.open()
            transport.sendto_many([(each, ('127.0.0.1', Port())) for each in data], self.to)
            assert self.arrived() == numbered(5)
            transport.close()

        data = numbered(5)
        port = self.to[1]
        self.run(main())

    def test_a_generator_that_sends_itself(self):
        async def main():
            def generate():
                for each in numbered(5):
                    transport.sendto(b'meanwhile', self.to)
                    yield each

            transport, _ = await self.open()
            for way in BOTH:
                await self.send(transport, way, generate(), self.to)
                assert self.arrived() == [b'meanwhile'] * 5 + numbered(5)
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('way', BOTH)
    def test_a_generator_that_closes(self, way):
        async def main():
            def generate():
                yield b'one'
                transport.abort()
                yield b'two'

            transport, protocol = await self.open()
            outcome = getattr(transport, way)(generate(), self.to)
            if outcome is not None:
                with pytest.raises(ConnectionAbortedError):
                    await outcome
            await protocol.until(lambda p: p.lost)
            assert self.loop.stats().datagrams_dropped == 2
            assert self.arrived() == []

        self.run(main())


class TestBadInput(Many, UringCase):

    @pytest.mark.parametrize('way', BOTH)
    @pytest.mark.parametrize(('wrong', 'kind'), [
        ('text', TypeError), (17, TypeError), (None, TypeError),
        (memoryview(b'0123456789')[::2], (BufferError, ValueError)),
        ((b'x', 'nowhere'), TypeError), ((b'x', ('127.0.0.1', 'http')), TypeError),
        ((b'x', ('127.0.0.1', 70_000)), OverflowError), ((b'x', ('::1', 9)), OSError),
        ((b'x',), (ValueError, TypeError)), ((b'x', ('127.0.0.1', 9), 1), (ValueError, TypeError)),
    ])
    def test_in_the_middle(self, way, wrong, kind):
        """Raised, at the call or by the future; those before have left, those behind don't."""
        async def main():
            transport, protocol = await self.open()
            data = numbered(20)
            with pytest.raises(kind):
                await self.send(transport, way, [*data[:10], wrong, *data[10:]], self.to)
            assert self.arrived() == data[:10]
            await turns()
            assert self.arrived() == []
            assert not protocol.errors and not protocol.lost
            # Nothing stays behind: the next ones go as ever.
            await self.send(transport, way, data, self.to)
            assert self.arrived() == data
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('way', BOTH)
    def test_what_cannot_be_iterated(self, way):
        async def main():
            transport, _ = await self.open()
            with pytest.raises(TypeError):
                getattr(transport, way)(17, self.to)
            for one in b'abc', bytearray(b'abc'), memoryview(b'abc'), 'abc':
                words = f'not {type(one).__name__}: (that is one, for|datagrams are bytes)'
                with pytest.raises(TypeError, match=words):
                    getattr(transport, way)(one, self.to)
            with pytest.raises(ZeroDivisionError):
                getattr(transport, way)((1 / n for n in (1, 0)), self.to)
            assert self.arrived() == []
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('way', BOTH)
    def test_without_an_address(self, way):
        async def main():
            transport, _ = await self.open()
            with pytest.raises(TypeError):
                await self.send(transport, way, [b'x'])
            transport.close()

        self.run(main())

    def test_empty_ones(self):
        """As asyncio of this Python does; by the call that is this loop's own they are sent."""
        async def main():
            transport, _ = await self.open()
            some = [b'', b'a', b'', bytearray(), memoryview(b''), b'b', b'']
            transport.sendto_many(some, self.to)
            assert self.arrived() == EMPTY + [b'a'] + EMPTY * 3 + [b'b'] + EMPTY
            await transport.sendto_many_zerocopy(some, self.to)
            assert self.arrived() == [bytes(each) for each in some]
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('way', BOTH)
    def test_a_closed_transport(self, way):
        async def main():
            transport, protocol = await self.open()
            transport.close()
            data = numbered(7)
            if way == 'sendto_many':
                transport.sendto_many(data, self.to)
            else:
                with pytest.raises(ConnectionAbortedError, match='6 datagrams were not sent'):
                    await transport.sendto_many_zerocopy(data[:6], self.to)
                with pytest.raises(ConnectionAbortedError, match=': 1 datagram was not sent'):
                    await transport.sendto_many_zerocopy(data[:1], self.to)
            await protocol.until(lambda p: p.lost)
            if way == 'sendto_many':
                transport.sendto_many(data, self.to)
            assert self.arrived() == []
            assert self.loop.stats().datagrams_dropped == (14 if way == 'sendto_many' else 7)

        self.run(main())


class TestErrors(Many, UringCase):

    def test_one_that_is_too_long(self):
        async def main():
            transport, protocol = await self.open()
            data = numbered(21)
            data[7] = bytes(65_508)
            transport.sendto_many(data, self.to)
            # At the call, as those of sendto.
            assert [exc.errno for exc in protocol.errors] == [errno.EMSGSIZE]
            assert numbers(self.arrived()) == [n for n in range(21) if n != 7]
            assert self.loop.stats().datagrams_dropped == 1
            with pytest.raises(OSError, match='65508' if self.uring else 'too long') as caught:
                await transport.sendto_many_zerocopy(data, self.to)
            assert caught.value.errno == errno.EMSGSIZE
            assert numbers(self.arrived()) == [n for n in range(21) if n != 7]
            assert len(protocol.errors) == 1
            transport.close()

        self.run(main())

    def test_an_error_that_waited_in_the_socket(self):
        """It is the first datagram's; the others leave."""
        self.needs_pausing()

        async def main():
            sock = udp()
            sock.connect(deserted())
            transport, protocol = await self.open(sock=sock)
            transport.pause_reading()
            await turns()
            assert sock.send(b'nobody hears this') == 17
            with udp(sock.getpeername(), room=4 << 20) as late:
                transport.sendto_many(numbered(21))
                got = [late.recv(200) for _ in range(20)]
                assert numbers(got) == list(range(1, 21))
                assert [exc.errno for exc in protocol.errors] == [errno.ECONNREFUSED]
            transport.close()

        self.run(main())

    def test_a_handler_that_fails(self):
        async def main():
            transport, protocol = await self.open()
            protocol.error_received = lambda exc: 1 / 0
            transport.sendto_many([b'a', bytes(65_508), b'b'], self.to)
            assert self.arrived() == [b'a', b'b']
            assert [type(each['exception']) for each in self.problems] == [ZeroDivisionError]
            transport.close()

        self.run(main())


class TestOrder(Many, UringCase):

    def test_between_others(self):
        async def main():
            transport, _ = await self.open()
            sent = []
            for turn in range(6):
                for way in ('sendto', 'sendto_many', 'sendto', 'sendto_many_zerocopy', 'sendto'):
                    data = [b'%d %s %d' % (turn, way.encode(), n) for n in range(turn * 12)]
                    sent += data
                    if way == 'sendto':
                        for each in data:
                            transport.sendto(each, self.to)
                    else:
                        getattr(transport, way)(data, self.to)
                if turn % 2:
                    await asyncio.sleep(0)
            await turns()
            assert self.arrived() == sent
            transport.close()

        self.run(main())

    def test_behind_what_another_endpoint_defers(self):
        async def main():
            one, _ = await self.open()
            two, _ = await self.open()
            data = numbered(40)
            for each in data[:20]:
                one.sendto(each, self.to)
            two.sendto_many(data[20:], self.to)
            assert self.arrived() == data
            for transport in one, two:
                transport.close()

        self.run(main())

    def test_they_leave_at_the_call(self):
        async def main():
            transport, _ = await self.open()
            for way in BOTH * 3:
                getattr(transport, way)(numbered(500), self.to)
                assert self.arrived() == numbered(500)
            transport.close()

        self.run(main())

    @needs_root
    @pytest.mark.parametrize('way', BOTH)
    def test_a_full_socket(self, wire, way):
        """What it has no room for waits in its order; the protocol is told to pause."""
        async def main():
            wire.hold()
            receiver, received = await roomy_peer(wire)
            out = wire.socket()
            out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 30_000)
            transport, protocol = await self.open(sock=out)
            data = numbered(600, 1000)
            futures = [getattr(transport, way)(data[begin:begin + 200], wire.peer)
                       for begin in range(0, 600, 200)]
            transport.sendto(b'the last', wire.peer)
            assert protocol.pauses == 1
            assert transport.get_write_buffer_size() > 0
            wire.release()
            await received.until(lambda p: len(p.datagrams) == 601)
            assert received.datagrams == [*data, b'the last']
            await protocol.until(lambda p: p.resumes)
            if way == 'sendto_many_zerocopy':
                assert [each.nbytes for each in await asyncio.gather(*futures)] == [200_000] * 3
            assert not protocol.errors
            transport.close()
            receiver.close()

        try:
            self.run(main())
        finally:
            wire.release()


@pytest.fixture(scope='module')
def hole():
    with Hole(mtu=1500) as namespace:
        yield namespace


@needs_feature('send_zc', 'report_usage', 'registered_buffers')
@needs_root
class TestWithoutCopies(Many, UringCase):

    def test_leases(self, hole):
        """Side by side in the pool they are one train; apart from each other, one each."""
        async def main():
            transport, _ = await self.open(sock=hole.socket())
            pool = self.loop.create_buffer_pool(64, 1200)
            leases = await pool.acquire_many(64)
            assert await transport.sendto_many_zerocopy(leases, hole.peer) == (76_800, False)
            transport.sendto_many(leases, hole.peer)
            for lease in leases:
                lease.release()
            await turns_until(lambda: pool.free == 64)
            stats = self.loop.stats()
            assert stats.datagrams_sent == 128
            assert (stats.zerocopy_copied, stats.zerocopy_fell_back) == (0, 0)
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('kind', [bytes, bytearray])
    def test_other_memory(self, hole, kind):
        async def main():
            transport, _ = await self.open(sock=hole.socket())
            data = [kind(1200) for _ in range(50)]
            assert await transport.sendto_many_zerocopy(data, hole.peer) == (60_000, False)
            stats = self.loop.stats()
            assert (stats.datagrams_sent, stats.zerocopy_sent, stats.zerocopy_copied) == (50, 50, 0)
            view = memoryview(b''.join(data))
            parts = [view[n:n + 1200] for n in range(0, 60_000, 1200)]
            assert await transport.sendto_many_zerocopy(parts, hole.peer) == (60_000, False)
            assert self.loop.stats().trains_sent == 1
            transport.sendto_many(parts, hole.peer)
            await turns_until(lambda: self.loop.stats().bytes_pinned == 0)
            assert self.loop.stats().trains_sent == 2
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('own', [False, True])
    def test_slices_of_what_changes(self, hole, own):
        """Those of one view are one train; each view of its own may be of other memory.

        (Whose a slice is, is not asked where nothing is assumed of how CPython is made.)
        """
        async def main():
            transport, _ = await self.open(sock=hole.socket())
            data = bytearray(60_000)
            view = memoryview(data)
            parts = [(memoryview(data) if own else view)[n:n + 1200]
                     for n in range(0, 60_000, 1200)]
            assert await transport.sendto_many_zerocopy(parts, hole.peer) == (60_000, False)
            assert self.loop.stats().trains_sent == (0 if own or PORTABLE else 1)
            assert self.loop.stats().datagrams_sent == 50
            transport.close()

        self.run(main())


on_the_fallback_too(globals(), TestWhatIsSent, TestOwnership, TestBadInput, TestErrors, TestOrder)
