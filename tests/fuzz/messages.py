"""Control messages, sent and received, that no kernel and no program would make."""
from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct

from tests.fuzz.addresses import Index, bound
from tests.fuzz.outcomes import SENT, Sender, failure, of_call, reason
from uringloop.datagram.control import packed_ancdata, unpacked_ancdata
from uringloop.datagram.metadata import info_of

SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104        # linux/udp.h
LEVELS = (socket.SOL_SOCKET, socket.IPPROTO_IP, socket.IPPROTO_IPV6, SOL_UDP, socket.SOL_TCP,
          -1, 0x7fffffff, 255)
# Those that are read are among them.
TYPES = (0, 1, 2, 4, 8, 29, 35, 36, 37, 40, 50, 61, 64, 67, UDP_SEGMENT, UDP_GRO, -1, 0x7fffffff)
ODD = (None, 1, 'x', b'xyz', (), (1,), (1, 2), (1, 2, b'', 4), [1, 2, b''], [1, 2], {1: 2},
       (1.0, 2, b''), (1, None, b''), (1, 2, 'x'), (1, 2, None), (1, 2, [1]), (1 << 31, 2, b''),
       (-1 << 31, -1 << 31, b''), (1, 1 << 64, b''), (Index(1), Index(2), b''),
       (Index(ValueError), 2, b''), (1, 2, memoryview(b'abcd')[::2]), (1, 2, memoryview(b'abc')))
MSG_ZEROCOPY = 0x4000000          # which sendmsg() refuses: linux/socket.h
FLAGS = (0, 0, 0, 0, socket.MSG_DONTWAIT, socket.MSG_DONTROUTE, socket.MSG_OOB, socket.MSG_EOR,
         socket.MSG_CONFIRM, 1 << 30, ~MSG_ZEROCOPY, 1 << 31, 1 << 64, None, 'x', 1.5, Index(0),
         Index(ValueError))
BUFFERS = ([b'x'], [b'x'], [b'x'], [], [b''], [b'a', b'b'], b'x', 'x', None, 1, [None], ['x'],
           [bytearray(b'x'), memoryview(b'y')], [memoryview(b'abcd')[::2]], (b'x' for _ in ()),
           [b'x' * 65_507], [b'x' * 65_508], [b'x'] * 1024, [b'x'] * 1025)
MSG_DONTWAIT = int(socket.MSG_DONTWAIT)       # not the enum, which makes another number of -1
HEAD = struct.Struct('nii')


