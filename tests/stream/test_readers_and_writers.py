"""asyncio's ``StreamReader`` and ``StreamWriter`` over the ring's transports."""
import asyncio
import socket

import pytest

from tests.support.cases import both_sides
from tests.support.sockets import LOCAL
from tests.support.streams import Streams
from tests.support.turns import turns


class _TestEcho:

    def test_several_clients_at_a_time(self):
        async def echo(reader, writer):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        async def main():
            server = await asyncio.start_server(echo, '127.0.0.1', 0)
            host, port = server.sockets[0].getsockname()
            payload = bytes(range(256)) * 2000

            async def client():
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(payload)
                writer.write_eof()
                received = await reader.read()
                writer.close()
                await writer.wait_closed()
                return received

            for received in await asyncio.gather(*(client() for _ in range(5))):
                assert received == payload
            server.close()
            await server.wait_closed()

        self.run(main())

    def test_a_line_over_a_unix_path(self, tmp_path):
        async def upper(reader, writer):
            writer.write((await reader.readline()).upper())
            writer.close()
            await writer.wait_closed()

        async def main():
            path = str(tmp_path / 'socket')
            server = await asyncio.start_unix_server(upper, path)
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b'hello\n')
            assert await reader.read() == b'HELLO\n'
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()

        self.run(main())

    def test_open_connection_is_refused(self):
        async def main():
            with socket.socket() as sock:
                sock.bind(('127.0.0.1', 0))
                port = sock.getsockname()[1]
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection('127.0.0.1', port)

        self.run(main())


class _TestLines(Streams):

    def test_lines_are_answered_until_the_end(self):
        async def main():
            async def serve(reader, writer):
                while line := await reader.readline():
                    writer.write(line.upper())
                    await writer.drain()
                writer.close()
                await writer.wait_closed()

            server = await asyncio.start_server(serve, *LOCAL)
            async with server:
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                for line in (b'one\n', b'two\n'):
                    writer.write(line)
                    await writer.drain()
                    assert await reader.readline() == line.upper()
                writer.write_eof()
                assert await reader.read() == b''
                writer.close()
                await writer.wait_closed()

        self.run(main())


class _TestDribblingLines(Streams):

    def test_lines_are_put_together(self):
        async def main():
            async def serve(reader, writer):
                lines.set_result([await reader.readline() for _ in range(2)])
                writer.close()
                await writer.wait_closed()

            lines = self.loop.create_future()
            async with await asyncio.start_server(serve, *LOCAL) as server:
                with socket.create_connection(server.sockets[0].getsockname()) as peer:
                    peer.setblocking(False)
                    for byte in b'first\nsecond\n':
                        await self.loop.sock_sendall(peer, bytes([byte]))
                        await turns(2)
                    assert await lines == [b'first\n', b'second\n']
                    assert await self.loop.sock_recv(peer, 1) == b''

        self.run(main())


both_sides(globals(), _TestEcho, _TestLines, _TestDribblingLines)
