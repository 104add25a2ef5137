"""``sock_sendmsg`` and ``sock_recvmsg``: the socket module's messages, waited for on the ring."""
import array
import asyncio
import os
import socket
import time

import pytest

from tests.support.cases import UringCase, on_the_fallback_too, only_uring
from tests.support.sockets import udp
from tests.support.turns import turns

IP_RECVERR = 11                 # linux/in.h


def pair(kind=socket.SOCK_STREAM):
    """A connected pair of non-blocking AF_UNIX sockets."""
    both = socket.socketpair(socket.AF_UNIX, kind)
    for sock in both:
        sock.setblocking(False)
    return both


class TestMessages(UringCase):

    def test_a_descriptor_travels(self):
        async def main():
            loop = asyncio.get_running_loop()
            left, right = pair()
            read_end, write_end = os.pipe()
            with left, right:
                waiting = asyncio.create_task(
                    loop.sock_recvmsg(right, 100, socket.CMSG_LEN(4)))
                await asyncio.sleep(0)
                fds = array.array('i', [write_end])
                assert await loop.sock_sendmsg(
                    left, [b'a', b'bc'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)]) == 3
                data, [(level, kind, payload)], _, _ = await waiting
            assert (data, level, kind) == (b'abc', socket.SOL_SOCKET, socket.SCM_RIGHTS)
            passed = array.array('i', payload)[0]
            os.write(passed, b'through')
            assert os.read(read_end, 100) == b'through'
            for fd in (read_end, write_end, passed):
                os.close(fd)

        self.run(main())

    def test_waiting_for_errors_while_there_is_a_datagram(self):
        """It waits, and does not look again and again."""
        async def main():
            with udp() as sock, udp() as peer:
                sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
                with udp() as closed:
                    gone = closed.getsockname()
                peer.sendto(b'a datagram', sock.getsockname())
                waiting = asyncio.create_task(
                    self.loop.sock_recvmsg(sock, 100, 500, socket.MSG_ERRQUEUE))
                before = time.process_time()
                await asyncio.sleep(0.2)
                assert time.process_time() - before < 0.1
                assert not waiting.done()
                sock.sendto(b'nobody listens', gone)
                data, _, flags, _ = await waiting
                assert data == b'nobody listens'
                assert flags & socket.MSG_ERRQUEUE
                assert await self.loop.sock_recv(sock, 100) == b'a datagram'

        self.run(main())

    def test_waiting_for_errors_where_there_is_no_such_queue(self):
        """AF_UNIX gives a datagram, as the socket module does."""
        async def main():
            left, right = pair(socket.SOCK_DGRAM)
            with left, right:
                waiting = asyncio.create_task(
                    self.loop.sock_recvmsg(right, 100, 0, socket.MSG_ERRQUEUE))
                await turns()
                left.send(b'a datagram')
                assert (await waiting)[0] == b'a datagram'

        self.run(main())

    @only_uring
    @pytest.mark.parametrize('call', ['sock_recv', 'sock_recvmsg'])
    def test_waiting_while_nobody_reads_the_errors(self, call):
        async def main():
            with udp() as sock, udp() as peer:
                sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
                with udp() as closed:
                    gone = closed.getsockname()
                sock.sendto(b'nobody listens', gone)
                with pytest.raises(ConnectionRefusedError):
                    await self.loop.sock_recv(sock, 100)
                waiting = asyncio.create_task(getattr(self.loop, call)(sock, 100))
                before = time.process_time()
                await asyncio.sleep(0.2)
                assert time.process_time() - before < 0.1
                peer.sendto(b'a datagram', sock.getsockname())
                assert b'a datagram' in (await waiting, (await waiting)[0])

        self.run(main())

    def test_sendmsg_waits_for_room(self):
        async def main():
            loop = asyncio.get_running_loop()
            left, right = pair(socket.SOCK_DGRAM)
            with left, right:
                async def fill():
                    for number in range(2000):
                        await loop.sock_sendmsg(left, [b'%d' % number])

                sending = asyncio.create_task(fill())
                for number in range(2000):
                    data, ancdata, _, _ = await loop.sock_recvmsg(right, 100)
                    assert (data, ancdata) == (b'%d' % number, [])
                await sending

        self.run(main())

    def test_flags_are_numbers_as_the_socket_modules(self):
        class Number:
            def __index__(self):
                return 0

        async def main():
            left, right = pair(socket.SOCK_DGRAM)
            with left, right:
                for flags in 0, socket.MsgFlag(0), Number():
                    assert await self.loop.sock_sendmsg(left, [b'x'], (), flags) == 1
                    assert (await self.loop.sock_recvmsg(right, 100, 0, flags))[0] == b'x'
                for flags in -1, 1.5, None:
                    with pytest.raises((OSError, TypeError)) as expected:
                        left.sendmsg([b'x'], (), flags)
                    with pytest.raises(expected.type) as told:
                        await self.loop.sock_sendmsg(left, [b'x'], (), flags)
                    assert getattr(told.value, 'errno', 0) == getattr(expected.value, 'errno', 0)

        self.run(main())

    def test_sendmsg_to_an_address(self):
        async def main():
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver, \
                    socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for sock in (receiver, sender):
                    sock.bind(('127.0.0.1', 0))
                    sock.setblocking(False)
                await loop.sock_sendmsg(sender, [b'x' * 10], address=receiver.getsockname())
                data, _, _, address = await loop.sock_recvmsg(receiver, 100)
                assert (data, address) == (b'x' * 10, sender.getsockname())
                with pytest.raises(TypeError, match='int'):
                    await loop.sock_sendmsg(sender, [3], address=receiver.getsockname())

        self.run(main())

    def test_one_of_two_that_wait_is_cancelled(self):
        """The other one hears of what comes, as with asyncio's calls."""
        async def main():
            left, right = pair(socket.SOCK_DGRAM)
            with left, right:
                first, second = [
                    asyncio.ensure_future(self.loop.sock_recvmsg(right, 100)) for _ in range(2)]
                await turns()
                first.cancel()
                await turns()
                left.send(b'heard')
                assert (await second)[0] == b'heard'

        self.run(main())

    def test_a_cancelled_recvmsg_loses_nothing(self):
        async def main():
            loop = asyncio.get_running_loop()
            left, right = pair(socket.SOCK_DGRAM)
            with left, right:
                waiting = asyncio.create_task(loop.sock_recvmsg(right, 100))
                await asyncio.sleep(0)
                left.send(b'kept')
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert (await loop.sock_recvmsg(right, 100))[0] == b'kept'

        self.run(main())

on_the_fallback_too(globals(), TestMessages)
