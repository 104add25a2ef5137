"""Sends on sockets without room: they wait, and arrive whole and in order."""
import asyncio
import contextlib
import os
import socket

import pytest

from tests.support.cases import UringCase
from tests.support.endpoints import numbered


@contextlib.contextmanager
def bound_at(path):
    """A datagram socket that receives at a path, and one to send by."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver, \
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for sock in receiver, sender:
            sock.setblocking(False)
        receiver.bind(path)
        yield receiver, sender


class TestFullSocket(UringCase):

    def test_datagrams_keep_order_and_content(self, tmp_path):
        """bytearrays are sent or copied before the coroutine waits."""
        async def main():
            path = str(tmp_path / 'receiver')
            with bound_at(path) as (receiver, sender):

                async def send():
                    for data in numbered(200):
                        memory = bytearray(data)
                        sending = asyncio.ensure_future(
                            self.loop.sock_sendto(sender, memory, path))
                        await asyncio.sleep(0)
                        memory[:] = bytes(len(memory))
                        memory.append(0)
                        assert await sending == 100

                sending = asyncio.ensure_future(send())
                got = [(await self.loop.sock_recvfrom(receiver, 1000))[0] for _ in range(200)]
                await sending
                assert got == numbered(200)

        self.run(main())

    @pytest.mark.parametrize('connected', [False, True])
    @pytest.mark.parametrize('kind', [bytes, bytearray, None])
    def test_a_datagram_that_waited_arrives_whole(self, tmp_path, kind, connected):
        """A send that found its receiver full arrives whole once there is room."""
        async def main():
            path = str(tmp_path / 'receiver')
            with bound_at(path) as (receiver, sender):
                if connected:
                    sender.connect(path)
                with pytest.raises(BlockingIOError):
                    for _ in range(100_000):
                        sender.sendto(b'first', path)
                data = os.urandom(200)
                if kind is None:
                    sending = self.loop.sock_sendto_zerocopy(sender, data, path)
                else:
                    sending = asyncio.ensure_future(
                        self.loop.sock_sendto(sender, kind(data), path))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert not sending.done()
                got = b'first'
                while got == b'first':
                    got = await self.loop.sock_recv(receiver, 1000)
                assert got == data
                assert await sending == (200 if kind else (200, True))

        self.run(main())

    def test_sendall_of_datagrams_keeps_their_order(self, tmp_path):
        """``sock_sendall`` sends datagrams too, if the socket is connected."""
        async def main():
            path = str(tmp_path / 'receiver')
            with bound_at(path) as (receiver, sender):
                sender.connect(path)

                async def send():
                    for data in numbered(100):
                        await self.loop.sock_sendall(sender, data)

                sending = asyncio.ensure_future(send())
                await asyncio.sleep(0)
                got = [await self.loop.sock_recv(receiver, 1000) for _ in range(100)]
                await sending
                assert got == numbered(100)

        self.run(main())

    @pytest.mark.parametrize('family', [socket.AF_UNIX, socket.AF_INET])
    def test_a_stream_arrives_whole(self, family):
        """More than the socket's buffers hold arrives as it was sent."""
        async def main():
            if family == socket.AF_UNIX:
                one, two = socket.socketpair()
            else:
                with socket.create_server(('127.0.0.1', 0)) as server:
                    one = socket.create_connection(server.getsockname())
                    two, _ = server.accept()
            with one, two:
                for sock in one, two:
                    sock.setblocking(False)
                data = os.urandom(8 << 20)
                sending = asyncio.ensure_future(self.loop.sock_sendall(one, data))
                got = bytearray()
                while len(got) < len(data):
                    got += await self.loop.sock_recv(two, 100_000)
                await sending
                assert got == data

        self.run(main())
