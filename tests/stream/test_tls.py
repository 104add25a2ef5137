"""TLS over the ring's streams, and peers that do not speak it or vanish."""
import asyncio
import errno
import gc
import socket
import ssl
import sys
import weakref

import pytest

from tests.support.cases import UringCase, both_sides
from tests.support.sockets import reset, tcp_pair
from tests.support.streams import MANY_BYTES, Echo, Recorder, Streams
from tests.support.tls import older_tls_warns
from tests.support.turns import turns_until

pytestmark = older_tls_warns


class _TestTls(Streams):

    @pytest.mark.parametrize('size', [1, 1_000_000])
    def test_any_size_is_echoed(self, contexts, size):
        async def main():
            _, address = await self.serve(Echo, ssl=contexts[0])
            client = await self.connect(address, ssl=contexts[1])
            assert client.transport.get_extra_info('ssl_object').version() == 'TLSv1.3'
            assert client.transport.get_extra_info('peername') == address
            client.transport.write(MANY_BYTES[:size])
            await client.until_length(size)
            assert client.data == MANY_BYTES[:size]
            client.transport.close()
            for protocol in self.opened:
                assert await protocol.until_lost() is None
                assert len(protocol.lost) == 1

        self.run(main())

    def test_start_tls_upgrades_both_ends(self, contexts):
        async def main():
            near, far = await self.pair(Recorder, Echo)
            near.transport.write(b'plain')
            await near.until_length(5)
            server, client = await asyncio.gather(
                self.loop.start_tls(far.transport, far, contexts[0], server_side=True),
                self.loop.start_tls(near.transport, near, contexts[1],
                                    server_hostname='127.0.0.1'))
            near.transport, far.transport = client, server
            client.write(MANY_BYTES[:1_000_000])
            await near.until_length(1_000_005)
            assert near.data == b'plain' + MANY_BYTES[:1_000_000]
            client.close()
            assert await near.until_lost() is None
            assert await far.until_lost() is None

        self.run(main())

    def test_an_unknown_certificate_is_refused(self, contexts):
        async def main():
            _, address = await self.serve(Echo, ssl=contexts[0])
            with pytest.raises(ssl.SSLCertVerificationError):
                await self.connect(address, ssl=ssl.create_default_context())
            self.opened.clear()

        self.run(main())


class _TestPeersOfTls(Streams):

    def test_garbage_makes_no_connection(self, contexts):
        async def main():
            _, address = await self.serve(Echo, ssl=contexts[0])
            with socket.create_connection(address) as peer:
                peer.setblocking(False)
                await self.loop.sock_sendall(peer, b'GET / HTTP/1.1\r\n\r\n' * 20)
                try:
                    await self.read_all(peer)
                except ConnectionResetError as exc:
                    assert exc.errno == errno.ECONNRESET
            # Nobody was told of a connection, and the next one works.
            assert [protocol.calls for protocol in self.opened] in ([], [[]])
            self.opened.clear()
            client = await self.connect(address, ssl=contexts[1])
            client.transport.write(b'fine')
            await client.until_length(4)

        self.run(main())

    def test_a_peer_that_vanishes_in_the_handshake(self, contexts):
        async def main():
            one, peer = tcp_pair()
            connecting = self.loop.create_task(self.loop.create_connection(
                Recorder, sock=one, ssl=contexts[1], server_hostname='127.0.0.1'))
            peer.setblocking(False)
            assert await self.loop.sock_recv(peer, 1) == b'\x16'
            reset(peer)
            with pytest.raises((ConnectionResetError, ssl.SSLError)):
                await connecting

        self.run(main())


class TestStartTLS(Streams, UringCase):
    """What the newest releases of asyncio do, too."""

    @pytest.mark.skipif(sys.version_info < (3, 11), reason='writers cannot start TLS')
    def test_what_the_server_has_read_already_is_not_lost(self, contexts):
        async def main():
            async def serve(reader, writer):
                await reader._wait_for_data('serve')        # of the handshake
                assert reader._buffer
                await writer.start_tls(contexts[0])
                writer.write(await reader.readline())
                writer.close()

            server = await asyncio.start_server(serve, '127.0.0.1', 0)
            async with server:
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                await writer.start_tls(contexts[1], server_hostname='127.0.0.1')
                writer.write(b'through it\n')
                assert await reader.read() == b'through it\n'
                writer.close()
                await writer.wait_closed()

        self.run(main())
        assert self.problems == []

    @pytest.mark.skipif(sys.version_info < (3, 15), reason='its TLS makes circles of its own')
    def test_a_refused_certificate_leaves_no_circle(self, contexts):
        transports = []

        async def refused(address):
            transport, protocol = await self.loop.create_connection(asyncio.Protocol, *address)
            transports.append(weakref.ref(transport))
            try:
                await self.loop.start_tls(transport, protocol, ssl.create_default_context(),
                                          server_hostname='127.0.0.1')
            except ssl.SSLCertVerificationError:
                return

        async def main():
            _, address = await self.serve(Echo, ssl=contexts[0])
            await self.loop.create_task(refused(address))
            await turns_until(lambda: transports[0]() is None)
            self.opened.clear()

        gc.disable()
        try:
            self.run(main())
        finally:
            gc.enable()


both_sides(globals(), _TestTls, _TestPeersOfTls)
