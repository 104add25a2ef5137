"""When a datagram leaves, and as what: at the call, or with its neighbours of the turn."""
import asyncio
import contextlib
import errno
import os
import socket
import struct
import subprocess
import sys
import textwrap

import pytest

import uringloop
from tests.support.cases import Case, UringCase, both_sides
from tests.support.endpoints import Sending
from tests.support.namespaces import Namespace, Wire
from tests.support.protocols import Recorder, endpoint

UDP_SEGMENT = 103                       # linux/udp.h
IP_RECVTTL = 12                         # linux/in.h
SO_TIMESTAMPING, SO_NO_CHECK, SO_RCVBUFFORCE = 37, 11, 33      # asm-generic/socket.h


class _TestLeavesAtTheCall(Sending):

    @pytest.mark.parametrize('connected', [False, True])
    @pytest.mark.parametrize('size', [0, 1, 1200, 20_000, 60_000])
    def test_a_lone_one(self, size, connected):
        async def main():
            transport, _ = await endpoint(**(
                {'remote_addr': self.to} if connected else {'local_addr': ('127.0.0.1', 0)}))
            for data in (bytes(size), bytearray(size), memoryview(bytes(size))):
                transport.sendto(data, None if connected else self.to)
                # Empty ones are sent from 3.13 on.
                assert self.arrived() == ([data] if size or sys.version_info >= (3, 13) else [])
                assert transport.get_write_buffer_size() == 0
                await asyncio.sleep(0)
            transport.close()

        self.run(main())

    def test_each_time_of_many_turns(self):
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            for i in range(50):
                transport.sendto(b'%d' % i, self.to)
                assert self.arrived() == [b'%d' % i]
                await asyncio.sleep(0)
            transport.close()

        self.run(main())

    def test_the_first_after_a_bulk(self):
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            for _ in range(3):
                for _ in range(64):
                    transport.sendto(bytes(1200), self.to)
                await asyncio.sleep(0)
            self.arrived()
            await asyncio.sleep(0.001)
            transport.sendto(bytes(1200), self.to)
            assert len(self.arrived()) == 1
            transport.close()

        self.run(main())

    def test_those_that_are_not_alike(self):
        """Nothing is gained by keeping them."""
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            for size in range(1, 100):
                transport.sendto(bytes(size), self.to)
                assert len(self.arrived()) == 1
            transport.close()

        self.run(main())

    def test_error_is_told_at_the_call(self):
        async def main():
            transport, protocol = await endpoint(local_addr=('127.0.0.1', 0))
            transport.sendto(bytes(65_508), self.to)
            assert [exc.errno for exc in protocol.errors] == [errno.EMSGSIZE]
            transport.sendto(b'x', (self.to[0], 0))
            assert [exc.errno for exc in protocol.errors] == [errno.EMSGSIZE, errno.EINVAL]
            transport.close()

        self.run(main())

    def test_in_connection_lost(self):
        async def main():
            class Polite(Recorder):
                def connection_lost(self, exc):
                    for i in range(count):
                        self.transport.sendto(b'bye %02d' % i, to)
                    super().connection_lost(exc)

            to = self.to
            for count in 1, 20:
                transport, protocol = await self.loop.create_datagram_endpoint(
                    Polite, local_addr=('127.0.0.1', 0))
                transport.close()
                await protocol.until(lambda p: p.lost)
                await asyncio.sleep(0)
                assert self.arrived() == [b'bye %02d' % i for i in range(count)]

        self.run(main())

    def test_options_of_that_moment(self):
        async def main():
            self.peer.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            sock = transport.get_extra_info('socket')
            for ttl in range(1, 30):
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
                for _ in range(1 + ttl % 3 * 5):
                    transport.sendto(b'probe %02d' % ttl, self.to)
            await asyncio.sleep(0)
            got = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    data, ancillary, _, _ = self.peer.recvmsg(100, 100)
                    got.append((data, struct.unpack('i', ancillary[0][2])[0]))
            assert got == [(b'probe %02d' % ttl, ttl)
                           for ttl in range(1, 30) for _ in range(1 + ttl % 3 * 5)]
            transport.close()

        self.run(main())

    def test_by_several_endpoints(self):
        """All leave in the order of the calls, whoever sends them."""
        async def main():
            transports = [(await endpoint(local_addr=('127.0.0.1', 0)))[0] for _ in range(3)]
            sent = []
            for turn in range(5):
                for i in range(90):
                    data = b'%d %03d' % (turn, i)
                    transports[i // 10 % 3 if turn % 2 else i % 3].sendto(data, self.to)
                    sent.append(data)
                await asyncio.sleep(0)
            assert self.arrived() == sent
            for transport in transports:
                transport.close()

        self.run(main())

    def test_by_a_plain_call_behind_a_bulk(self):
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                for _ in range(5):
                    for i in range(20):
                        transport.sendto(b'%02d' % i, self.to)
                    await self.loop.sock_sendto(sock, b'last', self.to)
                    assert self.arrived() == [b'%02d' % i for i in range(20)] + [b'last']
            transport.close()

        if self.uring or sys.version_info >= (3, 11):
            self.run(main())

    def test_before_a_fork(self):
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            for _ in range(30):
                transport.sendto(bytes(100), self.to)
            child = os.fork()
            if child == 0:
                os._exit(0 if len(self.arrived()) == 30 else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            transport.close()

        self.run(main())

    def test_in_the_child_of_a_fork(self):
        """It has the socket too, and sends by it, though it cannot run the loop."""
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            child = os.fork()
            if child == 0:
                for size in [100] * 20 + [30_000] * 3:
                    transport.sendto(bytes(size), self.to)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert [len(data) for data in self.arrived()] == [100] * 20 + [30_000] * 3
            transport.close()

        self.run(main())

    def test_raw_packets_stay_apart(self):
        """A raw socket of UDP's protocol number knows nothing of segments."""
        async def main():
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
                raw.setblocking(False)
                raw.bind(('127.0.0.1', 0))
                try:
                    transport, _ = await endpoint(sock=raw)
                except ValueError:         # until Python 3.12: not of type SOCK_DGRAM
                    transport = self.loop._make_datagram_transport(raw, Recorder())
                    await asyncio.sleep(0)
                bodies = [b'%04d' % i for i in range(20)]
                for body in bodies:
                    transport.sendto(struct.pack('!HHHH', 4000, self.to[1], 8 + len(body), 0)
                                     + body, ('127.0.0.1', 0))
                await asyncio.sleep(0)
                assert self.arrived() == bodies
                transport.close()
                await asyncio.sleep(0)
                await asyncio.sleep(0)

        self.run(main())

    @pytest.mark.parametrize('level, option, value', [
        (socket.IPPROTO_UDP, UDP_SEGMENT, 100), (socket.SOL_SOCKET, SO_NO_CHECK, 1),
        (socket.SOL_SOCKET, SO_TIMESTAMPING, 2 | 16)])
    @pytest.mark.parametrize('seen', [False, True])
    def test_with_an_option_of_the_programs(self, level, option, value, seen):
        """UDP_SEGMENT, no checksums, a time stamp for each that has left."""
        async def main():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(('127.0.0.1', 0))
            sock.setblocking(False)
            transport, protocol = await endpoint(sock=sock)
            for turn in range(3):
                if turn == 1:
                    (transport.get_extra_info('socket') if seen else sock).setsockopt(
                        level, option, value)
                    if not seen:
                        await asyncio.sleep(0.02)       # how long what was known is trusted
                for i in range(20):
                    transport.sendto(b'%03d' % i * 100, self.to)
                await asyncio.sleep(0)
                expected = [b'%03d' % i * 100 for i in range(20)]
                if turn and option == UDP_SEGMENT:
                    expected = [data[k:k + 100] for data in expected for k in (0, 100, 200)]
                assert self.arrived() == expected
            assert not protocol.errors
            transport.close()

        self.run(main())

    def test_a_bad_port_in_a_bulk(self):
        """It is its own fault, and told once for each; what follows is sent as before."""
        async def main():
            transport, protocol = await endpoint(local_addr=('127.0.0.1', 0))
            for turn in range(3):
                for i in range(30):
                    transport.sendto(b'%02d' % i, (self.to[0], 0 if turn == 1 else self.to[1]))
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert [exc.errno for exc in protocol.errors] == [errno.EINVAL] * 30
            assert self.arrived() == [b'%02d' % i for i in range(30)] * 2
            transport.close()
            return self.loop.stats().datagrams_gathered if self.uring else 0

        gathered = self.run(main())
        assert not self.uring or gathered >= 50

    def test_nobody_listens(self):
        async def main():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
                gone.bind(('127.0.0.1', 0))
                address = gone.getsockname()
            transport, protocol = await endpoint(remote_addr=address)
            for _ in range(20):
                for _ in range(10):
                    transport.sendto(bytes(100))
                await asyncio.sleep(0)
            await protocol.until(lambda p: p.errors)
            assert {exc.errno for exc in protocol.errors} == {errno.ECONNREFUSED}
            transport.close()

        self.run(main())


class TestBulk(Sending, UringCase):

    def test_leaves_by_the_end_of_the_turn(self):
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            for _ in range(3):
                for i in range(50):
                    transport.sendto(b'%03d' % i, self.to)
                assert len(self.arrived()) < 10
                await asyncio.sleep(0)
                assert len(self.arrived()) > 40
            transport.close()

        self.run(main())

    def test_much_does_not_wait(self):
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            for _ in range(1000):
                transport.sendto(bytes(1200), self.to)
            assert len(self.arrived()) > 900
            transport.close()

        self.run(main())

    def test_asked_how_much_is_buffered(self):
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            for _ in range(50):
                transport.sendto(b'x', self.to)
            assert transport.get_write_buffer_size() == 0
            assert len(self.arrived()) == 50
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('end', ['close', 'abort'])
    def test_before_the_end(self, end):
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            for _ in range(50):
                transport.sendto(b'x', self.to)
            getattr(transport, end)()
            assert len(self.arrived()) == 50

        self.run(main())

    def test_a_train_and_its_tail(self):
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            sent = []
            for turn in range(5):
                for data in [b'%d' % turn * 100] * 15 + [b'tail'] + [b'next' * 20] * 10:
                    transport.sendto(data, self.to)
                    sent.append(data)
                await asyncio.sleep(0)
            assert self.arrived() == sent
            transport.close()

        self.run(main())

    def test_switched_off(self, monkeypatch):
        async def main(**how):
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0), **how)
            for i in range(50):
                transport.sendto(bytes(100), self.to)
                assert len(self.arrived()) == 1, i
            transport.close()

        self.run(main(batch=False))
        for how in {'batch': False}, {}:
            loop = uringloop.new_event_loop(require_uring=True, **how)
            loop.run_until_complete(main())
            loop.close()
            monkeypatch.setenv('URINGLOOP_BATCH', '0')

        async def on_again():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0), batch=True)
            for _ in range(50):
                transport.sendto(bytes(100), self.to)
            assert len(self.arrived()) < 10
            transport.close()

        loop = uringloop.new_event_loop(require_uring=True)
        loop.run_until_complete(on_again())
        loop.close()

    def test_socket_closed_by_the_program(self):
        """What was sent before leaves by that socket, whatever its number means by then."""
        async def main():
            transport, protocol = await endpoint(
                sock=(sock := socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
            sock.setblocking(False)
            for i in range(50):
                transport.sendto(b'%03d' % i, self.to)
            number, mine = sock.fileno(), sock.getsockname()
            sock.close()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                assert other.fileno() == number
                other.bind(('127.0.0.1', 0))
                await asyncio.sleep(0)
                got = []
                with contextlib.suppress(BlockingIOError):
                    while True:
                        got.append(self.peer.recvfrom(100))
                assert got == [(b'%03d' % i, ('127.0.0.1', mine[1])) for i in range(50)]
                transport.abort()
                await protocol.until(lambda p: p.lost)

        self.run(main())


class _TestFull(Case):

    @pytest.mark.parametrize('kind', [bytes, bytearray])
    def test_part_of_a_buffer(self, kind, tmp_path):
        """What waits for room is the view, not the buffer; and it is as it was at the call."""
        async def main():
            near, far = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
            with far:
                for sock, name in (near, 'near'), (far, 'far'):
                    sock.bind(str(tmp_path / name))
                    sock.setblocking(False)
                near.connect(str(tmp_path / 'far'))
                transport, protocol = await endpoint(sock=near)
                sent = []
                while not transport.get_write_buffer_size() or len(sent) < 20:
                    data = kind(b'before%06dbehind' % len(sent))
                    sent.append(bytes(data[6:12]))
                    transport.sendto(memoryview(data)[6:12])
                    if kind is bytearray:
                        data[:] = bytes(len(data))
                received = [await self.loop.sock_recv(far, 100) for _ in sent]
                assert received == sent
                transport.close()
                await protocol.until(lambda p: p.lost)

        self.run(main())

    @pytest.mark.parametrize('size', [0, 100, 1000, 20_000])
    def test_paused_within_a_bulk(self, size):
        """The socket is full: nobody goes on queueing without being told to pause."""
        async def main():
            with wire.far.entered():
                far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with far:
                far.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
                far.bind(wire.peer)
                far.setblocking(False)
                wire.hold()
                sock = wire.socket(address=('10.98.1.1', 0))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
                transport, protocol = await endpoint(sock=sock)
                sent = []
                while not protocol.pauses:
                    sent.append(b'%06d' % len(sent) + bytes(size))
                    transport.sendto(sent[-1], wire.peer)
                    assert len(sent) < 40_000
                wire.release()
                await protocol.until(lambda p: p.resumes)
                while transport.get_write_buffer_size():
                    await asyncio.sleep(0)
                assert [far.recv(70_000) for _ in sent] == sent
                assert not protocol.errors
                transport.close()
                await asyncio.sleep(0)

        if not self.uring and sys.version_info >= (3, 13):
            pytest.skip('asyncio counts a header with each that it never strikes off')
        with Wire() as wire:
            self.run(main())


class TestFailingSends(UringCase):

    def test_cost_is_linear_and_counts_are_true(self):
        async def main():
            transport, _ = await endpoint(sock=namespace.socket())
            before = self.loop.stats().submissions
            futures = [transport.sendto_zerocopy(bytes(1000), ('10.1.2.3', 9)) for _ in range(200)]
            await asyncio.wait(futures)
            assert {future.exception().errno for future in futures} == {errno.ENETUNREACH}
            stats = self.loop.stats()
            assert stats.submissions - before < 4 * len(futures)
            assert stats.zerocopy_sent - stats.zerocopy_copied - stats.zerocopy_fell_back == 0
            transport.close()

        with Namespace() as namespace:
            self.run(main())


class TestFullUnixSocket(UringCase):

    @pytest.mark.parametrize('how', ['transport', 'sock_sendto'])
    def test_waits_without_spinning(self, tmp_path, how):
        """A socket that is not connected is writable however full the receiver is."""
        async def main():
            far = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            near = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            with far, near:
                far.bind(path := str(tmp_path / 'far'))
                for sock in far, near:
                    sock.setblocking(False)
                sent = 0
                with contextlib.suppress(BlockingIOError):
                    while True:
                        near.sendto(b'%04d' % sent, path)
                        sent += 1
                if how == 'transport':
                    transport, _ = await endpoint(sock=near)
                    transport.sendto(b'last', path)
                    sending = None
                else:
                    sending = asyncio.ensure_future(self.loop.sock_sendto(near, b'last', path))
                for _ in range(20):
                    await asyncio.sleep(0.001)
                before = self.loop.stats().syscalls
                await asyncio.sleep(0.2)
                # By its own timer: once a millisecond at most, not tens of thousands of times.
                assert self.loop.stats().syscalls - before < 2000
                received = [far.recv(100) for _ in range(sent)]
                received.append(await self.loop.sock_recv(far, 100))
                assert received == [b'%04d' % i for i in range(sent)] + [b'last']
                if sending is None:
                    transport.close()
                else:
                    assert await sending == 4
                await asyncio.sleep(0)
                await asyncio.sleep(0)

        self.run(main())


class TestManyEndpoints(UringCase):

    def test_more_have_something_than_there_are_buffers(self):
        """None is armed in vain, turn after turn."""
        async def main():
            opened = [await endpoint(local_addr=('127.0.0.1', 0)) for _ in range(600)]
            for transport, _ in opened:
                transport.pause_reading()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for transport, _ in opened:
                    for _ in range(3):
                        sender.sendto(bytes(100), transport.get_extra_info('sockname'))
            before = self.loop.stats()
            for transport, _ in opened:
                transport.resume_reading()
            for _, protocol in opened:
                await protocol.until(lambda p: len(p.datagrams) == 3)
            after = self.loop.stats()
            assert after.receive_buffers_exhausted > before.receive_buffers_exhausted
            assert after.submissions - before.submissions < 6 * len(opened)
            for transport, _ in opened:
                transport.close()

        self.run(main())


class TestBadOptions(UringCase):

    def test_batch(self):
        with pytest.raises(ValueError, match="not 'x'"):
            uringloop.new_event_loop(batch='x')
        with pytest.raises(ValueError, match='not 2'):
            self.run(endpoint(local_addr=('127.0.0.1', 0), batch=2))


class TestPartOfAStream(UringCase):

    def test_reported(self):
        """A stream takes what it has room for; that much is reported."""
        async def main():
            listening = socket.create_server(('127.0.0.1', 0))
            with listening, socket.create_connection(listening.getsockname()) as near:
                far = listening.accept()[0]
                with far:
                    near.setblocking(False)
                    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 50_000)
                    report = await self.loop.sock_sendto_zerocopy(
                        near, bytes(1 << 22), listening.getsockname())
                    assert 0 < report.nbytes < 1 << 22
                    near.shutdown(socket.SHUT_WR)
                    received = 0
                    far.setblocking(False)
                    while data := await self.loop.sock_recv(far, 1 << 20):
                        received += len(data)
                    assert received == report.nbytes

        self.run(main())


def test_lone_datagram_then_exit():
    """It has left though the process ends within the callback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(('127.0.0.1', 0))
        peer.settimeout(10)
        subprocess.run([sys.executable, '-c', textwrap.dedent(f'''
            import asyncio, os, uringloop
            async def main():
                transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                    asyncio.DatagramProtocol, remote_addr=('127.0.0.1', {peer.getsockname()[1]}))
                transport.sendto(b'last words')
                os._exit(0)
            uringloop.new_event_loop(require_uring=True).run_until_complete(main())
        ''')], check=True, timeout=20)
        assert peer.recv(100) == b'last words'


both_sides(globals(), _TestLeavesAtTheCall, _TestFull)
