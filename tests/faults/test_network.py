"""Networks that fail under load: what was sent arrives or is told of, and the loop goes on."""
import asyncio
import contextlib
import errno
import fcntl
import itertools
import os
import socket
import struct
from pathlib import Path

import pytest

import uringloop
from tests.support.cases import UringCase, on_the_fallback_too
from tests.support.features import needs_feature
from tests.support.load import LONG, SIZE, Load, content, numbers_of, still_alive
from tests.support.namespaces import Namespace, Wire, needs_root
from tests.support.protocols import endpoint
from tests.support.sockets import SO_RCVBUFFORCE, SO_SNDBUFFORCE
from tests.support.streams import MANY_BYTES, Streams
from tests.support.turns import turns, turns_until
from tests.support.wires import roomy_peer

TCP_USER_TIMEOUT = 18                                      # linux/tcp.h
IP_RECVERR, IP_MTU_DISCOVER, IP_PMTUDISC_DO = 11, 10, 2    # linux/in.h
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454ca, 1, 0x1000      # linux/if_tun.h


class Fault:
    """Something that happens to a wire, and its cure; both are arguments of ``ip``."""

    def __init__(self, name, provoke, cure, *told, drains=(), loses=False):
        self.name = name
        self.provoke = provoke.split()
        self.cure = cure.split()
        self.told = set(told)             # by which errnos, to who is not connected
        self.drains = drains              # what waits there is thrown away
        self.loses = loses                # so is what comes while it begins

    async def begin(self, wire):
        """In a thread, so that the loop sends meanwhile."""
        await asyncio.to_thread(wire.ip, *self.provoke)

    async def end(self, wire):
        def cure():
            wire.ip(*self.cure)
            wire.both_ways()

        await asyncio.to_thread(cure)


DOWN = Fault('device down', 'link set wire down', 'link set wire up',
             errno.ENETUNREACH, errno.ENETDOWN, drains=('neighbour', 'queue'), loses=True)
ADDRESS = Fault('address removed', 'addr del 10.98.1.1/24 dev wire',
                'addr add 10.98.1.1/24 dev wire',
                errno.ENETUNREACH, errno.EINVAL, drains=('neighbour',))
ROUTE = Fault('route removed', 'route del 10.98.1.0/24',
              'route add 10.98.1.0/24 dev wire src 10.98.1.1', errno.ENETUNREACH)
REFUSED = Fault('route refused', 'route add unreachable 10.98.1.2',
                'route del unreachable 10.98.1.2', errno.EHOSTUNREACH)
NARROW = Fault('MTU lowered', 'link set wire mtu 1500', 'link set wire mtu 65535')
FAULTS = [DOWN, ADDRESS, ROUTE, REFUSED, NARROW]


def each(*faults):
    return pytest.mark.parametrize('fault', faults, ids=lambda fault: fault.name)


async def unplug(wire):
    """The far end is down: what the device is given is lost without a word."""
    await asyncio.to_thread(wire.far.ip, 'link', 'set', 'wire', 'down')


async def plug_in(wire):
    await asyncio.to_thread(wire.far.ip, 'link', 'set', 'wire', 'up')


def asking(sock, told):
    """A socket that may have asked for errors that others are not told of."""
    if told:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    return sock


