"""Who waits for sockets to be ready: any number for each, where asyncio has one."""
from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Callable

_Futures = OrderedDict[object, 'asyncio.Future[None]']


class Waiters:
    """Those who wait for the same of a socket: that there is something, or that there is room.

    Each has a ticket, until it leaves.  They are woken one by one, in their order.  Who was woken
    in vain, for another was faster, is asked once more when all were; meanwhile nobody who comes
    asks before it: so nobody waits for ever.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, reading: bool,
                 watch: Callable[[Waiters], None], unwatch: Callable[[Waiters], None]) -> None:
        self.loop = loop
        self.sock = sock
        self.reading = reading
        self.watch = watch
        self.unwatch = unwatch
        self.handle: asyncio.Handle | None = None        # that calls ``wake_next``
        self.tickets: set[object] = set()
        self.starved: set[object] = set()        # of those, who has been woken in vain
        self.waiting: _Futures = OrderedDict()
        self.asked: _Futures = OrderedDict()     # in vain, in this round
        self.vain_rounds = 0
        self.rests = False
        self.woken = False       # one has been, when the socket was last ready

    def join(self, ticket: object, *, patient: bool) -> asyncio.Future[None]:
        """The future that is done when it is worth asking the socket; ``leave`` follows.

        ``patient``: for one that is often woken in vain others need not wait.
        """
        ready: asyncio.Future[None] = self.loop.create_future()
        if ticket in self.tickets:
            self.asked[ticket] = ready
            if not patient:
                self.starved.add(ticket)
        else:
            (self.waiting or self.asked or self.waiting)[ticket] = ready
            self.tickets.add(ticket)
        self.keep_watch()
        return ready

    def keep_watch(self) -> None:
        if not self.rests and (self.handle is None or self.handle.cancelled()):
            self.watch(self)

    def wake_next(self) -> None:
        """The socket is ready, as it will still be in the next turn if one cannot use it up."""
        if self.woken:
            # The socket was ready still when whoever was woken had not asked it yet.
            self.woken = False
            return
        self.woken = self.wake_one()
        if self.woken:
            return
        if not self.asked:
            self.unwatch(self)   # whoever has a ticket is about to ask the socket
            return
        self.waiting, self.asked = self.asked, self.waiting
        self.vain_rounds += 1
        if self.vain_rounds > 2:
            self.rest()
        else:
            self.woken = self.wake_one()

    def wake_one(self) -> bool:
        while self.waiting:
            _, ready = self.waiting.popitem(last=False)
            if not ready.done():
                ready.set_result(None)
                return True
        return False

    def served(self) -> None:
        """Somebody was.  From the first on, then, whoever was asked in vain."""
        self.vain_rounds = 0
        while self.asked:
            other, ready = self.asked.popitem()
            self.waiting[other] = ready
            self.waiting.move_to_end(other, last=False)
        if not self.reading:
            self.wake_one()      # a socket has room long before it says so
        if self.waiting:
            self.keep_watch()

    def rest(self) -> None:
        """It is said to be ready at any time, and is not: let time pass, don't spin.

        So is an AF_UNIX socket that is not connected, for writing; and one with an error that
        nobody reads.
        """
        self.rests = True
        self.unwatch(self)
        self.loop.call_later(0.001 * (1 << min(self.vain_rounds - 3, 4)), self.go_on)

    def go_on(self) -> None:
        self.rests = False
        if self.waiting or self.asked:
            self.keep_watch()

    def leave(self, ticket: object) -> None:
        """One waits no longer: it was served, or cancelled."""
        self.tickets.discard(ticket)
        self.starved.discard(ticket)
        if not (self.waiting.pop(ticket, None) or self.asked.pop(ticket, None)):
            self.served()        # it had been woken
        if not self.tickets:
            self.unwatch(self)
