"""Every reply of the kernel: errors, full and empty queues, and order through all of it."""
import asyncio
import errno
import gc
import os
import resource
import socket
import sys

import pytest

import uringloop
from tests.support.cases import UringCase
from tests.support.endpoints import numbered, numbers
from tests.support.namespaces import Namespace, needs_root
from tests.support.protocols import Recorder, endpoint
from tests.support.sockets import SO_RCVBUFFORCE, deserted, udp
from tests.support.turns import turns_until


@pytest.fixture(scope='module')
def empty():
    with Namespace() as namespace:
        yield namespace


class TestErrors(UringCase):
    """Each errno of a send reaches error_received, the future or the coroutine; once."""

    async def refused(self, sock, data, address, code):
        """All four ways to send from ``sock`` fail with ``code``."""
        with pytest.raises(OSError) as caught:
            await self.loop.sock_sendto(sock, data, address)
        assert caught.value.errno == code
        with pytest.raises(OSError) as caught:
            await self.loop.sock_sendto_zerocopy(sock, data, address)
        assert caught.value.errno == code
        transport, protocol = await endpoint(sock=sock)
        transport.sendto(data, address)
        await protocol.until(lambda p: p.errors)
        with pytest.raises(OSError) as caught:
            await transport.sendto_zerocopy(data, address)
        assert caught.value.errno == code
        assert type(caught.value) is type(protocol.errors[0])
        assert [exc.errno for exc in protocol.errors] == [code]
        assert transport.get_write_buffer_size() == 0
        transport.close()
        await protocol.until(lambda p: p.lost)
        assert protocol.lost == [None]
        assert self.loop.stats().datagrams_dropped >= 1
        assert not self.problems

    @pytest.mark.parametrize('data', [b'x', bytes(20_000), bytearray(20_000)])
    def test_broadcast_is_not_permitted(self, data):
        self.run(self.refused(udp(), data, ('127.255.255.255', 9), errno.EACCES))

    @pytest.mark.parametrize('size', [65508, 70000, 1 << 20])
    def test_too_long(self, size):
        self.run(self.refused(udp(), bytes(size), ('127.0.0.1', 9), errno.EMSGSIZE))

    def test_port_0(self):
        self.run(self.refused(udp(), b'x', ('127.0.0.1', 0), errno.EINVAL))

    @needs_root
    @pytest.mark.parametrize('data', [b'x', bytes(20_000)])
    def test_network_unreachable(self, empty, data):
        self.run(self.refused(empty.socket(), data, ('192.0.2.1', 9), errno.ENETUNREACH))

    @needs_root
    def test_host_unreachable(self, empty):
        empty.ip('route', 'replace', 'unreachable', '192.0.2.7')
        try:
            self.run(self.refused(empty.socket(), b'x', ('192.0.2.7', 9), errno.EHOSTUNREACH))
        finally:
            empty.ip('route', 'del', 'unreachable', '192.0.2.7')

    @needs_root
    def test_prohibited(self, empty):
        empty.ip('route', 'replace', 'prohibit', '192.0.2.8')
        try:
            self.run(self.refused(empty.socket(), b'x', ('192.0.2.8', 9), errno.EACCES))
        finally:
            empty.ip('route', 'del', 'prohibit', '192.0.2.8')

    @pytest.mark.parametrize('size', [1, 20_000])
    def test_connection_refused(self, size):
        """The ICMP answer to one datagram is told once, and does not stop those that follow."""
        async def main():
            sock = udp()
            sock.connect(deserted())
            transport, protocol = await endpoint(sock=sock)
            transport.sendto(bytes(size))
            await protocol.until(lambda p: p.errors)
            assert [type(exc) for exc in protocol.errors] == [ConnectionRefusedError]
            with udp(sock.getpeername()) as late:
                transport.sendto(b'now')
                assert (await self.loop.sock_recvfrom(late, 100))[0] == b'now'
                late.sendto(b'you too', sock.getsockname())
                await protocol.until(lambda p: p.datagrams)
                assert protocol.datagrams == [b'you too']
            transport.close()
            await protocol.until(lambda p: p.lost)
            assert len(protocol.errors) == 1

        self.run(main())

    def test_no_such_unix_socket(self, tmp_path):
        async def main():
            transport, protocol = await endpoint(
                local_addr=str(tmp_path / 'here'), family=socket.AF_UNIX)
            transport.sendto(b'x', str(tmp_path / 'nowhere'))
            await protocol.until(lambda p: p.errors)
            assert [type(exc) for exc in protocol.errors] == [FileNotFoundError]
            with pytest.raises(FileNotFoundError):
                await transport.sendto_zerocopy(b'x', str(tmp_path / 'nowhere'))
            transport.close()

        self.run(main())

    def test_nonsense_addresses(self):
        """What cannot be an address is a mistake of the program, as in asyncio."""
        async def main():
            transport, protocol = await endpoint(sock=udp())
            with pytest.raises(TypeError):
                transport.sendto_zerocopy(b'x', 7)
            transport.sendto(b'x', 7)
            await protocol.until(lambda p: p.lost)
            assert type(protocol.lost[0]) is TypeError
            assert len(self.problems) == 1

        self.run(main())


