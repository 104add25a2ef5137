"""What is sent, so that whoever receives it can tell whether that is right.

A datagram tells who has sent it and its number; the rest of it, and what a stream carries, is
noise that follows from that.
"""
from __future__ import annotations

import random
import struct
from collections.abc import Callable

HEADER = struct.Struct('<HHII')
SHORTEST = HEADER.size
MARK = 0xABCD
PERIOD = 65536
NOISE = random.Random(1).randbytes(PERIOD) * 2
MIB_OF_NOISE = NOISE * 16


class Ledger:
    """Of one run."""

    def __init__(self, fail: Callable[[str], None]) -> None:
        self.fail = fail
        self.numbers: dict[int, int] = {}
        self.ordered: dict[int, bool] = {}
        self.last: dict[tuple[int, int], int] = {}
        self.seen: set[tuple[int, int, int]] = set()

    def new_sender(self, ordered: bool = True) -> int:
        """Who sends, as a number; ``ordered``: in the order of the calls."""
        sender = len(self.numbers) + 1
        self.numbers[sender] = 0
        self.ordered[sender] = ordered
        return sender

    def datagram(self, sender: int, size: int) -> bytes:
        """The next one."""
        number = self.numbers[sender] = self.numbers[sender] + 1
        size = max(size, SHORTEST)
        return HEADER.pack(MARK, sender, number, size) + self.body(sender, number, size)

    def datagrams(self, sender: int, count: int, size: int, last: int | None = None) -> bytes:
        """Some, side by side; the last may be shorter."""
        parts = [self.datagram(sender, size) for _ in range(count - 1)]
        return b''.join([*parts, self.datagram(sender, size if last is None else last)])

    def body(self, sender: int, number: int, size: int) -> bytes:
        begin = (sender * 7919 + number * 104729) % PERIOD
        return NOISE[begin:begin + size - SHORTEST]

    def received(self, receiver: int, data: bytes) -> None:
        """One has come: is it whole, the first time, and after those that were sent before it?"""
        if len(data) < SHORTEST:
            self.fail(f'a datagram of {len(data)} bytes came, which nobody has sent')
            return
        mark, sender, number, size = HEADER.unpack_from(data)
        if mark != MARK or sender not in self.numbers or size != len(data) \
                or data[SHORTEST:] != self.body(sender, number, size):
            self.fail(f'a datagram of {len(data)} bytes came corrupted '
                      f'(sender {sender}, number {number}, size {size})')
            return
        key = sender, receiver, number
        if key in self.seen:
            self.fail(f'number {number} of sender {sender} came twice')
        self.seen.add(key)
        if self.ordered[sender]:
            last = self.last.get((sender, receiver), 0)
            if number < last:
                self.fail(f'number {number} of sender {sender} came after {last}')
            self.last[sender, receiver] = max(last, number)


class Flow:
    """One direction of a stream: what is written, and what has come of it."""

    def __init__(self, key: int, fail: Callable[[str], None]) -> None:
        self.begin = key * 977 % PERIOD
        self.fail = fail
        self.written = self.read = 0

    def piece(self, size: int) -> bytes:
        """The next bytes."""
        data = self.part(self.written, size)
        self.written += size
        return data

    def part(self, start: int, size: int) -> bytes:
        begin = (self.begin + start) % PERIOD
        return MIB_OF_NOISE[begin:begin + size]

    def came(self, data: bytes) -> None:
        if bytes(data) != self.part(self.read, len(data)):
            self.fail(f'a stream brought other bytes than were written, from {self.read} on')
        self.read += len(data)
        if self.read > self.written:
            self.fail(f'a stream brought {self.read} bytes of {self.written}')
