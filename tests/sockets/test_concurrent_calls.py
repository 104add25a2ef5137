"""Several calls at a time on one socket: each has its turn."""
import asyncio

from tests.support.cases import UringCase
from tests.support.sockets import Sockets


class TestConcurrentCalls(Sockets, UringCase):
    """asyncio's calls on one socket replace one another; here each has its turn."""

    def test_each_receive_gets_a_datagram(self):
        async def main():
            one, two = self.udp(), self.udp()
            receiving = asyncio.gather(
                *(self.loop.sock_recvfrom(two, 100) for _ in range(100)))
            await asyncio.sleep(0)
            for n in range(100):
                assert await self.loop.sock_sendto(one, b'%03d' % n, two.getsockname()) == 3
            received = await receiving
            assert {address for _, address in received} == {one.getsockname()}
            # Which call gets which datagram is not promised.
            assert sorted(data for data, _ in received) == [b'%03d' % n for n in range(100)]

        self.run(main())

    def test_each_accept_gets_a_connection(self):
        async def main():
            listener = self.listener()
            accepting = asyncio.gather(*(self.loop.sock_accept(listener) for _ in range(20)))
            clients = [self.tcp() for _ in range(20)]
            for client in clients:
                await self.loop.sock_connect(client, listener.getsockname())
            accepted = await accepting
            for sock, _ in accepted:
                sock.close()
            assert {address for _, address in accepted} \
                == {client.getsockname() for client in clients}

        self.run(main())