class TestBrokenChains(UringCase):
    """A send fails in the middle of a chain: the others arrive in order, and one error is told."""

    @pytest.mark.parametrize('size', [100, 9000, 20_000])
    @pytest.mark.parametrize('broken', [0, 7, 20])
    def test_too_long_in_the_middle(self, size, broken):
        async def main():
            receiver, received = await endpoint(local_addr=('127.0.0.1', 0))
            receiver.get_extra_info('socket').setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            transport, protocol = await endpoint(sock=udp())
            address = receiver.get_extra_info('sockname')
            for i, data in enumerate(numbered(21, size)):
                transport.sendto(data if i != broken else bytes(70_000), address)
            await received.until(lambda p: len(p.datagrams) == 20)
            assert numbers(received.datagrams) == [i for i in range(21) if i != broken]
            await protocol.until(lambda p: p.errors)
            assert [exc.errno for exc in protocol.errors] == [errno.EMSGSIZE]
            assert transport.get_write_buffer_size() == 0
            transport.close()
            receiver.close()
            await protocol.until(lambda p: p.lost)

        self.run(main())

    def test_zerocopy_futures_of_a_broken_chain(self):
        """Followers that were cancelled with their chain are sent again, and notify once each."""
        async def main():
            receiver, received = await endpoint(local_addr=('127.0.0.1', 0))
            receiver.get_extra_info('socket').setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            transport, protocol = await endpoint(sock=udp())
            address = receiver.get_extra_info('sockname')
            datagrams = numbered(21, 20_000)
            datagrams[7] = bytes(70_000)
            futures = [transport.sendto_zerocopy(data, address) for data in datagrams]
            reports = await asyncio.gather(*futures, return_exceptions=True)
            assert reports[7].errno == errno.EMSGSIZE
            del reports[7]
            assert reports == [(20_000, True)] * 20
            await received.until(lambda p: len(p.datagrams) == 20)
            assert numbers(received.datagrams) == [i for i in range(21) if i != 7]
            assert not protocol.errors
            transport.close()
            receiver.close()

        self.run(main())

    @pytest.mark.parametrize('size', [100, 20_000])
    def test_refused_in_the_middle(self, size):
        """The answer to the first datagram is the error of the second, which is not sent."""
        async def main():
            sock = udp()
            sock.connect(deserted())
            transport, protocol = await endpoint(sock=sock)
            transport.sendto(b'nobody hears this')
            await protocol.until(lambda p: p.errors)
            # Loopback: the ICMP error is there as soon as the send has returned.
            assert sock.send(b'nor this') == 8
            with udp(sock.getpeername()) as late:
                late.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
                receiver, received = await endpoint(sock=late)
                for data in numbered(21, size):
                    transport.sendto(data)
                await received.until(lambda p: len(p.datagrams) + len(protocol.errors) >= 22)
                await turns_until(lambda: transport.get_write_buffer_size() == 0)
                # Either a receive or the first send has met it; no datagram twice, none lost.
                arrived = numbers(received.datagrams)
                assert arrived in (list(range(21)), list(range(1, 21)))
                assert len(protocol.errors) == 2
                receiver.close()
            transport.close()

        self.run(main())


