"""``sendto_zerocopy``: reports, errors, cancelled futures, and buffers that are lent."""
import asyncio
import errno
import socket

import pytest

import uringloop
from tests.support.cases import UringCase, on_the_fallback_too, only_uring
from tests.support.endpoints import Endpoints
from tests.support.features import needs_feature
from tests.support.sockets import unix_pair
from tests.support.turns import turns


class TestSendtoZerocopy(Endpoints, UringCase):
    """What only this loop has: buffers lent to the kernel, and given back."""

    @needs_feature('report_usage', where='send_zc')
    @pytest.mark.parametrize('size', [0, 1, 1200, 20000, 65507])
    def test_report_tells_length_and_copy(self, size):
        async def main():
            client, receiver = await self.pair()
            for payload in (bytes(size), bytearray(size), memoryview(bytearray(size))):
                future = client.sendto_zerocopy(payload)
                assert asyncio.isfuture(future)
                # On loopback the kernel always copies.
                report = await future
                assert report == uringloop.SendReport(nbytes=size, copied=True)
                assert (report.nbytes, report.copied) == (size, True)
                assert (await receiver.datagrams.get())[0] == bytes(size)

        self.run(main())

    def test_sent_to_an_address(self):
        async def main():
            server, receiver = await self.endpoint()
            client, _ = await self.endpoint()
            await client.sendto_zerocopy(bytearray(b'x' * 5000), server.get_extra_info('sockname'))
            assert (await receiver.datagrams.get())[0] == b'x' * 5000

        self.run(main())

    @needs_feature('send_zc')
    @only_uring
    def test_a_lent_buffer_keeps_its_size(self):
        async def main():
            client, receiver = await self.pair()
            payload = bytearray(b'a' * 30000)
            future = client.sendto_zerocopy(payload)
            with pytest.raises(BufferError):
                payload.append(1)
            await future
            assert self.loop.stats().bytes_pinned == 0
            payload.append(1)
            assert (await receiver.datagrams.get())[0] == b'a' * 30000

        self.run(main())

    @needs_feature('send_zc')
    @only_uring
    def test_cancelling_calls_nothing_back(self):
        async def main():
            client, receiver = await self.pair()
            payload = bytearray(b'b' * 20000)
            future = client.sendto_zerocopy(payload)
            future.cancel()
            with pytest.raises(BufferError):
                payload.append(1)
            # Cancelling does not call the datagram back.
            assert (await receiver.datagrams.get())[0] == b'b' * 20000
            await client.sendto_zerocopy(b'next')
            payload.append(1)
            assert future.cancelled()

        self.run(main())

    def test_errors_are_the_futures(self):
        async def main():
            client, receiver = await self.pair()
            with pytest.raises(OSError) as caught:
                await client.sendto_zerocopy(bytearray(70000))
            assert caught.value.errno == errno.EMSGSIZE
            assert client.get_protocol().errors.empty()
            client.sendto(b'alive')
            assert (await receiver.datagrams.get())[0] == b'alive'
            with pytest.raises(ValueError, match='Invalid address'):
                client.sendto_zerocopy(b'x', ('127.0.0.1', 9))
            with pytest.raises(TypeError):
                client.sendto_zerocopy('text')
            with pytest.raises((BufferError, ValueError)):
                client.sendto_zerocopy(memoryview(b'0123456789')[::2])

        self.run(main())

    def test_bad_address_raises_at_the_call(self):
        async def main():
            transport, protocol = await self.endpoint()
            with pytest.raises(socket.gaierror):
                transport.sendto_zerocopy(b'x', ('::1', 9))
            with pytest.raises(TypeError):
                transport.sendto_zerocopy(b'x', 'a string')
            with pytest.raises(TypeError):
                transport.sendto_zerocopy(b'x', None)
            await turns()
            assert not protocol.lost.done()
            # The polls of the two wake-ups and the socket; what was refused is gone.
            assert self.loop.stats().operations_live == (3 if self.uring else 0)

        self.run(main())

    def test_a_closed_transport_refuses(self):
        async def main():
            client, _ = await self.pair()
            client.close()
            with pytest.raises(ConnectionAbortedError):
                await client.sendto_zerocopy(b'x')

        self.run(main())

    @needs_feature('report_usage', where='send_zc')
    def test_what_had_left_before_abort_is_reported(self):
        async def main():
            client, _ = await self.pair()
            protocol = client.get_protocol()
            payload = bytearray(20000)
            future = client.sendto_zerocopy(payload)
            client.abort()
            assert await future == (20000, True)      # it had left already
            await protocol.lost
            payload.append(1)

        self.run(main())

    def test_unix_is_copied(self):
        async def main():
            one, two = unix_pair()
            sender, _ = await self.endpoint(sock=one)
            _, receiver = await self.endpoint(sock=two)
            report = await sender.sendto_zerocopy(bytearray(20000))
            assert report == (20000, True)
            assert (await receiver.datagrams.get())[0] == bytes(20000)

        self.run(main())

on_the_fallback_too(globals(), TestSendtoZerocopy)
