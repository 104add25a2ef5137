"""Who waits for sockets to be ready: any number for each, where asyncio has one."""
from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Callable


class Waiters:
    """Those who wait for the same of a socket: that there is something, or that there is room.

    Each has a ticket, until it leaves.  They are woken one by one, in their order, until one has
    not been woken in vain: from there on once more from the first.  So nobody waits for ever.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket,
                 watch: Callable[[Waiters], None], unwatch: Callable[[Waiters], None]) -> None:
        self.loop = loop
        self.sock = sock
        self.watch = watch
        self.unwatch = unwatch
        self.handle: asyncio.Handle | None = None        # that calls ``wake_next``
        self.tickets: set[object] = set()
        self.waiting: OrderedDict[object, asyncio.Future[None]] = OrderedDict()
        self.asked: OrderedDict[object, asyncio.Future[None]] = OrderedDict()   # before those
        self.woken = False       # one has been, when the socket was last ready

    def join(self, ticket: object) -> asyncio.Future[None]:
        """The future that is done when it is worth asking the socket; ``leave`` follows."""
        ready: asyncio.Future[None] = self.loop.create_future()
        (self.asked if ticket in self.tickets else self.waiting)[ticket] = ready
        self.tickets.add(ticket)
        self.watch(self)
        return ready

    def wake_next(self) -> None:
        """The socket is ready, as it will still be in the next turn if one cannot use it up."""
        if self.woken:
            # The socket was ready still when whoever was woken had not asked it yet.
            self.woken = False
            return
        if not self.waiting:
            self.waiting, self.asked = self.asked, self.waiting
        while self.waiting:
            _, ready = self.waiting.popitem(last=False)
            if not ready.done():
                self.woken = True
                ready.set_result(None)
                return
        # Whoever has a ticket is about to ask the socket, or rests before that.
        self.unwatch(self)

    def leave(self, ticket: object) -> None:
        """One waits no longer."""
        self.tickets.discard(ticket)
        self.waiting.pop(ticket, None)
        self.asked.pop(ticket, None)
        while self.asked:
            other, ready = self.asked.popitem()
            self.waiting[other] = ready
            self.waiting.move_to_end(other, last=False)
        if not self.tickets:
            self.unwatch(self)
