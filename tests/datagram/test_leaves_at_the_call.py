"""Datagrams that have left when ``sendto`` returns, as they have with asyncio."""
import asyncio
import contextlib
import ctypes
import errno
import os
import socket
import struct
import subprocess
import sys
import textwrap

import pytest

from tests.support.cases import both_sides
from tests.support.endpoints import Sending
from tests.support.namespaces import needs_root
from tests.support.protocols import Recorder, endpoint
from tests.support.sockets import udp
from tests.support.turns import turns, turns_until

UDP_CORK, UDP_SEGMENT = 1, 103          # linux/udp.h
IP_RECVTTL = 12                         # linux/in.h
SO_TIMESTAMPING = 37                    # asm-generic/socket.h
SO_NO_CHECK = 11                        # asm-generic/socket.h
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
# struct sock_fprog: one instruction, "return 0"
_RETURN_NOTHING = ctypes.create_string_buffer(struct.pack('=HBBI', 6, 0, 0, 0))
NOTHING_PASSES = struct.pack('@HP', 1, ctypes.addressof(_RETURN_NOTHING))


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

    @pytest.mark.parametrize('burst', [1, 3])
    def test_options_set_by_a_socket_of_the_programs_own(self, burst):
        """Between the sends of a turn, as a traceroute does; and it sends by that, too."""
        async def main():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                peer.bind(('127.0.0.1', 0))
                peer.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
                peer.settimeout(5)
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.bind(('127.0.0.1', 0))
                sock.setblocking(False)
                transport, _ = await endpoint(sock=sock)
                for _ in range(3):                 # turns
                    for ttl in range(1, 31):
                        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
                        for _ in range(burst):
                            transport.sendto(b'%d' % ttl, peer.getsockname())
                        sock.sendto(b'%d, itself' % ttl, peer.getsockname())
                    for ttl in range(1, 31):
                        for data in [b'%d' % ttl] * burst + [b'%d, itself' % ttl]:
                            got, [(_, _, told)], _, _ = peer.recvmsg(100, 100)
                            assert (got, struct.unpack('i', told)[0]) == (data, ttl)
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

    def test_errors_come_in_the_order_of_the_calls(self):
        async def main():
            transport, protocol = await endpoint(local_addr=('127.0.0.1', 0))
            for _ in range(5):
                protocol.errors.clear()
                for size in [60_000] * 20 + [65_508, 10, 65_508]:
                    transport.sendto(bytes(size), (self.to[0], 0) if size < 65_508 else self.to)
                await turns_until(lambda: len(protocol.errors) == 23)
                assert [exc.errno for exc in protocol.errors] == [errno.EINVAL] * 20 + [
                    errno.EMSGSIZE, errno.EINVAL, errno.EMSGSIZE]
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('kind', [bytes, bytearray])
    def test_what_error_received_raises_is_the_callers(self, kind):
        class Raising(asyncio.DatagramProtocol):
            def error_received(self, exc):
                raise ArithmeticError(exc.errno)

        async def main():
            transport, _ = await self.loop.create_datagram_endpoint(
                Raising, local_addr=('127.0.0.1', 0))
            for size in (10, 20_000, 60_000):
                with pytest.raises(ArithmeticError, match=str(errno.EINVAL)):
                    transport.sendto(kind(size), (self.to[0], 0))
            with pytest.raises(ArithmeticError, match=str(errno.EMSGSIZE)):
                transport.sendto(kind(65_508), self.to)
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

    def test_by_a_pipe_behind_a_bulk(self):
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            reading, writing = os.pipe()
            pipe, _ = await self.loop.connect_write_pipe(
                asyncio.Protocol, os.fdopen(writing, 'wb', 0))
            for _ in range(5):
                for i in range(20):
                    transport.sendto(b'%02d' % i, self.to)
                pipe.write(b'all are there')
                assert self.arrived() == [b'%02d' % i for i in range(20)]
                assert os.read(reading, 100) == b'all are there'
                await asyncio.sleep(0)
            os.close(reading)
            pipe.close()
            transport.close()

        self.run(main())

    def test_by_sockets_that_want_to_be_asked_behind_a_bulk(self):
        """asyncio's own transports serve them."""
        class Counts(socket.socket):
            def send(self, *arguments):
                return super().send(*arguments)

            def sendto(self, *arguments):
                return super().sendto(*arguments)

        def bulk(last):
            for i in range(20):
                transport.sendto(b'%02d' % i, self.to)
            last()
            return self.arrived()[:20] == [b'%02d' % i for i in range(20)]

        async def main():
            sock = Counts(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            other, _ = await endpoint(sock=sock)
            near, far = socket.socketpair()
            stream, _ = await self.loop.create_connection(
                asyncio.Protocol, sock=Counts(fileno=near.detach()))
            with far:
                for _ in range(5):
                    assert bulk(lambda: other.sendto(b'last', self.to))
                    assert bulk(lambda: stream.write(b'last'))
                    assert bulk(lambda: stream.writelines([b'one', b'two']))
                    await asyncio.sleep(0)
                assert bulk(stream.write_eof)
                stream.close()
                await asyncio.sleep(0)
            other.close()
            transport.close()
            await asyncio.sleep(0)

        transport, _ = self.loop.run_until_complete(endpoint(local_addr=('127.0.0.1', 0)))
        self.run(main())

    def test_before_other_things_that_the_loop_does(self):
        """Others may look for what was sent."""
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            listening = socket.create_server(('127.0.0.1', 0), backlog=20)
            child = await asyncio.create_subprocess_exec('cat', stdin=subprocess.PIPE)

            def seen(begun):
                """What had left when the coroutine or the call was begun."""
                for i in range(20):
                    transport.sendto(b'%02d' % i, self.to)
                begun = begun()
                if asyncio.iscoroutine(begun):
                    begun.send(None)
                    begun.close()
                return len(self.arrived())

            for _ in range(5):
                with socket.socket() as sock, udp() as empty:
                    sock.setblocking(False)
                    counts = [
                        seen(lambda empty=empty: self.loop.sock_recv(empty, 10)),
                        seen(lambda sock=sock: self.loop.sock_connect(
                            sock, listening.getsockname())),
                        seen(lambda: self.loop.create_connection(
                            asyncio.Protocol, *listening.getsockname())),
                        seen(lambda: self.loop.run_in_executor(None, int)),
                        seen(lambda: child.send_signal(0))]
                    self.loop.remove_reader(empty)
                    assert counts == [20] * 5
                await asyncio.sleep(0)
            child.kill()
            await child.wait()
            listening.close()
            transport.close()
            await self.loop.shutdown_default_executor()

        self.run(main())

    def test_before_the_socket_of_another_endpoint_changes(self):
        """It may be the one that is sent to."""
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            receiver, received = await endpoint(local_addr=('127.0.0.1', 0))
            for turn in range(1, 4):
                for i in range(20):
                    transport.sendto(b'%02d' % i, receiver.get_extra_info('sockname'))
                sock = receiver.get_extra_info('socket')
                sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, NOTHING_PASSES)
                await turns()
                sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
                await turns_until(lambda n=turn: len(received.datagrams) == 20 * n)
            transport.close()
            receiver.close()
            await received.until(lambda p: p.lost)

        self.run(main())

    def test_before_an_endpoint_is_made(self):
        """It has nothing of what was sent to its address before."""
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            with udp() as sock:
                to = sock.getsockname()
            for i in range(20):
                transport.sendto(b'%02d' % i, to)
            receiver, received = await endpoint(local_addr=to)
            transport.sendto(b'here', to)
            await received.until(lambda p: p.datagrams)
            assert received.datagrams == [b'here']
            for each in transport, receiver:
                each.close()
            await received.until(lambda p: p.lost)

        self.run(main())

    def test_by_sock_sendfile_behind_a_bulk(self, tmp_path):
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            near, far = socket.socketpair()
            near.setblocking(False)
            (tmp_path / 'file').write_bytes(b'content')
            with near, far, (tmp_path / 'file').open('rb') as file:
                for _ in range(5):
                    file.seek(0)
                    for i in range(20):
                        transport.sendto(b'%02d' % i, self.to)
                    sending = self.loop.sock_sendfile(near, file)
                    for_more = sending.send(None)        # within this turn
                    assert self.arrived() == [b'%02d' % i for i in range(20)]
                    assert far.recv(100) == b'content'
                    for_more.cancel()
                    sending.close()
                    await asyncio.sleep(0)
            transport.close()

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

    @needs_root
    def test_raw_packets_one_by_one(self):
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

    @pytest.mark.parametrize('batch', [None, False])
    def test_options_set_between_calls_that_send_many(self, batch):
        """On a socket of the program's own, whatever was seen a moment before."""
        async def main():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(('127.0.0.1', 0))
                sock.setblocking(False)
                transport, _ = await endpoint(sock=sock.dup(), batch=batch)
                for _ in range(3):
                    transport.sendto_many([b'a', b'b', b'c'], self.to)
                    assert self.arrived() == [b'a', b'b', b'c']
                    sock.setsockopt(socket.IPPROTO_UDP, UDP_CORK, 1)
                    transport.sendto_many([b'a', b'b', b'c'], self.to)
                    sock.setsockopt(socket.IPPROTO_UDP, UDP_CORK, 0)
                    assert self.arrived() == [b'abc']
                transport.close()

        if self.uring:
            self.run(main())

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


both_sides(globals(), _TestLeavesAtTheCall)
