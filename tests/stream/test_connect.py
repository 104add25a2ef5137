"""Connections of streams: ways to make them, extra information, contexts."""
import asyncio
import contextvars
import socket
import sys
from unittest import mock

import pytest

from tests.support.cases import both_sides
from tests.support.sockets import LOCAL, PAIRS
from tests.support.streams import MANY_BYTES, Echo, Recorder, Streams, both_kinds
from tests.support.turns import turns

variable = contextvars.ContextVar('variable', default='unset')


class _TestConnect(Streams):

    def test_while_a_test_has_patched_the_sockets(self):
        def patched(*args, **options):
            return original(*args, **options)

        async def main():
            _server, address = await self.serve(Echo)
            with mock.patch.object(socket, 'socket', patched):
                client = await self.connect(address)
                client.transport.write(b'asked')
                await client.until_length(5)

        original = socket.socket
        self.run(main())

    def test_to_a_numeric_ipv6_address(self):
        async def main():
            server = await self.loop.create_server(self.kept(Echo), '::1', 0)
            self.servers.append(server)
            address = server.sockets[0].getsockname()
            client = await self.connect(address[:2])
            assert client.transport.get_extra_info('peername') == address
            client.transport.write(b'six')
            await client.until(lambda: client.data == b'six')

        if not socket.has_ipv6:
            pytest.skip('this Python has no IPv6')
        self.run(main())

    def test_extra_info_outlives_the_connection(self):
        async def main():
            _server, address = await self.serve(Echo)
            client = await self.connect(address)
            transport = client.transport
            mine = transport.get_extra_info('sockname')
            transport.close()
            await client.until_lost()
            await turns()
            assert transport.get_extra_info('peername') == address
            assert transport.get_extra_info('sockname') == mine
            assert transport.get_extra_info('socket').fileno() == -1
            assert transport.get_extra_info('nothing', 7) == 7

        self.run(main())

    def test_accepted_connections_have_the_servers_context(self):
        """What was set before the server was made is seen by its protocols, in a copy each."""
        seen = []

        def factory():
            assert asyncio.current_task() is not None
            seen.append(variable.get())
            variable.set('made here')
            return Looking()

        class Looking(Echo):
            def connection_made(self, transport):
                super().connection_made(transport)
                seen.append(variable.get())
                variable.set('connected')

            def received(self, data):
                seen.append(variable.get())
                variable.set('received')
                super().received(data)

        async def main():
            variable.set('served')
            _server, address = await self.serve(factory)
            variable.set('later')
            for _ in range(2):
                client = await self.connect(address)
                client.transport.write(b'x')
                await client.until_length(1)

        self.run(main())
        # From Python 3.15 on all of a connection is in one context.
        later = 'connected' if sys.version_info >= (3, 15) else 'made here'
        assert seen == ['served', 'made here', later] * 2

    def test_a_connection_from_its_beginning_to_its_end(self):
        async def main():
            _server, address = await self.serve(Echo)
            client = await self.connect(address)
            assert client.calls == ['made']
            transport = client.transport
            assert transport.get_protocol() is client
            assert isinstance(transport, asyncio.Transport)
            assert transport.get_extra_info('peername') == address
            sock = transport.get_extra_info('socket')
            assert sock.family == socket.AF_INET
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert transport.get_extra_info('sockname') == sock.getsockname()
            assert transport.get_extra_info('nothing') is None
            assert transport.get_extra_info('nothing', 1) == 1
            assert not transport.is_closing()
            assert transport.is_reading()
            assert transport.can_write_eof()
            transport.write(b'hello')
            await client.until_length(5)
            assert client.data == b'hello'
            far = self.others(client)[0]
            assert isinstance(far.transport, asyncio.Transport)
            assert far.transport.get_extra_info('peername') == sock.getsockname()
            transport.close()
            assert transport.is_closing()
            assert not transport.is_reading()
            assert await client.until_lost() is None
            assert await far.until_lost() is None
            assert client.calls == ['made', 'data', 'lost']
            assert far.calls == ['made', 'data', 'eof', 'lost']

        self.run(main())

    def test_from_a_local_address(self):
        async def main():
            _, address = await self.serve()
            client = await self.connect(address, local_addr=LOCAL)
            assert client.transport.get_extra_info('sockname')[0] == '127.0.0.1'

        self.run(main())

    def test_by_name(self):
        async def main():
            _, address = await self.serve(Echo)
            client = await self.connect(('localhost', address[1]), happy_eyeballs_delay=0.25)
            client.transport.write(b'x')
            await client.until_length(1)

        self.run(main())

    def test_over_a_unix_path(self, tmp_path):
        async def main():
            path = str(tmp_path / 'socket')
            server = await self.loop.create_unix_server(self.kept(Echo), path)
            self.servers.append(server)
            _, client = await self.loop.create_unix_connection(self.kept(Recorder), path)
            client.transport.write(MANY_BYTES[:300_000])
            await client.until_length(300_000)
            assert client.data == MANY_BYTES[:300_000]
            assert client.transport.get_extra_info('peername') == path
            client.transport.close()
            assert await self.others(client)[0].until_lost() is None

        self.run(main())

    @both_kinds
    def test_of_an_accepted_socket(self, kind):
        async def main():
            one, two = PAIRS[kind]()
            two.setblocking(False)
            self.sockets.append(two)
            _, protocol = await self.loop.connect_accepted_socket(self.kept(Echo), one)
            await self.loop.sock_sendall(two, b'hello')
            assert await self.read(two, 5) == b'hello'
            assert protocol.data == b'hello'

        self.run(main())

    def test_what_is_written_in_connection_made_arrives(self):
        class Greeter(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                transport.write(b'welcome')
                transport.close()

        async def main():
            _, address = await self.serve(Greeter)
            client = await self.connect(address)
            assert await client.until_lost() is None
            assert client.data == b'welcome'
            assert client.calls[-2:] == ['eof', 'lost']

        self.run(main())

    def test_many_at_a_time(self):
        async def main():
            _server, address = await self.serve(Echo)
            clients = await asyncio.gather(*(self.connect(address) for _ in range(200)))
            for number, client in enumerate(clients):
                client.transport.write(b'%d' % number)
            for number, client in enumerate(clients):
                await client.until_length(len(b'%d' % number))
                assert client.data == b'%d' % number
                client.transport.close()
            for protocol in self.opened:
                assert await protocol.until_lost() is None
                assert protocol.calls.count('lost') == 1
            assert len(self.opened) == 400

        self.run(main())


both_sides(globals(), _TestConnect)
