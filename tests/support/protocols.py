"""What the tests' datagram protocols have in common: they record, and can be waited for."""
from __future__ import annotations

import asyncio


class Recorder(asyncio.DatagramProtocol):
    """Records every call in lists; ``until`` waits for a condition on the record.

    ``endpoints.QueuingRecorder`` has queues instead, for tests that await item by item.
    """

    def __init__(self) -> None:
        self.datagrams: list[bytes] = []
        self.addresses: list = []
        self.errors: list[Exception] = []
        self.pauses = self.resumes = 0
        self.lost: list[Exception | None] = []
        self._changed: asyncio.Future | None = None

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.datagrams.append(data)
        self.addresses.append(addr)
        self._change()

    def error_received(self, exc):
        self.errors.append(exc)
        self._change()

    def pause_writing(self):
        self.pauses += 1
        self._change()

    def resume_writing(self):
        self.resumes += 1
        self._change()

    def connection_lost(self, exc):
        self.lost.append(exc)
        self._change()

    def _change(self):
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def until(self, condition) -> None:
        """Wait until ``condition(self)``, looking whenever something was recorded."""
        while not condition(self):
            self._changed = asyncio.get_running_loop().create_future()
            await self._changed


class Collector(asyncio.DatagramProtocol):
    """Keeps what its methods ``take``; ``wait`` until there is so much, errors included."""

    def __init__(self) -> None:
        self.got = []
        self.calls = 0
        self.errors = []
        self.changed = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport

    def take(self, *items):
        self.calls += 1
        self.got += items
        self.changed.set()

    def error_received(self, exc):
        self.errors.append(exc)
        self.changed.set()

    async def wait(self, count):
        while len(self.got) + len(self.errors) < count:
            self.changed.clear()
            await self.changed.wait()


async def endpoint(**how) -> tuple:
    """``(transport, Recorder)``, of ``create_datagram_endpoint``."""
    loop = asyncio.get_running_loop()
    return await loop.create_datagram_endpoint(Recorder, **how)
