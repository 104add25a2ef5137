"""What is told of a datagram besides its bytes: ECN, addresses, times, drops; and sent with it."""
import array
import asyncio
import errno
import os
import random
import socket
import struct
import time

import pytest

import uringloop
from tests.support.cases import UringCase, on_the_fallback_too, only_uring
from tests.support.namespaces import needs_root
from tests.support.process import descriptors
from tests.support.protocols import Collector
from tests.support.sockets import needs_ipv6, udp
from tests.support.turns import turns
from uringloop import DatagramInfo
from uringloop.datagram.protocol import method_of, takes_errors

SOL_UDP, UDP_SEGMENT = 17, 103                      # linux/udp.h
SO_NO_CHECK, SO_PASSPIDFD = 11, 76                  # asm-generic/socket.h
NONE = DatagramInfo()


class Each(Collector, uringloop.DatagramProtocol):
    """Collects ``(data, addr, info)``."""

    def datagram_received_with_info(self, data, addr, info):
        assert type(info) is DatagramInfo
        self.take((data, addr, info))


class Batches(Each):

    def datagrams_received_with_info(self, batch):
        assert type(batch) is list
        self.take(*batch)


class Trains(Each):

    def datagram_train_received_with_info(self, data, segment_size, addr, info):
        assert 1 <= segment_size <= max(len(data), 1)
        self.take(*((part, addr, info) for part in cut(data, segment_size) or [b'']))


class Plain(Each):
    """One that wants none of it."""

    datagram_received_with_info = None

    def datagram_received(self, data, addr):
        self.take((data, addr, None))


untold = pytest.mark.filterwarnings('ignore:.* is not told')
KINDS = [Each, Batches, Trains]
# A receiver's address, a sender's, and what the sender is called at the receiver.
WAYS = {
    'ipv4': (socket.AF_INET, ('127.0.0.1', 0), socket.AF_INET, '127.0.0.1'),
    'ipv6': (socket.AF_INET6, ('::1', 0), socket.AF_INET6, '::1'),
    'mapped': (socket.AF_INET6, ('::', 0), socket.AF_INET, '127.0.0.1'),
}


def cut(data, size):
    return [data[n:n + size] for n in range(0, len(data), size)]


def send_train(sock, to, data, size):
    sock.sendmsg([data], [(SOL_UDP, UDP_SEGMENT, struct.pack('H', size))], 0, to)


