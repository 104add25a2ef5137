"""Servers: starting, closing, clients, two of one socket, and no descriptors to accept by."""
import asyncio
import contextlib
import errno
import socket
import subprocess
import sys
import textwrap
import threading

import pytest

from tests.support.cases import UringCase, both_sides
from tests.support.sockets import LOCAL, listener, reset
from tests.support.streams import Echo, Named, Recorder, Streams
from tests.support.turns import settle, turns

needs_server_clients = pytest.mark.skipif(
    sys.version_info < (3, 13), reason='Server.close_clients() is new in Python 3.13')


class _TestServer(Streams):

    def test_close_frees_the_port_and_keeps_connections(self):
        async def main():
            server, address = await self.serve(Echo)
            assert server.is_serving()
            assert server.get_loop() is self.loop
            client = await self.connect(address)
            server.close()
            assert not server.is_serving()
            assert server.sockets == ()
            # At once another may have the port.
            with socket.socket() as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                other.bind(address)
                other.listen()
            # The connections stay.
            client.transport.write(b'still')
            await client.until_length(5)
            client.transport.close()
            await client.until_lost()
            await server.wait_closed()
            with pytest.raises(ConnectionRefusedError):
                await self.connect(address)

        self.run(main())

    def test_again_on_the_same_port(self):
        async def main():
            for _ in range(5):
                server, address = await self.serve(Echo)
                server.close()
                again = await self.loop.create_server(self.kept(Echo), *address)
                self.servers.append(again)
                client = await self.connect(address)
                client.transport.write(b'x')
                await client.until_length(1)
                again.close()

        self.run(main())

    def test_connections_are_refused_until_serving_starts(self):
        async def main():
            server, address = await self.serve(Echo, start_serving=False)
            assert not server.is_serving()
            with pytest.raises(ConnectionRefusedError):
                await self.connect(address)
            await server.start_serving()
            client = await self.connect(address)
            client.transport.write(b'x')
            await client.until_length(1)

        self.run(main())

    def test_serve_forever_ends_by_cancelling(self):
        async def main():
            server, address = await self.serve(Echo)
            serving = self.loop.create_task(server.serve_forever())
            client = await self.connect(address)
            client.transport.write(b'x')
            await client.until_length(1)
            client.transport.abort()
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
            assert not server.is_serving()

        self.run(main())

    def test_serves_a_listening_socket(self):
        async def main():
            sock = socket.create_server(LOCAL)
            server = await self.loop.create_server(self.kept(Echo), sock=sock)
            self.servers.append(server)
            client = await self.connect(sock.getsockname())
            client.transport.write(b'x')
            await client.until_length(1)

        self.run(main())

    @needs_server_clients
    @pytest.mark.parametrize('method', ['close_clients', 'abort_clients'])
    def test_clients_are_closed_or_aborted(self, method):
        async def main():
            server, address = await self.serve(Echo)
            clients = [await self.connect(address) for _ in range(3)]
            for client in clients:
                client.transport.write(b'x')
                await client.until_length(1)
            server.close()
            getattr(server, method)()
            await server.wait_closed()
            for protocol in self.opened:
                await protocol.until_lost()
                assert len(protocol.lost) == 1

        self.run(main())


class _TestTwoServers(Streams):

    def test_the_second_takes_the_firsts_place(self):
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


class _TestReaders:
    """The reader of a socket that is served is what accepts there."""

    async def serve(self):
        made = []

        class Accepted(asyncio.Protocol):
            def connection_made(self, transport):
                made.append(transport)
                transport.abort()

        server = await self.loop.create_server(Accepted, '127.0.0.1', 0)
        return server, server.sockets[0], made

    @pytest.mark.parametrize('named', ['descriptor', 'socket'])
    def test_remove_reader_stops_the_accepting(self, named):
        async def main():
            server, sock, made = await self.serve()
            watched = sock if named == 'socket' else sock.fileno()
            await turns()
            assert self.loop.remove_reader(watched) is True
            assert self.loop.remove_reader(watched) is False
            with socket.create_connection(sock.getsockname()) as client:
                client.setblocking(False)
                await turns(20)
                assert not made
                await self.go_on(server)
                assert await self.loop.sock_recv(client, 1) == b''
            assert len(made) == 1
            server.close()

        self.run(main())

    @staticmethod
    async def go_on(server):
        server._serving = False
        await server.start_serving()

    def test_a_reader_takes_the_place_of_the_accepting(self):
        async def main():
            server, sock, made = await self.serve()
            heard = asyncio.Event()
            self.loop.add_reader(sock, heard.set)
            with socket.create_connection(sock.getsockname()) as client:
                await heard.wait()
                await turns(20)
                assert not made
                # And that of the reader, when it serves again.
                await self.go_on(server)
                heard.clear()
                client.setblocking(False)
                assert await self.loop.sock_recv(client, 1) == b''
                assert not heard.is_set()
            assert len(made) == 1
            server.close()
            await turns()

        self.run(main())

    def test_a_server_can_be_closed_when_it_has_no_reader(self):
        async def main():
            server, sock, _ = await self.serve()
            address = sock.getsockname()
            self.loop.remove_reader(sock)
            server.close()
            await turns()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)

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


