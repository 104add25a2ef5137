"""Datagrams of any size and making at the receiving end, whichever way a protocol takes them.

Several senders, single datagrams and trains with odd tails, options of IP, more control messages
than there is room for; protocols that pause and are replaced.  What one sender has sent comes
whole, once and in order, or the protocol is told that the size of a train's datagrams was lost.
"""
from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import os
import random
import socket
import struct
from typing import NamedTuple

import uringloop
from tests.fuzz.messages import SOL_UDP, UDP_SEGMENT
from tests.support.sockets import SO_RCVBUFFORCE

LONGEST = 65_507
LONGEST_TRAIN = 65_000
PATIENCE = 10.0            # seconds for a burst to arrive
IP = socket.IPPROTO_IP
# What a socket of IPv4 may be told with each datagram (linux/in.h, asm-generic/socket.h), but
# for what changes what is received: timestamps of the network card's, errors.
TOLD = ((IP, 6), (IP, 7), (IP, 8), (IP, 12), (IP, 13), (IP, 18), (IP, 20), (IP, 23), (IP, 25),
        (socket.SOL_SOCKET, 35), (socket.SOL_SOCKET, 40), (socket.SOL_SOCKET, 75))


class Taker(uringloop.DatagramProtocol):
    """Keeps what has come of each sender."""

    def __init__(self, storm: Storm) -> None:
        self.storm = storm

    def error_received(self, exc):
        self.storm.errors.append(exc)
        self.storm.changed()

    def take(self, data, addr, info=None, ancdata=()):
        storm = self.storm
        storm.count += 1
        storm.got[addr].append(data)
        if info is not None and storm.asks_ecn:
            assert info.ecn == storm.ecn[addr], (info, storm.ecn[addr])
        for level, kind, payload in ancdata:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds = array.array('i')
                fds.frombytes(payload[:len(payload) // fds.itemsize * fds.itemsize])
                storm.close(fds)
        storm.changed()


class Each(Taker):
    def datagram_received(self, data, addr):
        self.take(data, addr)


class EachWithInfo(Taker):
    def datagram_received_with_info(self, data, addr, info):
        self.take(data, addr, info)


class Messages(Taker):
    def datagram_msg_received(self, data, ancdata, flags, addr):
        self.take(data, addr, None, ancdata)


class Batches(Taker):
    def datagrams_received(self, batch):
        for data, addr in batch:
            self.take(data, addr)


class BatchesWithInfo(Taker):
    def datagrams_received_with_info(self, batch):
        for data, addr, info in batch:
            self.take(data, addr, info)


class Trains(Taker):
    def datagram_train_received(self, data, segment_size, addr):
        self.cut(data, segment_size, addr, None)

    def cut(self, data, size, addr, info):
        assert 1 <= size <= max(len(data), 1)
        for begin in range(0, max(len(data), 1), size):
            self.take(data[begin:begin + size], addr, info)


class TrainsWithInfo(Trains):
    datagram_train_received = None

    def datagram_train_received_with_info(self, data, segment_size, addr, info):
        self.cut(data, segment_size, addr, info)


KINDS = (Each, EachWithInfo, Messages, Batches, BatchesWithInfo, Trains, TrainsWithInfo)


class Plan(NamedTuple):
    """What a seed decides of an endpoint."""

    family: int
    kinds: list
    options: dict
    senders: int
    tells_much: bool


def plan_of(choose: random.Random) -> Plan:
    family = choose.choice([socket.AF_INET] * 4 + [socket.AF_INET6, socket.AF_UNIX])
    options = {name: True for name in ('ecn', 'pktinfo', 'timestamps', 'drops')
               if choose.random() < 0.3 and family != socket.AF_UNIX}
    if family != socket.AF_UNIX and choose.random() < 0.2:
        options['gro'] = False
    return Plan(family, choose.sample(KINDS, choose.choice([1, 1, 2])), options,
                choose.choice([1, 1, 2, 4]),
                family == socket.AF_INET and choose.random() < 0.3)


class Storm:
    """One endpoint, and all that is thrown at it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.plan = plan_of(self.random)
        self.noise = self.random.randbytes(1 << 18)
        self.asks_ecn = 'ecn' in self.plan.options
        self.expected: dict = {}
        self.got: dict = {}
        self.ecn: dict = {}
        self.errors: list[Exception] = []
        self.count = 0
        self.told: asyncio.Future | None = None
        self.null = os.open(os.devnull, os.O_RDONLY)

    def changed(self) -> None:
        if self.told is not None and not self.told.done():
            self.told.set_result(None)

    @staticmethod
    def close(fds) -> None:
        for fd in fds:
            os.close(fd)

    # -- the receiving end -------------------------------------------------------------------------

    async def open(self) -> None:
        plan = self.plan
        local = {socket.AF_INET: ('127.0.0.1', 0), socket.AF_INET6: ('::1', 0)}
        if plan.family == socket.AF_UNIX:
            sock = socket.socket(plan.family, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.bind('')
            how = {'sock': sock}
        else:
            how = {'local_addr': local[plan.family]}
        self.transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: self.random.choice(plan.kinds)(self), **how, **plan.options)
        sock = self.transport.get_extra_info('socket')
        with contextlib.suppress(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        self.room = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 3
        for level, option in TOLD if plan.tells_much else ():
            if self.random.random() < 0.8:
                with contextlib.suppress(OSError):
                    sock.setsockopt(level, option, 1)
        self.to = self.transport.get_extra_info('sockname')
        self.senders = [self.sender() for _ in range(plan.senders)]

    def sender(self) -> socket.socket:
        sock = socket.socket(self.plan.family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        sock.bind({socket.AF_INET: ('127.0.0.1', 0), socket.AF_INET6: ('::1', 0),
                   socket.AF_UNIX: ''}[self.plan.family])
        name = sock.getsockname()
        self.expected[name], self.got[name] = [], []
        if self.plan.family == socket.AF_INET:
            self.ecn[name] = self.random.randrange(4)
            sock.setsockopt(IP, socket.IP_TOS, self.ecn[name] | 0x20)
            if self.plan.tells_much and self.random.random() < 0.7:
                sock.setsockopt(IP, socket.IP_OPTIONS, b'\1' * self.random.choice([4, 20, 40]))
        elif self.plan.family == socket.AF_INET6:
            self.ecn[name] = self.random.randrange(4)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, self.ecn[name] | 0x20)
        return sock

    # -- what is thrown ----------------------------------------------------------------------------

    def data(self, size: int) -> bytes:
        begin = self.random.randrange(len(self.noise) - size)
        return self.noise[begin:begin + size]

    def size(self, longest: int) -> int:
        """Short ones are as frequent as long ones."""
        kind = self.random.random()
        if kind < 0.1:
            return self.random.choice([0, 1, 8191, 8192, 8193, longest - 1, longest])
        return min(int(2 ** self.random.uniform(0, 11 if kind < 0.9 else 16)), longest)

    def throw(self) -> int:
        """One datagram, or one train; how much room it takes, at most."""
        sock = self.random.choice(self.senders)
        if self.plan.family == socket.AF_UNIX:
            return self.throw_locally(sock)
        if self.random.random() < 0.5:
            return self.throw_train(sock)
        data = self.data(self.size(LONGEST))
        try:
            sock.sendto(data, self.to)
        except OSError as exc:
            if exc.errno != errno.EMSGSIZE:       # options of IP take their room
                raise
            return 0
        self.expected[sock.getsockname()].append(data)
        return 2 * len(data) + 1024

    def throw_train(self, sock: socket.socket) -> int:
        size = max(self.size(LONGEST_TRAIN), 1)
        count = self.random.randint(1, 64)
        length = min(size * count, LONGEST_TRAIN)
        if self.random.random() < 0.7:
            length -= self.random.randrange(min(size, length))
        data = self.data(length)
        try:
            sock.sendmsg([data], [(SOL_UDP, UDP_SEGMENT, struct.pack('H', size))], 0, self.to)
        except OSError as exc:
            if exc.errno not in (errno.EINVAL, errno.EMSGSIZE):
                raise
            return 0
        parts = [data[begin:begin + size] for begin in range(0, length, size)]
        self.expected[sock.getsockname()] += parts
        return sum(2 * len(part) + 1024 for part in parts)

    def throw_locally(self, sock: socket.socket) -> int:
        data = self.data(self.size(100_000))
        rights = self.random.choice([0, 0, 0, 1, 3, 253])
        ancdata = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [self.null] * rights))]
        try:
            sock.sendmsg([data], ancdata if rights else [], 0, self.to)
        except OSError as exc:
            if exc.errno not in (errno.EAGAIN, errno.ETOOMANYREFS, errno.EMSGSIZE):
                raise
            return 1 << 30                        # that is a burst
        self.expected[sock.getsockname()].append(data)
        return 2 * len(data) + 1024

    # -- and what becomes of it --------------------------------------------------------------------

    async def burst(self) -> None:
        room = self.random.randrange(self.room)
        while room > 0:
            room -= self.throw()
        if self.random.random() < 0.1:
            self.transport.pause_reading()
            for _ in range(self.random.randrange(6)):
                await asyncio.sleep(0)
            self.transport.resume_reading()
        if self.random.random() < 0.1:
            self.transport.set_protocol(self.random.choice(self.plan.kinds)(self))
        total = sum(map(len, self.expected.values()))
        while self.count < total and not self.errors:
            self.told = asyncio.get_running_loop().create_future()
            await asyncio.wait_for(self.told, PATIENCE)
        self.compare()

    def compare(self) -> None:
        if self.errors:
            # Told of, and so nobody knows how many there were.
            assert self.plan.tells_much, self.errors
            assert all(isinstance(exc, OSError) and exc.errno == errno.EMSGSIZE
                       for exc in self.errors), self.errors
            return
        for name, datagrams in self.expected.items():
            assert self.got[name] == datagrams, name
            datagrams.clear()
            self.got[name].clear()
        self.count = 0

    async def run(self, count: int) -> int:
        """Throw some ``count`` datagrams; how many have come."""
        came = 0
        await self.open()
        try:
            while came < count:
                counters = asyncio.get_running_loop().stats()
                await self.burst()
                after = asyncio.get_running_loop().stats()
                came += after.datagrams_received - counters.datagrams_received
                if self.errors:
                    break
            # What was lost of trains is told by the count, too.
            lost = asyncio.get_running_loop().stats().datagrams_truncated
            assert bool(lost) >= bool(self.errors)
        finally:
            self.transport.abort()
            for sock in self.senders:
                sock.close()
            os.close(self.null)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return came