class TestReceiving(UringCase):

    def receive_socket(self):
        sock = udp()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        return sock

    @needs_root
    def test_receive_buffers_exhausted(self):
        """What the socket has kept arrives, in order, though it is more than there are buffers."""
        async def main():
            sock = udp()
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
            datagrams = [data[:60_000 if i % 3 == 0 else 30]
                         for i, data in enumerate(numbered(320, 60_000))]
            receiver, received = await endpoint(sock=sock)
            await asyncio.sleep(0)
            with udp() as sender:
                for data in datagrams:
                    sender.sendto(data, sock.getsockname())
                await received.until(lambda p: len(p.datagrams) == 320)
                assert received.datagrams == datagrams
                assert self.loop.stats().receive_buffers_exhausted > 0
                assert self.loop.stats().datagrams_truncated == 0
                # And it goes on.
                sender.sendto(b'more', sock.getsockname())
                await received.until(lambda p: len(p.datagrams) == 321)
            receiver.close()

        self.run(main())

    def test_empty_datagrams(self):
        """An empty datagram ends a multishot receive, and reception goes on."""
        async def main():
            receiver, received = await endpoint(sock=self.receive_socket())
            address = receiver.get_extra_info('sockname')
            sent = [b'', b'a', b'', b'', b'b', b'']
            with udp() as sender:
                for data in sent:
                    sender.sendto(data, address)
                await received.until(lambda p: len(p.datagrams) == 6)
                assert received.datagrams == sent
                for i, data in enumerate(sent):
                    sender.sendto(data, address)
                    await received.until(lambda p, n=7 + i: len(p.datagrams) == n)
                assert received.datagrams == sent * 2
            receiver.close()

        self.run(main())

    @pytest.mark.parametrize('size', [1, 8191, 8192, 8193, 40_000, 65507])
    def test_contents_of_any_length(self, size):
        async def main():
            receiver, received = await endpoint(sock=self.receive_socket())
            address = receiver.get_extra_info('sockname')
            sent = [os.urandom(size) for _ in range(20)]
            with udp() as sender:
                for data in sent:
                    sender.sendto(data, address)
                await received.until(lambda p: len(p.datagrams) == 20)
                assert received.datagrams == sent
                assert [sys.getsizeof(data) for data in received.datagrams] == \
                    [sys.getsizeof(data) for data in sent]
            receiver.close()

        self.run(main())

    def test_truncated_datagrams_are_counted(self, tmp_path):
        """A datagram longer than the longest receive buffer (AF_UNIX) is cut, and counted."""
        async def main():
            path = str(tmp_path / 'receiver')
            receiver, received = await endpoint(local_addr=path, family=socket.AF_UNIX)
            data = os.urandom(300_000)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                sender.sendto(data, path)
                await received.until(lambda p: p.datagrams)
                assert len(received.datagrams[0]) >= 262144
                assert data.startswith(received.datagrams[0])
                assert self.loop.stats().datagrams_truncated == 1
                sender.sendto(b'short', path)
                await received.until(lambda p: len(p.datagrams) == 2)
                assert received.datagrams[1] == b'short'
                assert self.loop.stats().datagrams_truncated == 1
            receiver.close()

        self.run(main())

    def test_pause_and_resume(self):
        """While paused the socket keeps what comes; nothing is lost at either edge."""
        async def main():
            receiver, received = await endpoint(sock=self.receive_socket())
            address = receiver.get_extra_info('sockname')
            datagrams = numbered(300)
            with udp() as sender:
                for i, data in enumerate(datagrams):
                    sender.sendto(data, address)
                    if i % 7 == 0:
                        receiver.pause_reading()
                    if i % 3 == 0:
                        await asyncio.sleep(0)
                    if i % 7 == 4:
                        receiver.resume_reading()
                receiver.resume_reading()
                await received.until(lambda p: len(p.datagrams) == 300)
                assert received.datagrams == datagrams
            receiver.close()

        self.run(main())


