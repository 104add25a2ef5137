"""The error queue (IP_RECVERR): what the network says of what was sent."""
import asyncio
import errno
import socket
import struct
import time

import pytest

import uringloop
from tests.support.cases import UringCase, on_the_fallback_too, only_uring
from tests.support.namespaces import Namespace, needs_root
from tests.support.sockets import bound, deserted, needs_ipv6, udp, unix_pair
from tests.support.turns import turns
from tests.support.wires import roomy_peer

IP_MTU_DISCOVER, IP_RECVERR = 10, 11                # linux/in.h
IP_PMTUDISC_DO, IP_PMTUDISC_PROBE, IP_PMTUDISC_INTERFACE = 2, 3, 4
IPV6_MTU_DISCOVER, IPV6_RECVERR, IPV6_DONTFRAG = 23, 25, 62         # linux/in6.h
WHOLE = IP_PMTUDISC_DO, IP_PMTUDISC_PROBE, IP_PMTUDISC_INTERFACE
SO_TIMESTAMPING = 37                                # asm-generic/socket.h
TX_SOFTWARE, SOFTWARE, TSONLY = 1 << 1, 1 << 4, 1 << 11         # SOF_TIMESTAMPING_...
LOCAL, ICMP, ICMP6, TIMESTAMPING = 1, 2, 3, 4       # SO_EE_ORIGIN_...


class Recorder(uringloop.DatagramProtocol):

    def __init__(self):
        self.got = []
        self.errors = []
        self.changed = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.got.append(data)
        self.changed.set()

    def error_received(self, exc):
        self.errors.append(exc)
        self.changed.set()

    async def until(self, condition):
        while not condition(self):
            self.changed.clear()
            await self.changed.wait()


class Queue(Recorder):

    def __init__(self):
        super().__init__()
        self.queue = []

    def datagram_errqueue_received(self, data, ancdata, flags, addr):
        assert flags & socket.MSG_ERRQUEUE
        self.queue.append((data, ancdata, addr))
        self.changed.set()


def error_of(ancdata):
    """``(errno, origin, info)`` of what the error queue has told."""
    [error] = [data for level, kind, data in ancdata
               if (level, kind) in {(socket.IPPROTO_IP, IP_RECVERR),
                                    (socket.IPPROTO_IPV6, IPV6_RECVERR)}]
    number, origin, _, _, _, info, _ = struct.unpack_from('IBBBBII', error)
    return number, origin, info


class WithErrors(UringCase):

    async def open(self, kind=Queue, **options):
        return await self.loop.create_datagram_endpoint(
            kind, **(options or {'local_addr': ('127.0.0.1', 0)}))


