"""What waits for a writable socket in the loop's epoll is woken, also again and again."""
import asyncio
import socket

import pytest

from tests.support.cases import both_sides

SIZE = 3_000_000


class _TestWriters:

    @pytest.mark.parametrize('order', [[False], [True], [False, True]])
    def test_writer_is_called_until_all_is_sent(self, order):
        async def main():
            for renewed in order:
                await send_all(renewed)

        async def send_all(renewed):
            one, two = socket.socketpair()
            with one, two:
                one.setblocking(False)
                two.setblocking(False)
                sent = received = 0

                def ready():
                    nonlocal sent
                    if renewed:
                        self.loop.remove_writer(one)
                    try:
                        while sent < SIZE:
                            sent += one.send(bytes(min(65_536, SIZE - sent)))
                    except BlockingIOError:
                        if renewed:
                            self.loop.add_writer(one, ready)
                    else:
                        self.loop.remove_writer(one)

                self.loop.add_writer(one, ready)
                try:
                    while received < SIZE:
                        received += len(await self.loop.sock_recv(two, 1 << 18))
                finally:
                    self.loop.remove_writer(one)

        self.run(main())

    def test_sock_sendfile(self, tmp_path):
        path = tmp_path / 'file'
        path.write_bytes(bytes(SIZE))

        async def main():
            one, two = socket.socketpair()
            with one, two, path.open('rb') as file:
                one.setblocking(False)
                two.setblocking(False)
                sending = asyncio.ensure_future(self.loop.sock_sendfile(one, file))
                received = 0
                while received < SIZE:
                    received += len(await self.loop.sock_recv(two, 1 << 18))
                assert await sending == SIZE

        self.run(main())


both_sides(globals(), _TestWriters)
