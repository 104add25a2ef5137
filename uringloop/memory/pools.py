"""Buffer pools: memory that is registered with the kernel once, and sent from many times."""
from __future__ import annotations

import asyncio
import errno
import os
import sys
from typing import TYPE_CHECKING, cast

from uringloop.memory.leases import PoolCore

if TYPE_CHECKING:
    from uringloop.memory.leases import Lease


class BufferPool(PoolCore):
    """Buffers of one size, which are borrowed as leases; made by ``loop.create_buffer_pool``.

    Its methods, as those of asyncio, belong to the loop's thread; any may fill and release leases.
    """

    async def acquire_many(self, n: int) -> list[Lease]:
        """Borrow ``n`` buffers, all at once; ValueError if the pool never has so many."""
        leases = self._acquire_many_now(n)
        return leases if leases is not None else await self._wait_for(n)

    async def _acquire_later(self) -> Lease:
        leases = self._acquire_many_now(1)
        return (leases if leases is not None else await self._wait_for(1))[0]

    async def _wait_for(self, n: int) -> list[Lease]:
        loop = cast('asyncio.AbstractEventLoop', self._loop)
        if 'trio' in sys.modules and asyncio.current_task(loop) is None:
            raise RuntimeError('a lease has to be waited for, and a trio task cannot wait so: '
                               'await uringloop.trio.run_asyncio(pool.acquire())')
        future: asyncio.Future[list[Lease]] = self._wait(n)
        try:
            return await future
        except BaseException:
            self._wait_no_longer(future)
            raise

    def __repr__(self) -> str:
        kind = 'registered' if self.registered else 'not registered'
        if self._error == errno.ENOMEM:
            kind += ' (beyond the limit of locked memory, RLIMIT_MEMLOCK)'
        elif self._error:
            kind += f' ({os.strerror(self._error)})'
        pages = ', huge pages' if self.hugepages else ''
        closed = ', closed' if self.closed else ''
        held = f'{self.held} released but still viewed or being sent, ' if self.held else ''
        return (f'<BufferPool of {self.count} buffers of {self.size} bytes, {self.free} free, '
                f'{held}{kind}{pages}{closed}>')