class TestRefused(WithErrors):

    def test_of_whom(self):
        """Of a socket that is not connected, and so hears of nothing otherwise."""
        async def main():
            transport, protocol = await self.open()
            gone = [deserted(), deserted()]
            for n, to in enumerate(gone * 2):
                transport.sendto(b'are you there, %d?' % n, to)
                await protocol.until(lambda p: len(p.queue) == n + 1)  # noqa: B023
            assert [(data, addr) for data, _, addr in protocol.queue] == [
                (b'are you there, %d?' % n, to) for n, to in enumerate(gone * 2)]
            assert {error_of(ancdata) for _, ancdata, _ in protocol.queue} == {
                (errno.ECONNREFUSED, ICMP, 0)}
            assert protocol.errors == []
            transport.close()

        self.run(main())

    @needs_ipv6
    @pytest.mark.parametrize('host', ['::1', '::ffff:127.0.0.1'])
    def test_ipv6(self, host):
        async def main():
            sock, gone = (socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(2))
            for each in sock, gone:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                each.bind(('::', 0))
            sock.setblocking(False)
            transport, protocol = await self.open(sock=sock)
            port = gone.getsockname()[1]
            gone.close()
            transport.sendto(b'are you there?', (host, port))
            await protocol.until(lambda p: p.queue)
            [(data, ancdata, addr)] = protocol.queue
            assert (data, addr[:2]) == (b'are you there?', (host, port))
            assert error_of(ancdata)[:2] == (errno.ECONNREFUSED, ICMP6 if host == '::1' else ICMP)
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('way', ['sendto', 'sendto_with', 'sendmsg'])
    def test_the_error_of_another_costs_no_datagram(self, way):
        """The kernel answers the next send with it, and does not try that."""
        async def main():
            transport, protocol = await self.open()
            gone = deserted()
            with udp() as peer:
                for n in range(3):
                    transport.sendto(b'are you there?', gone)
                    data = [b'%d' % n] if way == 'sendmsg' else b'%d' % n
                    getattr(transport, way)(data, addr=peer.getsockname())
                    assert peer.recv(100) == b'%d' % n
                await protocol.until(lambda p: len(p.queue) == 3)
                # Nor one of a bulk, or of a train.
                for length in 100, 1000:
                    for n in range(20):
                        if n % 7 == 6:
                            transport.sendto(b'are you there?', gone)
                        data = b'%d' % n + bytes(length)
                        getattr(transport, way)([data] if way == 'sendmsg' else data,
                                                addr=peer.getsockname())
                    train = [b'%04d' % n for n in range(10)]
                    transport.sendto(b'are you there?', gone)
                    transport.sendto_many(train, peer.getsockname())
                    for n in range(20):
                        assert await self.loop.sock_recv(peer, 2000) == b'%d' % n + bytes(length)
                    assert [await self.loop.sock_recv(peer, 100) for _ in train] == train
            assert protocol.errors == []
            assert self.loop.stats().datagrams_dropped == 0
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('what', ['long', 'lease', 'many', 'bulk'])
    def test_the_error_of_another_costs_nothing_sent_without_copying(self, what):
        async def main():
            transport, protocol = await self.open()
            pool = self.loop.create_buffer_pool(4, 2000)
            gone = deserted()
            with udp() as peer:
                here = peer.getsockname()
                count = 5 if what in {'many', 'bulk'} else 1
                for n in range(3):
                    transport.sendto(b'are you there?', gone)
                    if what == 'many':
                        transport.sendto_many([bytes(20_000)] * count, here)
                    elif what == 'lease':
                        with pool.acquire_nowait() as lease:
                            transport.sendto(lease, here)
                    else:
                        for _ in range(count):
                            transport.sendto(bytes(20_000), here)
                    await protocol.until(lambda p: len(p.queue) == n + 1)  # noqa: B023
                    for _ in range(count):
                        assert len(peer.recv(65536)) == (2000 if what == 'lease' else 20_000)
            assert protocol.errors == []
            transport.close()
            await pool.close()

        self.run(main())

    def test_of_a_bulk_each_by_itself(self):
        """A train would come back as one datagram, which nobody has sent."""
        async def main():
            transport, protocol = await self.open()
            gone = deserted()
            for _ in range(3):                     # so that the loop expects a bulk
                for n in range(16):
                    transport.sendto(b'%05d' % n, gone)
                await asyncio.sleep(0)
            transport.sendto_many([b'%05d' % n for n in range(16)], gone)
            await protocol.until(lambda p: len(p.queue) == 64)
            assert [data for data, _, _ in protocol.queue] == [b'%05d' % n for n in range(16)] * 4
            transport.close()

        self.run(main())

    @only_uring                # asyncio's loop spins
    def test_a_program_that_sets_the_option_itself(self):
        """Without the method: ``error_received`` as ever, and no spinning."""
        async def main():
            transport, protocol = await self.open(Recorder)
            transport.get_extra_info('socket').setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            transport.sendto(b'are you there?', deserted())
            await protocol.until(lambda p: p.errors)
            assert [exc.errno for exc in protocol.errors] == [errno.ECONNREFUSED]
            with udp() as peer:
                peer.sendto(b'I am', transport.get_extra_info('sockname'))
                await protocol.until(lambda p: p.got)
            # The error stays in the queue.  An idle loop enters the kernel, and sleeps there.
            before = self.loop.stats().syscalls
            await asyncio.sleep(0.05)
            assert self.loop.stats().syscalls - before < 5
            # Someone who takes it is told of it, with the next one.
            queue = Queue()
            queue.connection_made(transport)
            transport.set_protocol(queue)
            transport.sendto(b'and you?', deserted())
            await queue.until(lambda p: len(p.queue) == 2)
            assert [data for data, _, _ in queue.queue] == [b'are you there?', b'and you?']
            transport.close()

        self.run(main())

    def test_without_the_method_nothing_is_asked_for(self):
        async def main():
            transport, _ = await self.open(Recorder)
            sock = transport.get_extra_info('socket')
            assert sock.getsockopt(socket.IPPROTO_IP, IP_RECVERR) == 0
            transport.set_protocol(Queue())
            assert sock.getsockopt(socket.IPPROTO_IP, IP_RECVERR) == 1
            transport.close()

        self.run(main())

    def test_many(self):
        """More than a turn has, and datagrams between them."""
        async def main():
            transport, protocol = await self.open()
            # With the packet, behind the headers of Ethernet, IP and UDP.
            transport.get_extra_info('socket').setsockopt(
                socket.SOL_SOCKET, SO_TIMESTAMPING, TX_SOFTWARE | SOFTWARE)
            name = transport.get_extra_info('sockname')
            with udp() as peer:
                for n in range(100):
                    transport.sendto(b'%d' % n, peer.getsockname())
                    peer.sendto(b'%d' % n, name)
                await protocol.until(lambda p: len(p.got) == len(p.queue) == 100)
            assert protocol.got == [b'%d' % n for n in range(100)]
            assert [data[42:] for data, _, _ in protocol.queue] == protocol.got
            transport.close()

        self.run(main())

    @only_uring                # asyncio's loop spins
    def test_its_socket_is_closed_by_who_is_told(self):
        """The number is another socket's by then: what comes for that is not read."""
        class Closes(Queue):
            other = None

            def datagram_errqueue_received(self, data, ancdata, flags, addr):
                super().datagram_errqueue_received(data, ancdata, flags, addr)
                if self.other is None:
                    number = sock.fileno()
                    sock.close()
                    self.other = bound()
                    assert self.other.fileno() == number
                    with udp() as peer:
                        peer.sendto(b'for the other', self.other.getsockname())

        async def main():
            transport, protocol = await self.open(Closes, sock=sock)
            gone = [deserted() for _ in range(5)]
            for to in gone:
                transport.sendto(b'are you there?', to)
            await protocol.until(lambda p: p.queue)
            await turns()
            assert protocol.got == []
            assert protocol.other.recv(100) == b'for the other'
            transport.abort()
            await turns()
            protocol.other.close()

        sock = udp()
        self.run(main())

    def test_another_protocol_in_the_midst(self):
        """One that takes no queue hears of none from then on, and costs what is in it."""
        class Changes(Queue):
            def datagram_errqueue_received(self, data, ancdata, flags, addr):
                super().datagram_errqueue_received(data, ancdata, flags, addr)
                if len(self.queue) == 1:
                    self.transport.set_protocol(plain)

        async def main():
            transport, protocol = await self.open(Changes)
            gone = [deserted() for _ in range(5)]
            for to in gone:
                transport.sendto(b'are you there?', to)
            while not protocol.queue:
                await asyncio.sleep(0)
            await turns()
            transport.set_protocol(protocol)
            transport.sendto(b'and you?', gone[0])
            await protocol.until(lambda p: len(p.queue) == 2)
            assert [data for data, *_ in protocol.queue] == [b'are you there?', b'and you?']
            assert len(plain.errors) <= 1        # which the socket had by then
            transport.close()

        plain = Recorder()
        self.run(main())

    def test_a_protocol_that_comes_while_reading_is_paused(self):
        self.needs_pausing()

        async def main():
            transport, _ = await self.open(Recorder)
            transport.get_extra_info('socket').setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            transport.sendto(b'are you there?', deserted())
            await turns()
            transport.pause_reading()
            transport.set_protocol(queue := Queue())
            transport.resume_reading()
            await queue.until(lambda p: p.queue)
            transport.close()

        self.run(main())

    def test_more_and_more(self):
        """What is received has its turn, however many errors there are."""
        async def main():
            transport, protocol = await self.open()
            gone = deserted()
            with udp() as peer:
                for n in range(20):
                    peer.sendto(b'%d' % n, transport.get_extra_info('sockname'))
                while len(protocol.got) < 20:
                    for _ in range(40):
                        transport.sendto(b'are you there?', gone)
                    await asyncio.sleep(0)
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('connected', [True, False])
    def test_none_of_many_is_told_twice(self, connected):
        """The socket has the next one's error, too, once more than a turn's have been read."""
        async def main():
            gone = deserted()
            transport, protocol = await (
                self.open(remote_addr=gone) if connected else self.open())
            for _ in range(100):
                transport.sendto(b'are you there?', None if connected else gone)
            await protocol.until(lambda p: len(p.queue) + len(p.errors) >= 100)
            await turns()
            assert (len(protocol.queue), protocol.errors) == (100, [])
            transport.close()

        self.run(main())

    def test_datagrams_come_though_errors_come_as_fast(self):
        """At each error something is sent that fails, too."""
        class Resends(Queue):
            def datagram_errqueue_received(self, data, ancdata, flags, addr):
                self.transport.sendto(data, gone)

        async def main():
            transport, protocol = await self.open(Resends)
            for _ in range(2):
                transport.sendto(b'are you there?', gone)
            with udp() as peer:
                for n in range(20):
                    peer.sendto(b'%d' % n, transport.get_extra_info('sockname'))
                await protocol.until(lambda p: len(p.got) == 20)
            transport.close()

        gone = deserted()
        self.run(main())

    @pytest.mark.parametrize('end', ['close', 'abort', 'pause'])
    def test_ended_in_the_midst(self, end):
        class Ends(Queue):

            def datagram_errqueue_received(self, data, ancdata, flags, addr):
                super().datagram_errqueue_received(data, ancdata, flags, addr)
                if end == 'pause':
                    self.transport.pause_reading()
                else:
                    getattr(self.transport, end)()

        async def main():
            transport, protocol = await self.open(Ends)
            gone = [deserted() for _ in range(5)]
            for to in gone:
                transport.sendto(b'are you there?', to)
            await protocol.until(lambda p: p.queue)
            await turns()
            assert len(protocol.queue) == 1
            while end == 'pause' and len(protocol.queue) + len(protocol.errors) < 5:
                count = len(protocol.queue)
                transport.resume_reading()
                await protocol.until(lambda p: len(p.queue) > count)  # noqa: B023
            transport.close()
            await turns()

        self.needs_pausing()
        self.run(main())

    def test_an_exception_is_reported(self):
        class Fails(Queue):

            def datagram_errqueue_received(self, *told):
                super().datagram_errqueue_received(*told)
                raise ZeroDivisionError

        async def main():
            transport, protocol = await self.open(Fails)
            for n in 1, 2:
                transport.sendto(b'are you there?', deserted())
                await protocol.until(lambda p: len(p.queue) == n)  # noqa: B023
            transport.close()

        self.run(main())
        assert [type(context['exception']) for context in self.problems] == [ZeroDivisionError] * 2

    def test_a_protocol_that_takes_none_follows(self):
        """The socket is as it would be without the one before."""
        async def main():
            transport, _ = await self.loop.create_datagram_endpoint(
                Queue, local_addr=('127.0.0.1', 0))
            gone = deserted()
            transport.sendto(b'an error that nobody has been told of yet', gone)
            transport.set_protocol(follows := Recorder())
            assert not transport.get_extra_info('socket').getsockopt(socket.IPPROTO_IP, IP_RECVERR)
            with udp() as peer:
                transport.sendto(b'first', peer.getsockname())
                assert await self.loop.sock_recv(peer, 100) == b'first'
                # So many errors would take all of the room for what comes.
                for n in range(1000):
                    transport.sendto(b'x', gone)
                    transport.sendto(b'%d' % n, peer.getsockname())
                    assert await self.loop.sock_recv(peer, 100) == b'%d' % n
                peer.sendto(b'here', transport.get_extra_info('sockname'))
                await follows.until(lambda p: p.got)
            assert not follows.errors
            transport.close()
            await turns()
            transport.set_protocol(Queue())

        self.run(main())

    def test_what_a_program_has_set_itself_stays(self):
        """And what nobody takes then does not make it spin."""
        async def main():
            sock = udp()
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            transport, _ = await self.loop.create_datagram_endpoint(Queue, sock=sock)
            transport.set_protocol(follows := Recorder())
            assert sock.getsockopt(socket.IPPROTO_IP, IP_RECVERR) == 1
            transport.sendto(b'x', deserted())
            await follows.until(lambda p: p.errors)
            await turns()
            begin = time.process_time()
            await asyncio.sleep(0.05)
            assert time.process_time() - begin < 0.03
            transport.close()
            await turns()

        self.run(main())

    @needs_ipv6
    @pytest.mark.parametrize('its_own', [(), (41,), (0,), (0, 41)])
    def test_each_option_is_taken_back_that_was_set(self, its_own):
        async def main():
            sock = bound(socket.AF_INET6, ('::1', 0))
            options = {0: (socket.IPPROTO_IP, IP_RECVERR), 41: (socket.IPPROTO_IPV6, IPV6_RECVERR)}
            for level in its_own:
                sock.setsockopt(*options[level], 1)
            transport, _ = await self.loop.create_datagram_endpoint(Queue, sock=sock)
            assert all(sock.getsockopt(*option) for option in options.values())
            transport.set_protocol(Recorder())
            assert [level for level, option in options.items() if sock.getsockopt(*option)] == \
                list(its_own)
            transport.close()
            await turns()

        self.run(main())


