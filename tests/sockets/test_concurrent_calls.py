"""Several calls at a time on one socket: each has its turn."""
import asyncio
import contextlib
import socket

import pytest

from tests.support.cases import UringCase, on_the_fallback_too
from tests.support.sockets import Sockets, unix_pair
from tests.support.turns import turns


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

    def test_none_of_two_that_connect_is_told_so_where_that_is_refused(self):
        """The socket says once why."""
        async def main():
            listener = self.listener()
            address = listener.getsockname()
            for _ in range(200):             # until its queue is full: who comes then waits
                client = self.tcp()
                with contextlib.suppress(BlockingIOError):
                    client.connect(address)
            connecting = [asyncio.ensure_future(self.loop.sock_connect(client, address))
                          for _ in range(2)]
            await turns()
            assert not any(task.done() for task in connecting)
            # It is answered when the kernel asks again, a second later.
            listener.close()
            await asyncio.wait(connecting)
            assert all(isinstance(task.exception(), OSError) for task in connecting)

        self.run(main())


class TestMessages(Sockets, UringCase):
    """Of the calls that asyncio has not each has its turn, whatever the loop."""

    def full(self):
        """A socket that takes no more, its peer, and what that has to read."""
        pair = unix_pair()
        for sock in pair:
            sock.setblocking(False)
            self.opened.append(sock)
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                pair[0].send(b'before')
                count += 1
        return *pair, count

    @pytest.mark.parametrize('call', ['one', 'train', 'message', 'mixed'])
    @pytest.mark.parametrize('cancelled', [None, 0, 3])
    def test_several_wait_for_room(self, call, cancelled):
        async def main():
            one, two, before = self.full()
            calls = {
                'one': lambda data: self.loop.sock_sendto_zerocopy(one, data, two.getsockname()),
                'train': lambda data: self.loop.sock_sendto_zerocopy(
                    one, data, two.getsockname(), segment_size=1),
                'message': lambda data: self.loop.sock_sendmsg(one, [data])}
            kinds = ['one', 'message'] * 2 if call == 'mixed' else [call] * 4
            sending = [asyncio.ensure_future(calls[kind](b'%d' % n))
                       for n, kind in enumerate(kinds)]
            await turns()
            if cancelled is not None:
                sending.pop(cancelled).cancel()
            for _ in range(before):
                assert await self.loop.sock_recv(two, 100) == b'before'
            got = [await self.loop.sock_recv(two, 100) for _ in sending]
            assert set(got) == {b'%d' % n for n in range(4) if n != cancelled}
            await asyncio.gather(*sending)

        self.run(main())

    def test_several_wait_for_messages(self):
        async def main():
            one, two = self.pair(socket.SOCK_DGRAM)
            receiving = [asyncio.ensure_future(self.loop.sock_recvmsg(two, 100))
                         for _ in range(20)]
            await turns()
            receiving.pop(7).cancel()
            for n in range(19):
                one.send(b'%d' % n)
            got = await asyncio.gather(*receiving)
            assert {data for data, *_ in got} == {b'%d' % n for n in range(19)}
            # And nobody is waited for any more.
            later = asyncio.ensure_future(self.loop.sock_recvmsg(two, 100))
            await turns()
            one.send(b'later')
            assert (await later)[0] == b'later'

        self.run(main())

    def test_of_a_blocking_socket_in_debug_mode(self):
        async def main():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for call in (self.loop.sock_sendmsg(sock, [b'x'], address=('127.0.0.1', 9)),
                             self.loop.sock_recvmsg(sock, 100)):
                    with pytest.raises(ValueError, match='must be non-blocking'):
                        await call

        self.loop.set_debug(True)
        self.run(main())


on_the_fallback_too(globals(), TestMessages)
