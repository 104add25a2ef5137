"""What calls on sockets cost: no ring where nothing has to wait, one submission where it has."""
import asyncio
import socket

import pytest

from tests.support.cases import UringCase, both_sides
from tests.support.sockets import Sockets, udp


class TestWithoutTheRing(Sockets, UringCase):

    @pytest.mark.parametrize('size', [10, 60_000])
    def test_sendto_before_the_loop_runs_is_done_at_once(self, size):
        self.opened = []
        sender, receiver = self.udp(), self.udp()
        with sender, receiver:
            with pytest.raises(StopIteration) as ended:
                self.loop.sock_sendto(sender, b'x' * size, receiver.getsockname()).send(None)
            assert ended.value.value == size == len(receiver.recv(65536))

    @pytest.mark.parametrize('size', [10, 60_000])
    def test_sendto_from_another_loop_is_done_at_once(self, size):
        """The datagram goes out once; what needs the ring says whose thread it wants."""
        other = asyncio.SelectorEventLoop()

        async def main():
            sender, receiver = self.udp(), self.udp()
            address = receiver.getsockname()

            async def elsewhere():
                assert await self.loop.sock_sendto(sender, b'x' * size, address) == size
                with pytest.raises(RuntimeError, match='in another thread'):
                    await self.loop.sock_recv(sender, 100)     # nothing there: must wait

            await self.loop.run_in_executor(None, other.run_until_complete, elsewhere())
            assert len(receiver.recv(65536)) == size
            await asyncio.sleep(0.01)
            with pytest.raises(BlockingIOError):
                receiver.recv(65536)
            await self.loop.shutdown_default_executor()

        try:
            self.run(main())
        finally:
            other.close()


class TestWhatIsThereAlready(Sockets, UringCase):
    """What need not wait costs one plain system call; what must, one submission."""

    async def receive(self, how, sock):
        memory = bytearray(70_000)
        if how == 'sock_recv':
            return await self.loop.sock_recv(sock, 70_000)
        if how == 'sock_recvfrom':
            return (await self.loop.sock_recvfrom(sock, 70_000))[0]
        if how == 'sock_recv_into':
            return memory[:await self.loop.sock_recv_into(sock, memory)]
        return memory[:(await self.loop.sock_recvfrom_into(sock, memory))[0]]

    @pytest.mark.parametrize('how', [
        'sock_recv', 'sock_recvfrom', 'sock_recv_into', 'sock_recvfrom_into'])
    def test_receives_of_what_is_there_submit_nothing(self, how):
        async def main():
            one, two = self.udp(), self.udp()
            sent = [bytes([n]) * size for n, size in enumerate((1, 8191, 8192, 60_000, 0, 3))]
            before = self.loop.stats().submissions
            for data in sent:
                two.sendto(data, one.getsockname())
            assert [await self.receive(how, one) for _ in sent] == sent
            assert self.loop.stats().submissions == before
            receiving = await self.waiting(self.receive(how, one))
            two.sendto(b'waited for', one.getsockname())
            assert await receiving == b'waited for'
            assert self.loop.stats().submissions == before + 1

        self.run(main())

    def test_a_connection_that_is_there_at_once_submits_nothing(self):
        async def main():
            with socket.create_server(('127.0.0.1', 0), backlog=20) as server:
                before = self.loop.stats().submissions
                for _ in range(10):
                    with socket.socket() as sock:
                        sock.setblocking(False)
                        await self.loop.sock_connect(sock, server.getsockname())
                assert self.loop.stats().submissions == before

        self.run(main())

    def test_received_bytes_are_not_received_into_again(self):
        async def main():
            one, two = self.udp(), self.udp()
            received = []
            for size in (10, 20_000, 10, 9000, 10):
                two.sendto(bytes([size % 256]) * size, one.getsockname())
                received.append((size, await self.loop.sock_recv(one, 65536)))
            for size, data in received:
                assert data == bytes([size % 256]) * size

        self.run(main())


class _TestClosedLoop:

    def test_connect(self):
        async def main():
            with socket.create_server(('127.0.0.1', 0)) as server, socket.socket() as sock:
                sock.setblocking(False)
                await self.loop.sock_connect(sock, server.getsockname())

        self.loop.close()
        with pytest.raises(RuntimeError, match='Event loop is closed'):
            asyncio.run(main())


class _TestNothingToReceive:
    """A receive of nothing does not wait."""

    def test_of_a_stream_returns_at_once(self):
        async def main():
            one, two = socket.socketpair()
            with one, two:
                one.setblocking(False)
                assert await self.loop.sock_recv(one, 0) == b''
                assert await self.loop.sock_recv_into(one, bytearray()) == 0
                two.send(b'x')
                assert await self.loop.sock_recv(one, 0) == b''
                assert await self.loop.sock_recv(one, 10) == b'x'

        self.run(main())

    def test_of_a_datagram_socket_costs_no_datagram(self):
        """Nor does it cost a datagram."""
        async def main():
            with udp() as sock, udp() as peer:
                peer.sendto(b'hello', sock.getsockname())
                assert await self.loop.sock_recv_into(sock, bytearray()) == 0
                assert await self.loop.sock_recv(sock, 10) == b'hello'

        self.run(main())


both_sides(globals(), _TestClosedLoop, _TestNothingToReceive)
