"""Who hears first of a connection: the server, the client, or who has connected."""
import asyncio
import socket

import pytest

from tests.support.cases import both_sides


class _TestConnections:
    """A server of the same loop hears of a connection before the client does."""

    def protocol(self, heard, name):
        class Protocol(asyncio.Protocol):
            def __init__(self):
                heard.append(f'{name} made')
                transports.append(self)

            def connection_made(self, transport):
                heard.append(name)
                self.transport = transport

        transports = self.transports
        return Protocol

    def run(self, main):
        self.transports = []

        async def bounded():
            try:
                return await main
            finally:
                for protocol in self.transports:
                    protocol.transport.abort()
                await asyncio.sleep(0)

        return super().run(bounded())

    @pytest.mark.parametrize('count', [1, 5])
    @pytest.mark.parametrize('plain', [True, False])
    def test_the_server_hears_before_the_client(self, count, plain):
        """Several at once too, each way there is to connect."""
        how = {} if plain else {'family': socket.AF_INET}

        async def main():
            heard = []
            server = await self.loop.create_server(
                self.protocol(heard, 'server'), '127.0.0.1', 0)
            address = server.sockets[0].getsockname()
            for _ in range(3):
                await asyncio.gather(*[
                    self.loop.create_connection(self.protocol(heard, 'client'), *address, **how)
                    for _ in range(count)])
                heard.append('connected')
            server.close()
            return heard

        assert self.run(main()) == (
            ['server made'] * count + ['client made'] * count
            + ['server'] * count + ['client'] * count + ['connected']) * 3

    def test_sock_connect_returns_before_the_server_hears(self):
        async def main():
            heard = []
            server = await self.loop.create_server(
                self.protocol(heard, 'server'), '127.0.0.1', 0)
            with socket.socket() as sock:
                sock.setblocking(False)
                await self.loop.sock_connect(sock, server.sockets[0].getsockname())
                heard.append('connected')
                while 'server' not in heard:
                    await asyncio.sleep(0)
            server.close()
            return heard

        assert self.run(main()) == ['server made', 'connected', 'server']

    def test_a_server_that_has_just_begun_hears_first(self):
        """Its descriptor is watched from the same turn on."""
        async def main():
            heard = []
            with socket.create_server(('127.0.0.1', 0)) as listener:
                client = self.loop.create_task(self.loop.create_connection(
                    self.protocol(heard, 'client'), *listener.getsockname()))
                server = await self.loop.create_server(
                    self.protocol(heard, 'server'), sock=listener)
                await client
                server.close()
            return heard

        assert self.run(main())[-2:] == ['server', 'client']

    def test_a_refusal_takes_its_turns(self):
        """A refusal takes its turns, too."""
        async def main():
            with socket.socket() as sock, socket.socket() as unheard:
                sock.setblocking(False)
                unheard.bind(('127.0.0.1', 0))
                turns = []
                self.loop.call_soon(turns.append, 1)
                with pytest.raises(ConnectionRefusedError):
                    await self.loop.sock_connect(sock, unheard.getsockname())
                return turns

        assert self.run(main()) == [1]


both_sides(globals(), _TestConnections)
