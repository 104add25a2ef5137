"""Contexts of connections since Python 3.15, and factories that raise since 3.14."""
import asyncio
import contextvars
import os
import socket
import ssl
import subprocess

import pytest

from tests.support.cases import both_sides
from tests.support.turns import settle
from tests.support.versions import since_314, since_315

variable = contextvars.ContextVar('variable', default='unset')


class Watched(asyncio.Protocol):
    """Keeps ``variable`` as each callback has seen it, and counts up what is its own."""

    def __init__(self, loop, seen):
        self.loop = loop
        self.seen = seen
        self.lost = loop.create_future()
        self.look('factory')

    def look(self, where):
        self.seen.append((where, variable.get()))
        variable.set(f'{where} was here')

    def connection_made(self, transport):
        self.transport = transport
        self.look('connection_made')

    def data_received(self, data):
        self.look('data_received')

    def eof_received(self):
        self.look('eof_received')

    def connection_lost(self, exc):
        self.look('connection_lost')
        self.lost.set_result(None)


# Each callback finds what the one before has set: they share one context.
ONE_AFTER_THE_OTHER = [
    ('connection_made', 'factory was here'), ('data_received', 'connection_made was here'),
    ('eof_received', 'data_received was here'), ('connection_lost', 'eof_received was here')]


