"""Zero-copy by the path: where it really happens, and where the kernel copies anyway."""
import asyncio
import errno
import mmap
import os
import socket
import sys

import pytest

from tests.support.cases import UringCase
from tests.support.features import needs_feature
from tests.support.namespaces import Hole, needs_root
from tests.support.programs import outcome
from tests.support.protocols import endpoint
from tests.support.turns import turns_until
from uringloop import SendReport

LONG = 65435
DESTINATIONS = {socket.AF_INET: Hole.peer, socket.AF_INET6: Hole.peer6}


@pytest.fixture(scope='module')
def hole():
    with Hole() as namespace:
        yield namespace


@needs_feature('send_zc', 'report_usage')
@needs_root
class TestWithoutCopies(UringCase):

    @pytest.mark.parametrize('family', [socket.AF_INET, socket.AF_INET6])
    @pytest.mark.parametrize('size', [1400, 16384, LONG])
    @pytest.mark.parametrize('kind', [bytes, bytearray])
    def test_sendto_zerocopy(self, hole, family, size, kind):
        async def main():
            transport, protocol = await endpoint(sock=hole.socket(family))
            report = await transport.sendto_zerocopy(kind(size), DESTINATIONS[family])
            assert report == SendReport(size, False)
            assert self.loop.stats().bytes_pinned == 0
            assert self.loop.stats().buffers_released == 1
            assert self.loop.stats().zerocopy_copied == 0
            assert self.loop.stats().zerocopy_bytes == size
            transport.close()
            await protocol.until(lambda p: p.lost)
            assert protocol.lost == [None]
            assert not protocol.errors

        self.run(main())

    @pytest.mark.parametrize('family', [socket.AF_INET, socket.AF_INET6])
    @pytest.mark.parametrize('size', [1400, LONG])
    def test_sock_sendto_zerocopy(self, hole, family, size):
        async def main():
            with hole.socket(family) as sock:
                data = bytearray(size)
                report = await self.loop.sock_sendto_zerocopy(sock, data, DESTINATIONS[family])
                assert report == SendReport(size, False)
                data.append(0)      # it is ours again
                assert self.loop.stats().bytes_pinned == 0
                assert self.loop.stats().zerocopy_bytes == size

        self.run(main())

    def test_sock_sendto(self, hole):
        async def main():
            with hole.socket() as sock:
                assert await self.loop.sock_sendto(sock, bytes(LONG), hole.peer) == LONG
                assert self.loop.stats().zerocopy_sent == 1
                assert await self.loop.sock_sendto(sock, bytes(1400), hole.peer) == 1400
                assert await self.loop.sock_sendto(sock, bytearray(LONG), hole.peer) == LONG
                assert self.loop.stats().zerocopy_sent == 1
                await turns_until(lambda: self.loop.stats().buffers_released == 1)
                assert self.loop.stats().zerocopy_copied == 0

        self.run(main())

    def test_connected_socket(self, hole):
        async def main():
            sock = hole.socket()
            sock.connect(hole.peer)
            transport, _ = await endpoint(sock=sock)
            assert await transport.sendto_zerocopy(bytes(LONG)) == (LONG, False)
            transport.close()

        self.run(main())

    @needs_feature('taskrun_flag', 'registered_files')
    @pytest.mark.parametrize('segment_size', [None, 1400])
    def test_those_of_a_turn_are_one_chain(self, hole, segment_size):
        """However long they are: there is nothing that they could leave with as segments."""
        async def main():
            transport, _ = await endpoint(sock=hole.socket(), batch=True)
            data = bytes(16_000)
            for _ in range(5):          # from the fourth turn on all of them wait
                before = self.loop.stats().syscalls
                futures = [transport.sendto_zerocopy(data, hole.peer, segment_size=segment_size)
                           for _ in range(60)]
                for future in futures:
                    assert await future == (16_000, False)
            assert self.loop.stats().syscalls - before < 6
            transport.close()

        self.run(main())

    def test_sendto_chooses_by_size(self, hole):
        async def main():
            transport, _ = await endpoint(sock=hole.socket())
            for _ in range(8):
                transport.sendto(bytes(LONG), hole.peer)
            await turns_until(lambda: self.loop.stats().buffers_released == 8)
            stats = self.loop.stats()
            assert (stats.zerocopy_sent, stats.zerocopy_copied, stats.zerocopy_fell_back) \
                == (8, 0, 0)
            for size in (1, 2, 1400, 8192):
                transport.sendto(bytes(size), hole.peer)
            await turns_until(lambda: self.loop.stats().datagrams_sent == 12)
            assert self.loop.stats().zerocopy_sent == 8
            transport.close()

        self.run(main())

    def test_bytearray_is_the_callers_at_once(self, hole):
        async def main():
            transport, _ = await endpoint(sock=hole.socket())
            data = bytearray(LONG)
            transport.sendto(data, hole.peer)
            data.append(0)
            data.clear()
            await turns_until(lambda: transport.get_write_buffer_size() == 0)
            transport.close()

        self.run(main())

    def test_view_of_bytes_is_not_copied(self, hole):
        async def main():
            transport, _ = await endpoint(sock=hole.socket())
            data = bytes(100_000)
            view = memoryview(data)[10:10 + LONG]
            before = sys.getrefcount(data)
            transport.sendto(view, hole.peer)
            assert sys.getrefcount(data) == before + 1
            view.release()
            await turns_until(lambda: self.loop.stats().buffers_released == 1)
            assert sys.getrefcount(data) == before - 1
            assert self.loop.stats().zerocopy_sent == 1
            assert self.loop.stats().zerocopy_copied == 0
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('offset', [0, 16, 4064, 4095])
    def test_memory_of_any_alignment(self, hole, offset):
        """65,507 bytes touch up to 17 pages, which with a header may be too many."""
        async def main():
            transport, protocol = await endpoint(sock=hole.socket())
            memory = mmap.mmap(-1, 81920)
            view = memoryview(memory)[offset:offset + 65507]
            report = await transport.sendto_zerocopy(view, hole.peer)
            assert report.nbytes == 65507
            with hole.socket() as sock:
                report = await self.loop.sock_sendto_zerocopy(sock, view, hole.peer)
                assert report.nbytes == 65507
            assert not protocol.errors
            transport.close()
            await protocol.until(lambda p: p.lost)
            view.release()
            memory.close()

        self.run(main())

    def test_one_that_fails_among_many(self, hole):
        """Those cancelled with their chain notify in a later turn, and are sent once more."""
        async def main():
            transport, protocol = await endpoint(sock=hole.socket())
            sizes = [20_000] * 21
            sizes[7] = 70_000
            reports = await asyncio.gather(
                *(transport.sendto_zerocopy(bytearray(size), hole.peer) for size in sizes),
                return_exceptions=True)
            assert reports.pop(7).errno == errno.EMSGSIZE
            assert reports == [(20_000, False)] * 20
            await turns_until(lambda: self.loop.stats().bytes_pinned == 0)
            for _ in range(3):
                for size in sizes:
                    transport.sendto(bytes(size), hole.peer)
                transport.sendto(b'short', hole.peer)
            await turns_until(lambda: transport.get_write_buffer_size() == 0)
            await protocol.until(lambda p: len(p.errors) == 3)
            assert {exc.errno for exc in protocol.errors} == {errno.EMSGSIZE}
            assert self.loop.stats().datagrams_sent == 20 + 63
            await turns_until(lambda: self.loop.stats().bytes_pinned == 0)
            transport.close()
            await protocol.until(lambda p: p.lost)

        self.run(main())

    def test_too_long(self, hole):
        """EMSGSIZE is tried plainly, and then told."""
        async def main():
            transport, protocol = await endpoint(sock=hole.socket())
            with pytest.raises(OSError, match='65508') as caught:
                await transport.sendto_zerocopy(bytes(65508), hole.peer)
            assert caught.value.errno == errno.EMSGSIZE
            with hole.socket() as sock:
                with pytest.raises(OSError) as caught:
                    await self.loop.sock_sendto_zerocopy(sock, bytes(65508), hole.peer)
                assert caught.value.errno == errno.EMSGSIZE
                with pytest.raises(OSError) as caught:
                    await self.loop.sock_sendto(sock, bytes(65508), hole.peer)
                assert caught.value.errno == errno.EMSGSIZE
            transport.sendto(bytes(65508), hole.peer)
            await protocol.until(lambda p: p.errors)
            assert [exc.errno for exc in protocol.errors] == [errno.EMSGSIZE]
            transport.close()

        self.run(main())


