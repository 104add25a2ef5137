"""Who waits for sockets to be ready: any number for each, where asyncio has one."""
from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections import Counter
from typing import Any

from uringloop.ring.interrupts import graver

READABLE, WRITABLE = select.EPOLLIN, select.EPOLLOUT
ERROR = 0                    # which epoll tells of in any case
_TOLD_ANYWAY = select.EPOLLERR | select.EPOLLHUP


class _Watched:
    """A socket that somebody waits for."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.futures: dict[asyncio.Future[bool], int] = {}       # and for what, in their order
        self.wanted: Counter[int] = Counter()    # how many wait for what
        self.told_of: int | None = None          # what the epoll tells of; None: nothing


class Readiness:
    """Waits for sockets by an epoll of its own, which asyncio's selector watches.

    So neither asyncio's own calls on the same socket are in the way, nor those who have the
    number of one that was closed; and it is seen what a socket is ready for.
    """

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.epoll: select.epoll | None = None           # once it is wanted
        self.watched: dict[int, _Watched] = {}

    async def until_ready(self, sock: socket.socket, events: int) -> bool:
        """Wait, perhaps with others; True: it has an error, and nothing that was asked for.

        All who wait for the same are told at once, in their order; who finds nothing comes back.
        """
        fd = sock.fileno()
        self.loop._ensure_fd_no_transport(fd)
        watched = self.watched.get(fd)
        if watched is None or watched.sock.fileno() != fd:
            # As with asyncio nobody hears of one that was closed.
            watched = self.watched[fd] = _Watched(sock)
        ready: asyncio.Future[bool] = self.loop.create_future()
        try:
            watched.futures[ready] = events
            watched.wanted[events] += 1
            self.update(fd, watched)
            return await ready
        finally:
            if watched.futures.pop(ready, None) is not None:
                watched.wanted[events] -= 1
            if watched.sock.fileno() == fd:
                self.update(fd, watched)
            elif not watched.futures and self.watched.get(fd) is watched:
                del self.watched[fd]         # the kernel has forgotten it when it was closed

    def update(self, fd: int, watched: _Watched) -> None:
        """Have the epoll tell of what somebody waits for, and of nothing else."""
        if not watched.futures:
            if self.watched.get(fd) is watched:
                del self.watched[fd]
            if watched.told_of is not None and self.epoll is not None:
                with contextlib.suppress(OSError):
                    self.epoll.unregister(fd)
            watched.told_of = None
            return
        events = 0
        for asked, count in watched.wanted.items():
            events |= asked if count else 0
        if events == watched.told_of:
            return
        if self.epoll is None:
            self.epoll = select.epoll()
            self.loop._add_reader(self.epoll.fileno(), self.wake)
        ways = [self.epoll.register, self.epoll.modify]
        if watched.told_of is not None:
            ways.reverse()
        try:
            ways[0](fd, events)
        except (FileExistsError, FileNotFoundError):
            # There is another object of the same descriptor; or there was, and it was closed.
            ways[1](fd, events)
        watched.told_of = events

    def wake(self) -> None:
        """Tell who waits for what is ready; whatever that raises, all of them.

        An interrupt in here costs nothing: what is ready is so in the next turn, too.
        """
        assert self.epoll is not None
        problem = None
        for fd, events in self.epoll.poll(0):
            watched = self.watched.get(fd)
            if watched is None or watched.sock.fileno() != fd:
                return self.renew()
            for ready, asked in list(watched.futures.items()):
                if not ready.done() and events & (asked | _TOLD_ANYWAY):
                    try:
                        ready.set_result(not events & asked)
                    except BaseException as exc:
                        problem = graver(problem, exc)
        if problem is not None:
            raise problem
        return None

    def renew(self) -> None:
        """Forget a socket that was closed, and lives on by a ``dup`` or in another process.

        An epoll tells of it for ever, and has no name for it.
        """
        assert self.epoll is not None
        self.loop._remove_reader(self.epoll.fileno())
        self.epoll.close()
        self.epoll = None
        for fd, watched in list(self.watched.items()):
            watched.told_of = None
            if watched.sock.fileno() == fd:
                self.update(fd, watched)

    def close(self) -> None:
        """The loop is closed."""
        epoll, self.epoll = self.epoll, None
        if epoll is not None:
            epoll.close()