class Network(UringCase):
    """Each test has a wire of its own, and a ``load`` from its near end to its far end."""

    timeout = 60.0

    @pytest.fixture(autouse=True)
    def _wire(self, _fresh_loop):
        with Wire() as self.wire:
            self.wire.both_ways()
            yield

    def out(self, connected=False):
        """A socket at this end, with room for all that waits in the kernel."""
        sock = self.wire.socket(address=('10.98.1.1', 0))
        sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 4 << 20)
        if connected:
            sock.connect(self.wire.peer)
        return sock

    async def load(self, sock):
        transport, protocol = await endpoint(sock=sock)
        connected = transport.get_extra_info('peername') is not None
        return Load(transport, protocol, None if connected else self.wire.peer)

    async def under_load(self, fault):
        """All that the kernel has accepted arrives, and all else is told of."""
        receiver, received = await roomy_peer(self.wire)
        load = await self.load(self.out())
        async with load.going_on(None if fault.loses else received):
            await load.more(3)
            await fault.begin(self.wire)
            if fault.told:
                await load.protocol.until(lambda p: p.errors)
            await load.more(5)
            load.others += await still_alive()
            await fault.end(self.wire)
            await load.more(5)
        await load.settled()
        sent, dropped = load.check()
        assert load.errors() <= fault.told
        assert bool(dropped) == bool(fault.told)
        if not fault.loses:
            await received.until(lambda p: len(p.datagrams) >= sent)
            assert len(numbers_of(received.datagrams)) == sent
            assert self.loop.stats().datagrams_received == sent + load.others
        assert len(numbers_of(received.datagrams)) <= sent
        await self.arrives_again(load, received)
        await self.end(load, receiver)

    async def in_flight(self, fault):
        """It happens while the kernel still has what was sent: that comes back, or arrives."""
        receiver, received = await roomy_peer(self.wire)
        load = await self.load(self.out())
        self.wire.hold()
        for _ in range(4):
            load.round()
        await turns(3)
        assert not received.datagrams
        await fault.begin(self.wire)
        for _ in range(3):
            load.round()
        if fault.told:
            await load.protocol.until(lambda p: p.errors)
        load.others += await still_alive()
        await fault.end(self.wire)
        await load.settled()
        sent, dropped = load.check()
        assert load.errors() <= fault.told
        assert bool(dropped) == bool(fault.told)
        if 'neighbour' not in fault.drains:
            await received.until(lambda p: len(p.datagrams) >= sent)
        assert len(numbers_of(received.datagrams)) <= sent
        await self.arrives_again(load, received)
        await self.end(load, receiver)

    async def arrives_again(self, load, received):
        """The path is whole: what is sent now comes."""
        before = len(received.datagrams)
        load.round()
        await load.settled()
        await received.until(lambda p: len(p.datagrams) > before)

    async def end(self, load, receiver):
        await load.close()
        receiver.close()
        await turns()
        assert not self.problems


@needs_root
class TestUnderLoad(Network):

    @each(*FAULTS)
    def test_all_that_was_accepted_arrives_and_all_else_is_told(self, fault):
        self.run(self.under_load(fault))

    @each(*FAULTS)
    def test_of_a_connected_socket(self, fault):
        """Which is told of what the network has answered, too."""
        async def main():
            receiver, received = await roomy_peer(self.wire)
            load = await self.load(self.out(connected=True))
            async with load.going_on():
                await received.until(lambda p: len(p.datagrams) > 100)
                await fault.begin(self.wire)
                if fault.told:
                    await turns_until(load.errors)
                await load.more(5)
                load.others += await still_alive()
                await fault.end(self.wire)
                before = len(received.datagrams)
                await received.until(lambda p: len(p.datagrams) > before + 100)
            await load.settled()
            sent, _ = load.check()
            assert load.errors() <= fault.told
            assert len(numbers_of(received.datagrams)) <= sent
            await self.arrives_again(load, received)
            await self.end(load, receiver)

        self.run(main())

    @each(DOWN, REFUSED)
    def test_of_calls_on_sockets(self, fault):
        """What a call of ``sock_*`` has returned for has left; what it has not sent it raises."""
        async def main():
            receiver, received = await roomy_peer(self.wire)
            others, told, sent = 0, set(), set()
            numbers, over = itertools.count(), False

            async def call(method, size, count=1, **how):
                several = [next(numbers) for _ in range(count)]
                data = b''.join(content(number, size) for number in several)
                try:
                    await method(sock, data, self.wire.peer, **how)
                except OSError as exc:
                    told.add(exc.errno)
                else:
                    sent.update(several)

            async def calls():
                while not over:
                    await call(self.loop.sock_sendto, SIZE)
                    await call(self.loop.sock_sendto, LONG)
                    await call(self.loop.sock_sendto_zerocopy, LONG)
                    await call(self.loop.sock_sendto_zerocopy, SIZE, 10, segment_size=SIZE)
                    await asyncio.sleep(0)

            with self.out() as sock:
                calling = asyncio.ensure_future(calls())
                await received.until(lambda p: len(p.datagrams) > 50)
                await fault.begin(self.wire)
                await turns_until(lambda: told)
                others += await still_alive()
                await fault.end(self.wire)
                before = len(received.datagrams)
                await received.until(lambda p: len(p.datagrams) > before + 50)
                over = True
                await calling
            left = self.loop.stats().datagrams_sent - others
            assert told <= fault.told
            if not fault.loses:
                await received.until(lambda p: len(p.datagrams) >= left)
                assert sent <= numbers_of(received.datagrams)
            assert len(numbers_of(received.datagrams)) <= left
            await turns_until(lambda: self.loop.stats().bytes_pinned == 0)
            receiver.close()
            await turns()

        self.run(main())

    def test_the_far_end_is_down(self):
        """Nobody is told, for the device takes all; but buffers come back."""
        async def main():
            receiver, received = await roomy_peer(self.wire)
            load = await self.load(self.out())
            async with load.going_on():
                await received.until(lambda p: len(p.datagrams) > 100)
                await unplug(self.wire)
                await load.more(10)
                load.others += await still_alive()
                await plug_in(self.wire)
                before = len(received.datagrams)
                await received.until(lambda p: len(p.datagrams) > before + 100)
            await load.settled()
            assert load.check() == (load.handed, 0)
            assert len(numbers_of(received.datagrams)) < load.handed
            await self.end(load, receiver)

        self.run(main())

    def test_too_long_for_the_path(self):
        """The MTU falls, and nothing may be fragmented: only the long ones are told of."""
        async def main():
            receiver, received = await roomy_peer(self.wire)
            sock = self.out()
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
            load = await self.load(sock)
            async with load.going_on(received):
                await load.more(3)
                await NARROW.begin(self.wire)
                await load.protocol.until(lambda p: len(p.errors) >= 10)
                load.others += await still_alive()
                await NARROW.end(self.wire)
                await load.more(3)
            sent, dropped = load.check()
            assert load.errors() == {errno.EMSGSIZE}
            await received.until(lambda p: len(p.datagrams) >= sent)
            arrived = numbers_of(received.datagrams)
            missing = set(range(load.handed)) - arrived
            assert missing <= load.long
            assert (len(arrived), len(missing)) == (sent, dropped)
            await self.end(load, receiver)

        self.run(main())

    def test_who_receives(self):
        """An endpoint whose device goes hears nothing meanwhile, and is not ended by that."""
        async def main():
            answers, heard = await endpoint(sock=self.out())
            asks, _ = await endpoint(sock=self.wire.far.socket(address=self.wire.peer))
            name = answers.get_extra_info('sockname')

            async def ask():
                while True:
                    for size in 100, LONG:
                        asks.sendto(bytes(size), name)
                    await asyncio.sleep(0)

            asking = asyncio.ensure_future(ask())
            for fault in DOWN, ADDRESS:
                await heard.until(lambda p: len(p.datagrams) > 100)
                await fault.begin(self.wire)
                await still_alive()
                heard.datagrams.clear()
                await turns(20)
                assert not heard.datagrams
                await fault.end(self.wire)
            await heard.until(lambda p: len(p.datagrams) > 100)
            asking.cancel()
            assert set(map(len, heard.datagrams)) == {100, LONG}
            assert not heard.errors
            for transport in answers, asks:
                transport.close()
            await turns()
            assert not self.problems

        self.run(main())


