"""Sockets that more than one has to do with: calls and transports, two servers, two loops."""
import array
import asyncio
import contextlib
import socket
import struct
import sys
import threading

import pytest

from tests.support.cases import UringCase, both_sides
from tests.support.programs import outcome
from tests.support.protocols import Recorder as Datagrams
from tests.support.sockets import LOCAL, listener
from tests.support.streams import Named, Recorder, Streams
from tests.support.turns import settle


class _TestTakenByACancelledCall(Streams):
    """What a cancelled call has taken is the next reader's, and that may be a transport."""

    async def cancelled(self, coroutine, send):
        """The call waits; something comes; in the same turn the call is cancelled."""
        task = self.loop.create_task(coroutine)
        for _ in range(3):
            await asyncio.sleep(0)
        assert not task.done()
        send()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    def test_stream(self):
        async def main():
            one, two = socket.socketpair()
            self.sockets.append(two)
            one.setblocking(False)
            await self.cancelled(self.loop.sock_recv(one, 100), lambda: two.send(b'first '))
            two.send(b'second')
            protocol = await self.open(one)
            await protocol.until_length(12)
            assert protocol.data == b'first second'
            two.close()
            await protocol.until_lost()
            assert protocol.calls[-2:] == ['eof', 'lost']

        self.run(main())

    def test_datagram(self):
        if not self.uring and sys.version_info < (3, 11):
            pytest.skip("asyncio's sock_recvfrom is new in 3.11")

        async def main():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                peer.bind(LOCAL)
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.setblocking(False)
                sock.bind(LOCAL)
                address = sock.getsockname()
                await self.cancelled(self.loop.sock_recvfrom(sock, 100),
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

    def test_connection(self):
        async def main():
            sock = listener()
            with socket.socket() as client:
                client.setblocking(False)
                await self.cancelled(self.loop.sock_accept(sock),
                                     lambda: client.connect_ex(sock.getsockname()))
                server = await self.loop.create_server(lambda: Named(b'server'), sock=sock)
                self.servers.append(server)
                assert await self.read_all(client) == b'server'

        self.run(main())


class _TestTwoServers(Streams):

    def test_second_server_of_a_listening_socket(self):
        """It takes the first one's place; and nothing listens when both are closed."""
        async def ask():
            with socket.create_connection(address) as client:
                client.setblocking(False)
                return await self.read_all(client)

        async def main():
            first = await self.loop.create_server(lambda: Named(b'first'), sock=sock)
            second = await self.loop.create_server(lambda: Named(b'second'), sock=sock)
            assert [await ask() for _ in range(3)] == [b'second'] * 3
            first.close()
            # asyncio finds the socket closed already.
            with contextlib.suppress(ValueError):
                second.close()
            await settle()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)
            socket.create_server(address).close()

        sock = listener()
        address = sock.getsockname()
        self.run(main())


class Neighbour(threading.Thread):
    """A loop in a thread of its own that serves a listening socket, and can be kept busy."""

    def __init__(self, loop, sock):
        super().__init__(daemon=True)
        self.loop = loop
        self.sock = sock
        self.serving = threading.Event()
        self.busy = threading.Event()
        self.free = threading.Event()

    def run(self):
        self.loop.run_until_complete(self.serve())
        self.loop.close()

    async def serve(self):
        self.end = self.loop.create_future()
        server = await self.loop.create_server(lambda: Named(b'neighbour'), sock=self.sock)
        self.serving.set()
        await self.end
        server.close()
        await settle()

    def __enter__(self):
        self.start()
        assert self.serving.wait(5)
        return self

    def be_busy(self):
        self.loop.call_soon_threadsafe(lambda: (self.busy.set(), self.free.wait(10)))
        assert self.busy.wait(5)

    def __exit__(self, *exc):
        self.free.set()
        self.loop.call_soon_threadsafe(self.end.set_result, None)
        self.join(5)
        assert not self.is_alive()


class _TestTwoLoops(Streams):

    def test_one_serves_while_the_other_is_busy(self):
        """A connection is the one's that comes for it, and nobody takes it in advance."""
        async def serve(sock):
            server = await self.loop.create_server(lambda: Named(b'mine'), sock=sock)
            self.servers.append(server)
            await settle()

        async def ask(address):
            with socket.create_connection(address) as client:
                client.setblocking(False)
                return await asyncio.wait_for(self.read_all(client), 2)

        async def main(first):
            sock = listener()
            address = sock.getsockname()
            if first == 'idle':
                await serve(sock)
            with Neighbour(self.new_loop(), sock.dup()) as neighbour:
                if first == 'busy':
                    await serve(sock)
                neighbour.be_busy()
                assert [await ask(address) for _ in range(4)] == [b'mine'] * 4

        self.run(main('idle'))
        self.run(main('busy'))


class _TestPeers(Streams):

    def test_client_that_resets_before_it_is_accepted(self):
        """The server still learns whose connection it was."""
        class Peer(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                peers.append(transport.get_extra_info('peername'))

        async def main():
            _, address = await self.serve(Peer)
            clients = []
            # In one turn: nobody accepts meanwhile.
            for _ in range(3):
                client = socket.create_connection(address)
                clients.append(client.getsockname())
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
                client.close()
            while len(self.opened) < 3 or not all(each.lost for each in self.opened):
                await asyncio.sleep(0)
            assert peers == clients

        peers = []
        self.run(main())

    def test_port_given_as_a_string(self):
        async def main():
            with listener() as sock, socket.socket() as client:
                client.setblocking(False)
                host, port = sock.getsockname()
                await self.loop.sock_connect(client, (host, str(port)))
                assert client.getpeername() == (host, port)

        self.run(main())

    def test_lines_of_more_than_bytes(self):
        """Buffers whose items are not bytes are written as the bytes they are."""
        async def main():
            near, peer = await self.half()
            numbers = array.array('i', range(100))
            near.transport.writelines([b'<', numbers, memoryview(numbers)[::], b'>'])
            near.transport.close()
            assert await self.read_all(peer) == b'<' + 2 * numbers.tobytes() + b'>'

        self.run(main())


class TestForked(UringCase):

    def test_wakes_nobody_in_the_child(self):
        """There the numbers of the loop's own descriptors may be somebody else's."""
        assert outcome('''
            import os, socket, threading
            import uringloop

            loop = uringloop.new_event_loop(require_uring=True)
            thread = threading.Thread(target=loop.run_forever)
            thread.start()
            running = threading.Event()
            loop.call_soon_threadsafe(running.set)
            running.wait()
            child = os.fork()
            if child == 0:
                pairs = [socket.socketpair() for _ in range(6)]
                try:
                    loop.call_soon_threadsafe(print, 'x')
                except RuntimeError:
                    pass
                for sock in sum(pairs, ()):
                    sock.setblocking(False)
                    try:
                        sock.recv(10)
                    except BlockingIOError:
                        continue
                    os._exit(3)
                os._exit(0)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
            os._exit(status)
        ''', '-W', 'ignore', timeout=20)[0] == 0


both_sides(globals(), _TestTakenByACancelledCall, _TestTwoServers, _TestTwoLoops, _TestPeers)
