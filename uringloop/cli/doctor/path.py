"""Whether the way to one address goes without copying: a handful of datagrams, sent for real.

They go to the discard port (RFC 863), where nobody listens.
"""
from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from dataclasses import dataclass
from typing import Any

import uringloop

DISCARD = 9
PATIENCE = 3.0                  # seconds until a notification is given up
SILENT = f'not sent within {PATIENCE:g} seconds: the next host does not answer'
LONGEST = 65_000                # bytes of a datagram
LONG = 16 * 1024                # bytes from which the loop goes zero-copy unasked
SEGMENT = 1200                  # bytes of a train's datagrams, which any path takes
SEGMENTS = 16
HEADERS = {socket.AF_INET: 28, socket.AF_INET6: 48}

IP_MTU, IPV6_MTU = 14, 24       # <linux/in.h>, <linux/in6.h>

# <linux/rtnetlink.h>
NLMSG_ERROR, RTM_GETROUTE, RTA_DST, RTA_OIF = 2, 26, 1, 4
NLM_F_REQUEST = 1
RTN_UNSPEC, RTN_LOCAL, RTN_BROADCAST = 0, 2, 3

Address = tuple[socket.AddressFamily, tuple[Any, ...]]


class PathError(Exception):
    """It cannot be tried: one line that says why."""


@dataclass(frozen=True)
class Try:
    """One send."""

    what: str
    datagram: int               # bytes of one of its datagrams
    # None: the kernel does not tell, or not yet
    copied: bool | None
    problem: str                # '' if it went out as a zero-copy send


@dataclass(frozen=True)
class PathFacts:
    """The way to one address."""

    destination: str
    address: str
    interface: str              # '' if it is not known
    local: bool                 # the address is this machine's own
    mtu: int
    room: int                   # bytes of payload of the longest datagram that fits
    tries: tuple[Try, ...]


def path(destination: str) -> PathFacts:
    """Send a handful of datagrams there without copying; raises PathError, UringUnavailableError.
    """
    address = _resolve(destination)
    family, where = address
    interface, kind = _route(family, where[0])
    group = ipaddress.ip_address(where[0].partition('%')[0]).is_multicast
    if group or kind == RTN_BROADCAST:
        what = 'the address of a group' if group else 'a broadcast address'
        raise PathError(f'--dest {destination}: {what}; name one host')
    mtu = _mtu(address)
    room = mtu - HEADERS[family]
    loop = uringloop.Loop()
    try:
        tries = loop.run_until_complete(_try_all(loop, address, room))
    finally:
        loop.close()
    return PathFacts(destination, where[0], interface, kind == RTN_LOCAL, mtu, room, tuple(tries))


def _resolve(destination: str) -> Address:
    try:
        found = socket.getaddrinfo(destination, DISCARD, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, 'strerror', None) or error
        port = destination.rpartition(':')[2].isdecimal() * ', without a port'
        raise PathError(
            f'--dest {destination}: {reason}; name a host or its address{port}') from None
    family, _, _, _, where = found[0]
    return family, where


def _mtu(address: Address) -> int:
    """What the kernel knows of the way: its first device's, or less."""
    family, where = address
    level, option = ((socket.IPPROTO_IP, IP_MTU) if family == socket.AF_INET
                     else (socket.IPPROTO_IPV6, IPV6_MTU))
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(where)
            return sock.getsockopt(level, option)
        except OSError as error:
            raise PathError(f'--dest {where[0]}: {error.strerror}') from None


def _route(family: socket.AddressFamily, address: str) -> tuple[str, int]:
    """By which interface the kernel would send there, and of which type (RTN_...) the route is."""
    number = socket.inet_pton(family, address.partition('%')[0])
    body = struct.pack('=BBBBBBBBIHH', family, 8 * len(number), 0, 0, 0, 0, 0, 0, 0,
                       4 + len(number), RTA_DST) + number
    head = struct.pack('=IHHII', 16 + len(body), RTM_GETROUTE, NLM_F_REQUEST, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
            sock.send(head + body)
            answer = sock.recv(65536)
    except OSError:                     # a service may have no such sockets
        return '', RTN_UNSPEC
    if struct.unpack_from('=IH', answer)[1] == NLMSG_ERROR:
        return '', RTN_UNSPEC
    kind = answer[16 + 7]
    at = 16 + 12
    while at + 4 <= len(answer):
        length, attribute = struct.unpack_from('=HH', answer, at)
        if attribute == RTA_OIF:
            return socket.if_indextoname(struct.unpack_from('=I', answer, at + 4)[0]), kind
        at += max((length + 3) & ~3, 4)
    return '', kind


async def _try_all(loop: uringloop.Loop, address: Address, room: int) -> list[Try]:
    segment = min(SEGMENT, room)
    length = min(room, LONGEST)
    wanted = [(f'a datagram of {length:,} bytes', length, None),
              (f'a train of {SEGMENTS} datagrams of {segment:,} bytes', SEGMENTS * segment,
               segment)]
    if room < LONG:
        wanted.append((f'a datagram of {LONG:,} bytes', LONG, None))
    tries: list[Try] = []
    for what, nbytes, size in wanted:
        if tries and tries[0].problem == SILENT:
            # While nobody answers, the kernel keeps some of them and drops others, and lets go of
            # either: what it says of these means nothing.
            tries.append(Try(what, size or nbytes, None, SILENT))
        else:
            tries.append(await _try(loop, address, what, nbytes, size))
    return tries


async def _try(loop: uringloop.Loop, address: Address, what: str, length: int,
               segment: int | None = None) -> Try:
    family, where = address
    # One endpoint each: it remembers where the kernel has copied, and spares itself the next.
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, family=family)
    assert isinstance(transport, uringloop.DatagramTransport)
    refused = loop.stats().zerocopy_fell_back
    try:
        future = transport.sendto_zerocopy(bytes(length), where, segment_size=segment)
        done, _ = await asyncio.wait([future], timeout=PATIENCE)
        if not done:
            return Try(what, segment or length, None, SILENT)
        copied = future.result().copied
    except OSError as error:
        return Try(what, segment or length, None, f'not sent: {error.strerror or error}')
    finally:
        transport.abort()
    if loop.stats().zerocopy_fell_back > refused:
        return Try(what, segment or length, True, 'the kernel refused to send it without copying')
    return Try(what, segment or length, copied, '')
