"""Who waits for sockets to be ready: any number for each, where asyncio has one."""
from __future__ import annotations

import asyncio
from collections import deque


class Waiters:
    """Those who wait for the same of a socket: that there is something, or that there is room."""

    def __init__(self) -> None:
        self.futures: deque[asyncio.Future[None]] = deque()
        self.handle: asyncio.Handle | None = None        # that calls ``wake_next``

    def wake_next(self) -> None:
        """The socket is ready, as it will still be in the next turn if one cannot use it up."""
        for ready in self.futures:
            if not ready.done():
                ready.set_result(None)
                return