class TestFullSocket(WithErrors):

    @needs_root
    @pytest.mark.parametrize('kind', [Recorder, Queue])
    def test_an_error_in_the_queue_does_not_make_it_spin(self, wire, kind):
        """A poll for room tells of it at any time."""
        async def main():
            sock = wire.socket(address=('10.98.1.1', 0))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 30_000)
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, TX_SOFTWARE | SOFTWARE | TSONLY)
            receiver, received = await roomy_peer(wire)
            transport, protocol = await self.open(kind, sock=sock)
            # To itself: what stays in the queue, or comes.
            transport.sendto(b'here', sock.getsockname())
            await protocol.until(lambda p: p.got)
            wire.hold()
            while not transport.get_write_buffer_size():
                transport.sendto(bytes(10_000), wire.peer)
            await turns()
            before = self.loop.stats().syscalls
            await asyncio.sleep(0.1)
            assert self.loop.stats().syscalls - before < 10
            assert transport.get_write_buffer_size()
            wire.release()
            await received.until(lambda p: p.datagrams)
            while transport.get_write_buffer_size():
                await asyncio.sleep(0)
            if kind is Queue:
                await protocol.until(lambda p: len(p.queue) > 3)
            transport.close()
            receiver.close()

        try:
            self.run(main())
        finally:
            wire.release()