@pytest.fixture(scope='module')
def narrow():
    with Hole(mtu=1500) as namespace:
        yield namespace


@needs_feature('send_zc', 'report_usage')
@needs_root
class TestPathsThatCopy(UringCase):
    """A datagram longer than the path's MTU is fragmented, which copies it."""

    def test_a_path_that_copies_is_learned(self, narrow):
        async def main():
            transport, _ = await endpoint(sock=narrow.socket())
            assert await transport.sendto_zerocopy(bytes(LONG), narrow.peer) == (LONG, True)
            stats = self.loop.stats()
            assert (stats.zerocopy_sent, stats.zerocopy_copied) == (1, 1)
            # Further ones go plain, and say that they were copied.
            assert await transport.sendto_zerocopy(bytes(LONG), narrow.peer) == (LONG, True)
            for _ in range(3):
                transport.sendto(bytes(LONG), narrow.peer)
            await turns_until(lambda: self.loop.stats().datagrams_sent == 5)
            stats = self.loop.stats()
            assert (stats.zerocopy_sent, stats.zerocopy_copied) == (1, 1)
            # The way to a host is the same to each of its ports.
            other_port = (narrow.peer[0], narrow.peer[1] + 1)
            assert await transport.sendto_zerocopy(bytes(LONG), other_port) == (LONG, True)
            assert self.loop.stats().zerocopy_sent == 1
            # What fits the path still goes zero-copy there, and others know nothing of it.
            assert await transport.sendto_zerocopy(bytes(1400), narrow.peer) == (1400, False)
            assert await transport.sendto_zerocopy(bytes(LONG), narrow.other_peer) == (LONG, True)
            assert self.loop.stats().zerocopy_sent == 3
            transport.close()

        self.run(main())

    def test_a_path_that_copies_is_learned_of_plain_sockets(self, narrow):
        async def main():
            with narrow.socket() as sock:
                for _ in range(3):
                    report = await self.loop.sock_sendto_zerocopy(sock, bytes(LONG), narrow.peer)
                    assert report == (LONG, True)
                assert await self.loop.sock_sendto(sock, bytes(LONG), narrow.peer) == LONG
                assert self.loop.stats().zerocopy_sent == 1

        self.run(main())

    def test_zerocopy_is_tried_again(self, narrow):
        async def main():
            transport, _ = await endpoint(sock=narrow.socket())
            while self.loop.stats().zerocopy_sent < 2:
                report = await transport.sendto_zerocopy(bytes(LONG), narrow.peer)
                assert report == (LONG, True)
            transport.close()

        self.run(main())


