"""Trains that come in one piece (UDP_GRO), and batches: what is delivered is what was sent."""
import asyncio
import random
import socket
import struct
import time
from unittest import mock

import pytest

import uringloop
from tests.support.cases import FallbackMixin, UringCase
from tests.support.namespaces import needs_root
from tests.support.protocols import Collector, endpoint
from tests.support.sockets import SO_RCVBUFFORCE, needs_ipv6
from tests.support.turns import turns

SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104        # linux/udp.h
SO_TIMESTAMPNS = 35                                 # asm-generic/socket.h


class Each(Collector):
    """Collects ``(data, addr)``, and has room for much."""

    def connection_made(self, transport):
        super().connection_made(transport)
        transport.get_extra_info('socket').setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)

    def datagram_received(self, data, addr):
        self.take((data, addr))


class Batches(Each):

    def datagrams_received(self, batch):
        assert type(batch) is list
        assert {type(item) for item in batch} == {tuple}
        self.take(*batch)

    datagram_received = None


class Trains(Each):

    def datagram_train_received(self, data, segment_size, addr):
        assert type(data) is bytes
        assert 1 <= segment_size <= max(len(data), 1)
        self.take(*((data[n:n + segment_size], addr) for n in range(0, len(data), segment_size))
                  if data else [(b'', addr)])

    datagram_received = None


KINDS = [Each, Batches, Trains]


def send_train(sock, to, data, size):
    """As one segmented send."""
    sock.sendmsg([data], [(SOL_UDP, UDP_SEGMENT, struct.pack('H', size))], 0, to)


def cut(data, size):
    return [data[n:n + size] for n in range(0, len(data), size)]


class Receiving(UringCase):

    async def open(self, kind, local=('127.0.0.1', 0), **options):
        transport, protocol = await self.loop.create_datagram_endpoint(
            kind, local_addr=local, **options)
        return transport, protocol, transport.get_extra_info('sockname')

    def sender(self, family=socket.AF_INET):
        return socket.socket(family, socket.SOCK_DGRAM)


