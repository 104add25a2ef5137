"""sock_sendmsg and sock_recvmsg: the socket module's messages, waited for on the ring."""
import array
import asyncio
import os
import socket

import pytest

from tests.support.cases import UringCase, both_sides


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

    def test_to_an_address(self):
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

    def test_cancelled_recvmsg_loses_nothing(self):
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


class TestSubprocess(UringCase):

    def test_no_thread_watches_the_child(self):
        import threading

        async def main():
            before = threading.active_count()
            children = [await asyncio.create_subprocess_exec('sh', '-c', f'exit {code}')
                        for code in range(5)]
            assert threading.active_count() == before
            assert [await child.wait() for child in children] == list(range(5))

        self.run(main())

    # asyncio's own objects complain, rightly, that nobody waited for the child.
    @pytest.mark.filterwarnings('ignore::ResourceWarning')
    @pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
    def test_a_child_that_outlives_the_loop_leaves_no_descriptor(self):
        async def main():
            return await asyncio.create_subprocess_exec('cat', stdin=asyncio.subprocess.PIPE)

        child = self.run(main())
        pidfds = set(self.loop._pidfds)
        assert len(pidfds) == 1
        child._transport.close()
        self.loop.close()
        for fd in pidfds:
            with pytest.raises(OSError, match='Bad file descriptor'):
                os.fstat(fd)


class _TestCancelled:

    def test_a_cancelled_call_has_taken_nothing(self):
        """Whoever asks next gets it: the socket itself, a server, a transport."""
        async def main():
            loop = asyncio.get_running_loop()
            with socket.create_server(('127.0.0.1', 0)) as listener:
                listener.setblocking(False)
                accepting = asyncio.create_task(loop.sock_accept(listener))
                await asyncio.sleep(0)
                client = socket.create_connection(listener.getsockname())
                accepting.cancel()        # the connection is there already
                with pytest.raises(asyncio.CancelledError):
                    await accepting
                server, _ = listener.accept()
            with client, server:
                server.setblocking(False)
                receiving = asyncio.create_task(loop.sock_recv(server, 100))
                await asyncio.sleep(0)
                client.send(b'sent')
                receiving.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await receiving
                assert server.recv(100) == b'sent'

        self.run(main())


both_sides(globals(), _TestCancelled)