class TestNobodyReads(WithErrors):
    """The socket has no room, and errors in its queue that nobody is to be told of now."""

    async def full(self, wire, kind):
        """Reading is paused; there are three stamps in the queue, and a datagram."""
        sock = wire.socket(address=('10.98.1.1', 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 30_000)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, TX_SOFTWARE | SOFTWARE | TSONLY)
        transport, protocol = await self.open(kind, sock=sock)
        await turns()
        transport.pause_reading()
        for _ in range(3):
            transport.sendto(b'here', sock.getsockname())
        wire.hold()
        while not transport.get_write_buffer_size():
            transport.sendto(bytes(10_000), wire.peer)
        return transport, protocol

    @needs_root
    @pytest.mark.parametrize('closed', [False, True])
    def test_it_does_not_spin(self, wire, closed):
        async def main():
            receiver, received = await roomy_peer(wire)
            transport, protocol = await self.full(wire, Queue)
            if closed:
                transport.close()
            await turns()
            begin = time.process_time()
            await asyncio.sleep(0.2)
            assert time.process_time() - begin < 0.1
            assert transport.get_write_buffer_size() and not protocol.queue
            wire.release()
            await received.until(lambda p: p.datagrams)
            while transport.get_write_buffer_size():
                await asyncio.sleep(0)
            if not closed:
                transport.resume_reading()
                await protocol.until(lambda p: len(p.queue) >= 3 and len(p.got) == 3)
                transport.close()
            receiver.close()
            await turns()

        self.needs_pausing()
        try:
            self.run(main())
        finally:
            wire.release()

    @needs_root
    def test_closed_by_who_is_told(self, wire):
        """Nothing more is told, though the connection lasts until all has left."""
        class Closes(Queue):
            def datagram_errqueue_received(self, data, ancdata, flags, addr):
                super().datagram_errqueue_received(data, ancdata, flags, addr)
                self.transport.close()

        async def main():
            transport, protocol = await self.full(wire, Closes)
            transport.resume_reading()
            await protocol.until(lambda p: p.queue)
            await turns()
            assert transport.get_write_buffer_size()
            assert (len(protocol.queue), protocol.got, protocol.errors) == (1, [], [])
            transport.abort()
            await turns()

        self.needs_pausing()
        try:
            self.run(main())
        finally:
            wire.release()


