"""Network namespaces in which zero-copy really happens, or waits as long as a test wants.

On loopback the kernel always copies.  A ``Hole`` has a device that drops what it is
given without copying it.  A ``Wire`` connects two namespaces, and its far end does
not answer ARP: what is sent stays in the kernel, buffers and all, until
``release`` tells who the neighbour is.  Both need root.
"""
from __future__ import annotations

import contextlib
import ctypes
import fcntl
import itertools
import os
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from tests.support.sockets import SO_SNDBUFFORCE

CLONE_NEWNET = 0x40000000

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason='takes root: a network namespace, a raw socket, another user')

_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)


def _setns(fd: int) -> None:
    """The calling thread is in that namespace from now on."""
    if _libc.setns(fd, CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _run(*arguments: object) -> None:
    """Run a program of iproute2, whose complaint becomes an exception."""
    done = subprocess.run([*map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f'{" ".join(map(str, arguments))}: {done.stderr.strip()}')


def _ip(*arguments: object) -> None:
    _run('ip', *arguments)


class Namespace:
    """A network namespace with its loopback up; a context manager that removes it."""

    def __init__(self) -> None:
        self.name = f'uringloop-{os.getpid()}-{next(_numbers)}'

    def __enter__(self):
        _ip('netns', 'add', self.name)
        try:
            self.ip('link', 'set', 'lo', 'up')
            self.set_up()
        except BaseException:
            _ip('netns', 'del', self.name)
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        _ip('netns', 'del', self.name)

    def set_up(self) -> None:
        """Make the devices."""

    def ip(self, *arguments: object) -> None:
        """Run ``ip`` in here."""
        _ip('-n', self.name, *arguments)

    def queue(self, device: str, *arguments: object) -> None:
        """The device has that queueing discipline: see tc(8)."""
        _run('tc', '-n', self.name, 'qdisc', 'add', 'dev', device, 'root', *arguments)

    @contextlib.contextmanager
    def entered(self):
        """The calling thread, and what it starts, is in here; sockets made so stay here."""
        with open('/proc/thread-self/ns/net') as home, \
                open(f'/run/netns/{self.name}') as here:
            _setns(here.fileno())
            try:
                yield
            finally:
                _setns(home.fileno())

    def without(self, device: str, feature: str) -> None:
        """Switch a feature of a device off: ``sg`` or ``tx``, as ``ethtool -K`` calls them."""
        # ETHTOOL_SSG, ETHTOOL_STXCSUM; SIOCETHTOOL
        command = {'sg': 0x19, 'tx': 0x17}[feature]
        question = ctypes.create_string_buffer(struct.pack('=II', command, 0), 8)
        with self.socket() as sock:
            fcntl.ioctl(sock, 0x8946, struct.pack('16sP16x', device.encode(),
                                                  ctypes.addressof(question)))

    def socket(self, family: int = socket.AF_INET, address=None) -> socket.socket:
        """A non-blocking datagram socket in here, bound to ``address``."""
        with self.entered():
            sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        if address is not None:
            sock.bind(address)
        return sock


class Hole(Namespace):
    """With a device that drops everything, has scatter/gather and checksum offload."""

    peer = ('10.99.1.2', 9)
    other_peer = ('10.99.1.3', 9)
    peer6 = ('fd99::2', 9)

    def __init__(self, mtu: int = 65535) -> None:
        super().__init__()
        self.mtu = mtu

    def set_up(self) -> None:
        self.ip('link', 'add', 'hole', 'type', 'ifb')
        self.ip('link', 'set', 'hole', 'mtu', self.mtu, 'up')
        self.ip('addr', 'add', '10.99.1.1/24', 'dev', 'hole')
        self.ip('addr', 'add', 'fd99::1/64', 'dev', 'hole', 'nodad')
        for address in (self.peer, self.other_peer, self.peer6):
            self.ip('neigh', 'add', address[0], 'lladdr', '02:00:00:00:00:02', 'dev', 'hole')

    def taken(self) -> tuple[int, int]:
        """How many packets the device was given so far, and bytes; a train is one packet."""
        with self.entered():
            lines = Path('/proc/thread-self/net/dev').read_text().splitlines()
        # It counts what it is given to send as received.
        [fields] = [line.split(':')[1].split() for line in lines if line.strip().startswith('hole')]
        return int(fields[1]), int(fields[0])


class Wire(Namespace):
    """With one end of a wire whose other end, in ``far``, is silent until ``release``."""

    peer = ('10.98.1.2', 4433)
    near_lladdr = '02:00:00:00:00:01'
    far_lladdr = '02:00:00:00:00:02'

    def __init__(self) -> None:
        super().__init__()
        self.far = Namespace()

    def __enter__(self):
        self.far.__enter__()
        try:
            return super().__enter__()
        except BaseException:
            self.far.__exit__()
            raise

    def __exit__(self, *exc: object) -> None:
        try:
            super().__exit__()
        finally:
            self.far.__exit__()

    def set_up(self) -> None:
        self.ip('link', 'add', 'wire', 'address', self.near_lladdr, 'type', 'veth',
                'peer', 'name', 'wire', 'netns', self.far.name, 'address', self.far_lladdr)
        self.ip('link', 'set', 'wire', 'mtu', 65535, 'up')
        self.far.ip('link', 'set', 'wire', 'mtu', 65535, 'arp', 'off', 'up')
        self.ip('addr', 'add', '10.98.1.1/24', 'dev', 'wire')
        self.far.ip('addr', 'add', '10.98.1.2/24', 'dev', 'wire')
        with self.entered():
            # It keeps asking, and does not give up, for longer than any test takes.
            Path('/proc/sys/net/ipv4/neigh/wire/mcast_solicit').write_text('100')
            Path('/proc/sys/net/ipv4/neigh/wire/unres_qlen_bytes').write_text('16777216')

    def hold(self) -> None:
        """Forget the neighbour: what is sent now waits."""
        self.ip('neigh', 'flush', 'dev', 'wire', 'nud', 'all')

    def slow_down(self) -> None:
        """What is sent waits for its turn on the wire; 10.97.0.0/16 are all the far end."""
        self.release()
        self.ip('route', 'add', '10.97.0.0/16', 'via', self.peer[0])
        self.far.ip('route', 'add', 'local', '10.97.0.0/16', 'dev', 'lo')
        self.queue('wire', 'tbf', 'rate', '800mbit', 'burst', '200k', 'limit', '64m')

    def socket(self, family: int = socket.AF_INET, address=None) -> socket.socket:
        """It has room for all that waits: what lies across pages takes twice as much of it."""
        sock = super().socket(family, address)
        sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 4 << 20)
        return sock

    def release(self) -> None:
        """Let out what waits."""
        self.ip('neigh', 'replace', self.peer[0], 'lladdr', self.far_lladdr, 'dev', 'wire')

    def both_ways(self) -> None:
        """The far end knows this one, and can answer."""
        self.release()
        self.far.ip('neigh', 'replace', '10.98.1.1', 'lladdr', self.near_lladdr, 'dev', 'wire')


@pytest.fixture(scope='module')
def wire():
    """One for all tests of a module; conftest makes it known to them."""
    with Wire() as namespace:
        yield namespace
