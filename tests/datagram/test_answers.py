"""What protocols answer, many peers in one turn: it leaves together, and nobody can tell."""
import asyncio
import contextlib
import errno
import functools
import random
import select
import socket
import struct
import sys
import time

import pytest

from tests.support.cases import UringCase, both_sides
from tests.support.namespaces import Namespace, needs_root
from tests.support.protocols import Recorder
from tests.support.sockets import SO_RCVBUFFORCE, udp
from tests.support.turns import turns, turns_until

IP_PKTINFO, IP_RECVTTL = 8, 12          # linux/in.h
UDP_CORK = 1                            # linux/udp.h
ETH_P_ALL = 3                           # linux/if_ether.h


# Of a group: its address, and the option that says by which interface it is sent to.
GROUPS = {socket.AF_INET: ('224.1.1.9', socket.IPPROTO_IP, socket.IP_MULTICAST_IF),
          socket.AF_INET6: ('ff02::99', socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF)}
LOOPBACKS = {socket.AF_INET: '127.0.0.1', socket.AF_INET6: '::1'}


def option_of(family, index):
    """The value that names an interface by its number."""
    return index if family == socket.AF_INET6 else struct.pack('4s4si', bytes(4), bytes(4), index)


def capturing(device):
    """A socket that has all of IP that comes to the device."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    sock.bind((device, ETH_P_ALL))
    sock.setblocking(False)
    return sock


def captured(sock):
    with contextlib.suppress(BlockingIOError):
        while True:
            yield sock.recv(70_000)


class TwoInterfaces(Namespace):
    """v1 and v2, with w1 and w2 at their far ends."""

    def set_up(self):
        for n in 1, 2:
            self.ip('link', 'add', f'v{n}', 'type', 'veth', 'peer', 'name', f'w{n}')
            for end in f'v{n}', f'w{n}':
                self.ip('link', 'set', end, 'up')
            self.ip('addr', 'add', f'10.77.{n}.1/24', 'dev', f'v{n}')
            self.ip('addr', 'add', f'fd00:77:{n}::1/64', 'dev', f'v{n}', 'nodad')


def readable(sock):
    return select.select([sock], [], [], 0)[0]


class Peer:

    def __init__(self):
        self.sock = udp()
        self.address = self.sock.getsockname()
        self.datagrams = []

    def arrived(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                self.datagrams.append(self.sock.recv(10_000))
        return len(self.datagrams)


class Answering(Recorder):
    """Answers as ``answers`` says: pairs of what, and to whom if that is another."""

    def __init__(self, answers):
        super().__init__()
        self.answers = answers

    def datagram_received(self, data, addr):
        super().datagram_received(data, addr)
        for answer, to in self.answers(data):
            self.transport.sendto(answer, to or addr)


class Peers:

    timeout = 20.0

    @contextlib.contextmanager
    def peers(self, count):
        peers = [Peer() for _ in range(count)]
        yield peers
        for peer in peers:
            peer.sock.close()

    async def answering(self, answers, **how):
        return await self.loop.create_datagram_endpoint(lambda: Answering(answers), **how)

    async def ask(self, transport, peers, questions):
        for question in questions:
            for peer in peers:
                peer.sock.sendto(question, transport.get_extra_info('sockname'))


class _TestAnswers(Peers):

    @pytest.mark.parametrize('given', [False, True])
    @pytest.mark.parametrize('count', [2, 8, 40])
    def test_each_peer_has_all_in_order(self, count, given):
        async def main():
            how = {'sock': udp()} if given else {'local_addr': ('127.0.0.1', 0)}
            transport, _ = await self.answering(
                lambda data: [(data, None), (data * 3, None), (data, None)], **how)
            # A socket of the program's is watched for a thousand answers first.
            for turn in range(8 + given * 1200 // (12 * count)):
                questions = [b'%d %d' % (turn, n) * (1 + n * turn % 5 * 40) for n in range(4)]
                await self.ask(transport, peers, questions)
                await turns_until(lambda: sum(peer.arrived() for peer in peers) == 12 * count)
                for peer in peers:
                    assert peer.datagrams == [
                        answer for data in questions for answer in (data, data * 3, data)]
                    peer.datagrams.clear()
            transport.close()

        with self.peers(count) as peers:
            self.run(main())

    def test_have_left_before_other_callbacks(self):
        missing = []

        def answers(data):
            self.loop.call_soon(lambda: missing.append(
                len(protocol.datagrams) - sum(peer.arrived() for peer in peers)))
            return [(data, None)]

        async def main():
            nonlocal protocol
            transport, protocol = await self.answering(answers, local_addr=('127.0.0.1', 0))
            for turn in range(1, 7):
                await self.ask(transport, peers, [b'%d' % turn])
                await turns_until(lambda turn=turn: len(missing) == 20 * turn)
            assert set(missing) == {0}
            transport.close()

        protocol = None
        with self.peers(20) as peers:
            self.run(main())

    def test_do_not_wait_for_a_protocol_that_takes_long(self):
        missing = []

        def answers(data):
            missing.append(len(protocol.datagrams) - 1 - sum(peer.arrived() for peer in peers))
            time.sleep(0.0005)
            return [(data, None)]

        async def main():
            nonlocal protocol
            transport, protocol = await self.answering(answers, local_addr=('127.0.0.1', 0))
            for turn in range(1, 11):
                await self.ask(transport, peers, [b'x'])
                await turns_until(lambda turn=turn: len(protocol.datagrams) == 8 * turn)
            assert max(missing) <= 1
            transport.close()

        protocol = None
        with self.peers(8) as peers:
            self.run(main())

    def test_errors_are_told_and_cost_no_other(self):
        async def main():
            transport, protocol = await self.answering(
                lambda data: [(data, None), (data, ('127.0.0.1', 0)), (data * 2, None)],
                local_addr=('127.0.0.1', 0))
            for turn in range(1, 7):
                await self.ask(transport, peers, [b'%d' % turn])
                await turns_until(lambda: sum(peer.arrived() for peer in peers) == 24)
                await turns_until(lambda turn=turn: len(protocol.errors) == 12 * turn)
                for peer in peers:
                    assert peer.datagrams == [b'%d' % turn, b'%d' % turn * 2]
                    peer.datagrams.clear()
            assert {exc.errno for exc in protocol.errors} == {errno.EINVAL}
            transport.close()

        with self.peers(12) as peers:
            self.run(main())

    @pytest.mark.parametrize('end', ['close', 'abort'])
    def test_have_left_when_the_protocol_ends_its_transport(self, end):
        def answers(data):
            if len(protocol.datagrams) == 91:
                getattr(protocol.transport, end)()
                return []
            return [(data, None)]

        async def main():
            nonlocal protocol
            transport, protocol = await self.answering(answers, local_addr=('127.0.0.1', 0))
            for turn in range(1, 6):
                await self.ask(transport, peers, [b'x'])
                await turns_until(lambda turn=turn: (
                    protocol.lost or len(protocol.datagrams) == 20 * turn))
            await protocol.until(lambda p: p.lost)
            assert sum(peer.arrived() for peer in peers) == 90

        protocol = None
        with self.peers(20) as peers:
            self.run(main())

    def test_options_may_be_set_for_a_moment(self):
        """And what is set back is never seen to change when something is sent."""
        def answers(data):
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 77)
            yield data, None
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 64)

        async def main():
            transport, _ = await self.answering(answers, sock=sock)
            for peer in peers:
                peer.sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
            for _ in range(20):
                await self.ask(transport, peers, [b'a question'])
                for peer in peers:
                    await turns_until(functools.partial(readable, peer.sock))
                    _, [(_, _, told)], _, _ = peer.sock.recvmsg(100, 100)
                    assert int.from_bytes(told[:4], sys.byteorder) == 77
            transport.close()

        sock = udp()
        with self.peers(20) as peers:
            self.run(main())

    def test_one_datagram_may_be_made_of_two(self):
        """By UDP_CORK, which holds back what is sent until it is taken away."""
        def answers(data):
            sock.setsockopt(socket.IPPROTO_UDP, UDP_CORK, 1)
            yield data, None
            yield data, None
            sock.setsockopt(socket.IPPROTO_UDP, UDP_CORK, 0)

        async def main():
            transport, _ = await self.answering(answers, sock=sock)
            for _ in range(70):
                await self.ask(transport, peers, [b'question'])
                for peer in peers:
                    await turns_until(functools.partial(readable, peer.sock))
                    assert peer.sock.recv(100) == b'questionquestion'
            transport.close()

        sock = udp()
        with self.peers(20) as peers:
            self.run(main())

    @pytest.mark.parametrize('how', ['its own', 'asked for once', 'a second one'])
    def test_options_may_be_set_for_each_peer(self, how):
        """By the program's own object of its socket, where the loop does not see it."""
        def answers(data):
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, int(data))
            return [(data, None)] * 3

        async def main():
            nonlocal sock
            if how == 'a second one':
                transport, _ = await self.answering(answers, local_addr=('127.0.0.1', 0))
                sock = transport.get_extra_info('socket').dup()
            else:
                sock = udp()
                transport, _ = await self.answering(answers, sock=sock)
                if how == 'asked for once':
                    transport.get_extra_info('socket').fileno()
            for peer in peers:
                peer.sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
            for _ in range(8):
                for ttl, peer in enumerate(peers, 20):
                    peer.sock.sendto(b'%d' % ttl, transport.get_extra_info('sockname'))
                for ttl, peer in list(enumerate(peers, 20)) * 3:
                    await turns_until(functools.partial(readable, peer.sock))
                    data, [(_, _, told)], _, _ = peer.sock.recvmsg(100, 100)
                    assert (int(data), int.from_bytes(told[:4], sys.byteorder)) == (ttl, ttl)
            transport.close()
            sock.close()

        sock = None
        with self.peers(20) as peers:
            self.run(main())

    def test_a_socket_may_be_connected_anew(self):
        """By the program, and what was answered before goes to whom it was connected with then."""
        def answers(data):
            if data == b'move':
                sock.connect(other.sock.getsockname())
                return []
            return [(data, sock.getpeername())]

        async def main():
            sock.connect(peer.address)
            transport, protocol = await self.answering(answers, sock=sock)
            for turn in range(60):               # the socket is watched for a thousand answers
                await self.ask(transport, [peer], [b'x'] * 20)
                await protocol.until(lambda p, n=turn: len(p.datagrams) == 20 * n + 20)
                peer.arrived()
            await self.ask(transport, [peer], [b'x'] * 20 + [b'move'])
            await protocol.until(lambda p: len(p.datagrams) == 61 * 20 + 1)
            await turns_until(lambda: peer.arrived() + other.arrived() == 61 * 20)
            assert not other.datagrams
            transport.close()

        sock = udp()
        with self.peers(2) as (peer, other):
            self.run(main())

    @needs_root
    @pytest.mark.parametrize('family', [socket.AF_INET, socket.AF_INET6])
    def test_a_group_may_be_answered_by_each_interface(self, family):
        """Which is set as a number, and not told by ``getsockopt``."""
        group, level, option = GROUPS[family]

        def answers(data):
            for number, value in interfaces.items():
                sock.setsockopt(level, option, value)
                yield b'%d' % number, (group, 5353)

        async def main():
            transport, protocol = await self.answering(answers, sock=sock)
            to = (LOOPBACKS[family], transport.get_extra_info('sockname')[1])
            for turn in range(60):
                for _ in range(20):
                    asking.sendto(b'?', to)
                await protocol.until(lambda p, n=turn: len(p.datagrams) >= 20 * n + 20)
            await turns()
            transport.close()
            for number, capture in captures.items():
                got = [data for data in captured(capture) if data[-1:] in (b'1', b'2')]
                assert got[0][-1:] == b'%d' % number
                assert len({data[-1:] for data in got}) == 1
                assert sum(data[-1:] == b'%d' % number for data in got) == 60 * 20

        with TwoInterfaces() as namespace, contextlib.ExitStack() as stack:
            with namespace.entered():
                captures = {number: stack.enter_context(capturing(f'w{number}'))
                            for number in (1, 2)}
                interfaces = {number: option_of(family, socket.if_nametoindex(f'v{number}'))
                              for number in (1, 2)}
            asking = stack.enter_context(namespace.socket(family))
            sock = namespace.socket(family, ('', 0))
            self.run(main())

    def test_to_thousands_of_addresses(self):
        """As many as no table has room for: each gets its own."""
        async def main():
            transport, _ = await self.answering(
                lambda data: [(data, None)], local_addr=('127.0.0.1', 0))
            to = transport.get_extra_info('sockname')
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                peer.setblocking(False)
                peer.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
                peer.bind(('0.0.0.0', 0))
                hosts = [socket.inet_aton(f'127.{n % 7}.{n // 100}.{1 + n % 100}')
                         for n in range(12_000)]
                for _ in range(2):
                    random.shuffle(hosts)
                    for start in range(0, len(hosts), 100):
                        asked = hosts[start:start + 100]
                        for host in asked:
                            peer.sendmsg([host], [(socket.IPPROTO_IP, IP_PKTINFO, struct.pack(
                                '=i4s4s', 0, host, bytes(4)))], 0, to)
                        answers = []
                        while len(answers) < len(asked):
                            await asyncio.sleep(0)
                            with contextlib.suppress(BlockingIOError):
                                while True:
                                    answers.append(peer.recvmsg(100, 100))
                        for data, [(_, _, told)], _, _ in answers:
                            assert struct.unpack('=i4s4s', told)[2] == data
                        assert [data for data, *_ in answers] == asked
            transport.close()

        self.run(main())