class Messages:
    """What is given to ``sendmsg``, made from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def payload(self, level: int, kind: int) -> bytes:
        choose = self.random
        if (level, kind) == (SOL_UDP, UDP_SEGMENT):
            return struct.pack('H', choose.choice([0, 1, 1200, 65_535])) + bytes(
                choose.choice([0, 0, 2]))
        if choose.random() < 0.4:
            return struct.pack('i', choose.choice([0, 1, 3, 255, 256, -1]))
        return choose.randbytes(choose.choice([0, 1, 2, 4, 8, 12, 20, 36, 300]))

    def item(self) -> object:
        if self.random.random() < 0.1:
            return self.random.choice(ODD)
        level, kind = self.random.choice(LEVELS), self.random.choice(TYPES)
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            kind = 2               # descriptors are no matter of chance
        payload = self.payload(level, kind)
        return (level, kind, bytearray(payload) if self.random.random() < 0.2 else payload)

    def ancdata(self) -> object:
        if self.random.random() < 0.05:
            return self.random.choice([None, 1, 'xyz', b'xyz', {}, {1: 2}, ...])
        return [self.item() for _ in range(self.random.choice([0, 1, 1, 1, 2, 3]))]

    def call(self) -> tuple:
        """``(buffers, ancdata, flags)``"""
        flags = self.random.choice(FLAGS) if self.random.random() < 0.3 else 0
        buffers = self.random.choice(BUFFERS) if self.random.random() < 0.3 else [b'x']
        return buffers, self.ancdata(), flags


async def differences_of_sendmsg(family: int, calls: list) -> list[str]:
    """Where the transport's, or the loop's, says something else than ``socket.sendmsg``."""
    loop = asyncio.get_running_loop()
    sender = Sender(lambda: bound(family))
    found = []
    with bound(family) as peer, bound(family) as plain, bound(family) as other:
        to = peer.getsockname()
        for buffers, ancdata, flags in calls:
            expected = of_call(lambda b=buffers, a=ancdata, f=flags: plain.sendmsg(
                b, a, f | MSG_DONTWAIT if type(f) is int else f, to))
            got = await sender.outcome(lambda transport, b=buffers, a=ancdata, f=flags:
                                       transport.sendmsg(b, a, f, to))
            sent = received_by(peer)
            # One string of many buffers: what one call has no room for another has.
            if reason(got) != reason(expected) and len_of(buffers) <= 1024:
                found.append(f'sendmsg {buffers!r:.80} {ancdata!r} {flags!r}: {got}, '
                             f'expected {expected}')
            if expected == got == SENT and sent[:len(sent) // 2] != sent[len(sent) // 2:]:
                found.append(f'sendmsg {buffers!r:.80} {ancdata!r} {flags!r}: another datagram')
            if (type(flags) is int and not -1 << 31 <= flags < 1 << 31) \
                    or not hasattr(ancdata, '__iter__'):
                continue            # of two things that are wrong it may find the other one first
            try:
                await loop.sock_sendmsg(other, buffers, ancdata, flags, to)
                got = SENT
            except Exception as exc:
                got = failure('raised', exc)
            if got != expected:
                found.append(f'sock_sendmsg {buffers!r:.80} {ancdata!r} {flags!r}: {got}, '
                             f'expected {expected}')
            received_by(peer)
    sender.close()
    return found


def len_of(buffers: object) -> int:
    return len(buffers) if hasattr(buffers, '__len__') else 0


def received_by(sock: socket.socket) -> list[bytes]:
    got = []
    with contextlib.suppress(BlockingIOError):
        while True:
            got.append(sock.recv(70_000))
    return got


# -- received --------------------------------------------------------------------------------------

def walked(control: bytes) -> list[tuple[int, int, bytes]]:
    """What ``socket.recvmsg`` makes of such bytes: what is cut short is cut, the rest is lost."""
    found, place = [], 0
    while len(control) - place >= HEAD.size:
        length, level, kind = HEAD.unpack_from(control, place)
        length &= (1 << 64) - 1
        if length < HEAD.size:
            break
        end = min(place + length, len(control))
        found.append((level, kind, control[place + HEAD.size:end]))
        place += (length + 7) // 8 * 8
    return found


def malformed_control(choose: random.Random) -> bytes:
    """Control messages as they come, and then something is wrong with them."""
    control = b''
    for _ in range(choose.randrange(5)):
        payload = choose.randbytes(choose.choice([0, 1, 4, 8, 12, 16, 20, 40]))
        length = HEAD.size + len(payload)
        if choose.random() < 0.3:
            length = choose.choice([0, 1, HEAD.size - 1, HEAD.size, length - 1, length + 1,
                                    length + 8, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 32,
                                    (1 << 63) - 1, -1 << 63, -1, -8, -16])
        control += HEAD.pack(length, choose.choice(LEVELS), choose.choice(TYPES)) + payload
        control += bytes(-len(payload) % 8)
    if choose.random() < 0.5:
        control = control[:choose.randrange(len(control) + 1)]
    return control if choose.random() < 0.9 else choose.randbytes(choose.randrange(200))


def differences_of_walks(seed: int, count: int) -> list[str]:
    """Where the walk through received control messages finds something else."""
    choose = random.Random(seed)
    found = []
    for _ in range(count):
        control = malformed_control(choose)
        if unpacked_ancdata(control) != walked(control):
            found.append(f'{control!r}: {unpacked_ancdata(control)}')
    return found


def differences_of_facts(parts, seed: int, count: int) -> list[str]:
    """Where a ``DatagramInfo`` of received control messages says something else.

    ``parts`` is ``tests/support/parts.pyx``, compiled.
    """
    choose = random.Random(seed)
    found = []
    for _ in range(count):
        control = malformed_control(choose)
        facts = parts.facts_of(control)
        if facts != info_of(walked(control), 15):
            found.append(f'{control!r}: {facts}')
        parts.size_told(control, choose.random() < 0.5)
    return found


def differences_of_packing(seed: int, count: int) -> list[str]:
    """Where what was packed is not what comes out."""
    made = Messages(seed)
    found = []
    for _ in range(count):
        ancdata = [(made.random.choice(LEVELS), made.random.choice(TYPES),
                    made.random.randbytes(made.random.randrange(40))) for _ in range(
                        made.random.randrange(5))]
        if unpacked_ancdata(packed_ancdata(ancdata)) != ancdata:
            found.append(f'{ancdata!r}')
    return found
