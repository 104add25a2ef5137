"""Plain sockets: what tests talk to transports with, and what ``sock_*`` calls are made on."""
import asyncio
import socket
import struct

import pytest

from tests.support.turns import turns

LOCAL = ('127.0.0.1', 0)
SO_SNDBUFFORCE = 32                     # asm-generic/socket.h; these take root
SO_RCVBUFFORCE = 33


def tcp_pair():
    """Two connected TCP sockets."""
    with socket.create_server(LOCAL) as listener:
        one = socket.create_connection(listener.getsockname())
        two, _ = listener.accept()
    return one, two


PAIRS = {'tcp': tcp_pair, 'unix': socket.socketpair}


def has_ipv6():
    """Whether loopback speaks IPv6."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(('::1', 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason='this machine has no IPv6')


def udp(address=LOCAL, room=None):
    """A non-blocking datagram socket, with a receive buffer of ``room`` bytes if that is given."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if room is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    sock.setblocking(False)
    sock.bind(address)
    return sock


def bound(family=socket.AF_INET, address=LOCAL):
    """A blocking datagram socket to talk to an endpoint with."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind(address)
    sock.settimeout(5)
    return sock


def unix_pair():
    """As ``socketpair``, but named: asyncio takes nameless peers for none at all."""
    one, two = (bound(socket.AF_UNIX, '') for _ in range(2))     # abstract names
    one.connect(two.getsockname())
    two.connect(one.getsockname())
    return one, two


def deserted():
    """A loopback address that nobody listens at."""
    with udp() as sock:
        return sock.getsockname()


def listener():
    """A non-blocking TCP socket that listens."""
    sock = socket.create_server(LOCAL)
    sock.setblocking(False)
    return sock


def reset(sock):
    """Close a TCP socket by a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    sock.close()


class Calls:
    """Calls on sockets that wait."""

    async def waiting(self, coroutine):
        """A task that has begun to wait."""
        task = self.loop.create_task(coroutine)
        await turns(3)
        assert not task.done()
        return task

    async def cancelled(self, task):
        """Cancel a task, which ends by that."""
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def given_up(self, task):
        """Nobody hears of a socket that was closed: whoever waits is to be cancelled."""
        task.cancel()
        await asyncio.wait([task])


class Sockets(Calls):
    """Makes sockets and closes them when the test is over."""

    def run(self, main):
        self.opened = []
        try:
            return super().run(main)
        finally:
            for sock in self.opened:
                sock.close()

    def udp(self, family=socket.AF_INET, address=('127.0.0.1', 0)):
        sock = socket.socket(family, socket.SOCK_DGRAM)
        self.opened.append(sock)
        sock.setblocking(False)
        sock.bind(address)
        return sock

    def pair(self, kind=socket.SOCK_STREAM):
        pair = socket.socketpair(socket.AF_UNIX, kind)
        for sock in pair:
            sock.setblocking(False)
            self.opened.append(sock)
        return pair

    def listener(self):
        sock = socket.socket()
        self.opened.append(sock)
        sock.setblocking(False)
        sock.bind(('127.0.0.1', 0))
        sock.listen(100)
        return sock

    def tcp(self):
        sock = socket.socket()
        self.opened.append(sock)
        sock.setblocking(False)
        return sock
