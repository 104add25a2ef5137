"""What a cancelled call has taken is the next reader's: a call, a transport, a server."""
import asyncio
import socket
import sys

import pytest

from tests.support.cases import both_sides
from tests.support.protocols import Recorder as Datagrams
from tests.support.sockets import LOCAL, Calls, listener
from tests.support.streams import Named, Streams


class _TestTakenByTheSocketItself:

    def test_the_socket_has_what_came(self):
        """Whoever asks next gets it: the socket itself, a server, a transport."""
        async def main():
            loop = asyncio.get_running_loop()
            with socket.create_server(('127.0.0.1', 0)) as listener:
                listener.setblocking(False)
                accepting = asyncio.create_task(loop.sock_accept(listener))
                await asyncio.sleep(0)
                client = socket.create_connection(listener.getsockname())
                accepting.cancel()        # the connection is there already
                with pytest.raises(asyncio.CancelledError):
                    await accepting
                server, _ = listener.accept()
            with client, server:
                server.setblocking(False)
                receiving = asyncio.create_task(loop.sock_recv(server, 100))
                await asyncio.sleep(0)
                client.send(b'sent')
                receiving.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await receiving
                assert server.recv(100) == b'sent'

        self.run(main())


class _TestTakenByACancelledCall(Calls, Streams):
    """What a cancelled call has taken is the next reader's, and that may be a transport."""

    async def cancelled_after(self, coroutine, send):
        """The call waits; something comes; in the same turn the call is cancelled."""
        task = await self.waiting(coroutine)
        send()
        await self.cancelled(task)

    def test_a_stream_transport_gets_what_came(self):
        async def main():
            one, two = socket.socketpair()
            self.sockets.append(two)
            one.setblocking(False)
            await self.cancelled_after(
                self.loop.sock_recv(one, 100), lambda: two.send(b'first '))
            two.send(b'second')
            protocol = await self.open(one)
            await protocol.until_length(12)
            assert protocol.data == b'first second'
            two.close()
            await protocol.until_lost()
            assert protocol.calls[-2:] == ['eof', 'lost']

        self.run(main())

    def test_a_datagram_transport_gets_what_came(self):
        if not self.uring and sys.version_info < (3, 11):
            pytest.skip("asyncio's sock_recvfrom is new in 3.11")

        async def main():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                peer.bind(LOCAL)
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.setblocking(False)
                sock.bind(LOCAL)
                address = sock.getsockname()
                await self.cancelled_after(self.loop.sock_recvfrom(sock, 100),
                                           lambda: peer.sendto(b'first', address))
                peer.sendto(b'second', address)
                transport, protocol = await self.loop.create_datagram_endpoint(
                    Datagrams, sock=sock)
                await protocol.until(lambda p: len(p.datagrams) == 2)
                assert protocol.datagrams == [b'first', b'second']
                assert protocol.addresses == [peer.getsockname()] * 2
                transport.close()
                await protocol.until(lambda p: p.lost)

        self.run(main())

    def test_a_server_gets_the_connection(self):
        async def main():
            sock = listener()
            with socket.socket() as client:
                client.setblocking(False)
                await self.cancelled_after(self.loop.sock_accept(sock),
                                           lambda: client.connect_ex(sock.getsockname()))
                server = await self.loop.create_server(lambda: Named(b'server'), sock=sock)
                self.servers.append(server)
                assert await self.read_all(client) == b'server'

        self.run(main())


both_sides(globals(), _TestTakenByTheSocketItself, _TestTakenByACancelledCall)
