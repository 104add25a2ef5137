"""What the network interfaces can do: asked of their drivers (SIOCETHTOOL), as ``ethtool`` does.

It takes no privilege.  The interfaces are those of this process's network namespace.
"""
from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from dataclasses import dataclass

# <linux/sockios.h>, <linux/if.h>
SIOCGIFFLAGS, SIOCGIFMTU, SIOCETHTOOL = 0x8913, 0x8921, 0x8946
IFF_UP, IFF_LOOPBACK = 0x1, 0x8

# <linux/ethtool.h>
ETHTOOL_GDRVINFO, ETHTOOL_GSTRINGS, ETHTOOL_GSSET_INFO, ETHTOOL_GFEATURES = 0x3, 0x1b, 0x37, 0x3a
ETH_SS_FEATURES = 4
NAME_SIZE = 32

# By the kernel's names (net/ethtool/common.c).  Where one of several is on, that is enough.
SCATTER_GATHER = 'tx-scatter-gather'
CHECKSUM = 'tx-checksum-ip-generic'
CHECKSUM_IPV4 = 'tx-checksum-ipv4'
CHECKSUM_IPV6 = 'tx-checksum-ipv6'
UDP_SEGMENTATION = 'tx-udp-segmentation'


@dataclass(frozen=True)
class Interface:
    """One interface; None is what its driver does not tell."""

    name: str
    up: bool
    loopback: bool
    mtu: int
    driver: str                             # '' where it does not say
    scatter_gather: bool | None
    checksum_ipv4: bool | None
    checksum_ipv6: bool | None
    udp_segmentation: bool | None
    # Of scatter_gather and checksum, what is off and may be switched on.
    can_be_switched_on: tuple[str, ...]

    @property
    def internal(self) -> bool:
        """Whether what it carries is received, or read by a program, on this machine."""
        return self.loopback or self.driver in ('veth', 'tun')

    @property
    def copies(self) -> str:
        """Why the kernel copies whatever leaves here; '' if it need not."""
        if self.loopback:
            return 'the receiver is on this machine'
        if self.internal:
            return f'{self.driver}: it ends on this machine'
        if self.scatter_gather is False:
            return 'no scatter/gather'
        if self.checksum_ipv4 is False and self.checksum_ipv6 is False:
            return 'no checksum offload'
        return ''


def interfaces() -> list[Interface]:
    """All of this network namespace, by their numbers; none where this process is not told."""
    found: list[Interface] = []
    try:
        names = socket.if_nameindex()
    except OSError:                         # a service may have no sockets that tell (netlink)
        return found
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in names:
            try:
                found.append(_interface(sock, name))
            except OSError:                 # gone meanwhile  # noqa: PERF203
                continue
    return found


def _interface(sock: socket.socket, name: str) -> Interface:
    flags = _ask_number(sock, SIOCGIFFLAGS, name) & 0xffff
    features = _features(sock, name)
    on = {feature: state[0] for feature, state in features.items()}
    generic = on.get(CHECKSUM, False)
    return Interface(
        name, bool(flags & IFF_UP), bool(flags & IFF_LOOPBACK),
        _ask_number(sock, SIOCGIFMTU, name), _driver(sock, name),
        on.get(SCATTER_GATHER),
        generic or on[CHECKSUM_IPV4] if on else None,
        generic or on[CHECKSUM_IPV6] if on else None,
        on.get(UDP_SEGMENTATION),
        _can_be_switched_on(features))


def _can_be_switched_on(features: dict[str, tuple[bool, bool]]) -> tuple[str, ...]:
    wanted = []
    if features.get(SCATTER_GATHER) == (False, True):
        wanted.append('scatter_gather')
    checksums = [features[name] for name in (CHECKSUM, CHECKSUM_IPV4, CHECKSUM_IPV6)
                 if name in features]
    if (False, True) in checksums and not any(is_on for is_on, _ in checksums):
        wanted.append('checksum')
    return tuple(wanted)


def _features(sock: socket.socket, name: str) -> dict[str, tuple[bool, bool]]:
    """Of each feature whether it is on, and whether it may be switched; {} if nobody knows."""
    try:
        answer = _ask(sock, name, struct.pack('=IIQI', ETHTOOL_GSSET_INFO, 0,
                                              1 << ETH_SS_FEATURES, 0))
        count = struct.unpack('=IIQI', answer)[3]
        answer = _ask(sock, name, struct.pack('=III', ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count)
                      + bytes(NAME_SIZE * count))
        names = [_text(answer[begin:begin + NAME_SIZE])
                 for begin in range(12, 12 + NAME_SIZE * count, NAME_SIZE)]
        blocks = (count + 31) // 32
        answer = _ask(sock, name, struct.pack('=II', ETHTOOL_GFEATURES, blocks)
                      + bytes(16 * blocks))
    except OSError:
        return {}
    # Of 32 features each: what may be switched, is wanted, is on, and what never changes.
    words = list(struct.iter_unpack('=4I', answer[8:]))
    return {feature: (bool(words[i // 32][2] >> i % 32 & 1), bool(words[i // 32][0] >> i % 32 & 1))
            for i, feature in enumerate(names)}


def _driver(sock: socket.socket, name: str) -> str:
    try:
        answer = _ask(sock, name, struct.pack('=I', ETHTOOL_GDRVINFO) + bytes(192))
    except OSError:
        return ''
    return _text(answer[4:4 + NAME_SIZE])


def _ask(sock: socket.socket, name: str, question: bytes) -> bytes:
    """Of the driver; the answer is as long as the question."""
    memory = ctypes.create_string_buffer(question, len(question))
    fcntl.ioctl(sock, SIOCETHTOOL, struct.pack('16sP16x', name.encode(), ctypes.addressof(memory)))
    return memory.raw


def _ask_number(sock: socket.socket, request: int, name: str) -> int:
    answer = fcntl.ioctl(sock, request, struct.pack('16si20x', name.encode(), 0))
    number: int = struct.unpack('16si20x', answer)[1]
    return number


def _text(field: bytes) -> str:
    return field.partition(b'\0')[0].decode(errors='replace')