def dual_stack():
    """A socket for both protocols."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(('::', 0))
    sock.setblocking(False)
    return sock


class WithMetadata(UringCase):

    async def open(self, kind=Each, local=('127.0.0.1', 0), **options):
        how = {} if 'sock' in options else {'local_addr': local}
        transport, protocol = await self.loop.create_datagram_endpoint(kind, **how, **options)
        return transport, protocol, transport.get_extra_info('sockname')


class TestECN(WithMetadata):

    @needs_ipv6
    @pytest.mark.parametrize('way', WAYS)
    @pytest.mark.parametrize('kind', KINDS)
    def test_is_told(self, kind, way):
        async def main():
            _, local, sending, host = WAYS[way]
            sock = dual_stack() if way == 'mapped' else udp6(local) if local[0] == '::1' \
                else udp(local)
            transport, protocol, name = await self.open(kind, sock=sock, ecn=True)
            with socket.socket(sending, socket.SOCK_DGRAM) as peer:
                for ecn in range(4):
                    if sending == socket.AF_INET6:
                        peer.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 0x28 | ecn)
                    else:
                        peer.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0x28 | ecn)
                    peer.sendto(b'%d' % ecn, (host, name[1]))
                await protocol.wait(4)
            assert [(data, info) for data, _, info in protocol.got] == [
                (b'%d' % ecn, DatagramInfo(ecn=ecn)) for ecn in range(4)]
            transport.close()

        self.run(main())

    @needs_ipv6
    @pytest.mark.parametrize('way', WAYS)
    @pytest.mark.parametrize('connected', [False, True])
    def test_is_sent(self, way, connected):
        """Beside the DSCP of the socket, by ``sendto_with`` and by ``sendmsg``."""
        async def main():
            _, _, family, host = WAYS[way]
            with socket.socket(family, socket.SOCK_DGRAM) as peer:
                peer.bind((host, 0))
                peer.settimeout(5)
                six = family == socket.AF_INET6
                level, option = ((socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if six
                                 else (socket.IPPROTO_IP, socket.IP_TOS))
                peer.setsockopt(level, socket.IPV6_RECVTCLASS if six else socket.IP_RECVTOS, 1)
                to = peer.getsockname()
                if way == 'mapped':
                    to = (f'::ffff:{host}', to[1])
                sock = dual_stack() if way == 'mapped' else udp6() if six else udp()
                if connected:
                    sock.connect(to)
                transport, protocol, _ = await self.open(sock=sock)
                addr = None if connected else to

                async def received():
                    await asyncio.sleep(0)             # one of a bulk leaves when the turn ends
                    data, [(_, kind, told)], _, _ = peer.recvmsg(100, 100)
                    assert kind == option
                    return data, told[0]

                for dscp in 0, 0x28:
                    shown = transport.get_extra_info('socket')
                    shown.setsockopt(level, option, dscp)
                    for ecn in 1, 2, 3, 0, 0:
                        transport.sendto_with(b'%d' % ecn, addr, ecn=ecn)
                        assert await received() == (b'%d' % ecn, dscp | ecn)
                # By the program's own object, unseen.
                for _ in range(2):
                    for dscp in 0x48, 0x28:
                        sock.setsockopt(level, option, dscp)
                        transport.sendto_with(b'1', addr, ecn=0)
                        assert await received() == (b'1', dscp)
                sock.setsockopt(level, option, dscp)
                transport.sendmsg([b'a', b'b'], [(level, option, struct.pack('i', 2))], 0, addr)
                assert await received() == (b'ab', 2)
                transport.sendto(b'plain', addr)
                assert await received() == (b'plain', 0x28)
                assert protocol.errors == []
                transport.close()

        self.run(main())


def udp6(address=('::1', 0)):
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(address)
    return sock


class TestAddresses(WithMetadata):

    @pytest.mark.parametrize('kind', KINDS)
    def test_answered_from_where_it_was_asked(self, kind):
        async def main():
            transport, protocol, name = await self.open(kind, ('0.0.0.0', 0), pktinfo=True)
            with udp() as peer:
                for host in '127.0.0.1', '127.0.0.2', '127.1.2.3', '127.0.0.2':
                    to = (host, name[1])
                    peer.sendto(host.encode(), to)
                    await protocol.wait(1)
                    [(data, addr, info)] = protocol.got
                    assert data == host.encode()
                    assert info == DatagramInfo(
                        local_address=host, interface_index=socket.if_nametoindex('lo'))
                    transport.sendto_with(b'answer', addr, source=info.local_address)
                    assert await self.loop.sock_recvfrom(peer, 100) == (b'answer', to)
                    protocol.got.clear()
            transport.close()

        self.run(main())

    @needs_ipv6
    @pytest.mark.parametrize('kind', KINDS)
    def test_of_a_dual_stack(self, kind):
        """An IPv4 address is a mapped one there, as the sender's is."""
        async def main():
            transport, protocol, name = await self.open(
                kind, sock=dual_stack(), pktinfo=True, ecn=True)
            for family, host, local in (
                    (socket.AF_INET, '127.0.0.2', '::ffff:127.0.0.2'),
                    (socket.AF_INET6, '::1', '::1')):
                with socket.socket(family, socket.SOCK_DGRAM) as peer:
                    peer.setblocking(False)
                    peer.sendto(b'question', (host, name[1]))
                    await protocol.wait(1)
                    [(_, addr, info)] = protocol.got
                    assert info == DatagramInfo(ecn=0, local_address=local,
                                                interface_index=socket.if_nametoindex('lo'))
                    transport.sendto_with(b'answer', addr, ecn=2, source=info.local_address)
                    data, [where, *_] = await self.loop.sock_recvfrom(peer, 100)
                    assert (data, where) == (b'answer', host)
                    protocol.got.clear()
            assert protocol.errors == []
            transport.close()

        self.run(main())

    def test_not_of_this_machine(self):
        """The kernel's error is told as any of a send."""
        async def main():
            transport, protocol, name = await self.open()
            transport.sendto_with(b'from elsewhere', name, source='192.0.2.1')
            await protocol.wait(1)
            assert isinstance(protocol.errors[0], OSError)
            transport.close()

        self.run(main())

    def test_empty_ones_are_sent_on_every_python(self):
        """As by all calls that asyncio has not; ``sendto`` follows asyncio's."""
        async def main():
            transport, protocol, name = await self.open()
            transport.sendto_with(b'', name, ecn=0)
            transport.sendto_with(bytearray(), name, source='127.0.0.1')
            transport.sendmsg([b''], addr=name)
            await transport.sendto_zerocopy(b'', name)
            await protocol.wait(4)
            assert [item[0] for item in protocol.got] == [b''] * 4
            transport.close()

        self.run(main())

    def test_what_is_none(self):
        async def main():
            transport, protocol, name = await self.open()
            for wrong in '::1', 'localhost', '', '127.0.0.1\0', '127.0.0.256':
                with pytest.raises(ValueError, match='source must be an address of AF_INET'):
                    transport.sendto_with(b'', name, source=wrong)
            with pytest.raises(TypeError, match='source must be an address as str, not bytes'):
                transport.sendto_with(b'', name, source=b'127.0.0.1')
            for wrong in -1, 4, 256, 1 << 70:
                with pytest.raises((ValueError, OverflowError)):
                    transport.sendto_with(b'', name, ecn=wrong)
            with pytest.raises(TypeError):
                transport.sendto_with(b'', name, ecn='CE')
            with pytest.raises(TypeError, match='data argument must be a bytes-like object'):
                transport.sendto_with('text', name)
            with pytest.raises(TypeError):
                transport.sendto_with(b'x', 'nowhere')
            assert protocol.errors == []
            transport.close()

        self.run(main())

    def test_of_a_family_that_has_none(self, tmp_path):
        async def main():
            transport, _, _ = await self.open(local=str(tmp_path / 'here'), family=socket.AF_UNIX)
            for how in {'ecn': 1}, {'source': '127.0.0.1'}:
                with pytest.raises(ValueError, match=f'{next(iter(how))} is for IPv4 and IPv6'):
                    transport.sendto_with(b'', str(tmp_path / 'here'), **how)
            transport.close()

        self.run(main())