@since_315
class _TestContexts:

    async def talk(self, connect, connections=1):
        """Connect, send, close."""
        for _ in range(connections):
            reader, writer = await connect()
            writer.write(b'hello')
            await writer.drain()
            await asyncio.sleep(0.01)
            writer.write_eof()
            assert await reader.read() == b''
            writer.close()
            await writer.wait_closed()

    def served(self, start, connect):
        """What the connections of a server see, whose context changes once it is made."""
        async def main():
            made = []

            def factory():
                made.append(Watched(self.loop, []))
                return made[-1]

            variable.set("the server's")
            server = await start(factory)
            variable.set('changed since')
            await self.talk(lambda: connect(server), 2)
            for protocol in made:
                await protocol.lost
            server.close()
            await server.wait_closed()
            assert variable.get() == 'changed since'
            return [protocol.seen for protocol in made]

        return self.run(main())

    def test_each_connection_has_a_copy_of_the_servers(self):
        seen = self.served(
            lambda factory: self.loop.create_server(factory, '127.0.0.1', 0),
            lambda server: asyncio.open_connection(*server.sockets[0].getsockname()))
        assert seen == 2 * [[('factory', "the server's"), *ONE_AFTER_THE_OTHER]]

    def test_each_connection_has_a_copy_on_a_path(self, tmp_path):
        path = str(tmp_path / 'path')
        seen = self.served(
            lambda factory: self.loop.create_unix_server(factory, path),
            lambda server: asyncio.open_unix_connection(path))
        assert seen == 2 * [[('factory', "the server's"), *ONE_AFTER_THE_OTHER]]

    def test_a_server_has_the_context_it_was_made_in(self):
        async def main():
            seen = []
            variable.set('when made')
            server = await self.loop.create_server(
                lambda: Watched(self.loop, seen), '127.0.0.1', 0, start_serving=False)
            variable.set('when started')
            await server.start_serving()
            await self.talk(lambda: asyncio.open_connection(*server.sockets[0].getsockname()))
            server.close()
            return seen

        assert self.run(main())[0] == ('factory', 'when made')

    def test_tasks_of_streams_have_a_copy_each(self):
        async def main():
            seen = []

            async def answer(reader, writer):
                seen.append(variable.get())
                variable.set('of one connection')
                await reader.read()
                writer.close()

            variable.set("the server's")
            server = await asyncio.start_server(answer, '127.0.0.1', 0)
            variable.set('changed since')
            await self.talk(lambda: asyncio.open_connection(*server.sockets[0].getsockname()), 2)
            server.close()
            return seen

        assert self.run(main()) == 2 * ["the server's"]

    def client(self, connect):
        """What a client's callbacks see."""
        async def main():
            with socket.create_server(('127.0.0.1', 0)) as listener:
                seen = []
                variable.set("the caller's")
                _, protocol = await connect(
                    lambda: Watched(self.loop, seen), listener.getsockname())
                variable.set('changed since')
                peer, _ = await asyncio.to_thread(listener.accept)
                peer.send(b'hello')
                await asyncio.sleep(0.01)
                peer.close()
                await protocol.lost
            return seen

        return self.run(main())

    def check_client(self, seen):
        # The factory runs in the caller's own; the rest in a copy made before.
        assert seen == [('factory', "the caller's"), ('connection_made', "the caller's"),
                        *ONE_AFTER_THE_OTHER[1:]]

    def test_a_client_of_an_address_has_the_callers(self):
        self.check_client(self.client(
            lambda factory, address: self.loop.create_connection(factory, *address)))

    def test_a_client_of_a_name_has_the_callers(self):
        self.check_client(self.client(lambda factory, address: self.loop.create_connection(
            factory, 'localhost', address[1], family=socket.AF_INET)))

    def test_a_client_of_a_socket_has_the_callers(self):
        def connect(factory, address):
            sock = socket.create_connection(address)
            return self.loop.create_connection(factory, sock=sock)

        self.check_client(self.client(connect))

    def test_connection_lost_has_its_own_whoever_closes(self):
        async def main():
            left, right = socket.socketpair()
            seen = []
            variable.set("the caller's")
            transport, protocol = await self.loop.create_unix_connection(
                lambda: Watched(self.loop, seen), sock=left)
            variable.set("the closer's")
            transport.close()
            await protocol.lost
            right.close()
            return seen[-1]

        assert self.run(main()) == ('connection_lost', 'connection_made was here')

    def test_a_tls_connection_has_the_servers(self, tmp_path):
        certificate = tmp_path / 'certificate'
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj',
                        '/CN=localhost', '-keyout', certificate, '-out', tmp_path / 'alone'],
                       check=True, capture_output=True)
        certificate.write_text(certificate.read_text() + (tmp_path / 'alone').read_text())
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ours.load_cert_chain(certificate)
        theirs = ssl.create_default_context(cafile=tmp_path / 'alone')
        theirs.check_hostname = False

        async def main():
            seen = []
            variable.set("the server's")
            server = await self.loop.create_server(
                lambda: Watched(self.loop, seen), '127.0.0.1', 0, ssl=ours)
            variable.set("the client's")
            _, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=theirs)
            writer.write(b'hello')
            await asyncio.sleep(0.05)
            writer.close()
            await writer.wait_closed()
            await asyncio.sleep(0.05)
            server.close()
            return seen

        assert self.run(main())[:3] == [
            ('factory', "the server's"), *ONE_AFTER_THE_OTHER[:2]]


class _TestConnecting:

    def not_made(self, connect):
        """A factory that raises: nothing stays open."""
        async def main():
            def factory():
                raise ZeroDivisionError

            with socket.create_server(('127.0.0.1', 0)) as listener:
                before = set(os.listdir('/proc/self/fd'))
                with pytest.raises(ZeroDivisionError) as caught:
                    await connect(factory, listener.getsockname())
                # While the traceback, which may refer to the socket, is there.
                assert set(os.listdir('/proc/self/fd')) <= before, caught
                await settle()

        self.run(main())

    @since_314
    def test_a_factory_that_raises_leaves_nothing_open(self):
        self.not_made(lambda factory, address: self.loop.create_connection(factory, *address))

    @since_314
    def test_a_factory_that_raises_for_a_name_leaves_nothing_open(self):
        self.not_made(lambda factory, address: self.loop.create_connection(
            factory, 'localhost', address[1], family=socket.AF_INET))


both_sides(globals(), _TestContexts, _TestConnecting)