@needs_root
class TestInFlight(Network):
    """What the kernel still has when something happens to the network."""

    @each(*FAULTS)
    def test_waiting_for_the_neighbour(self, fault):
        self.run(self.in_flight(fault))

    @each(*FAULTS)
    def test_waiting_in_the_devices_queue(self, fault):
        async def main():
            receiver, received = await roomy_peer(self.wire)
            load = await self.load(self.out())
            self.wire.queue('wire', 'tbf', 'rate', '400mbit', 'burst', '200k', 'limit', '64m')
            async with load.going_on():
                await load.more(4)
                await fault.begin(self.wire)
                if fault.told:
                    await load.protocol.until(lambda p: p.errors)
            load.others += await still_alive()
            await fault.end(self.wire)
            await load.settled()
            sent, dropped = load.check()
            assert load.errors() <= fault.told
            assert bool(dropped) == bool(fault.told)
            if 'queue' not in fault.drains:
                await received.until(lambda p: len(p.datagrams) >= sent)
            assert len(numbers_of(received.datagrams)) <= sent
            await self.arrives_again(load, received)
            await self.end(load, receiver)

        self.run(main())

    @pytest.mark.parametrize('how', ['close', 'abort'])
    def test_the_transport_ends_meanwhile(self, how):
        """With a full socket, and a neighbour that is silent: also what is sent too late counts."""
        async def main():
            sock = self.wire.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 60_000)
            load = await self.load(sock)
            self.wire.hold()
            for _ in range(4):
                load.round()
            await turns(3)
            assert load.waiting()
            before = load.handed
            getattr(load.transport, how)()
            load.round()
            load.others += await still_alive()
            if how == 'abort':
                await load.protocol.until(lambda p: p.lost)
            await asyncio.to_thread(self.wire.release)
            await load.protocol.until(lambda p: p.lost)
            await load.settled()
            sent, dropped = load.sent(), load.dropped()
            assert sent + dropped == load.handed
            # Until all that waits has left ``close`` takes more, as asyncio's.
            assert (dropped > load.handed - before) if how == 'abort' else not dropped
            await load.close()
            assert not load.protocol.errors
            assert not self.problems

        self.run(main())

    @pytest.mark.parametrize('told', [False, True])
    def test_the_neighbour_never_answers(self, told):
        """The kernel gives up: it lets go of all, and tells who has asked for errors."""
        async def main():
            load = await self.load(asking(self.out(), told))
            self.wire.hold()
            with self.wire.entered():
                path = Path('/proc/sys/net/ipv4/neigh/wire')
                (path / 'mcast_solicit').write_text('1')
                (path / 'retrans_time_ms').write_text('20')
            for _ in range(3):
                load.round()
            load.others += await still_alive()
            if told:
                await load.protocol.until(lambda p: p.errors)
            await load.settled()
            assert load.errors() == ({errno.EHOSTUNREACH} if told else set())
            sent, dropped = load.sent(), load.dropped()
            assert sent + dropped == load.handed
            assert told or not dropped
            self.wire.release()
            receiver, received = await roomy_peer(self.wire)
            await turns(3)
            await self.arrives_again(load, received)
            await self.end(load, receiver)

        self.run(main())