class TestTimes(WithMetadata):

    @pytest.mark.parametrize('kind', KINDS)
    @pytest.mark.parametrize('size', [10, 9000])
    def test_of_arrival(self, kind, size):
        async def main():
            transport, protocol, name = await self.open(kind, timestamps=True)
            with udp() as peer:
                before = time.time_ns()
                for n in range(3):
                    peer.sendto(b'%d' % n * size, name)
                await protocol.wait(3)
                # Until the kernel has begun to take the time of arrivals, it is of the reading.
                after = time.time_ns()
            times = [info.timestamp_ns for _, _, info in protocol.got]
            assert times == sorted(times)
            assert before <= times[0] <= times[-1] <= after
            assert len(set(times)) == 3
            assert {info.ecn for _, _, info in protocol.got} == {None}
            transport.close()

        self.run(main())

    def test_of_a_local_socket(self, tmp_path):
        async def main():
            transport, protocol, _ = await self.open(
                local=str(tmp_path / 'here'), family=socket.AF_UNIX, timestamps=True)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
                before = time.time_ns()
                peer.sendto(b'now', str(tmp_path / 'here'))
                await protocol.wait(1)
            [(_, _, info)] = protocol.got
            assert before <= info.timestamp_ns <= time.time_ns()
            transport.close()

        self.run(main())


