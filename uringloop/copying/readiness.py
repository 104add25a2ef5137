"""Who waits for sockets to be ready: any number for each, where asyncio has one."""
from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Waiters:
    """Those who wait for the same of a socket: that there is something, or that there is room."""

    def __init__(self, nobody_waits: Callable[[Waiters], None]) -> None:
        self.futures: deque[asyncio.Future[None]] = deque()
        self.nobody_waits = nobody_waits
        self.handle: asyncio.Handle | None = None        # that calls ``wake_next``

    def wake_next(self) -> None:
        """The socket is ready, as it will still be in the next turn if one cannot use it up."""
        while self.futures:
            if not self.futures[0].done():
                self.futures[0].set_result(None)
                return
            self.futures.popleft()       # of a coroutine that an interrupt has ended unseen
        self.nobody_waits(self)

    def leave(self, ready: asyncio.Future[None]) -> None:
        """One waits no longer."""
        if ready in self.futures:
            self.futures.remove(ready)
        if all(other.done() for other in self.futures):
            self.nobody_waits(self)          # they are about to ask the socket, and come back
