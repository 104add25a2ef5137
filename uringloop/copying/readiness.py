"""Who waits for sockets to be ready: any number for each, where asyncio has one."""
from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Callable


class Waiters:
    """Those who wait for the same of a socket: that there is something, or that there is room.

    Each has a ticket.  Who was woken in vain, for another was faster, waits on in its old place:
    so nobody waits for ever.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket,
                 nobody_waits: Callable[[Waiters], None]) -> None:
        self.loop = loop
        self.sock = sock
        self.futures: OrderedDict[object, asyncio.Future[None]] = OrderedDict()
        self.nobody_waits = nobody_waits
        self.handle: asyncio.Handle | None = None        # that calls ``wake_next``

    def join(self, ticket: object) -> asyncio.Future[None]:
        """The future that is done when it is worth asking the socket; ``leave`` follows."""
        ready: asyncio.Future[None] = self.loop.create_future()
        self.futures[ticket] = ready
        return ready

    def wake_next(self) -> None:
        """The socket is ready, as it will still be in the next turn if one cannot use it up."""
        for ready in self.futures.values():
            if not ready.done():
                ready.set_result(None)
                return
        # They are about to ask the socket, and come back.  (Or a coroutine was ended unseen, by
        # an interrupt.)
        self.nobody_waits(self)

    def leave(self, ticket: object) -> None:
        """One waits no longer."""
        self.futures.pop(ticket, None)
        if not self.futures:
            self.nobody_waits(self)
