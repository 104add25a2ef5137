"""Receiving datagrams, long and short: order, addresses, pauses, contexts, and what ends it."""
import asyncio
import contextvars
import errno
import socket

import pytest

from tests.support.cases import UringCase, both_sides
from tests.support.endpoints import Endpoints, QueuingRecorder
from tests.support.sockets import LOCAL, bound, needs_ipv6
from tests.support.turns import turns

variable = contextvars.ContextVar('variable', default='unset')


class Pausing(QueuingRecorder):
    """Reads one datagram at a time."""

    def datagram_received(self, data, addr):
        super().datagram_received(data, addr)
        self.transport.pause_reading()


class _TestReceive(Endpoints):

    def test_many_come_in_order(self):
        async def main():
            transport, receiver = await self.endpoint()
            with bound() as peer:
                for n in range(100):
                    peer.sendto(b'%d' % n, transport.get_extra_info('sockname'))
                for n in range(100):
                    assert await receiver.datagrams.get() == (b'%d' % n, peer.getsockname())

        self.run(main())

    def test_what_waited_before_the_endpoint_was_made_comes(self):
        async def main():
            sock = bound()
            with bound() as peer:
                peer.sendto(b'early', sock.getsockname())
                _, receiver = await self.endpoint(sock=sock)
                assert (await receiver.datagrams.get())[0] == b'early'
                assert receiver.calls == ['made', 'datagram']

        self.run(main())

    def test_long_ones_are_objects_of_their_own(self):
        async def main():
            transport, receiver = await self.endpoint()
            payload = bytes(range(256)) * 255
            kept = []
            with bound() as peer:
                for n in range(40):
                    peer.sendto(bytes([n]) + payload, transport.get_extra_info('sockname'))
                    kept.append((await receiver.datagrams.get())[0])
            # Kept objects are not written to by what came later.
            assert [data[0] for data in kept] == list(range(40))
            assert {data[1:] for data in kept} == {payload}

        self.run(main())

    @pytest.mark.parametrize('family', ['ipv4', pytest.param('ipv6', marks=needs_ipv6)])
    @pytest.mark.parametrize('connected', [False, True])
    def test_long_and_short_ones_keep_their_order(self, family, connected):
        """Long datagrams are read another way than short ones; their order holds."""
        sizes = [60_000] * 7 + [10, 40_000, 0, 33_000, 1] + [50_000] * 6 + [20_000] + [65_000] * 8
        payloads = [bytes([n]) * size for n, size in enumerate(sizes * 4)]

        async def main():
            sock = bound(*((socket.AF_INET6, ('::1', 0)) if family == 'ipv6' else ()))
            with bound(sock.family, sock.getsockname()[:1] + (0,)) as peer:
                if connected:
                    sock.connect(peer.getsockname())
                _, receiver = await self.endpoint(sock=sock)
                target = sock.getsockname()
                # No more at a time than a socket's buffer holds.
                for start in range(0, len(payloads), 2):
                    for payload in payloads[start:start + 2]:
                        peer.sendto(payload, target)
                    for payload in payloads[start:start + 2]:
                        assert await receiver.datagrams.get() == (payload, peer.getsockname())

        self.run(main())

    def test_long_ones_are_answered(self):
        class Answering(QueuingRecorder):
            def datagram_received(self, data, addr):
                self.transport.sendto(data, addr)
                if data[0] % 3 == 0:
                    self.transport.sendto(data[:100], addr)
                if data[0] % 5 == 0:
                    self.transport.sendto(bytearray(data[:33_000]), addr)

        async def main():
            transport, _ = await self.endpoint(Answering)
            with bound() as peer:
                for start in range(0, 40, 2):
                    for n in range(start, start + 2):
                        peer.sendto(bytes([n]) * 34_000, transport.get_extra_info('sockname'))
                    await turns(20)
                    for n in range(start, start + 2):
                        assert peer.recv(65536) == bytes([n]) * 34_000
                        if n % 3 == 0:
                            assert peer.recv(65536) == bytes([n]) * 100
                        if n % 5 == 0:
                            assert peer.recv(65536) == bytes([n]) * 33_000

        self.run(main())

    def test_pause_among_long_ones(self):
        self.needs_pausing()

        async def main():
            transport, receiver = await self.endpoint(Pausing)
            with bound() as peer:
                for n in range(20):
                    peer.sendto(bytes([n]) * 50_000, transport.get_extra_info('sockname'))
                    if n % 4 == 3:
                        for k in range(n - 3, n + 1):
                            assert (await receiver.datagrams.get())[0][0] == k
                            await turns()
                            assert receiver.datagrams.empty()
                            transport.resume_reading()

        self.run(main())

    def test_close_among_long_ones(self):
        class Closing(QueuingRecorder):
            def datagram_received(self, data, addr):
                super().datagram_received(data, addr)
                if data[0] == 6:
                    self.transport.close()

        async def main():
            transport, receiver = await self.endpoint(Closing)
            with bound() as peer:
                for n in range(10):
                    peer.sendto(bytes([n]) * 50_000, transport.get_extra_info('sockname'))
                    if n < 6:
                        assert (await receiver.datagrams.get())[0][0] == n
            assert await receiver.lost is None
            assert receiver.calls == ['made'] + ['datagram'] * 7 + ['lost']

        self.run(main())

    def test_an_error_among_long_ones(self):
        async def main():
            gone = bound()
            transport, receiver = await self.endpoint(
                remote_addr=gone.getsockname(), local_addr=LOCAL)
            mine = transport.get_extra_info('sockname')
            for n in range(8):
                gone.sendto(bytes([n]) * 50_000, mine)
                assert (await receiver.datagrams.get())[0][0] == n
            gone.close()
            transport.sendto(b'nobody there')
            assert isinstance(await receiver.errors.get(), ConnectionRefusedError)
            with bound(address=transport.get_extra_info('peername')) as again:
                again.sendto(b'z' * 40_000, mine)
                assert await receiver.datagrams.get() == (b'z' * 40_000, again.getsockname())

        self.run(main())

    def test_pause_and_resume(self):
        self.needs_pausing()

        async def main():
            transport, receiver = await self.endpoint()
            with bound() as peer:
                address = transport.get_extra_info('sockname')
                peer.sendto(b'1', address)
                assert (await receiver.datagrams.get())[0] == b'1'
                transport.pause_reading()
                transport.pause_reading()
                assert not transport.is_reading()
                peer.sendto(b'2', address)
                peer.sendto(b'3', address)
                await turns(20)
                assert receiver.datagrams.empty()
                transport.resume_reading()
                transport.resume_reading()
                assert transport.is_reading()
                assert (await receiver.datagrams.get())[0] == b'2'
                assert (await receiver.datagrams.get())[0] == b'3'

        self.run(main())

    def test_pause_and_resume_in_one_turn(self):
        self.needs_pausing()

        async def main():
            transport, receiver = await self.endpoint()
            with bound() as peer:
                for n in range(20):
                    transport.pause_reading()
                    transport.resume_reading()
                    if n % 2:
                        await asyncio.sleep(0)
                        transport.pause_reading()
                        await asyncio.sleep(0)
                        transport.resume_reading()
                    peer.sendto(b'%d' % n, transport.get_extra_info('sockname'))
                    assert (await receiver.datagrams.get())[0] == b'%d' % n

        self.run(main())

    def test_pause_from_datagram_received(self):
        self.needs_pausing()

        async def main():
            transport, receiver = await self.endpoint(Pausing)
            with bound() as peer:
                for n in range(5):
                    peer.sendto(b'%d' % n, transport.get_extra_info('sockname'))
            for n in range(5):
                assert (await receiver.datagrams.get())[0] == b'%d' % n
                await turns()
                assert receiver.datagrams.empty()
                transport.resume_reading()

        self.run(main())

    def test_close_from_datagram_received(self):
        class Closing(QueuingRecorder):
            def datagram_received(self, data, addr):
                super().datagram_received(data, addr)
                self.transport.close()

        async def main():
            transport, receiver = await self.endpoint(Closing)
            with bound() as peer:
                for _ in range(5):
                    peer.sendto(b'x', transport.get_extra_info('sockname'))
            assert await receiver.lost is None
            assert receiver.calls == ['made', 'datagram', 'lost']

        self.run(main())

    def test_answer_and_close_from_datagram_received(self):
        class Answering(QueuingRecorder):
            def datagram_received(self, data, addr):
                super().datagram_received(data, addr)
                self.transport.sendto(b'bye', addr)
                self.transport.close()

        async def main():
            transport, receiver = await self.endpoint(Answering)
            with bound() as peer:
                for _ in range(5):
                    peer.sendto(b'x', transport.get_extra_info('sockname'))
                assert await receiver.lost is None
                assert receiver.calls == ['made', 'datagram', 'lost']
                assert peer.recv(10) == b'bye'

        self.run(main())

    def test_callbacks_run_in_the_creators_context(self):
        class Looking(QueuingRecorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                self.seen = [variable.get()]

            def datagram_received(self, data, addr):
                self.seen.append(variable.get())
                super().datagram_received(data, addr)

            def connection_lost(self, exc):
                self.seen.append(variable.get())
                super().connection_lost(exc)

        async def main():
            variable.set('creator')
            transport, protocol = await self.endpoint(Looking)
            variable.set('later')
            with bound() as peer:
                peer.sendto(b'x', transport.get_extra_info('sockname'))
                await protocol.datagrams.get()
            transport.close()
            await protocol.lost
            assert protocol.seen == ['creator', 'creator', 'later']

        self.run(main())

    def test_another_protocol_takes_over(self):
        async def main():
            transport, first = await self.endpoint()
            second = QueuingRecorder()
            transport.set_protocol(second)
            assert transport.get_protocol() is second
            with bound() as peer:
                peer.sendto(b'x', transport.get_extra_info('sockname'))
                assert (await second.datagrams.get())[0] == b'x'
            assert first.datagrams.empty()
            transport.close()
            assert await second.lost is None
            first.lost.set_result(None)

        self.run(main())


class TestDiscarded(Endpoints, UringCase):

    @pytest.mark.parametrize('size', [10, 40_000])
    def test_what_a_pause_has_left_is_counted_when_the_transport_closes(self, size):
        """Nothing that was received is gone without a word."""
        async def main():
            transport, receiver = await self.endpoint(Pausing)
            with bound() as peer:
                for _ in range(10):
                    peer.sendto(bytes(size), transport.get_extra_info('sockname'))
                await receiver.datagrams.get()
                await turns(5)
            transport.close()
            await receiver.lost
            await turns(2)
            stats = self.loop.stats()
            assert receiver.calls.count('datagram') == 1
            assert stats.datagrams_received == 1 + stats.datagrams_discarded

        self.run(main())


class TestClosedByTheProgram(Endpoints, UringCase):

    @pytest.mark.parametrize('size', [100, 40_000])
    def test_the_next_that_comes_ends_the_transport(self, size):
        """The number may be another's by then: it is not read from; and nothing spins."""
        async def main():
            sock = bound()
            address, number = sock.getsockname(), sock.fileno()
            _, receiver = await self.endpoint(sock=sock)
            with bound() as peer:
                for n in range(8):
                    peer.sendto(bytes([n]) * size, address)
                    assert (await receiver.datagrams.get())[0][0] == n
                sock.close()
                with bound() as other:
                    assert other.fileno() == number
                    peer.sendto(bytes(size), address)
                    peer.sendto(b'not for it', other.getsockname())
                    assert (await receiver.lost).errno == errno.EBADF
                    assert other.recv(100) == b'not for it'
                assert receiver.datagrams.empty()
                before = self.loop.stats().syscalls
                await asyncio.sleep(0.05)
                assert self.loop.stats().syscalls - before < 5

        self.run(main())


both_sides(globals(), _TestReceive)
