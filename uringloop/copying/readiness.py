"""Who waits for sockets to be ready: any number for each, where asyncio has one."""
from __future__ import annotations

import asyncio
import contextlib
import functools
import operator
import select
import socket
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
        self.registered = False
        self.armed: int | None = None            # for what; None: it is not


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
            self.arm(fd, watched, events)
            return await ready
        finally:
            watched.futures.pop(ready, None)
            if not watched.futures:
                self.forget(fd, watched)

    def arm(self, fd: int, watched: _Watched, events: int) -> None:
        """Have it told of once, if that is not so already."""
        if watched.armed is not None and watched.armed | events == watched.armed:
            return
        if self.epoll is None:
            self.epoll = select.epoll()
            self.loop._add_reader(self.epoll.fileno(), self.wake)
        events |= watched.armed or 0
        ways = [self.epoll.register, self.epoll.modify]
        if watched.registered:
            ways.reverse()
        try:
            ways[0](fd, events | select.EPOLLONESHOT)
        except (FileExistsError, FileNotFoundError):
            # There is another object of the same descriptor; or there was, and it was closed.
            ways[1](fd, events | select.EPOLLONESHOT)
        watched.registered = True
        watched.armed = events

    def forget(self, fd: int, watched: _Watched) -> None:
        """Nobody waits for it any more."""
        if self.watched.get(fd) is watched:
            del self.watched[fd]
        # Of one that was closed the kernel has forgotten, and the number may be another's.
        if watched.registered and self.epoll is not None and watched.sock.fileno() == fd:
            watched.registered = False
            with contextlib.suppress(OSError):
                self.epoll.unregister(fd)

    def wake(self) -> None:
        """Tell who waits for what is ready; whatever that raises, all of them."""
        assert self.epoll is not None
        problem = None
        for fd, events in self.epoll.poll(0):
            watched = self.watched.get(fd)
            if watched is None or watched.sock.fileno() != fd:
                continue         # it was closed, and lives on in another process
            watched.armed = None
            for ready, asked in list(watched.futures.items()):
                if not ready.done() and events & (asked | _TOLD_ANYWAY):
                    try:
                        ready.set_result(not events & asked)
                    except BaseException as exc:
                        problem = graver(problem, exc)
            still = [asked for ready, asked in watched.futures.items() if not ready.done()]
            if still:
                self.arm(fd, watched, functools.reduce(operator.or_, still))
        if problem is not None:
            raise problem

    def close(self) -> None:
        """The loop is closed."""
        epoll, self.epoll = self.epoll, None
        if epoll is not None:
            epoll.close()
