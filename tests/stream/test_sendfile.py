"""``loop.sendfile`` on stream transports."""
import pytest

from tests.support.cases import UringCase, both_sides
from tests.support.sockets import reset
from tests.support.streams import MANY_BYTES, Streams, both_kinds
from tests.support.turns import turns


class _TestSendfile(Streams):

    @both_kinds
    def test_between_writes(self, kind, tmp_path):
        path = tmp_path / 'file'
        path.write_bytes(MANY_BYTES[:3_000_000])

        async def main():
            near, peer = await self.half(kind=kind)
            near.transport.write(MANY_BYTES[:500_000])
            with path.open('rb') as file:
                sending = self.loop.create_task(
                    self.loop.sendfile(near.transport, file, 10, 2_000_000))
                data = await self.read(peer, 2_500_000)
                assert await sending == 2_000_000
                assert file.tell() == 2_000_010
            assert data == MANY_BYTES[:500_000] + MANY_BYTES[10:2_000_010]
            near.transport.write(b'after')
            assert await self.read(peer, 5) == b'after'
            await self.loop.sock_sendall(peer, b'heard')
            await near.until_length(5)

        self.run(main())

    def test_closed_while_the_write_buffer_drains(self, tmp_path):
        """It ends by an error, and nothing of the file is sent."""
        path = tmp_path / 'file'
        path.write_bytes(MANY_BYTES)

        async def main():
            near, peer = await self.half()
            near.transport.write(bytes(MANY_BYTES))
            with path.open('rb') as file:
                sending = self.loop.create_task(self.loop.sendfile(near.transport, file))
                await turns()
                near.transport.close()
                assert await self.read_all(peer) == MANY_BYTES
                with pytest.raises((ConnectionError, AttributeError)):    # asyncio: of a None
                    await sending

        self.run(main())

    def test_no_writing_meanwhile(self, tmp_path):
        path = tmp_path / 'file'
        path.write_bytes(MANY_BYTES)

        async def main():
            near, peer = await self.half()
            with path.open('rb') as file:
                sending = self.loop.create_task(self.loop.sendfile(near.transport, file))
                await self.read(peer, 1)
                with pytest.raises(RuntimeError, match='sendfile is in progress'):
                    near.transport.write(b'x')
                await self.read(peer, len(MANY_BYTES) - 1)
                assert await sending == len(MANY_BYTES)

        self.run(main())


both_sides(globals(), _TestSendfile)


class TestReset(Streams, UringCase):

    def test_while_the_write_buffer_drains(self, tmp_path):
        """It fails by what the write has failed by."""
        path = tmp_path / 'file'
        path.write_bytes(b'more')

        async def main():
            near, peer = await self.half()
            near.transport.write(bytes(MANY_BYTES))
            with path.open('rb') as file:
                sending = self.loop.create_task(self.loop.sendfile(near.transport, file))
                await turns()
                reset(peer)
                with pytest.raises((ConnectionResetError, BrokenPipeError)):
                    await sending
            assert isinstance(await near.until_lost(), (ConnectionResetError, BrokenPipeError))

        self.run(main())