@pytest.mark.parametrize('kind', KINDS)
class TestTrains(Receiving):

    @pytest.mark.parametrize('size', [1, 7, 64, 500, 1200, 1472, 16_000, 30_000])
    def test_of_each_size(self, kind, size):
        async def main():
            transport, protocol, to = await self.open(kind)
            expected = []
            with self.sender() as sock:
                for count in 1, 2, 3, 20, 44, 60, 44, 44, 1, 44, 44, 44, 44, 44:
                    for odd in 0, 1:
                        length = min(size * min(count, 60_000 // size) + odd, 65_000)
                        data = random.randbytes(length)
                        send_train(sock, to, data, size)
                        expected += cut(data, size)
                await protocol.wait(len(expected))
                assert [data for data, _ in protocol.got] == expected
                assert {addr for _, addr in protocol.got} == {('127.0.0.1', sock.getsockname()[1])}
            stats = self.loop.stats()
            assert stats.datagrams_received == len(expected)
            assert stats.trains_received > 0
            assert stats.datagrams_truncated == 0
            transport.close()

        self.run(main())

    def test_single_and_empty_ones_between_trains(self, kind):
        async def main():
            transport, protocol, to = await self.open(kind)
            expected = []
            with self.sender() as sock:
                for size in 1, 63, 1200, 8191, 8192, 32_753, 65_506, 65_507:
                    for length in (size, 0, min(size * 7, 65_507), 0, 0, size,
                                   min(size * 2 + 1, 60_001)):
                        data = random.randbytes(length)
                        if length > size:
                            send_train(sock, to, data, size)
                        else:
                            sock.sendto(data, to)
                        expected += cut(data, size) or [b'']
                    await protocol.wait(len(expected))
                assert [data for data, _ in protocol.got] == expected
            assert self.loop.stats().trains_received > 0
            transport.close()

        self.run(main())

    def test_any_mix(self, kind):
        async def main():
            transport, protocol, to = await self.open(kind)
            expected = []
            with self.sender() as one, self.sender() as two:
                for n in range(600):
                    sock = one if random.random() < 0.8 else two
                    size = random.choice([1, 9, 100, 1200, 1472, 9000, 40_000, 65_507])
                    if random.random() < 0.5:
                        count = random.randint(1, 64)
                        length = min(size * count, 65_000)
                        if length % size == 0 and random.random() < 0.5:
                            length -= random.randint(0, size - 1)
                        data = random.randbytes(length)
                        if size < length:
                            send_train(sock, to, data, size)
                        else:
                            sock.sendto(data, to)
                        parts = cut(data, size)
                    else:
                        parts = [random.randbytes(random.choice([0, 1, size]))]
                        sock.sendto(parts[0], to)
                    expected += [(part, sock) for part in parts]
                    if n % 20 == 0:
                        await protocol.wait(len(expected))
                await protocol.wait(len(expected))
                assert protocol.got == [
                    (data, ('127.0.0.1', sock.getsockname()[1])) for data, sock in expected]
            transport.close()

        self.run(main())

    @needs_ipv6
    def test_ipv6(self, kind):
        async def main():
            transport, protocol, to = await self.open(kind, ('::1', 0))
            with self.sender(socket.AF_INET6) as sock:
                data = random.randbytes(50_001)
                for _ in range(20):
                    send_train(sock, to, data, 1200)
                await protocol.wait(42 * 20)
                assert [data for data, _ in protocol.got] == cut(data, 1200) * 20
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('end', ['close', 'abort'])
    def test_closed_in_the_midst(self, kind, end):
        class Closes(kind):

            def take(self, *datagrams):
                super().take(*datagrams)
                getattr(self.transport, end)()

        async def main():
            _, protocol, to = await self.open(Closes)
            with self.sender() as sock:
                for _ in range(5):
                    send_train(sock, to, bytes(50_000), 1000)
                await protocol.wait(1)
                await turns()
            assert protocol.calls == 1
            assert self.loop.stats().datagrams_discarded == (
                self.loop.stats().datagrams_received - len(protocol.got))

        self.run(main())

    def test_paused_in_the_midst(self, kind):
        """Nothing is delivered until it resumes, and then all is."""
        class Pauses(kind):

            def take(self, *datagrams):
                super().take(*datagrams)
                self.transport.pause_reading()

        async def main():
            transport, protocol, to = await self.open(Pauses)
            data = [random.randbytes(30_000) for _ in range(6)]
            with self.sender() as sock:
                for each in data:
                    send_train(sock, to, each, 1000)
                while len(protocol.got) < 180:
                    await protocol.wait(len(protocol.got) + 1)
                    calls = protocol.calls
                    await turns()
                    assert protocol.calls == calls
                    transport.resume_reading()
                assert [each for each, _ in protocol.got] == [
                    part for each in data for part in cut(each, 1000)]
            transport.close()

        self.run(main())

    def test_an_exception_is_reported_and_the_rest_is_delivered(self, kind):
        class Fails(kind):

            def take(self, *datagrams):
                super().take(*datagrams)
                if self.calls == 1:
                    raise ZeroDivisionError

        async def main():
            transport, protocol, to = await self.open(Fails)
            with self.sender() as sock:
                for _ in range(5):
                    send_train(sock, to, bytes(10_000), 1000)
                await protocol.wait(50)
            transport.close()

        told = []
        self.loop.set_exception_handler(lambda loop, context: told.append(context['exception']))
        self.run(main())
        assert [type(exc) for exc in told] == [ZeroDivisionError]

    def is_interrupted(self):
        try:
            self.forever()
        except KeyboardInterrupt:
            return True
        return False

    def test_interrupted_in_the_midst(self, kind):
        """What was not handed over is, when the loop runs on."""
        class Interrupts(kind):

            def take(self, *datagrams):
                super().take(*datagrams)
                if len(self.got) == 63:
                    loop.stop()
                if self.calls in {1, 3}:
                    raise KeyboardInterrupt

        loop = self.loop
        transport, protocol, to = self.run(self.open(Interrupts))
        data = random.randbytes(20_000)
        with self.sender() as sock:
            for _ in range(3):
                sock.sendto(b'short', to)
                send_train(sock, to, data, 1000)
        interrupts = 0
        while len(protocol.got) < 63:
            interrupts += self.is_interrupted()
        assert interrupts == min(2, protocol.calls)
        assert [each for each, _ in protocol.got] == [b'short', *cut(data, 1000)] * 3
        transport.close()

    def test_paused_and_resumed_within_a_call(self, kind):
        class Hesitates(kind):

            def take(self, *datagrams):
                super().take(*datagrams)
                self.transport.pause_reading()
                if self.calls % 2:
                    self.transport.resume_reading()
                else:
                    self.loop.call_soon(self.transport.resume_reading)

        async def main():
            transport, protocol, to = await self.open(Hesitates)
            protocol.loop = self.loop
            data = [random.randbytes(15_001) for _ in range(6)]
            with self.sender() as sock:
                for each in data:
                    send_train(sock, to, each, 1000)
                await protocol.wait(6 * 16)
            assert [each for each, _ in protocol.got] == [
                part for each in data for part in cut(each, 1000)]
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('pauses', [False, True])
    @pytest.mark.parametrize('other', KINDS)
    def test_one_protocol_after_the_other(self, kind, other, pauses):
        """In the midst of trains, to and fro: each is given what its class has a method for."""
        def changing(kind):
            class Changes(kind):

                def take(self, *datagrams):
                    super().take(*datagrams)
                    got.extend(datagrams)
                    self.transport.set_protocol(self.other)
                    if pauses:
                        self.transport.pause_reading()

            return Changes

        async def main():
            transport, one, to = await self.open(changing(kind))
            two = changing(other)()
            one.other, two.other, two.transport = two, one, transport
            expected = []
            with self.sender() as sock:
                for size in 100, 1000, 700, 1000, 20, 1000:
                    data = random.randbytes(size * 10 + 1)
                    send_train(sock, to, data, size)
                    sock.sendto(b'alone', to)
                    expected += [*cut(data, size), b'alone']
                while len(got) < len(expected):
                    await asyncio.sleep(0)
                    transport.resume_reading()
            assert [each for each, _ in got] == expected
            assert one.calls
            assert two.calls or kind is Batches       # which has had all at once
            transport.close()

        got = []
        self.run(main())

    def test_a_flood_leaves_others_their_turns(self, kind):
        """Four trains are cut in a turn, at most; and of uncut ones 32 come."""
        class Counts(kind):

            def take(self, *datagrams):
                super().take(*datagrams)
                self.of_turn[turn] = self.of_turn.get(turn, 0) + len(datagrams)

        async def main():
            nonlocal turn
            transport, protocol, to = await self.open(Counts)
            protocol.of_turn = {}
            with self.sender() as sock:
                for count in 1, 50:
                    for _ in range(count):
                        send_train(sock, to, bytes(12_000), 300)
                    while len(protocol.got) < 40 * count:
                        await asyncio.sleep(0)
                        turn += 1
                    turn += 1
                    protocol.got.clear()
            most = 32 if kind is Trains else 4
            assert max(protocol.of_turn.values()) <= most * 40
            transport.close()

        turn = 0
        self.run(main())

    def test_another_protocol_in_the_midst(self, kind):
        class Goes(kind):

            def take(self, *datagrams):
                super().take(*datagrams)
                self.transport.set_protocol(second)

        async def main():
            transport, protocol, to = await self.open(Goes)
            nonlocal second
            second = Each()
            data = random.randbytes(40_000)
            with self.sender() as sock:
                for _ in range(5):
                    send_train(sock, to, data, 1000)
                await protocol.wait(1)
                await second.wait(200 - len(protocol.got))
            assert [each for each, _ in protocol.got + second.got] == cut(data, 1000) * 5
            transport.close()

        second = None
        self.run(main())


class TestLengths(Receiving):

    def test_no_batch_is_longer_than_is_told(self):
        """Though a turn that expects single ones takes as many trains."""
        class Lengths(Batches):
            def __init__(self):
                super().__init__()
                self.lengths = []

            def datagrams_received(self, batch):
                self.lengths.append(len(batch))
                super().datagrams_received(batch)

        async def main():
            transport, protocol, here = await self.open(Lengths)
            with self.sender() as peer:
                for _ in range(32):
                    send_train(peer, here, bytes(6400), 100)
            await protocol.wait(2048)
            assert max(protocol.lengths) == 256
            transport.close()

        self.run(main())


class TestSlowProtocols(Receiving):

    @pytest.mark.parametrize(('kind', 'count', 'size'), [
        (Each, 60, 1000), (Each, 60, 100), (Each, 1, 20_000), (Trains, 6, 2000)])
    def test_others_have_their_turn_in_the_midst(self, kind, count, size):
        """After 5 ms, which a clock that ticks each 4 or 10 tells."""
        class Slow(kind):

            def take(self, *datagrams):
                super().take(*datagrams)
                time.sleep(0.002)
                self.of_turn[turn] = self.of_turn.get(turn, 0) + 1

        async def main():
            nonlocal turn
            transport, protocol, to = await self.open(Slow)
            protocol.of_turn = {}
            data = random.randbytes(count * size)
            with self.sender() as sock:
                for _ in range(60 // count):
                    if count > 1:
                        send_train(sock, to, data, size)
                    else:
                        sock.sendto(data, to)
            while len(protocol.got) < 60:
                await asyncio.sleep(0)
                turn += 1
            assert [each for each, _ in protocol.got] == cut(data, size) * (60 // count)
            assert len(protocol.of_turn) > 1
            assert max(protocol.of_turn.values()) <= 9
            transport.close()

        turn = 0
        self.run(main())


class TestBatches(Receiving):

    def test_all_that_a_turn_has_comes_by_one_call(self):
        async def main():
            transport, protocol, to = await self.open(Batches)
            with self.sender() as one, self.sender() as two:
                for n in range(30):
                    (two if n % 3 else one).sendto(b'%d' % n, to)
                await protocol.wait(1)
                ports = [sock.getsockname()[1] for sock in (one, two, two)]
            assert protocol.got == [
                (b'%d' % n, ('127.0.0.1', ports[n % 3])) for n in range(30)]
            assert protocol.calls == 1
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('size', [10, 10_000])
    def test_errors_come_between(self, size):
        """An error is told first, as with ``datagram_received``; what waits is a batch then."""
        class Both(Batches):

            def take(self, *datagrams):
                super().take(*datagrams)
                told.append(len(datagrams))

            def error_received(self, exc):
                super().error_received(exc)
                told.append(type(exc))

        async def main():
            with self.sender() as peer:
                peer.bind(('127.0.0.1', 0))
                transport, protocol = await self.loop.create_datagram_endpoint(
                    Both, remote_addr=peer.getsockname())
                peer.connect(transport.get_extra_info('sockname'))
                for count in 1, 3:
                    for n in range(count):
                        peer.send(bytes([n]) * size)
                    if count == 1:
                        await protocol.wait(1)
            # Nobody is there any more: the answer to this is an error, before all that waits.
            transport.sendto(b'are you there?')
            await protocol.wait(5)
            assert told == [1, ConnectionRefusedError, 3]
            assert [data for data, _ in protocol.got[1:]] == [bytes([n]) * size for n in range(3)]
            transport.close()

        told = []
        self.run(main())


class TestMethods(Receiving):

    async def deliver(self, kind, *, protocol=None):
        """Which method was called, of one that has all of them."""
        transport, protocol = await self.loop.create_datagram_endpoint(
            lambda: protocol or kind(), local_addr=('127.0.0.1', 0))
        with self.sender() as sock:
            send_train(sock, transport.get_extra_info('sockname'), bytes(2000), 1000)
        while not protocol.called:
            await asyncio.sleep(0)
        transport.close()
        return protocol.called[0]

    def test_the_first_that_the_class_has(self):
        class All(uringloop.DatagramProtocol):

            def __init__(self):
                self.called = []

            def datagram_received(self, data, addr):
                self.called.append('each')

            def datagrams_received(self, batch):
                self.called.append('batch')

            def datagram_train_received(self, data, segment_size, addr):
                self.called.append('train')

        class NoTrains(All):
            datagram_train_received = None

        class Neither(NoTrains):
            datagrams_received = None

        async def main():
            assert await self.deliver(All) == 'train'
            assert await self.deliver(NoTrains) == 'batch'
            assert await self.deliver(Neither) == 'each'
            # An instance's own counts as little as its __len__ would.
            protocol = Neither()
            protocol.datagrams_received = None
            protocol.datagram_train_received = protocol.datagram_received
            assert await self.deliver(None, protocol=protocol) == 'each'

        self.run(main())

    def test_the_base_class_has_none_of_its_own(self):
        assert not {'datagrams_received', 'datagram_train_received'} & set(
            dir(uringloop.DatagramProtocol))
        assert vars(uringloop.DatagramProtocol).keys() <= {
            '__module__', '__doc__', '__slots__', '__static_attributes__', '__firstlineno__'}
        for name in 'datagrams_received', 'datagram_train_received':
            assert name in uringloop.DatagramProtocol.__doc__

    @pytest.mark.parametrize('other', [
        0, [], property(lambda self: 1), lambda self: 1, lambda self, one, two, three, four: 1,
        staticmethod(lambda: 1)], ids=lambda other: type(other).__name__)
    def test_what_only_has_the_name_is_none(self, other):
        """A counter, say, of a program that was made for asyncio."""
        for name in 'datagrams_received', 'datagram_train_received':
            kind = type('Counting', (asyncio.DatagramProtocol,), {
                name: other, '__init__': lambda self: setattr(self, 'called', []),
                'datagram_received': lambda self, data, addr: self.called.append('each')})
            assert self.run(self.deliver(kind)) == 'each'

    def test_a_slot_of_the_name_is_none(self):
        class Counting(asyncio.DatagramProtocol):
            __slots__ = ('called', 'datagrams_received')

            def __init__(self):
                self.datagrams_received = 0
                self.called = []

            def datagram_received(self, data, addr):
                self.datagrams_received += 1
                self.called.append(self.datagrams_received)

        assert self.run(self.deliver(Counting)) == 1

    def test_methods_of_other_kinds(self):
        called = []

        class Static(asyncio.DatagramProtocol):
            @staticmethod
            def datagrams_received(batch):
                called.append('batch')

        class OfTheClass(asyncio.DatagramProtocol):
            @classmethod
            def datagram_train_received(cls, data, size, addr, more=None):
                called.append('train')

        for kind, expected in (Static, 'batch'), (OfTheClass, 'train'):
            kind.called = called
            assert self.run(self.deliver(kind)) == expected
            called.clear()

    def test_a_mock_is_a_protocol_like_any(self):
        """It seems to have every method; what its class has counts."""
        async def main():
            protocol = mock.Mock()
            transport, _ = await self.loop.create_datagram_endpoint(
                lambda: protocol, local_addr=('127.0.0.1', 0))
            with self.sender() as sock:
                send_train(sock, transport.get_extra_info('sockname'), bytes(2000), 1000)
                while protocol.datagram_received.call_count < 2:
                    await asyncio.sleep(0)
            assert not protocol.datagrams_received.called
            transport.close()

        self.run(main())


class TestOnTheFallback(FallbackMixin, Receiving):
    """Each by itself, but by the method that the protocol has."""

    def test_what_only_has_the_name_is_none(self):
        class Counting(asyncio.DatagramProtocol):
            datagrams_received = 0

            def datagram_received(self, data, addr):
                self.datagrams_received += 1

        async def main():
            transport, protocol, to = await self.open(Counting)
            with self.sender() as sock:
                sock.sendto(b'one', to)
            while not protocol.datagrams_received:
                await asyncio.sleep(0)
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('kind', KINDS)
    def test_each_comes(self, kind):
        async def main():
            transport, protocol, to = await self.open(kind, gro=True)
            data = random.randbytes(10_001)
            with self.sender() as sock:
                send_train(sock, to, data, 1000)
                sock.sendto(b'', to)
                await protocol.wait(12)
                address = ('127.0.0.1', sock.getsockname()[1])
            assert protocol.got == [(each, address) for each in [*cut(data, 1000), b'']]
            assert protocol.calls == 12
            assert self.loop.stats().datagrams_received == 12
            transport.close()
            with pytest.raises(ValueError, match='gro must be True, False or None, not 1'):
                await self.open(kind, gro=1)

        self.run(main())

    @pytest.mark.parametrize('kind', KINDS)
    def test_errors_are_told(self, kind):
        async def main():
            with self.sender() as gone:
                gone.bind(('127.0.0.1', 0))
                address = gone.getsockname()
            transport, protocol = await self.loop.create_datagram_endpoint(
                kind, remote_addr=address)
            transport.sendto(b'are you there?')
            await protocol.wait(1)
            assert [type(exc) for exc in protocol.errors] == [ConnectionRefusedError]
            transport.close()

        self.run(main())


class TestControlMessages(Receiving):

    def test_the_programs_own(self):
        """Time stamps that it has switched on take none of the room."""
        async def main():
            transport, protocol, to = await self.open(Each)
            for option in SO_TIMESTAMPNS, 29, 40:       # SO_TIMESTAMPNS, SO_TIMESTAMP, SO_RXQ_OVFL
                transport.get_extra_info('socket').setsockopt(socket.SOL_SOCKET, option, 1)
            transport.get_extra_info('socket').setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
            data = random.randbytes(50_000)
            with self.sender() as sock:
                for _ in range(20):
                    send_train(sock, to, data, 1000)
                await protocol.wait(1000)
            assert [each for each, _ in protocol.got] == cut(data, 1000) * 20
            transport.close()

        self.run(main())

    @needs_root
    @needs_ipv6
    @pytest.mark.parametrize('kind', KINDS)
    def test_cut_off(self, kind):
        """Options of IPv6 that there is no room for: what they came with is whole all the same."""
        async def main():
            transport, protocol, to = await self.open(kind, ('::1', 0))
            transport.get_extra_info('socket').setsockopt(
                socket.IPPROTO_IPV6, socket.IPV6_RECVDSTOPTS, 1)
            # A KiB of options: four of 252 bytes, of a type that is skipped by whoever does not
            # know it, and padding.
            options = bytes([59, 1024 // 8 - 1]) + 4 * (b'\x1e\xfc' + bytes(252)) + b'\1\4\0\0\0\0'
            data = random.randbytes(20_001)
            with self.sender(socket.AF_INET6) as sock:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, options)
                for _ in range(3):
                    send_train(sock, to, data, 1000)
                    sock.sendto(b'alone', to)
                    sock.sendto(data, to)
                await protocol.wait(3 * 23)
            assert [each for each, _ in protocol.got] == [*cut(data, 1000), b'alone', data] * 3
            assert protocol.errors == []
            transport.close()

        self.run(main())


class TestSwitches(Receiving):

    def has_gro(self, transport):
        return transport.get_extra_info('socket').getsockopt(SOL_UDP, UDP_GRO) == 1

    def test_of_an_endpoint(self):
        async def main():
            for options, expected in (({}, True), ({'gro': None}, True), ({'gro': True}, True),
                                      ({'gro': False}, False)):
                transport, _, _ = await self.open(Each, **options)
                assert self.has_gro(transport) is expected
                transport.close()
            # A socket of the program's own is left as it is, unless it says so.
            for gro in None, True:
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.bind(('127.0.0.1', 0))
                transport, _ = await self.loop.create_datagram_endpoint(
                    Each, sock=sock, gro=gro)
                assert self.has_gro(transport) is bool(gro)
                transport.close()
            with pytest.raises(ValueError, match="gro must be True, False or None, not 'no'"):
                await self.open(Each, gro='no')

        self.run(main())

    def test_of_a_loop_and_the_environment(self, monkeypatch):
        async def main():
            transport, protocol = await endpoint(local_addr=('127.0.0.1', 0))
            try:
                return self.has_gro(transport)
            finally:
                transport.close()
                await protocol.until(lambda p: p.lost)

        def ask(**options):
            loop = uringloop.new_event_loop(require_uring=True, **options)
            try:
                return loop.run_until_complete(main())
            finally:
                loop.close()

        assert ask() and not ask(gro=False)
        monkeypatch.setenv('URINGLOOP_GRO', '0')
        assert not ask() and ask(gro=True)
        with pytest.raises(ValueError, match='gro must be True, False or None, not 1'):
            uringloop.new_event_loop(gro=1)