class TestLocal(WithErrors):

    def test_an_error_is_told_and_a_datagram_is_one(self):
        """AF_UNIX has no error queue: what is read where one would be is a datagram."""
        async def main():
            one, two = unix_pair()
            transport, protocol = await self.open(sock=one)
            transport.sendto(b'not read')
            two.send(b'a datagram')
            with bound(socket.AF_UNIX, '') as other:
                two.connect(other.getsockname())     # the first one hears ECONNRESET
            await protocol.until(lambda p: p.errors and p.got)
            assert [error.errno for error in protocol.errors] == [errno.ECONNRESET]
            assert protocol.got == [b'a datagram'] and not protocol.queue
            transport.close()
            two.close()

        self.run(main())


class TestMTU(WithErrors):

    @needs_root
    @pytest.mark.parametrize('option', [
        *((socket.IPPROTO_IP, IP_MTU_DISCOVER, how) for how in WHOLE),
        *((socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, how) for how in WHOLE),
        (socket.IPPROTO_IPV6, IPV6_DONTFRAG, 1)])
    def test_is_told(self, option):
        """EMSGSIZE, at the call as ever, and in the queue with what would have been right."""
        async def main():
            with Namespace() as namespace:
                namespace.ip('link', 'set', 'lo', 'mtu', '1500')
                sock = namespace.socket(family, address=(host, 0))
                sock.setsockopt(*option)
                transport, protocol = await self.open(sock=sock)
                to = (host, 9)
                ways = [lambda data: transport.sendto(data, to),
                        lambda data: transport.sendto_with(data, to, ecn=1),
                        lambda data: transport.sendmsg([data], (), 0, to),
                        lambda data: transport.sendto(bytes(20_000), to)]     # without copying
                for n, send in enumerate(ways, 1):
                    send(bytes(longest + 1))
                    await protocol.until(lambda p: len(p.errors) == n)  # noqa: B023
                    await protocol.until(lambda p: len(p.queue) == n)  # noqa: B023
                with pytest.raises(OSError, match='Message too long'):
                    await transport.sendto_zerocopy(bytes(5000), to)
                await protocol.until(lambda p: len(p.queue) == 5)
                await turns()
                assert [exc.errno for exc in protocol.errors] == [errno.EMSGSIZE] * 4
                assert [error_of(ancdata) for _, ancdata, _ in protocol.queue] == [
                    (errno.EMSGSIZE, LOCAL, 1500)] * 5
                transport.close()
                await turns()

        family, host, longest = socket.AF_INET, '127.0.0.1', 1472
        if option[0] == socket.IPPROTO_IPV6:
            family, host, longest = socket.AF_INET6, '::1', 1452
        self.run(main())


