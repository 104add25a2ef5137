"""A network of this process's own, with devices that drop whatever they are given.

The process moves into a new network namespace that has no name.  Its children are born in it.
The kernel removes it, devices and all, when the last of them has ended, however that was: so
nothing has to be cleaned up, after Ctrl-C or SIGKILL either.
"""
from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from uringloop.cli.bench.turns import BenchError

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
HEADERS = 14 + 20 + 8           # Ethernet, IPv4, UDP: what a device counts besides the payload


class NamespaceError(Exception):
    """Why there is no such network, and what would cure it."""


class EnteredError(BenchError):
    """This process is in a namespace already, in which nothing can be measured."""


@dataclass(frozen=True)
class Device:
    """An ``ifb`` device: takes memory as it is, like a card with scatter/gather, and drops it."""

    name: str
    mtu: int
    network: str

    @property
    def address(self) -> str:
        """Where to send; nobody is there."""
        return f'{self.network}.2'

    def counted(self) -> tuple[int, int]:
        """Packets, and bytes of payload, that it has taken so far.

        A segmented send is one packet here: the card would cut it.
        """
        for line in Path('/proc/self/net/dev').read_text().splitlines():
            name, _, counters = line.partition(':')
            if name.strip() == self.name:
                size, packets = map(int, counters.split()[:2])
                return packets, size - packets * HEADERS
        raise NamespaceError(f'the device {self.name} is gone')


WIDE = Device('hole0', 65535, '10.99.0')
ORDINARY = Device('hole1', 1500, '10.99.1')


def enter() -> None:
    """Move this process into a namespace of its own, with loopback only."""
    _ip_path()
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWNET) == 0:
        pass
    elif libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0:
        # Root in there, and nobody outside.
        try:
            Path('/proc/self/setgroups').write_text('deny')
            Path('/proc/self/uid_map').write_text(f'0 {user} 1')
            Path('/proc/self/gid_map').write_text(f'0 {group} 1')
        except OSError as error:
            raise EnteredError(
                f'a user namespace cannot be mapped ({error.strerror}): run it as root') from None
    else:
        raise NamespaceError(
            f'no network namespace can be made ({os.strerror(ctypes.get_errno())}): run it as '
            'root, or allow user namespaces (sysctl user.max_user_namespaces, '
            'kernel.apparmor_restrict_unprivileged_userns; in a container its seccomp profile)')
    try:
        ip('link', 'set', 'lo', 'up')
    except NamespaceError as error:
        raise EnteredError(str(error)) from None


def make(device: Device) -> None:
    """Make a device in this namespace."""
    try:
        ip('link', 'add', device.name, 'type', 'ifb')
    except NamespaceError as error:
        raise NamespaceError(f'{error}: the kernel has no ifb devices? modprobe ifb') from None
    # Without IPv6 the device carries nothing but what is sent on purpose.
    ip('link', 'set', device.name, 'addrgenmode', 'none')
    ip('address', 'add', f'{device.network}.1/24', 'dev', device.name)
    ip('link', 'set', device.name, 'mtu', str(device.mtu), 'up')
    # Nobody would answer the question who has this address.
    ip('neighbour', 'add', device.address, 'lladdr', '02:00:00:00:00:01', 'dev', device.name)


def _ip_path() -> str:
    path = shutil.which('ip', path=f'{os.environ.get("PATH", "")}:/usr/sbin:/sbin')
    if path is None:
        raise NamespaceError('ip is not installed: apt install iproute2')
    return path


def ip(*arguments: str) -> None:
    """Run ip(8)."""
    done = subprocess.run([_ip_path(), *arguments], check=False, capture_output=True, text=True,
                          timeout=10, start_new_session=True)
    if done.returncode:
        raise NamespaceError(f'ip {" ".join(arguments)}: {done.stderr.strip()}')