class TestDescriptors(WithMetadata):

    @untold
    @pytest.mark.parametrize('kind', [Plain, *KINDS])
    def test_that_nobody_is_given_do_not_stay_open(self, kind, tmp_path):
        """They come with any control message that a local socket is asked for."""
        async def main():
            transport, protocol, name = await self.open(
                kind, local=str(tmp_path / 'here'), family=socket.AF_UNIX, timestamps=True)
            read_end, write_end = os.pipe()
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
                for size in 10, 9000:
                    for count in 1, 100:
                        fds = array.array('i', [write_end] * count)
                        peer.sendmsg([bytes(size)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)],
                                     0, name)
                await protocol.wait(4)
            os.close(write_end)
            os.set_blocking(read_end, False)
            assert os.read(read_end, 1) == b''         # the end: nobody else can write
            os.close(read_end)
            transport.close()

        self.run(main())

    @untold
    @pytest.mark.parametrize('kind', [Plain, *KINDS])
    def test_of_the_senders_process(self, kind):
        """SO_PASSPIDFD has one come with each datagram."""
        async def main():
            near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            with far:
                try:
                    near.setsockopt(socket.SOL_SOCKET, SO_PASSPIDFD, 1)
                except OSError as exc:
                    near.close()
                    pytest.skip(f'SO_PASSPIDFD, Linux 6.5: {exc}')
                transport, protocol, _ = await self.open(kind, sock=near)
                before = descriptors()
                for _ in range(10):
                    far.send(b'x')
                await protocol.wait(10)
                assert descriptors() == before
                transport.close()

        self.run(main())


class TestDrops(WithMetadata):

    async def overflow(self, kind, **options):
        sock = udp(room=1)                            # the least that there may be
        transport, protocol, name = await self.open(kind, sock=sock, drops=True, **options)
        sent = received = 0
        with udp() as peer:
            for rounds in range(3):
                for _ in range(50):
                    peer.sendto(bytes(500), name)
                    sent += 1
                # The next one is told how many were lost before it.
                await protocol.wait(received + 1)
                await turns(20)
                peer.sendto(b'and then', name)
                sent += 1
                while protocol.got[-1][0] != b'and then' or len(protocol.got) <= received + 1:
                    await protocol.wait(len(protocol.got) + 1)
                received = len(protocol.got)
                assert self.loop.stats().datagrams_overflowed == sent - received > 40 * (rounds + 1)
        transport.close()
        return protocol, sent - received

    @pytest.mark.parametrize('kind', KINDS)
    def test_are_told(self, kind):
        async def main():
            protocol, lost = await self.overflow(kind)
            assert protocol.got[0][2].drops == 0
            assert protocol.got[-1][2].drops == lost
            told = [info.drops for _, _, info in protocol.got]
            assert told == sorted(told)

        self.run(main())

    def test_are_counted_for_any_protocol(self):
        self.run(self.overflow(Plain))

    def test_are_counted_one_by_one_where_trains_come(self):
        """The kernel would count a train that it drops as one."""
        async def main():
            transport, protocol, name = await self.open(Plain, drops=True)
            transport.pause_reading()
            sender, _ = await self.loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, remote_addr=name)
            for _ in range(100):
                sender.sendto_many([bytes(1000)] * 50)
            transport.resume_reading()
            await protocol.wait(1)
            await turns(20)                        # until there is room again
            sender.sendto(b'and then')
            while protocol.got[-1][0] != b'and then':
                await protocol.wait(len(protocol.got) + 1)
            assert self.loop.stats().datagrams_overflowed == 5001 - len(protocol.got) > 1000
            sender.close()
            transport.close()

        self.needs_pausing()
        self.run(main())


class TestAsking(WithMetadata):

    OPTIONS = ('ecn', 'pktinfo', 'timestamps', 'drops')

    @pytest.mark.parametrize('option', ['ecn', 'pktinfo', 'drops'])
    def test_a_family_that_has_none(self, option, tmp_path):
        async def main():
            with pytest.raises(ValueError, match=f'{option}=True: sockets of AF_UNIX'):
                await self.open(local=str(tmp_path / 'here'), family=socket.AF_UNIX,
                                **{option: True})
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                with pytest.raises(ValueError, match=f'{option}=True: sockets of AF_UNIX'):
                    await self.open(sock=sock, **{option: True})
                assert sock.fileno() >= 0

        self.run(main())

    @pytest.mark.parametrize('option', OPTIONS)
    def test_what_is_no_switch(self, option):
        async def main():
            with pytest.raises(ValueError, match=f'{option} must be True, False or None, not 1'):
                await self.open(**{option: 1})

        self.run(main())

    @pytest.mark.parametrize('kind', KINDS)
    def test_nothing(self, kind):
        async def main():
            transport, protocol, name = await self.open(kind, ecn=False)
            with udp() as peer:
                peer.sendto(b'', name)
                await protocol.wait(1)
            assert [(data, info) for data, _, info in protocol.got] == [(b'', NONE)]
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('kind', KINDS)
    def test_the_programs_own_options(self, kind):
        """What it has asked for by itself is told too."""
        async def main():
            sock = udp()
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
            transport, protocol, name = await self.open(kind, sock=sock)
            with udp() as peer:
                peer.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 1)
                peer.sendto(b'', name)
                await protocol.wait(1)
            assert protocol.got[0][2] == DatagramInfo(ecn=1)
            transport.close()

        self.run(main())

    @untold
    def test_a_plain_protocol_is_called_as_ever(self):
        async def main():
            transport, protocol, name = await self.open(
                Plain, ecn=True, pktinfo=True, timestamps=True, drops=True)
            with udp() as peer:
                for size in 1, 1000, 9000:
                    peer.sendto(bytes(size), name)
                await protocol.wait(3)
                assert protocol.got == [(bytes(n), peer.getsockname(), None)
                                        for n in (1, 1000, 9000)]
            transport.close()

        self.run(main())