class _TinyRing(UringCase):
    entries = 1

    def new_loop(self):
        return uringloop.new_event_loop(require_uring=True, entries=self.entries)


class TestTinyRing(_TinyRing):

    def test_many_sends_in_a_turn(self):
        async def main():
            sock = udp()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            receiver, received = await endpoint(sock=sock)
            transport, protocol = await endpoint(sock=udp())
            # Of two sizes, so that they are not gathered.
            datagrams = [data[:50 + i % 2] for i, data in enumerate(numbered(200))]
            for data in datagrams:
                transport.sendto(data, sock.getsockname())
            await received.until(lambda p: len(p.datagrams) == 200)
            assert received.datagrams == datagrams
            assert not protocol.errors
            transport.close()
            receiver.close()

        self.run(main())

    def test_zerocopy_futures(self):
        async def main():
            sock = udp()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
            receiver, received = await endpoint(sock=sock)
            transport, _ = await endpoint(sock=udp())
            datagrams = numbered(100, 20_000)
            reports = await asyncio.gather(
                *(transport.sendto_zerocopy(data, sock.getsockname()) for data in datagrams))
            assert reports == [(20_000, True)] * 100
            await received.until(lambda p: len(p.datagrams) >= 60)
            arrived = numbers(received.datagrams)
            assert arrived == list(range(len(arrived)))
            transport.close()
            receiver.close()

        self.run(main())

    def test_completion_queue_overflows(self):
        """More completions at once than the queue has room for: the kernel keeps them."""
        async def main():
            pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(100)]
            for pair in pairs:
                for sock in pair:
                    sock.setblocking(False)
            tasks = [asyncio.ensure_future(self.loop.sock_recv(mine, 10)) for mine, _ in pairs]
            await asyncio.sleep(0)
            assert self.loop.stats().operations_in_flight >= 100
            for i, (_, other) in enumerate(pairs):
                other.send(b'%d' % i)
            assert await asyncio.gather(*tasks) == [b'%d' % i for i in range(100)]
            if self.entries == 1:
                # With more room the kernel hands them over before the queue is full.
                assert self.loop.stats().cq_overflows > 0
            for pair in pairs:
                for sock in pair:
                    sock.close()

        self.run(main())

    def test_echo_both_ways(self):
        """2,000 datagrams echoed, hundreds under way: all come back, in order."""
        async def main():
            class Echo(Recorder):
                def datagram_received(self, data, addr):
                    self.transport.sendto(data, addr)

            one, two = udp(), udp()
            for sock in one, two:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            server, _ = await self.loop.create_datagram_endpoint(Echo, sock=one)
            two.connect(one.getsockname())
            client, received = await endpoint(sock=two)
            datagrams = [data[:60 + i % 3] for i, data in enumerate(numbered(2000))]
            for start in range(0, 2000, 100):
                for data in datagrams[start:start + 100]:
                    client.sendto(data)
                await received.until(lambda p, n=start: len(p.datagrams) >= n + 50)
            await received.until(lambda p: len(p.datagrams) == 2000)
            assert received.datagrams == datagrams
            client.close()
            server.close()

        self.run(main())

    @needs_root
    def test_multishot_overflow(self):
        """A flood of datagrams overflows the queue; reception goes on and loses none."""
        async def main():
            sock = udp()
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
            receiver, received = await endpoint(sock=sock)
            datagrams = numbered(2000)
            with udp() as sender:
                await asyncio.sleep(0)
                for data in datagrams:
                    sender.sendto(data, sock.getsockname())
                await received.until(lambda p: len(p.datagrams) == 2000)
            assert received.datagrams == datagrams
            receiver.close()

        self.run(main())