class TestShortConnections(Streams, UringCase):

    def test_one_that_is_answered_and_closed_has_no_poll_to_cancel(self):
        class Answers(Recorder):
            def data_received(self, data):
                super().data_received(data)
                self.transport.write(data)
                self.transport.close()

        async def main():
            _, address = await self.serve(Answers)
            await settle()
            before = self.loop.stats().submissions
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(socket.create_connection(address))
                           for _ in range(20)]
                await turns(10)
                for client in clients:
                    client.sendall(b'asks')
                await turns(10)
                for client in clients:
                    client.settimeout(5)
                    assert client.recv(100) == b'asks'
                    assert client.recv(100) == b''
            # A poll each, and the server's own, which is armed anew.
            assert self.loop.stats().submissions - before <= 20 + 2

        self.run(main())


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


class _TestResetClients(Streams):

    def test_who_reset_before_being_accepted_is_told(self):
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
                reset(client)
            while len(self.opened) < 3 or not all(each.lost for each in self.opened):
                await asyncio.sleep(0)
            assert peers == clients

        peers = []
        self.run(main())


OUT_OF_DESCRIPTORS = '''
    import asyncio, os, resource, sys
    from asyncio import constants, selector_events

    constants.ACCEPT_RETRY_DELAY = 0.05

    class Greeter(asyncio.Protocol):
        def connection_made(self, transport):
            transport.write(b'hello')
            transport.close()

    def report(loop, context):
        print(context['message'], context['exception'].errno, context['socket'].fileno() >= 0,
              flush=True)
        while hoard:
            os.close(hoard.pop())

    hoard = []

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(report)
        loop.call_later(10, os._exit, 1)
        # An accept that waits in the kernel keeps the limit that it was made with.
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, limit))
        server = await loop.create_server(Greeter, '127.0.0.1', 0)
        await asyncio.sleep(0)
        try:
            while True:
                hoard.append(os.open('/dev/null', os.O_RDONLY))
        except OSError:
            print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    if sys.argv[1] == 'uring':
        import uringloop
        loop = uringloop.new_event_loop(require_uring=True)
    else:
        loop = asyncio.SelectorEventLoop()
    loop.run_until_complete(main())
'''


class _TestWithoutDescriptors(Streams):

    def test_accepting_is_tried_again(self):
        child = subprocess.Popen(
            [sys.executable, '-c', textwrap.dedent(OUT_OF_DESCRIPTORS),
             'uring' if self.uring else 'asyncio'], stdout=subprocess.PIPE, text=True)
        try:
            port = int(child.stdout.readline())
            for number in range(3):
                with socket.create_connection(('127.0.0.1', port), timeout=5) as sock:
                    if number == 0:
                        assert child.stdout.readline() == (
                            f'socket.accept() out of system resource {errno.EMFILE} True\n')
                    assert sock.recv(5, socket.MSG_WAITALL) == b'hello'
        finally:
            child.kill()
            child.wait()
            child.stdout.close()


class TestWithoutMemory(UringCase):

    def test_a_server_never_stops_for_good(self, monkeypatch):
        """There was none for a connection, nor for the timer that was to try again."""
        accepted = []

        class Accepted(asyncio.Protocol):
            def connection_made(self, transport):
                accepted.append(transport)

        class Failing(socket.socket):
            def __init__(self, *arguments, **options):
                if 'fileno' in options:
                    monkeypatch.undo()
                    monkeypatch.setattr(self_loop, 'call_later', fail_once, raising=False)
                    raise MemoryError
                super().__init__(*arguments, **options)

        def fail_once(*arguments, **options):
            monkeypatch.undo()
            raise MemoryError

        async def main():
            server = await self.loop.create_server(Accepted, *LOCAL)
            address = server.sockets[0].getsockname()
            with socket.create_connection(address), socket.create_connection(address):
                monkeypatch.setattr(socket, 'socket', Failing)
                while not accepted:
                    await asyncio.sleep(0)
                assert self.problems
                for transport in accepted:
                    transport.abort()
                server.close()
                await turns()

        self_loop = self.loop
        self.run(main())


both_sides(globals(), _TestServer, _TestTwoServers, _TestReaders, _TestTwoLoops,
           _TestResetClients, _TestWithoutDescriptors)