@needs_root
@pytest.mark.parametrize('told', [False, True])
class TestNoBufferSpace(Network):
    """A device's queue is full (ENOBUFS).

    Who has asked for errors (IP_RECVERR) is told of each datagram that did not fit; others are
    not, and it counts as sent: that is the kernel's way.
    """

    def test_a_small_queue(self, told):
        async def main():
            receiver, received = await roomy_peer(self.wire)
            load = await self.load(asking(self.out(), told))
            self.wire.queue('wire', 'tbf', 'rate', '40mbit', 'burst', '100k', 'limit', '120k')
            async with load.going_on():
                await load.more(20)
                load.others += await still_alive()
            await load.settled()
            sent, dropped = load.check()
            if told:
                assert load.errors() == {errno.ENOBUFS}
                await received.until(lambda p: len(p.datagrams) >= sent)
                assert len(numbers_of(received.datagrams)) == sent
            else:
                assert (sent, dropped) == (load.handed, 0)
                assert len(numbers_of(received.datagrams)) < sent
            await self.arrives_again(load, received)
            await self.end(load, receiver)

        self.run(main())

    @pytest.mark.parametrize('way', ['plain', 'queue', 'train'])
    def test_members_of_a_group_on_this_machine(self, told, way):
        """They have a copy of what the device then refuses: it is not to be sent once more."""
        class Protocol(uringloop.DatagramProtocol):
            errors = 0

            def error_received(self, exc):
                assert exc.errno == errno.ENOBUFS
                self.errors += 1

        class Queue(Protocol):
            def datagram_errqueue_received(self, data, ancdata, flags, addr):
                pass

        async def main():
            wire = self.wire
            wire.ip('route', 'add', '224.0.0.0/4', 'dev', 'wire')
            wire.queue('wire', 'tbf', 'rate', '1mbit', 'burst', '3000', 'limit', '3000')
            member = wire.socket(address=group)
            member.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
            member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                              socket.inet_aton(group[0]) + socket.inet_aton('10.98.1.1'))
            transport, protocol = await self.loop.create_datagram_endpoint(
                Queue if way == 'queue' else Protocol,
                sock=asking(wire.socket(address=('10.98.1.1', 0)), told))
            futures = []
            for number in range(20):
                data = [b'%06d' % (10 * number + n) + bytes(1000) for n in range(10)]
                if way == 'train':
                    futures.append(transport.sendto_zerocopy(
                        b''.join(data), group, segment_size=1006))
                else:
                    for each in data:
                        transport.sendto(each, group)
                await turns()
            outcomes = await asyncio.gather(*futures, return_exceptions=True)
            refused = sum(isinstance(each, OSError) for each in outcomes) or protocol.errors
            assert (refused > 0) == (told or way == 'queue')
            seen = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    seen.append(member.recv(2000)[:6])
            assert seen == sorted(set(seen))
            transport.abort()
            await turns()
            member.close()

        group = '224.1.1.9', 5000
        self.run(main())

    @pytest.mark.skipif(not os.path.exists('/dev/net/tun'), reason='there is no tun device')
    def test_a_tun_device_that_nobody_reads(self, told):
        async def main():
            transport, protocol = await endpoint(sock=asking(namespace.socket(), told))
            load = Load(transport, protocol, ('10.97.1.2', 9))
            for _ in range(3):
                load.round()
            load.others += await still_alive()
            await load.settled()
            sent, dropped = load.check()
            assert sent > 0
            assert load.errors() == ({errno.ENOBUFS} if told else set())
            assert (dropped > 0) == told
            await load.close()

        with Namespace() as namespace, contextlib.ExitStack() as stack:
            with namespace.entered():
                tun = os.open('/dev/net/tun', os.O_RDWR)
                stack.callback(os.close, tun)
                fcntl.ioctl(tun, TUNSETIFF, struct.pack(
                    '16sH22x', b'tun0', IFF_TUN | IFF_NO_PI))
            namespace.ip('link', 'set', 'tun0', 'txqueuelen', 4, 'mtu', 65535)
            namespace.queue('tun0', 'noqueue')
            namespace.ip('link', 'set', 'tun0', 'up')
            namespace.ip('addr', 'add', '10.97.1.1/24', 'dev', 'tun0')
            self.run(main())


