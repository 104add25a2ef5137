"""A load of datagrams by every call that sends, with an account of what became of each.

    load = Load(transport, protocol, address)
    async with load.going_on():
        ...                                    # something happens meanwhile
    await load.settled()
    load.check()                               # sent, or dropped and told of; buffers are back

Each datagram says which it is, and every byte of it follows from that: ``number_of`` fails for
one that is not whole.
"""
from __future__ import annotations

import asyncio
import contextlib
import struct

from tests.support.protocols import Recorder, endpoint
from tests.support.sockets import LOCAL
from tests.support.turns import turns_until

SIZE = 1200
LONG = 20_000            # goes zero-copy without being asked for
TRAIN = 10


def content(number: int, size: int) -> bytes:
    """The datagram with that number."""
    return struct.pack('!I', number) + bytes([number % 251 + 1]) * (size - 4)


def number_of(data: bytes) -> int:
    """Which datagram it is; all of it."""
    [number] = struct.unpack_from('!I', data)
    assert len(data) in (SIZE, LONG), f'{len(data)} bytes'
    assert data == content(number, len(data)), f'number {number} is not what was sent'
    return number


def numbers_of(datagrams) -> set[int]:
    """Which datagrams they are: whole, and none twice."""
    numbers = [number_of(data) for data in datagrams]
    assert len(set(numbers)) == len(numbers), 'some have come twice'
    return set(numbers)


