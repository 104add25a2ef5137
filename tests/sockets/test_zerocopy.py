"""``sock_sendto_zerocopy``: reports, errors, streams, and loops that do not run."""
import errno
import socket

import pytest

import uringloop
from tests.support.cases import UringCase, on_the_fallback_too
from tests.support.features import needs_feature
from tests.support.sockets import Sockets


class TestZerocopy(Sockets, UringCase):

    @needs_feature('report_usage', where='send_zc')
    @pytest.mark.parametrize('size', [0, 1, 1200, 20000, 65507])
    def test_report_tells_length_and_copy(self, size):
        async def main():
            one, two = self.udp(), self.udp()
            payload = bytearray(size)
            future = self.loop.sock_sendto_zerocopy(one, payload, two.getsockname())
            # On loopback the kernel always copies.
            assert await future == uringloop.SendReport(size, True)
            payload.append(1)
            assert await self.loop.sock_recv(two, 65536) == bytes(size)

        self.run(main())

    def test_errors_are_the_futures_or_raised_at_the_call(self):
        async def main():
            one, two = self.udp(), self.udp()
            with pytest.raises(OSError) as caught:
                await self.loop.sock_sendto_zerocopy(one, bytearray(70000), two.getsockname())
            assert caught.value.errno == errno.EMSGSIZE
            with pytest.raises(TypeError):
                self.loop.sock_sendto_zerocopy(one, 'text', two.getsockname())
            with pytest.raises(TypeError):
                self.loop.sock_sendto_zerocopy(one, b'x', 'not an address')
            one.close()
            with pytest.raises(OSError) as caught:
                await self.loop.sock_sendto_zerocopy(one, b'x', two.getsockname())
            assert caught.value.errno == errno.EBADF

        self.run(main())

    def test_cancelling_calls_nothing_back(self):
        async def main():
            one, two = self.udp(), self.udp()
            payload = bytearray(b'c' * 20000)
            future = self.loop.sock_sendto_zerocopy(one, payload, two.getsockname())
            future.cancel()
            assert await self.loop.sock_recv(two, 65536) == b'c' * 20000
            await self.loop.sock_sendto_zerocopy(one, b'next', two.getsockname())
            payload.append(1)

        self.run(main())


class TestPartOfAStream(UringCase):

    def test_the_part_that_is_taken_is_reported(self):
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


class TestNeverRun(UringCase):

    def test_what_is_sent_is_copied_and_nothing_stays(self):
        """It is copied, and nothing of it stays."""
        data = bytearray(100)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            for _ in range(5):
                sending = self.loop.sock_sendto_zerocopy(sock, data, sock.getsockname()[:1] + (9,))
                assert sending.result() == (100, True)
        data.clear()
        assert self.loop.stats().operations_live == 0

on_the_fallback_too(globals(), TestZerocopy, TestPartOfAStream, TestNeverRun)