class TestGRO(WithMetadata):

    def send(self, peer, to, ecn, size, data):
        peer.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, ecn)
        if len(data) > size:
            send_train(peer, to, data, size)
        else:
            peer.sendto(data, to)
        return cut(data, size) or [b'']

    @pytest.mark.parametrize('kind', KINDS)
    def test_any_mix(self, kind):
        """Random trains in, the same datagrams out, each with what was told of its train."""
        async def main():
            transport, protocol, name = await self.open(
                kind, ('0.0.0.0', 0), ecn=True, pktinfo=True, timestamps=True, drops=True, gro=True)
            # Room for three of the longest.  Without UDP_GRO, as with the fallback, the kernel
            # cuts them, and each datagram takes a kilobyte more than it has.
            transport.get_extra_info('socket').setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, 212_992)
            expected = []
            index = socket.if_nametoindex('lo')
            with udp() as one, udp() as two:
                for n in range(400):
                    peer = random.choice([one, one, one, two])
                    ecn = random.randrange(4)
                    host = random.choice(['127.0.0.1', '127.0.0.2'])
                    size = random.choice([1, 9, 100, 1200, 1472, 9000, 40_000, 65_000])
                    length = random.choice([0, 1, size, random.randint(0, min(64 * size, 65_000))])
                    data = random.randbytes(min(length, 64 * size, 65_000))
                    parts = self.send(peer, (host, name[1]), ecn, size, data)
                    expected += [(part, peer.getsockname(), (ecn, host, index, 0))
                                 for part in parts]
                    if n % 3 == 0:
                        await protocol.wait(len(expected))
                await protocol.wait(len(expected))
            assert [(data, addr, (info.ecn, info.local_address, info.interface_index, info.drops))
                    for data, addr, info in protocol.got] == expected
            assert all(info.timestamp_ns for _, _, info in protocol.got)
            if not self.copying:
                assert self.loop.stats().trains_received > 0
            assert self.loop.stats().datagrams_received == len(expected)
            transport.close()

        self.run(main())

    copying = False

    @only_uring                # the fallback has them one by one
    @pytest.mark.parametrize('size', [100, 1200])
    def test_a_train_has_one(self, size):
        async def main():
            transport, protocol, name = await self.open(Trains, ecn=True, timestamps=True)
            with udp() as peer:
                parts = self.send(peer, name, 3, size, bytes(20 * size))
                await protocol.wait(len(parts))
            assert protocol.calls == 1
            assert {info.ecn for _, _, info in protocol.got} == {3}
            transport.close()

        self.run(main())

    @needs_root
    @needs_ipv6
    @pytest.mark.parametrize('kind', KINDS)
    def test_control_messages_cut_off(self, kind):
        """By options of IPv6 that there is no room for: trains are cut as they should be."""
        async def main():
            transport, protocol, name = await self.open(kind, ('::1', 0), timestamps=True)
            transport.get_extra_info('socket').setsockopt(
                socket.IPPROTO_IPV6, socket.IPV6_RECVDSTOPTS, 1)
            # As tests/datagram/test_offload.py has them.
            options = bytes([59, 1024 // 8 - 1]) + 4 * (b'\x1e\xfc' + bytes(252)) + bytes(6)
            expected = []
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as peer:
                peer.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, options)
                for size in 100, 1000, 5000:
                    data = random.randbytes(size * 4 + 1)
                    send_train(peer, name, data, size)
                    expected += cut(data, size)
                await protocol.wait(len(expected))
            assert [data for data, _, _ in protocol.got] == expected
            assert all(info.timestamp_ns for _, _, info in protocol.got)
            assert protocol.errors == []
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('kind', KINDS)
    def test_paused_in_the_midst(self, kind):
        class Pauses(kind):

            def take(self, *items):
                super().take(*items)
                self.transport.pause_reading()

        async def main():
            transport, protocol, name = await self.open(Pauses, ecn=True)
            expected = []
            with udp() as peer:
                for ecn in 0, 1, 2, 3:
                    for size in 100, 1000, 9000:
                        data = random.randbytes(3 * size + 1)
                        expected += [(part, ecn) for part in
                                     self.send(peer, name, ecn, size, data)]
                while len(protocol.got) < len(expected):
                    await protocol.wait(len(protocol.got) + 1)
                    transport.resume_reading()
            assert [(data, info.ecn) for data, _, info in protocol.got] == expected
            transport.close()

        self.needs_pausing()
        self.run(main())

    @untold
    @pytest.mark.parametrize('kind', [Plain, *KINDS])
    @pytest.mark.parametrize('other', [Plain, *KINDS])
    def test_one_protocol_after_the_other(self, kind, other):
        """In the midst of trains, to and fro: each is called as its class says."""
        def changing(kind):
            class Changes(kind):

                def take(self, *items):
                    super().take(*items)
                    got.extend(items)
                    self.transport.set_protocol(self.other)
                    self.other.changed.set()

            return Changes

        async def main():
            transport, one, name = await self.open(changing(kind), ecn=True)
            two = changing(other)()
            one.other, two.other, two.transport = two, one, transport
            expected = []
            with udp() as peer:
                for size in 100, 1000, 700, 9000, 20, 1000:
                    data = random.randbytes(size * 4 + 1)
                    expected += [(part, peer.getsockname())
                                 for part in self.send(peer, name, 2, size, data)]
                while len(got) < len(expected):
                    await asyncio.sleep(0)
            assert [(data, addr) for data, addr, _ in got] == expected
            # Who did not want it has not had it told for the next one.
            assert {info and info.ecn for _, _, info in got} <= {None, 2}
            transport.close()

        got = []
        self.run(main())


class TestMethods:
    """Which a protocol is called by; tests/datagram/test_offload.py has more."""

    NAMES = ('datagram_msg_received', 'datagram_train_received_with_info',
             'datagrams_received_with_info', 'datagram_received_with_info',
             'datagram_train_received', 'datagrams_received', 'datagram_received')

    def test_the_first_of_them(self):
        all_of_them = type('All', (), dict.fromkeys(self.NAMES, lambda self, *arguments: None))
        for n, name in enumerate(self.NAMES):
            kind = type('Kind', (all_of_them,), dict.fromkeys(self.NAMES[:n]))
            assert method_of(kind) == name
        assert method_of(type('Kind', (all_of_them,), {'datagram_msg_received': 0})) \
            == 'datagram_train_received_with_info'

    def test_the_error_queue(self):
        for other in None, 0, lambda self, error: None:
            assert not takes_errors(
                type('Kind', (), {'datagram_errqueue_received': other}), socket.AF_INET)
        kind = type('Kind', (), {'datagram_errqueue_received': lambda self, *told: None})
        assert takes_errors(kind, socket.AF_INET) and takes_errors(kind, socket.AF_INET6)
        assert not takes_errors(kind, socket.AF_UNIX)

    def test_the_base_class_has_none_of_them(self):
        assert not set(self.NAMES[:-1]) & set(dir(uringloop.DatagramProtocol))
        for name in (*self.NAMES, 'datagram_errqueue_received'):
            assert name in uringloop.DatagramProtocol.__doc__


class TestInfo:

    def test_says_what_it_is(self):
        info = DatagramInfo(ecn=3, local_address='::1', interface_index=1, timestamp_ns=5, drops=0)
        assert repr(info) == ("DatagramInfo(ecn=3, local_address='::1', interface_index=1, "
                              'timestamp_ns=5, drops=0)')
        assert repr(NONE) == ('DatagramInfo(ecn=None, local_address=None, interface_index=None, '
                              'timestamp_ns=None, drops=None)')
        assert eval(repr(info)) == info != NONE
        assert hash(info) == hash(eval(repr(info)))
        assert info != 3

    def test_does_not_change(self):
        for name in 'ecn', 'local_address', 'interface_index', 'timestamp_ns', 'drops', 'other':
            with pytest.raises(AttributeError):
                setattr(NONE, name, 1)


class TestOrder(WithMetadata):
    """What is sent with metadata leaves in the order of the calls, with everything else."""

    def test_among_all_kinds_of_sends(self):
        async def main():
            transport, protocol, _ = await self.open()
            with udp(room=8 << 20) as peer:
                to = peer.getsockname()
                sent = []
                for n in range(400):
                    data = b'%04d' % n + bytes(random.choice([0, 100, 100, 100, 1200, 9000]))
                    sent.append(data)
                    way = random.randrange(5)
                    if way == 0:
                        transport.sendto_with(data, to, ecn=n % 4)
                    elif way == 1:
                        transport.sendmsg([data[:2], bytearray(data[2:])], (), 0, to)
                    elif way == 2:
                        transport.sendto_zerocopy(data, to)
                    else:
                        transport.sendto(data, to)
                    if n % 50 == 0:
                        await asyncio.sleep(0)
                got = [await self.loop.sock_recv(peer, 70_000) for _ in sent]
                assert got == sent
            assert protocol.errors == []
            transport.close()

        self.run(main())

    def test_errors_come_in_the_order_of_the_calls(self):
        async def main():
            transport, protocol, (host, port) = await self.open()
            for _ in range(5):
                protocol.errors.clear()
                for _ in range(20):
                    transport.sendto(bytes(60_000), (host, 0))
                transport.sendto_with(bytes(65_508), (host, port), ecn=1)
                await protocol.wait(21)
                assert [exc.errno for exc in protocol.errors] \
                    == [errno.EINVAL] * 20 + [errno.EMSGSIZE]
            transport.close()

        self.run(main())

    @only_uring                # one by one, on the fallback
    @pytest.mark.parametrize('family', ['ipv4', 'ipv6'])
    def test_those_of_a_bulk_leave_together(self, family):
        """If they say the same, and are of one size; each says what it was sent with."""
        async def main():
            six = family == 'ipv6'
            sock = udp6() if six else udp()
            transport, _, _ = await self.open(sock=sock, batch=True)
            receiver, protocol, to = await self.open(
                local=('::1' if six else '127.0.0.1', 0), ecn=True)
            expected = []
            for ecn, size, count in (1, 100, 40), (2, 100, 40), (2, 90, 20), (0, 1200, 70), \
                    (None, 1200, 20), (3, 50, 3), (3, 49, 1), (3, 50, 30):
                for n in range(count):
                    data = (b'%d %d ' % (n, size)).ljust(size, b'.')
                    if ecn is None:
                        transport.sendto(data, to)
                    else:
                        transport.sendto_with(data, to, ecn=ecn)
                    expected.append((data, ecn or 0))
                await protocol.wait(len(expected))
            assert [(data, info.ecn) for data, _, info in protocol.got] == expected
            assert self.loop.stats().datagrams_gathered > 150
            for end in transport, receiver:
                end.close()

        self.run(main())

    @only_uring
    def test_a_bulk_in_turn(self):
        """Of two kinds, one after the other: none leaves with the wrong one."""
        async def main():
            transport, _, _ = await self.open()
            receiver, protocol, to = await self.open(local=('0.0.0.0', 0), ecn=True, pktinfo=True)
            to = ('127.0.0.1', to[1])
            sent = []
            for n in range(300):
                ecn = random.choice([0, 0, 0, 1, None])
                data = b'%06d' % n
                if ecn is None:
                    transport.sendmsg([data], [(socket.IPPROTO_IP, socket.IP_TOS, b'\x03')], 0, to)
                else:
                    transport.sendto_with(data, to, ecn=ecn)
                sent.append((data, 3 if ecn is None else ecn))
                if n % 60 == 59:
                    await protocol.wait(len(sent))
            assert [(data, info.ecn) for data, _, info in protocol.got] == sent
            for end in transport, receiver:
                end.close()

        self.run(main())

    @only_uring
    def test_refused_segments_leave_one_by_one(self):
        """IPv4 sends no segments without checksums: each then leaves with its own metadata."""
        async def main():
            sock = udp()
            transport, _, _ = await self.open(sock=sock)
            receiver, protocol, to = await self.open(ecn=True)
            count = 0
            for n in range(3):
                if n == 1:
                    sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)   # not seen at once
                for _ in range(30):
                    transport.sendto_with(b'%06d' % count, to, ecn=2)
                    count += 1
                await protocol.wait(count)
            assert [(data, info.ecn) for data, _, info in protocol.got] == [
                (b'%06d' % n, 2) for n in range(count)]
            for end in transport, receiver:
                end.close()

        self.run(main())

    def test_on_a_full_socket(self, tmp_path):
        """What waits is a copy, with its control messages; the protocol is told to pause."""
        class Pausing(Each):
            pauses = resumes = 0

            def pause_writing(self):
                self.pauses += 1

            def resume_writing(self):
                self.resumes += 1
                self.changed.set()

        async def main():
            near, far = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
            with far:
                for sock, name in (near, 'near'), (far, 'far'):
                    sock.bind(str(tmp_path / name))
                    sock.setblocking(False)
                near.connect(str(tmp_path / 'far'))
                far.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
                transport, protocol, _ = await self.open(Pausing, sock=near)
                transport.set_write_buffer_limits(1000)
                data = bytearray(b'......' + bytes(100))
                credentials = struct.pack('3i', *get_ids())
                ancdata = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, bytearray(credentials))]
                count = 0
                while not protocol.pauses:
                    data[:6] = b'%06d' % count
                    transport.sendmsg([memoryview(data)[:3], memoryview(data)[3:]], ancdata)
                    transport.sendto(b'plain %06d' % count)
                    count += 1
                    assert count < 10_000
                data[:] = ancdata[0][2][:] = b''
                assert transport.get_write_buffer_size() > 1000
                for n in range(count):
                    content, anc, _, _ = await self.loop.sock_recvmsg(far, 1000, 100)
                    assert content == b'%06d' % n + bytes(100)
                    assert (socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials) in anc
                    assert await self.loop.sock_recv(far, 1000) == b'plain %06d' % n
                while not protocol.resumes:
                    protocol.changed.clear()
                    await protocol.changed.wait()
                assert protocol.errors == []
                transport.close()

        self.run(main())

    @pytest.mark.parametrize('end', ['close', 'abort'])
    def test_after_the_end(self, end):
        async def main():
            transport, protocol, name = await self.open()
            getattr(transport, end)()
            before = self.loop.stats().datagrams_dropped
            await turns()
            transport.sendmsg([b'late'], (), 0, name)
            transport.sendto_with(b'late', name, ecn=1)
            assert self.loop.stats().datagrams_dropped == before + 2
            assert protocol.errors == []

        self.run(main())

    def test_errors_are_told_as_of_any_send(self):
        async def main():
            transport, protocol, name = await self.open()
            transport.sendmsg([bytes(65_508)], (), 0, name)
            transport.sendto_with(bytes(65_508), name, ecn=1)
            assert [exc.errno for exc in protocol.errors] == [errno.EMSGSIZE] * 2
            assert self.loop.stats().datagrams_dropped == 2
            transport.close()

        self.run(main())

    def test_to_a_fixed_address(self):
        async def main():
            with udp() as peer:
                transport, _ = await self.loop.create_datagram_endpoint(
                    Each, remote_addr=peer.getsockname())
                transport.sendmsg([b'one'])
                transport.sendto_with(b'two', ecn=1)
                assert [await self.loop.sock_recv(peer, 9) for _ in range(2)] == [b'one', b'two']
                with pytest.raises(ValueError, match='Invalid address'):
                    transport.sendmsg([b'three'], (), 0, ('127.0.0.1', 1))
                transport.close()

        self.run(main())


def get_ids():
    """As SCM_CREDENTIALS has them."""
    return os.getpid(), os.getuid(), os.getgid()


on_the_fallback_too(globals(), TestECN, TestAddresses, TestTimes, TestDescriptors, TestDrops,
                    TestAsking, TestGRO, TestOrder)
TestGROFallback.copying = True         # noqa: F821