class TestTooLong(WithErrors):

    @needs_ipv6
    @pytest.mark.parametrize('way', ['sendto', 'sendto_many', 'sendto_zerocopy'])
    @pytest.mark.parametrize(('host', 'longest'), [('127.0.0.1', 65_507), ('::1', 65_527)])
    def test_is_told_once(self, host, longest, way):
        async def main():
            family = socket.AF_INET6 if host == '::1' else socket.AF_INET
            transport, protocol = await self.open(local_addr=(host, 0))
            with bound(family, (host, 0)) as peer:
                to = peer.getsockname()
                for size in longest + 1, longest:
                    data = bytes(size)
                    done = getattr(transport, way)([data] if way == 'sendto_many' else data, to)
                    if done is not None:
                        await asyncio.wait([done])
                assert len(peer.recv(100_000)) == longest
            await protocol.until(lambda p: p.queue)
            await turns()
            [(_, ancdata, _)] = protocol.queue
            assert error_of(ancdata)[:2] == (errno.EMSGSIZE, LOCAL)
            transport.close()

        self.run(main())


class TestSendingTimes(WithErrors):

    def test_come_this_way_too(self):
        async def main():
            transport, protocol = await self.open()
            sock = transport.get_extra_info('socket')
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, TX_SOFTWARE | SOFTWARE | TSONLY)
            with udp() as peer:
                for n in range(3):
                    transport.sendto(b'%d' % n, peer.getsockname())
                await protocol.until(lambda p: len(p.queue) == 3)
            for n, (_, ancdata, _) in enumerate(protocol.queue):
                assert error_of(ancdata)[:2] == (errno.ENOMSG, TIMESTAMPING)
                [stamps] = [data for level, kind, data in ancdata
                            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPING)]
                assert struct.unpack_from('qq', stamps) > (0, 0), n
            assert protocol.errors == []
            transport.close()

        self.run(main())


on_the_fallback_too(
    globals(), TestRefused, TestNobodyReads, TestLocal, TestMTU, TestSendingTimes)
