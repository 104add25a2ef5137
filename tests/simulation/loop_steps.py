"""Steps that have to do with the loop itself: time, threads, running, cancelling."""
from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
from typing import Any

from tests.simulation.protocols import MischiefError


class LoopSteps:
    """Of ``Play``."""

    async def step_sleep(self, time: int, *_: int) -> None:
        await asyncio.sleep((0.00001, 0.0005, 0.01, 0.2, 1.5)[time % 5])

    async def step_turns(self, count: int, *_: int) -> None:
        for _each in range(1 + count % 8):
            await asyncio.sleep(0)

    def step_later(self, how: int, which: int, *_: int) -> None:
        """A callback that sends, or raises."""
        if how % 3 == 0:
            self.mischief += 1
            self.loop.call_later(0.001, self.raise_mischief)
        else:
            self.loop.call_later(0.0001 * (how % 50), self.step_send, which, how, 3, how, how)

    def raise_mischief(self) -> None:
        raise MischiefError

    async def step_stop(self, *_: int) -> None:
        self.loop.stop()
        await asyncio.sleep(0)

    async def step_move(self, *_: int) -> None:
        """The loop goes on in another thread."""
        self.move = True
        self.loop.stop()
        await asyncio.sleep(0)

    async def step_thread(self, count: int, *_: int) -> None:
        """Another thread schedules something; and this waits for it."""
        woken = asyncio.Event()

        def call() -> None:
            for _each in range(1 + count % 5):
                self.loop.call_soon_threadsafe(woken.set)

        if count % 2:
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
        else:
            call()
        await woken.wait()

    def step_reader(self, *_: int) -> None:
        """A descriptor that is watched by ``add_reader``, and told something."""
        mine, other = socket.socketpair()
        self.readers.append((mine, other))
        told = self.loop.create_future()
        self.others.append(told)

        def readable() -> None:
            mine.recv(10)
            self.loop.remove_reader(mine)
            told.set_result(None)

        self.loop.add_reader(mine, readable)
        other.send(b'x')

    async def step_pipe(self, *_: int) -> None:
        """A pipe: one end writes, the other reads to the end."""
        reading, writing = os.pipe()
        reader = asyncio.StreamReader()
        read_transport, _protocol = await self.loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, 'rb', 0))
        write_transport, _protocol = await self.loop.connect_write_pipe(
            asyncio.BaseProtocol, os.fdopen(writing, 'wb', 0))
        write_transport.write(b'x' * 100000)
        write_transport.close()
        self.spawn(self.read_pipe(reader, read_transport))

    async def read_pipe(self, reader: asyncio.StreamReader, transport: Any) -> None:
        if await reader.read() != b'x' * 100000:
            self.fail('a pipe brought something else')
        transport.close()

    def step_collect(self, *_: int) -> None:
        gc.collect()

    def step_cancel(self, which: int, *_: int) -> None:
        tasks = [task for task in self.tasks if not task.done()]
        if tasks:
            tasks[which % len(tasks)].cancel()

    def step_cancel_future(self, which: int, *_: int) -> None:
        futures = [future for future in self.futures if not future.done()]
        if futures:
            futures[which % len(futures)].cancel()