class TestTogether(Peers, UringCase):
    """By one call, which is what it is for."""

    def test_wait_for_one_another(self):
        missing = []

        def answers(data):
            missing.append(len(protocol.datagrams) - 1 - sum(peer.arrived() for peer in peers))
            return [(data, None)]

        async def main():
            nonlocal protocol
            transport, protocol = await self.answering(answers, local_addr=('127.0.0.1', 0))
            while len(missing) < 100 or max(missing) < 2:
                received = len(protocol.datagrams)
                await self.ask(transport, peers, [b'x'])
                await protocol.until(lambda p, n=received: len(p.datagrams) == n + 10)
            transport.close()

        protocol = None
        with self.peers(10) as peers:
            self.run(main())


    @pytest.mark.parametrize('way', ['plain', 'trains'])
    def test_options_may_begin_to_be_set_for_each_peer(self, way):
        """It is noticed, be it a moment later, however the answers leave."""
        class Trains(Answering):
            def datagram_received(self, data, addr):
                if ttls:
                    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttls.pop())
                if way == 'plain':
                    self.transport.sendto(data, addr)
                else:
                    self.transport.sendto_zerocopy(data, addr, segment_size=len(data) // 2)

        async def one_each(expected):
            """Whether each peer's answer has what was set for it."""
            await self.ask(transport, peers, [b'a question'])
            right = True
            for peer, ttl in zip(peers, expected, strict=True):
                for _ in range(1 + (way == 'trains')):
                    await turns_until(functools.partial(readable, peer.sock))
                    _, [(_, _, told)], _, _ = peer.sock.recvmsg(100, 100)
                    right = right and int.from_bytes(told[:4], sys.byteorder) == ttl
            return right

        async def main():
            nonlocal transport
            transport, _ = await self.loop.create_datagram_endpoint(
                lambda: Trains(None), sock=sock)
            for peer in peers:
                peer.sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
            for _ in range(70):
                assert await one_each([64] * 20)
            ttls[:] = expected = list(range(20, 40))
            while not await one_each(expected[::-1]):
                ttls[:] = expected
            transport.close()

        sock, transport, ttls = udp(), None, []
        with self.peers(20) as peers:
            self.run(main())

    def test_leave_at_the_call_once_they_had_to_wait(self):
        """For a protocol that took long over a question behind theirs."""
        missing = []

        def answers(data):
            missing.append(len(protocol.datagrams) - 1 - sum(peer.arrived() for peer in peers))
            if data == b'difficult':
                time.sleep(0.005)
            return [(data, None)]

        async def main():
            nonlocal protocol
            transport, protocol = await self.answering(answers, local_addr=('127.0.0.1', 0))

            async def one_round(asking, question, count):
                received = len(protocol.datagrams)
                await self.ask(transport, asking, [question])
                await protocol.until(lambda p: len(p.datagrams) == received + count)

            while len(missing) < 100 or max(missing[-10:]) < 2:
                await one_round(peers, b'x', 10)
            begin = 0.0
            while not missing or time.monotonic() > begin + 0.5:      # it is for a second
                missing.clear()
                while not missing or missing[-1] == 0:
                    await self.ask(transport, peers[:-1], [b'x'])
                    begin = time.monotonic()
                    await one_round(peers[-1:], b'difficult', 10)
                missing.clear()
                for _ in range(3):
                    await one_round(peers, b'x', 10)
            assert set(missing) == {0}
            transport.close()

        protocol = None
        with self.peers(10) as peers:
            self.run(main())


both_sides(globals(), _TestAnswers)