class TestSameMachine(UringCase):

    @needs_feature('send_zc', 'report_usage')
    def test_loopback_always_copies(self):
        async def main():
            receiver, received = await endpoint(local_addr=('127.0.0.1', 0))
            address = receiver.get_extra_info('sockname')
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            data = os.urandom(LONG)
            assert await transport.sendto_zerocopy(data, address) == (LONG, True)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                assert await self.loop.sock_sendto_zerocopy(sock, data, address) == (LONG, True)
            await received.until(lambda p: len(p.datagrams) == 2)
            assert received.datagrams == [data, data]
            assert self.loop.stats().zerocopy_copied == 2
            transport.close()
            receiver.close()

        self.run(main())

    def test_unix_falls_back(self, tmp_path):
        async def main():
            path = str(tmp_path / 'receiver')
            receiver, received = await endpoint(local_addr=path, family=socket.AF_UNIX)
            transport, protocol = await endpoint(
                local_addr=str(tmp_path / 'sender'), family=socket.AF_UNIX)
            data = os.urandom(LONG)
            assert await transport.sendto_zerocopy(data, path) == (LONG, True)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                assert await self.loop.sock_sendto_zerocopy(sock, data, path) == (LONG, True)
            transport.sendto(data, path)
            await received.until(lambda p: len(p.datagrams) == 3)
            assert received.datagrams == [data] * 3
            assert self.loop.stats().zerocopy_sent == 0
            assert not protocol.errors
            transport.close()
            receiver.close()

        self.run(main())


UNPRIVILEGED = '''
import asyncio, os, resource, sys
from tests.support.namespaces import Hole
from tests.support.protocols import endpoint
import uringloop

with Hole() as hole:
    mine, his = os.pipe()
    child = os.fork()
    if child == 0:
        socks = [hole.socket(), hole.socket()]
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)

        async def main():
            loop = asyncio.get_running_loop()
            transport, protocol = await endpoint(sock=socks[0])
            for _ in range(4):
                transport.sendto(bytes(65435), hole.peer)
            assert await transport.sendto_zerocopy(bytes(65435), hole.peer) == (65435, True)
            assert await loop.sock_sendto(socks[1], bytes(65435), hole.peer) == 65435
            report = await loop.sock_sendto_zerocopy(socks[1], bytes(65435), hole.peer)
            assert report == (65435, True), report
            assert not protocol.errors, protocol.errors
            stats = loop.stats()
            assert stats.zerocopy_fell_back >= 1, stats
            assert stats.zerocopy_fell_back == stats.zerocopy_sent, stats
            assert stats.datagrams_dropped == 0, stats
            transport.close()
            await protocol.until(lambda p: p.lost)
            return stats

        stats = uringloop.run(main())
        os.write(his, repr(stats).encode())
        os._exit(0)
    os.close(his)
    _, status = os.waitpid(child, 0)
    print(os.read(mine, 10000).decode())
    sys.exit(os.waitstatus_to_exitcode(status))
'''


@needs_feature('send_zc')
@needs_root
def test_without_locked_memory_all_go_plainly():
    """Without room to pin, the same datagrams go plainly and nobody hears of it."""
    assert outcome(UNPRIVILEGED, '-W', 'error') == (0, '')