@needs_root
class TestStreams(Streams, Network):

    async def connected(self):
        """Both ends of a connection over the wire."""
        with self.wire.far.entered():
            listener = socket.create_server(('10.98.1.2', 0))
        with self.wire.entered():
            near = socket.socket()
        for sock in listener, near:
            sock.setblocking(False)
            self.sockets.append(sock)
        accepting = asyncio.ensure_future(self.loop.sock_accept(listener))
        await self.loop.sock_connect(near, listener.getsockname())
        far, _ = await accepting
        return await self.open(near), await self.open(far)

    @each(*FAULTS)
    def test_all_that_was_written_arrives(self, fault):
        """TCP waits: nothing is told, and what was written comes once the network is back."""
        async def main():
            near, far = await self.connected()
            near.transport.write(MANY_BYTES)
            far.transport.write(MANY_BYTES)
            await far.until_length(200_000)
            await fault.begin(self.wire)
            await still_alive()
            near.transport.write(b'behind')
            await fault.end(self.wire)
            await far.until_length(len(MANY_BYTES) + 6)
            await near.until_length(len(MANY_BYTES))
            assert far.data == MANY_BYTES + b'behind'
            assert near.data == MANY_BYTES
            await turns_until(lambda: self.loop.stats().bytes_pinned == 0)
            assert not self.problems

        self.run(main())

    def test_a_peer_that_never_answers_is_told_in_time(self):
        """TCP_USER_TIMEOUT: the connection ends by ETIMEDOUT, and with it what was written."""
        async def main():
            near, far = await self.connected()
            near.transport.get_extra_info('socket').setsockopt(
                socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 300)
            near.transport.write(MANY_BYTES)
            await far.until_length(200_000)
            await unplug(self.wire)
            near.transport.write(MANY_BYTES)
            await still_alive()
            assert isinstance(await near.until_lost(), TimeoutError)
            assert near.transport.get_write_buffer_size() == 0
            await turns_until(lambda: self.loop.stats().bytes_pinned == 0)
            assert bytes(far.data) == MANY_BYTES[:len(far.data)]
            assert not self.problems

        self.run(main())


@needs_root
class TestTinyRing(Network):
    """The same with a ring of two entries."""

    def new_loop(self):
        return uringloop.new_event_loop(require_uring=True, entries=2)

    @each(DOWN, NARROW)
    def test_under_load(self, fault):
        self.run(self.under_load(fault))

    @each(DOWN, ROUTE)
    def test_in_flight(self, fault):
        self.run(self.in_flight(fault))


@needs_root
class TestOverflow(Network):

    def new_loop(self):
        return uringloop.new_event_loop(require_uring=True, entries=1)

    @needs_feature('send_zc')
    def test_more_notifications_at_once_than_there_is_room_for(self):
        async def main():
            receiver, received = await roomy_peer(self.wire)
            transport, protocol = await endpoint(sock=self.out())
            self.wire.hold()
            futures = [transport.sendto_zerocopy(bytearray(2000), self.wire.peer)
                       for _ in range(300)]
            await turns(5)
            assert not any(future.done() for future in futures)
            assert self.loop.stats().bytes_pinned == 600_000
            self.wire.release()
            await asyncio.wait(futures)
            assert {future.result().nbytes for future in futures} == {2000}
            stats = self.loop.stats()
            assert (stats.bytes_pinned, stats.buffers_released) == (0, 300)
            assert stats.cq_overflows > 0
            await received.until(lambda p: len(p.datagrams) == 300)
            await still_alive()
            transport.close()
            receiver.close()
            await turns()
            assert not protocol.errors

        self.run(main())


on_the_fallback_too(globals(), TestUnderLoad, TestNoBufferSpace)