class TestSmallRing(TestTinyRing):
    entries = 2


class TestFullSocket(UringCase):

    def test_unix_order(self, tmp_path):
        """1,000 datagrams to a receiver that holds eleven: none lost, none overtaken."""
        async def main():
            path = str(tmp_path / 'receiver')
            receiver, received = await endpoint(local_addr=path, family=socket.AF_UNIX)
            receiver.pause_reading()
            transport, protocol = await endpoint(
                local_addr=str(tmp_path / 'sender'), family=socket.AF_UNIX)
            datagrams = numbered(1000, 200)
            for data in datagrams:
                transport.sendto(data, path)
            assert protocol.pauses == 1
            receiver.resume_reading()
            await received.until(lambda p: len(p.datagrams) == 1000)
            assert received.datagrams == datagrams
            await protocol.until(lambda p: p.resumes)
            assert (protocol.pauses, protocol.resumes) == (1, 1)
            assert transport.get_write_buffer_size() == 0
            assert not protocol.errors
            transport.close()
            receiver.close()

        self.run(main())

    def test_unix_order_of_plain_socket(self, tmp_path):
        """bytearrays are sent or copied before the coroutine waits."""
        async def main():
            path = str(tmp_path / 'receiver')
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver, \
                    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                for sock in receiver, sender:
                    sock.setblocking(False)
                receiver.bind(path)

                async def send():
                    for data in numbered(200):
                        memory = bytearray(data)
                        sending = asyncio.ensure_future(
                            self.loop.sock_sendto(sender, memory, path))
                        await asyncio.sleep(0)
                        memory[:] = bytes(len(memory))
                        memory.append(0)
                        assert await sending == 100

                sending = asyncio.ensure_future(send())
                got = [(await self.loop.sock_recvfrom(receiver, 1000))[0] for _ in range(200)]
                await sending
                assert got == numbered(200)

        self.run(main())

    @pytest.mark.parametrize('connected', [False, True])
    @pytest.mark.parametrize('kind', [bytes, bytearray, None])
    def test_unix_send_that_waited(self, tmp_path, kind, connected):
        """A send that found its receiver full arrives whole once there is room."""
        async def main():
            path = str(tmp_path / 'receiver')
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver, \
                    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                for sock in receiver, sender:
                    sock.setblocking(False)
                receiver.bind(path)
                if connected:
                    sender.connect(path)
                with pytest.raises(BlockingIOError):
                    for _ in range(100_000):
                        sender.sendto(b'first', path)
                data = os.urandom(200)
                if kind is None:
                    sending = self.loop.sock_sendto_zerocopy(sender, data, path)
                else:
                    sending = asyncio.ensure_future(
                        self.loop.sock_sendto(sender, kind(data), path))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert not sending.done()
                got = b'first'
                while got == b'first':
                    got = await self.loop.sock_recv(receiver, 1000)
                assert got == data
                assert await sending == (200 if kind else (200, True))

        self.run(main())

    def test_unix_sendall_that_waited(self, tmp_path):
        """``sock_sendall`` sends datagrams too, if the socket is connected."""
        async def main():
            path = str(tmp_path / 'receiver')
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver, \
                    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                for sock in receiver, sender:
                    sock.setblocking(False)
                receiver.bind(path)
                sender.connect(path)

                async def send():
                    for data in numbered(100):
                        await self.loop.sock_sendall(sender, data)

                sending = asyncio.ensure_future(send())
                await asyncio.sleep(0)
                got = [await self.loop.sock_recv(receiver, 1000) for _ in range(100)]
                await sending
                assert got == numbered(100)

        self.run(main())

    @pytest.mark.parametrize('family', [socket.AF_UNIX, socket.AF_INET])
    def test_stream_is_whole(self, family):
        """More than the socket's buffers hold arrives as it was sent."""
        async def main():
            if family == socket.AF_UNIX:
                one, two = socket.socketpair()
            else:
                with socket.create_server(('127.0.0.1', 0)) as server:
                    one = socket.create_connection(server.getsockname())
                    two, _ = server.accept()
            with one, two:
                for sock in one, two:
                    sock.setblocking(False)
                data = os.urandom(8 << 20)
                sending = asyncio.ensure_future(self.loop.sock_sendall(one, data))
                got = bytearray()
                while len(got) < len(data):
                    got += await self.loop.sock_recv(two, 100_000)
                await sending
                assert got == data

        self.run(main())

    @needs_root
    @pytest.mark.parametrize('size', [1000, 20_000])
    def test_udp_order(self, wire, size):
        """The socket's buffer is full of what waits for a neighbour; then all of it leaves."""
        async def main():
            wire.hold()
            sock = wire.far.socket(address=wire.peer)
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
            receiver, received = await endpoint(sock=sock)
            out = wire.socket()
            out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 30_000)
            transport, protocol = await endpoint(sock=out)
            datagrams = [data[:size - i % 2] for i, data in enumerate(numbered(300, size))]
            for data in datagrams:
                transport.sendto(data, wire.peer)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert protocol.pauses == 1
            assert transport.get_write_buffer_size() > 0
            wire.release()
            await received.until(lambda p: len(p.datagrams) == 300)
            assert received.datagrams == datagrams
            await protocol.until(lambda p: p.resumes)
            assert (protocol.pauses, protocol.resumes) == (1, 1)
            assert not protocol.errors
            transport.close()
            receiver.close()

        try:
            self.run(main())
        finally:
            wire.release()

    @needs_root
    def test_long_answers_order(self, wire):
        """Answers that leave one by one: without room the rest waits, in its order."""
        answers = numbered(40, 40_000)

        async def main():
            wire.release()
            sock = wire.far.socket(address=wire.peer)
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
            receiver, received = await endpoint(sock=sock)
            out = wire.socket()
            out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000)
            out.bind(('10.98.1.1', 0))
            transport, protocol = await endpoint(sock=out)
            # From now on it is known that this path copies.
            assert (await transport.sendto_zerocopy(b'first' * 100, wire.peer)).copied
            await received.until(lambda p: p.datagrams)
            received.datagrams.clear()
            wire.hold()
            protocol.datagram_received = lambda data, addr: transport.sendto(
                answers[data[0]], wire.peer)
            with wire.socket() as asking:
                for n in range(40):
                    asking.sendto(bytes([n]) * 40_000, out.getsockname())
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
            await protocol.until(lambda p: p.pauses)
            wire.release()
            await received.until(lambda p: len(p.datagrams) == 40)
            assert received.datagrams == answers
            assert not protocol.errors
            transport.close()
            receiver.close()

        try:
            self.run(main())
        finally:
            wire.release()

    @needs_root
    @pytest.mark.parametrize('how', ['close', 'abort'])
    @pytest.mark.parametrize('explicit', [False, True])
    def test_closed_while_full(self, wire, how, explicit):
        """close() waits until all has left; abort() drops what has not, and says so."""
        async def main():
            wire.hold()
            out = wire.socket()
            out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 30_000)
            transport, protocol = await endpoint(sock=out)
            futures = []
            for data in numbered(20, 20_000):
                if explicit:
                    futures.append(transport.sendto_zerocopy(data, wire.peer))
                else:
                    transport.sendto(data, wire.peer)
            await asyncio.sleep(0)
            assert transport.get_write_buffer_size() > 0
            getattr(transport, how)()
            if how == 'abort':
                await protocol.until(lambda p: p.lost)
            else:
                await asyncio.sleep(0)
                assert not protocol.lost
            wire.release()
            await protocol.until(lambda p: p.lost)
            assert protocol.lost == [None]
            reports = await asyncio.gather(*futures, return_exceptions=True)
            sent = [report for report in reports if isinstance(report, tuple)]
            stats = self.loop.stats()
            if how == 'close':
                assert stats.datagrams_sent == 20
                assert len(sent) == len(futures)
            else:
                assert stats.datagrams_sent + stats.datagrams_dropped == 20
                assert stats.datagrams_dropped > 0
                assert {type(r) for r in reports[len(sent):]} <= {ConnectionAbortedError}
                if explicit:
                    assert len(sent) == stats.datagrams_sent
            await turns_until(lambda: self.loop.stats().bytes_pinned == 0)

        try:
            self.run(main())
        finally:
            wire.release()

    @pytest.mark.parametrize('explicit', [False, True])
    def test_loop_closed_while_full(self, tmp_path, explicit):
        """What could not be sent when the loop is closed is let go of, and futures are told."""
        async def main():
            path = str(tmp_path / 'receiver')
            nobody.bind(path)
            transport, _ = await endpoint(
                local_addr=str(tmp_path / 'sender'), family=socket.AF_UNIX)
            futures = []
            for data in sent:
                if explicit:
                    futures.append(transport.sendto_zerocopy(data, path))
                else:
                    transport.sendto(data, path)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert transport.get_write_buffer_size() > 0
            return transport, futures

        sent = numbered(200)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nobody:
            transport, futures = self.run(main())
            closed, self.loop = self.loop, self.new_loop()
            closed.close()
            states = [future.done() for future in futures]
            with pytest.warns(ResourceWarning, match='unclosed'):
                del transport, futures
                gc.collect()
            stats = closed.stats()
            assert (stats.operations_in_flight, stats.operations_live) == (0, 0)
            assert all(states)
            references = sys.getrefcount(sent[-1])
            assert references == 2


