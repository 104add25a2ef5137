"""Addresses of every form and of none, and whether all who take them say what asyncio says."""
from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable

from tests.fuzz.outcomes import SENT, Sender, failure, of_call, reason

HOSTS = (
    '127.0.0.1', '127.255.255.254', '', '0.0.0.0', '255.255.255.255', '<broadcast>', '224.0.0.1',
    '::1', '::', '::ffff:127.0.0.1', 'fe80::1', 'fe80::1%lo', 'fe80::1%1', 'fe80::1%99999999999',
    '::1%', 'ff02::1', 'localhost', '127.1', '0x7f000001', '2130706433', '127.0.0.1.',
    '1.2.3.4.5', '256.1.1.1', '0177.0.0.01', '127.0.0.1 ', ' 127.0.0.1', 'a..b', '.', '..',
    'x' * 63, 'x' * 64, 'x' * 300, 'x.' * 40_000, 'ä.invalid', 'ä' * 70, '\udc80',
    '127.0.0.1\0', '\0', '\0' + 'x' * 70, '127。0。0。1', '½', 'ß', 'xn--a',
    '::1\n', '%', '::1%lo%lo')
PATHS = (
    '', '\0', '\0nobody', '/nowhere', '/', '.', 'x' * 107, 'x' * 108, 'x' * 109, '\0' + 'x' * 107,
    '\0' + 'x' * 108, 'x' * 70_000, '\udc80', '\ud800', 'a\0b', '\0a\0b', 'ä' * 54, 'ä' * 53 + 'x')
NUMBERS = (
    0, 1, 9, 9, 9, 65_535, 65_536, -1, 1 << 20, (1 << 20) - 1, (1 << 31) - 1, 1 << 31, 1 << 32,
    (1 << 32) + 9, 1 << 63, 1 << 64, -1 << 31, -1 << 63, 1 << 200, -1 << 200, True, False,
    9.0, 1e300, float('nan'), '9', b'9', None, (), [], 9j)
ODD = (
    None, 0, 9, -1, 1.5, True, '', 'x', b'', b'127.0.0.1', (), [], {}, (None,), ((),), [9, 9],
    ['127.0.0.1', 9], {'host': '127.0.0.1'}, object, ..., range(2), {9}, bytearray(b'x'),
    memoryview(b'\0x'), memoryview(b'\0xyz')[::2])


class Index:
    """Has ``__index__``."""

    def __init__(self, value):
        self.value = value

    def __index__(self):
        if isinstance(self.value, type) and issubclass(self.value, Exception):
            raise self.value
        return self.value

    def __repr__(self):
        return f'Index({self.value})'


class OwnTuple(tuple):
    pass


class OwnText(str):
    __slots__ = ()


class Addresses:
    """Addresses made from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def spoiled(self, text: str) -> str:
        """With something in it that was not."""
        place = self.random.randrange(len(text) + 1)
        some = self.random.choice(['.', ':', '%', '\0', ' ', '9', '0', 'x', 'ü', '\udcff', '::',
                                   '255', '\u3002', '-', '/', '\u0661'])
        return text[:place] + some + text[place + self.random.randrange(2):]

    def text(self, some: tuple) -> object:
        """Of these, or one like them, as text, bytes or otherwise."""
        made: object = self.random.choice(some)
        if self.random.random() < 0.3:
            made = self.spoiled(made)
        kind = self.random.random()
        if kind < 0.1:
            made = OwnText(made)
        elif kind < 0.3:
            made = self.random.choice([bytes, bytearray, lambda data: memoryview(bytes(data))])(
                made.encode('utf-8', 'surrogateescape' if '\ud800' not in made else 'replace'))
        return made

    def number(self) -> object:
        number = self.random.choice(NUMBERS)
        if self.random.random() < 0.1 and number is not None:
            return Index(self.random.choice([number, ValueError, OSError]))
        return number

    def port(self) -> object:
        """More often one that is one."""
        return 9 if self.random.random() < 0.4 else self.number()

    def address(self, family: int) -> object:
        if self.random.random() < 0.08:
            return self.random.choice(ODD)
        if family == socket.AF_UNIX and self.random.random() < 0.9:
            return self.text(PATHS)
        host = self.text(HOSTS) if self.random.random() < 0.93 else self.random.choice(ODD)
        parts = [host, self.port()]
        parts += [self.number() for _ in range(self.random.choice([0, 0, 1, 2, 2, 3]))] \
            if family == socket.AF_INET6 or self.random.random() < 0.1 else []
        if self.random.random() < 0.03:
            parts.pop()
        return (OwnTuple if self.random.random() < 0.1 else tuple)(parts)


def bound(family: int) -> socket.socket:
    """A socket that can send."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind({socket.AF_INET: ('127.0.0.1', 0), socket.AF_INET6: ('::1', 0),
               socket.AF_UNIX: ''}[family])
    return sock


async def told_by_transports(family: int, addresses: list) -> list[tuple]:
    """What ``sendto`` of the running loop's endpoints does with each."""
    sender = Sender(lambda: bound(family))
    outcomes = [await sender.outcome(lambda transport, to=to: transport.sendto(b'x', to))
                for to in addresses]
    sender.close()
    return outcomes


# What further calls this loop has for the same, given a transport.
CALLS: dict[str, Callable] = {
    'sendto_zerocopy': lambda transport, to: transport.sendto_zerocopy(b'x', to),
    'sendto_many': lambda transport, to: transport.sendto_many([b'x'], to),
    'sendto_many, each its own': lambda transport, to: transport.sendto_many([(b'x', to)]),
    'sendto_many_zerocopy': lambda transport, to: transport.sendto_many_zerocopy([b'x'], to),
    'sendmsg': lambda transport, to: transport.sendmsg([b'x'], (), 0, to),
    'sendto_with': lambda transport, to: transport.sendto_with(b'x', to),
}


async def differences_of_calls(family: int, addresses: list) -> list[str]:
    """Where these say something else than ``socket.sendto`` says."""
    loop = asyncio.get_running_loop()
    sender = Sender(lambda: bound(family))
    found = []
    with bound(family) as sock:
        for to in addresses:
            expected = of_call(lambda to=to: sock.sendto(b'x', to))
            for name, call in CALLS.items():
                got = await sender.outcome(lambda transport, call=call, to=to: call(transport, to))
                if reason(got) != reason(expected):
                    found.append(f'{name} {to!r}: {got}, expected {expected}')
            for name in 'sock_sendto', 'sock_sendto_zerocopy':
                try:
                    await getattr(loop, name)(sock, b'x', to)
                    got = SENT
                except Exception as exc:
                    got = failure('raised', exc)
                if got != expected:
                    found.append(f'{name} {to!r}: {got}, expected {expected}')
    sender.close()
    return found


async def told_by_endpoints(family: int, addresses: list) -> list[tuple]:
    """What ``create_datagram_endpoint`` of the running loop does with each, on either side."""
    loop = asyncio.get_running_loop()
    outcomes = []
    for to in addresses:
        for side in 'remote_addr', 'local_addr':
            if family == socket.AF_UNIX and side == 'local_addr':
                continue            # it would make files
            how = {side: to, 'family': family} if family == socket.AF_UNIX else {side: to}
            try:
                transport, _ = await loop.create_datagram_endpoint(
                    asyncio.DatagramProtocol, **how)
                outcomes.append((side, to, SENT))
                transport.abort()
            except Exception as exc:
                outcomes.append((side, to, failure('raised', exc)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return outcomes