class Load:
    """Sends to ``to``, or from a connected socket, whatever may become of that."""

    def __init__(self, transport, protocol, to=None) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport = transport
        self.protocol = protocol
        self.to = to
        self.pool = self.loop.create_buffer_pool(24, SIZE)
        self.memory = bytearray(TRAIN * SIZE)
        self.registered = None
        with contextlib.suppress(OSError):           # where there is no memory to be locked
            self.registered = self.loop.register_buffer(self.memory)
        self.in_memory: asyncio.Future | None = None
        self.before = self.loop.stats()
        self.handed = 0
        self.rounds = 0
        self.long: set[int] = set()  # which of them are
        self.others = 0              # datagrams of others, by the same loop
        self.futures: list = []      # with how many datagrams each tells of
        self.over = False

    # -- sending ---------------------------------------------------------------------------------

    def next(self, size: int = SIZE) -> bytes:
        """The next datagram."""
        number = self.handed
        self.handed += 1
        if size == LONG:
            self.long.add(number)
        return content(number, size)

    def take(self, count: int) -> list[bytes]:
        return [self.next() for _ in range(count)]

    def reported(self, future, count: int) -> None:
        self.futures.append((future, count))

    def round(self) -> None:
        """Send in each way."""
        send, to = self.transport.sendto, self.to
        send(self.next(), to)
        for data in self.take(6):                    # a bulk
            send(data, to)
        whole = memoryview(b''.join(self.take(6)))   # slices, which lie side by side
        for begin in range(0, len(whole), SIZE):
            send(whole[begin:begin + SIZE], to)
        send(self.next(LONG), to)
        send(bytearray(self.next(LONG)), to)
        self.transport.sendto_many(self.take(6), to)
        self.transport.sendto_with(self.next(), to, ecn=1)
        self.transport.sendmsg([self.next()], [], 0, to)
        self.round_reported()
        self.round_lent()
        self.rounds += 1

    def round_reported(self) -> None:
        one, to = self.transport.sendto_zerocopy, self.to
        self.reported(one(bytearray(self.next(LONG)), to), 1)
        self.reported(one(self.next(), to), 1)
        self.reported(one(b''.join(self.take(TRAIN)), to, segment_size=SIZE), TRAIN)
        self.reported(self.transport.sendto_many_zerocopy(self.take(4), to), 4)

    def round_lent(self) -> None:
        for _ in range(3):
            lease = self.lease()
            if lease is not None:
                with lease:
                    self.transport.sendto(lease, self.to)
        leases = [lease for lease in (self.lease(), self.lease(), self.lease()) if lease]
        self.transport.sendto_many(leases, self.to)
        for lease in leases:
            lease.release()
        if self.in_memory is None or self.in_memory.done():
            self.memory[:] = b''.join(self.take(TRAIN))
            self.in_memory = self.transport.sendto_zerocopy(
                memoryview(self.memory), self.to, segment_size=SIZE)
            self.reported(self.in_memory, TRAIN)

    def lease(self):
        """One with the next datagram; None if all are under way."""
        try:
            lease = self.pool.acquire_nowait()
        except BufferError:
            return None
        lease[:] = self.next()
        return lease

    @contextlib.asynccontextmanager
    async def going_on(self, received=None):
        """Meanwhile round after round is sent.

        ``received``: what has been sent has come there before the next round, for the path loses
        none.
        """
        async def send():
            while not self.over:
                self.round()
                await asyncio.sleep(0)
                if received is not None:
                    await self.settled()
                    await received.until(
                        lambda p: len(p.datagrams) >= self.handed - self.dropped())

        sending = asyncio.ensure_future(send())
        mine = asyncio.current_task()
        sending.add_done_callback(lambda _: self.over or mine.cancel())
        self.over = False
        try:
            yield
        except BaseException:
            self.over = True
            sending.cancel()
            await asyncio.wait([sending])
            if not sending.cancelled():
                sending.result()                     # what has gone wrong, most likely
            raise
        self.over = True
        await sending

    async def more(self, rounds: int) -> None:
        """Until so many more rounds are sent."""
        end = self.rounds + rounds
        await turns_until(lambda: self.rounds >= end)

    # -- the account -----------------------------------------------------------------------------

    async def settled(self) -> None:
        """Until all futures are done, nothing waits, and no buffer is held."""
        due = [future for future, _ in self.futures if not future.done()]
        if due:
            await asyncio.wait(due)
        await turns_until(lambda: self.waiting() == 0 and self.loop.stats().bytes_pinned == 0
                          and self.pool.free == self.pool.count)

    def waiting(self) -> int:
        """How much waits for room; asyncio's own sum keeps, from 3.13 on, what has left."""
        queue = getattr(self.transport, '_buffer', None)
        return self.transport.get_write_buffer_size() if queue is None else len(queue)

    def sent(self) -> int:
        return self.loop.stats().datagrams_sent - self.before.datagrams_sent - self.others

    def dropped(self) -> int:
        return self.loop.stats().datagrams_dropped - self.before.datagrams_dropped

    def errors(self) -> set[int | None]:
        """The errnos that were told, in any way."""
        return {exc.errno for exc in [*self.protocol.errors, *self.failures()]}

    def failures(self) -> list:
        return [future.exception() for future, _ in self.futures
                if future.done() and future.exception()]

    def check(self) -> tuple[int, int]:
        """Each datagram is sent, or dropped, and that was told: how many of each.

        A connected socket is told of some besides that were sent, and are lost behind it.
        """
        sent, dropped = self.sent(), self.dropped()
        assert sent + dropped == self.handed, (sent, dropped, self.handed)
        failed = sum(count for future, count in self.futures if future.exception())
        errors = len(self.protocol.errors)
        assert dropped <= errors + failed, (dropped, errors, failed)
        if self.to is not None:
            assert errors <= dropped, (errors, dropped)
        assert self.loop.stats().unknown_completions == 0
        return sent, dropped

    async def close(self) -> None:
        """Close the transport; every buffer is the program's again."""
        self.transport.close()
        await self.protocol.until(lambda p: p.lost)
        assert self.protocol.lost == [None]
        if self.registered is not None:
            await self.registered.close()
        await self.pool.close()
        self.memory.append(0)                        # nobody has exported it


class Echo(Recorder):
    """Sends back what comes."""

    def datagram_received(self, data, addr):
        super().datagram_received(data, addr)
        self.transport.sendto(data, addr)


async def still_alive() -> int:
    """Timers end, and another endpoint is echoed: how many datagrams were sent for that."""
    loop = asyncio.get_running_loop()
    server, answering = await loop.create_datagram_endpoint(Echo, local_addr=LOCAL)
    client, asking = await endpoint(remote_addr=server.get_extra_info('sockname'))
    for data in b'short', bytes(LONG):
        client.sendto(data)
        await asking.until(lambda p, data=data: data in p.datagrams)
        await asyncio.sleep(0.001)
    for transport, protocol in (server, answering), (client, asking):
        transport.close()
        await protocol.until(lambda p: p.lost)
    return 4