class TestDescriptors(UringCase):

    def test_more_transports_than_registered_files(self):
        """Those beyond the table's end name their descriptor, and work and close as well."""
        async def main():
            sock = udp()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
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

    def test_no_descriptor_left_for_the_ring(self):
        """No loop can then be made, and nothing is left of it; one that was made can run."""
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with udp() as highest:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest.fileno() + 9, limits[1]))
            held = []
            try:
                with pytest.raises(OSError, match='open files'):
                    while True:
                        held.append(os.dup(0))
                for _ in range(2):           # for the wake-up sockets
                    os.close(held.pop())
                for _ in range(3):
                    with pytest.raises(uringloop.UringUnavailableError) as caught:
                        uringloop.new_event_loop(require_uring=True)
                    assert caught.value.errno == errno.EMFILE
                held += [os.dup(0), os.dup(0)]
                assert self.loop.run_until_complete(asyncio.sleep(0, 'ran')) == 'ran'
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                for fd in held:
                    os.close(fd)

    @pytest.mark.parametrize('size', [10, 20_000])
    def test_number_reused_before_the_turn_ends(self, size):
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

    def test_number_of_plain_socket_reused(self):
        async def main():
            with udp() as receiver:
                sock = udp()
                mine = sock.getsockname()
                sending = asyncio.ensure_future(
                    self.loop.sock_sendto(sock, bytes(20_000), receiver.getsockname()))
                await asyncio.sleep(0)
                sock.close()
                with udp():
                    data, address = await self.loop.sock_recvfrom(receiver, 65536)
                assert (len(data), address) == (20_000, mine)
                assert await sending == 20_000

        self.run(main())

    def test_closed_socket(self):
        async def main():
            sock = udp()
            address = sock.getsockname()
            sock.close()
            for sending in (self.loop.sock_sendto(sock, b'x', address),
                            self.loop.sock_recvfrom(sock, 10)):
                with pytest.raises(OSError) as caught:
                    await sending
                assert caught.value.errno == errno.EBADF
            with pytest.raises(OSError) as caught:
                await self.loop.sock_sendto_zerocopy(sock, b'x', address)
            assert caught.value.errno == errno.EBADF

        self.run(main())
