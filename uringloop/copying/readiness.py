"""Who waits for sockets to be ready: any number for each, where asyncio has one."""
from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
from collections import Counter
from contextvars import Context
from typing import Any

from uringloop.ring.interrupts import graver

READABLE, WRITABLE = select.EPOLLIN, select.EPOLLOUT
ERROR = 0                    # which epoll tells of in any case
UNKNOWN = -1
AT_ONCE = 16                 # who are told that a socket is ready
PAUSE = 0.01                 # seconds, where no descriptor is left to forget a closed socket with
_TOLD_ANYWAY = select.EPOLLERR | select.EPOLLHUP


class _Watched:
    """A socket that somebody waits for."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        # Of each call, in their order, what it waits for; None while it asks the socket, or rests.
        self.futures: dict[object, tuple[asyncio.Future[bool], int | None]] = {}
        self.wanted: Counter[int] = Counter()    # how many wait for what
        self.told_of: int | None = None          # what the epoll tells of; None: nothing


class Readiness:
    """Waits for sockets by an epoll of its own, which asyncio's selector watches.

    So neither asyncio's own calls on the same socket are in the way, nor those who have the
    number of one that was closed; and it is seen what a socket is ready for.
    """

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.closed = False
        self.watched: dict[int, _Watched] = {}
        # Numbers of sockets that were closed while it had them: those may live on, by a dup or in
        # another process, and so it may know two by such a number.
        self.doubtful: set[int] = set()
        # Made with the loop, and it keeps its number: one made later might have that of a socket
        # which was closed, and which asyncio's selector still lists.
        self.epoll = select.epoll()
        self.wakes = False                   # whether the selector watches it: once it is wanted

    def wait(self, call: object, sock: socket.socket, events: int) -> asyncio.Future[bool]:
        """A future that is done when the socket is ready; ``leave`` follows.

        Its result is true where the socket has an error, and nothing that was asked for.  Several
        who wait are told in their order; a call that finds nothing keeps its place.
        """
        fd = sock.fileno()
        self.loop._ensure_fd_no_transport(fd)
        watched = self.watched.get(fd)
        if watched is not None and watched.sock.fileno() != fd:
            self.forget(fd, watched)         # as with asyncio nobody hears of one that was closed
            watched = None
        if watched is None:
            watched = self.watched[fd] = _Watched(sock)
        ready: asyncio.Future[bool] = self.loop.create_future()
        watched.futures[call] = ready, events
        watched.wanted[events] += 1
        self.update(fd, watched)
        return ready

    def leave(self, call: object, sock: socket.socket, fd: int) -> None:
        """A call on a socket that had that number waits no longer."""
        watched = self.watched.get(fd)
        if watched is None or call not in watched.futures:
            return
        _, asked = watched.futures.pop(call)
        if asked is not None:
            watched.wanted[asked] -= 1
        if sock.fileno() == fd:
            self.update(fd, watched)
        elif not watched.futures:
            self.forget(fd, watched)

    def forget(self, fd: int, watched: _Watched) -> None:
        """A socket that had that number was closed."""
        if watched.told_of is not None:
            self.doubtful.add(fd)
        del self.watched[fd]

    def update(self, fd: int, watched: _Watched) -> None:
        """Have the epoll tell of what somebody waits for, and of nothing else."""
        if self.closed:
            return
        if not watched.futures:
            del self.watched[fd]
        if not watched.wanted.total():
            if watched.told_of is not None:
                watched.told_of = None
                with contextlib.suppress(OSError):
                    self.epoll.unregister(fd)
            return
        events = 0
        for asked, count in watched.wanted.items():
            events |= asked if count else 0
        if events == watched.told_of:
            return
        if not self.wakes:
            self.listen()
        ways = [self.epoll.register, self.epoll.modify]
        if watched.told_of is not None:
            ways.reverse()
        watched.told_of = UNKNOWN        # an interrupt may come
        try:
            ways[0](fd, events)
        except (FileExistsError, FileNotFoundError):
            # There is another object of the same descriptor; or there was, and it was closed.
            ways[1](fd, events)
        watched.told_of = events

    def wake(self) -> None:
        """Tell who waits for what is ready; whatever that raises, all of them.

        An interrupt while it tells costs nothing: what is ready is so in the next turn, too.
        """
        problem = None
        lives_on = False
        for fd, events in self.epoll.poll(0):
            watched = self.watched.get(fd)
            ready = self.ready(fd, watched, events) if watched is not None else 0
            lives_on = lives_on or events & ~ready != 0
            if watched is None or not ready:
                continue
            try:
                self.tell(watched, ready)
            except BaseException as exc:
                problem = graver(problem, exc)
            self.update(fd, watched)
        if lives_on:
            self.renew()
        if problem is not None:
            raise problem

    def ready(self, fd: int, watched: _Watched, events: int) -> int:
        """What this socket is ready for; the events may be those of one that had its number."""
        if watched.sock.fileno() != fd:
            return 0
        if fd not in self.doubtful:
            return events
        poll = select.poll()
        poll.register(fd, (watched.told_of or 0) & 0xFFFF)
        return sum(found for _, found in poll.poll(0))

    def tell(self, watched: _Watched, events: int) -> None:
        """Those who come first; if there is more than they take, in the next turn the others."""
        told = 0
        problem = None
        for call, (ready, asked) in list(watched.futures.items()):
            # Of an error those are told who wait for one, if anybody does.
            errors = _TOLD_ANYWAY if not asked or not watched.wanted[ERROR] else select.EPOLLHUP
            if asked is None or ready.done() or not events & (asked | errors):
                continue
            try:
                ready.set_result(not events & asked)
            except BaseException as exc:
                problem = graver(problem, exc)
                if not ready.done():
                    continue             # the interrupt came before: it is told in the next turn
            watched.futures[call] = ready, None
            watched.wanted[asked] -= 1
            told += 1
            if told == AT_ONCE:
                break
        if problem is not None:
            raise problem

    def renew(self) -> None:
        """Forget sockets that were closed, and live on by a ``dup`` or in another process.

        An epoll tells of them for ever, and has no name for them.
        """
        number = self.epoll.fileno()
        self.loop._remove_reader(number)
        try:
            new = select.epoll()
        except OSError:
            # No descriptor is left.  It would tell in vain, in each turn: later once more.
            self.loop.call_later(PAUSE, self.listen)
            return
        with new:
            self.wakes = False
            os.dup2(new.fileno(), number, inheritable=False)
        self.doubtful.clear()
        for fd, watched in list(self.watched.items()):
            watched.told_of = None
            if watched.sock.fileno() == fd:
                with contextlib.suppress(OSError):       # of a number that is nobody's
                    self.update(fd, watched)

    def listen(self) -> None:
        """Have the selector watch the epoll."""
        if not self.closed:
            # In a context of its own: whoever waits first would have theirs kept with the loop.
            Context().run(self.loop._add_reader, self.epoll.fileno(), self.wake)
            self.wakes = True

    def close(self) -> None:
        """The loop is closed."""
        self.closed = True
        self.epoll.close()
