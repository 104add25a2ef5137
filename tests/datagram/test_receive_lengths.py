"""Datagrams of any length and number: each comes whole, in order, and none before its time."""
import asyncio
import os
import socket
import sys

import pytest

from tests.support.cases import UringCase
from tests.support.endpoints import numbered
from tests.support.namespaces import needs_root
from tests.support.protocols import endpoint
from tests.support.sockets import SO_RCVBUFFORCE, udp
from tests.support.turns import turns

MEBIBYTE = 1 << 20


class TestLengths(UringCase):

    @needs_root
    def test_more_waits_than_one_call_receives(self):
        """Of lengths that are received in one way and in the other, in order."""
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
                assert self.loop.stats().datagrams_truncated == 0
                # And it goes on.
                sender.sendto(b'more', sock.getsockname())
                await received.until(lambda p: len(p.datagrams) == 321)
            receiver.close()

        self.run(main())

    def test_reception_goes_on_after_empty_datagrams(self):
        async def main():
            receiver, received = await endpoint(sock=udp(room=8 << 20))
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
            receiver, received = await endpoint(sock=udp(room=8 << 20))
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
        """A datagram longer than asyncio's buffer (AF_UNIX) is cut, and counted."""
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

    def test_nothing_is_lost_where_reading_pauses(self):
        """While paused the socket keeps what comes; nothing is lost at either edge."""
        async def main():
            receiver, received = await endpoint(sock=udp(room=8 << 20))
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


class TestManyEndpoints(UringCase):

    def test_many_have_something_at_once(self):
        """None is polled in vain, turn after turn."""
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
            assert after.submissions - before.submissions < 2 * len(opened)
            for transport, _ in opened:
                transport.close()

        self.run(main())


class TestNothingIsCollected(UringCase):

    def test_while_a_callback_sends(self):
        """However often a callback sends, nothing is received into memory meanwhile."""
        async def main():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(('127.0.0.1', 0))
            sock.setblocking(False)
            receiver, received = await endpoint(sock=sock)
            sender, _ = await endpoint(remote_addr=sock.getsockname())
            before = self.loop.stats()
            for _ in range(20_000):
                sender.sendto(bytes(1200))
            for _ in range(2000):
                await_nothing = sender.sendto_zerocopy(bytes(20_000))
                del await_nothing
            after = self.loop.stats()
            assert after.datagrams_received == before.datagrams_received
            assert not received.datagrams
            await turns(20)
            assert received.datagrams
            sender.close()
            receiver.close()

        self.run(main())

    def test_by_sock_calls_that_never_wait(self):
        """Neither do they collect what others receive, nor pin ever more."""
        async def main():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(('127.0.0.1', 0))
            sock.setblocking(False)
            receiver, received = await endpoint(sock=sock)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine:
                mine.setblocking(False)
                for _ in range(3000):
                    await self.loop.sock_sendto(mine, bytes(60_000), sock.getsockname())
                assert not received.datagrams
                assert self.loop.stats().bytes_pinned < 4 * MEBIBYTE
            await received.until(lambda p: p.datagrams)
            receiver.close()

        self.run(main())
