"""Registered files: their slots, transports that have none, and numbers that change hands."""
import asyncio
import gc
import os
import resource

import pytest

import uringloop
from tests.support.cases import UringCase
from tests.support.features import needs_feature
from tests.support.process import limited
from tests.support.protocols import endpoint
from tests.support.sockets import udp
from tests.support.turns import settle
from uringloop.ring import ring as ring_module


class TestSlots(UringCase):
    """Registered files; and what has none."""

    @staticmethod
    def ring_with_limit(limit):
        """The ring of a loop that is made with so few descriptors allowed, and the loop."""
        before = set(ring_module.open_rings)
        with limited(limit):
            loop = uringloop.new_event_loop(require_uring=True)
        [ring] = set(ring_module.open_rings) - before
        return ring, loop

    @needs_feature('registered_files')
    @pytest.mark.parametrize('limit', [64, 512, 1024, 5000])
    def test_rings_have_a_marker_however_few_there_are(self, limit):
        """However few descriptors there may be, the death of a ring is seen."""
        if limit > resource.getrlimit(resource.RLIMIT_NOFILE)[1]:
            pytest.skip('RLIMIT_NOFILE is lower')
        ring, loop = self.ring_with_limit(limit)
        assert ring.files.has_marker
        assert ring.files.slot_count == min(limit, 4096)
        loop.close()

    @needs_feature('registered_files')
    def test_the_limit_of_descriptors_stays_the_programs(self):
        """liburing would raise it."""
        with limited(256):
            uringloop.new_event_loop(require_uring=True).close()
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 256

    @pytest.mark.filterwarnings('ignore:unclosed transport')
    @pytest.mark.parametrize('many', [1, 40])
    def test_closing_a_loop_lets_go_of_sockets_at_once(self, monkeypatch, many):
        """Of those of transports that nobody has closed: the ring's end is not waited for."""
        async def main():
            transports = [(await endpoint(local_addr=('127.0.0.1', 0)))[0] for _ in range(many)]
            for transport in transports[:-1:2]:
                transport.close()
            await settle()
            return transports

        waits = []
        transports = self.run(main())
        monkeypatch.setattr(ring_module, 'hung_up', lambda *arguments: waits.append(arguments))
        self.loop.close()
        assert not waits
        address = transports[-1].get_extra_info('sockname')
        transports[-1].get_extra_info('socket')._sock.close()
        udp(address).close()             # nobody else has the port
        for left in transports:
            left.get_extra_info('socket')._sock.close()
        del left, transports
        gc.collect()

    def test_slots_are_used_again(self):
        async def main():
            for _ in range(200):
                transport, protocol = await endpoint(local_addr=('127.0.0.1', 0))
                transport.sendto(b'x', transport.get_extra_info('sockname'))
                await protocol.until(lambda p: p.datagrams)
                transport.close()
                await protocol.until(lambda p: p.lost)

        ring, loop = self.ring_with_limit(64)
        self.loop.close()
        self.loop = loop
        self.run(main())
        assert ring.files.slots_used <= 3

    @needs_feature('registered_files')
    def test_without_a_slot_nothing_leaves_by_another_socket(self):
        """Without a slot: what would leave by the socket that got the number does not leave."""
        async def main():
            with udp() as receiver:
                many = [await endpoint(local_addr=('127.0.0.1', 0)) for _ in range(70)]
                sock = udp()
                mine = sock.getsockname()
                transport, protocol = await endpoint(sock=sock)
                await settle()
                transport.sendto(b'1', receiver.getsockname())
                number = sock.fileno()
                sock.close()
                with udp() as other:
                    assert other.fileno() == number
                    transport.sendto(b'2', receiver.getsockname())
                    await protocol.until(lambda p: p.lost or p.errors)
                    await settle()
                    other.sendto(b'last', receiver.getsockname())
                    data, address = b'', None
                    while data != b'last':
                        assert address in (None, mine)
                        data, address = await self.loop.sock_recvfrom(receiver, 100)
                    transport.abort()
                for transport, _ in many:
                    transport.close()

        ring, loop = self.ring_with_limit(64)
        self.loop.close()
        self.loop = loop
        self.run(main())
        assert ring.files.slots_used == 64


class TestNumbers(UringCase):

    def test_transports_without_a_slot_work_as_well(self):
        """Those beyond the table's end name their descriptor, and work and close as well."""
        async def main():
            sock = udp(room=8 << 20)
            receiver, received = await endpoint(sock=sock)
            many = [await endpoint(local_addr=('127.0.0.1', 0)) for _ in range(1100)]
            for i, (transport, _) in enumerate(many):
                transport.sendto(b'%d' % i, sock.getsockname())
            await received.until(lambda p: len(p.datagrams) == 1100)
            assert sorted(received.datagrams, key=int) == [b'%d' % i for i in range(1100)]
            addresses = [transport.get_extra_info('sockname') for transport, _ in many]
            for address in addresses:
                receiver.sendto(b'back', address)
            for transport, protocol in many:
                await protocol.until(lambda p: p.datagrams)
                transport.close()
            for _, protocol in many:
                await protocol.until(lambda p: p.lost)
            receiver.close()
            for address in addresses:
                udp(address).close()

        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
        try:
            self.run(main())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    @pytest.mark.parametrize('size', [10, 20_000])
    def test_what_is_queued_leaves_by_the_socket_it_was_meant_for(self, size):
        """A queued datagram leaves by the socket it was meant for, not by its number."""
        async def main():
            with udp() as receiver:
                sock = udp()
                mine = sock.getsockname()
                transport, _ = await endpoint(sock=sock)
                transport.sendto(bytes(size), receiver.getsockname())
                number = sock.fileno()
                os.close(number)
                other = udp()
                try:
                    assert other.fileno() == number
                    data, address = await self.loop.sock_recvfrom(receiver, 65536)
                    assert (len(data), address) == (size, mine)
                    transport.abort()
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                finally:
                    other.detach()

        self.run(main())
