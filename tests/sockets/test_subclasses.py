"""Sockets of other classes than ``socket.socket``."""
import _socket
import asyncio
import contextlib
import socket

import pytest

from tests.support.cases import UringCase, both_sides
from tests.support.programs import script
from tests.support.sockets import LOCAL, Calls, Sockets, udp


class TestSubclasses(Sockets, UringCase):

    def test_methods_of_a_subclass_are_called(self):
        class Socket(socket.socket):
            def recv(self, *args):
                return super().recv(*args).upper()

            def sendto(self, data, address):
                return super().sendto(data[::-1], address)

        async def main():
            one, two = Socket(socket.AF_INET, socket.SOCK_DGRAM), self.udp()
            self.opened.append(one)
            one.setblocking(False)
            one.bind(('127.0.0.1', 0))
            await self.loop.sock_sendto(one, b'abc', two.getsockname())
            assert await self.loop.sock_recv(two, 10) == b'cba'
            await self.loop.sock_sendto(two, b'abc', one.getsockname())
            assert await self.loop.sock_recv(one, 10) == b'ABC'

        self.run(main())

    def test_receiving_within_fileno(self):
        """What is received into is not given up for another size meanwhile."""
        class Socket(socket.socket):
            calls_left = -1

            def fileno(self):
                self.calls_left -= 1
                if self.calls_left == -1:
                    receiving = asyncio.get_running_loop().sock_recv(other, 100)
                    with contextlib.suppress(StopIteration):
                        receiving.send(None)
                return super().fileno()

        one, two = socket.socketpair(type=socket.SOCK_DGRAM)
        other, another = socket.socketpair(type=socket.SOCK_DGRAM)

        async def main():
            self.opened += [two, other, another]
            other.setblocking(False)
            with Socket(fileno=one.detach()) as sock:
                sock.setblocking(False)
                for calls in range(5):
                    two.send(b'A' * 50_000)
                    another.send(b'B' * 50)
                    sock.calls_left = calls
                    assert await self.loop.sock_recv(sock, 50_000) == b'A' * 50_000
                    sock.calls_left = -1

        self.run(main())

    def test_a_subclass_that_overrides_nothing_uses_the_ring(self):
        class Socket(socket.socket):
            pass

        async def main():
            one, two = Socket(socket.AF_INET, socket.SOCK_DGRAM), self.udp()
            self.opened.append(one)
            one.setblocking(False)
            one.bind(('127.0.0.1', 0))
            before = self.loop.stats().submissions
            receiving = await self.waiting(self.loop.sock_recv(one, 10))
            two.sendto(b'abc', one.getsockname())
            assert await receiving == b'abc'
            assert self.loop.stats().submissions > before

        self.run(main())


class _TestSocketsOfOtherKinds(Calls):

    def test_a_socket_without_weak_references_serves_as_well(self):
        """The class below ``socket.socket`` serves as well, and so does a cancelled call on it."""
        async def main():
            sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
            sock.bind(LOCAL)
            sock.setblocking(False)
            with udp() as peer:
                task = await self.waiting(self.loop.sock_recv(sock, 100))
                peer.sendto(b'first', sock.getsockname())
                assert await task == b'first'
                task = await self.waiting(self.loop.sock_recv(sock, 100))
                peer.sendto(b'second', sock.getsockname())
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await self.loop.sock_recv(sock, 100) == b'second'
            sock.close()

        self.run(main())


both_sides(globals(), _TestSocketsOfOtherKinds)


REPLACED = '''
import asyncio, socket

asked = []

class Guard(socket.socket):
    """As that of a proxy, or of a test suite: strict about its type, and asked for each call."""

    def __init__(self, family=-1, type=-1, proto=-1, fileno=None):
        assert type in (-1, socket.SOCK_STREAM, socket.SOCK_DGRAM), type
        super().__init__(family, type, proto, fileno)

    def connect(self, address):
        asked.append('connect')
        return super().connect(address)

def replace():
    if PATCHED:
        connect = socket.socket.connect
        socket.socket.connect = lambda self, address: (asked.append('connect'),
                                                       connect(self, address))[1]
    else:
        socket.socket = Guard

if EARLY:
    replace()
import uringloop

async def main():
    server = await asyncio.start_server(lambda _, writer: writer.close(), '127.0.0.1', 0)
    if not EARLY:
        replace()
    address = server.sockets[0].getsockname()
    for host in '127.0.0.1', 'localhost':
        reader, writer = await asyncio.open_connection(host, address[1], family=socket.AF_INET)
        assert await reader.read() == b''
        writer.close()
    reader, writer = await asyncio.open_connection(*address)      # the plainest case
    assert await reader.read() == b''
    writer.close()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
    print(*asked)

loop = uringloop.new_event_loop(require_uring=True)
loop.run_until_complete(main())
loop.close()
'''


@pytest.mark.parametrize('early', [False, True])
@pytest.mark.parametrize('patched', [False, True])
def test_a_program_puts_another_in_its_place(early, patched):
    """Before or after the import: it is asked, as by asyncio."""
    told = script(f'EARLY, PATCHED = {early}, {patched}\n' + REPLACED)
    assert told == 'connect connect connect connect\n'
