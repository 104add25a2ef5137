"""How a program gets this loop: ``new_event_loop``, ``run``, ``install``, ``EventLoopPolicy``."""
from __future__ import annotations

import asyncio
import contextlib
import errno
import sys
import warnings
from asyncio import events, unix_events
from collections.abc import Coroutine
from typing import Any, TypeVar

# Now: once rights are given up the files may be out of reach.
from uringloop.copying.loop import CopyingLoop
from uringloop.loop import Loop
from uringloop.options import check_options, switch
from uringloop.ring.unavailable import UringUnavailableError

T = TypeVar('T')

_warned = False       # of this process: once


def new_event_loop(
        *, require_uring: bool = False, entries: int = 256, busy_poll: float = 50,
        batch: bool | None = None, gro: bool | None = None) -> asyncio.AbstractEventLoop:
    """Make an event loop on io_uring.

    ``entries`` is the size of its submission queue, 1 to 32768, rounded up
    to a power of two; the completion queue has sixteen times as many.

    ``busy_poll`` is how many microseconds, up to 1000, the loop may look for
    something to do before it lets the processor sleep.  It does so only while
    that keeps succeeding, and not after a turn that has received datagrams and sent
    none: an answer that is awaited then finds it awake.  0 switches it off.  (The same
    bargain as net.core.busy_poll, sysctl documentation of Linux; 50 is the value
    recommended there.)

    ``batch=False``, or URINGLOOP_BATCH=0 in the environment, has every datagram and
    every piece of a stream leave at the call, also in bulk: none then waits for the end
    of its turn to leave with its neighbours.

    ``gro=False``, or URINGLOOP_GRO=0, has the datagram sockets that the loop makes receive
    each datagram by itself: none is put together by the kernel (UDP_GRO) and cut apart here.

    Where io_uring cannot be had, warns once (``RuntimeWarning``) and returns
    asyncio's own loop, which has this one's further methods, by copying.  With
    ``require_uring=True``, or URINGLOOP_REQUIRE=1 in the environment, raises
    ``UringUnavailableError`` instead.  With URINGLOOP_DISABLE=1 in the environment
    it returns that other loop in any case, without a warning.

    ValueError: one of these variables is neither 0 nor 1, nor empty.
    """
    global _warned
    required = require_uring or switch('URINGLOOP_REQUIRE', False)
    if switch('URINGLOOP_DISABLE', False):
        check_options(entries, busy_poll, batch, gro)
        if required:
            raise UringUnavailableError(
                errno.EPERM, 'io_uring is switched off by URINGLOOP_DISABLE=1, and required by '
                             'require_uring=True or URINGLOOP_REQUIRE=1: choose one')
        return CopyingLoop()
    try:
        return Loop(entries=entries, busy_poll=busy_poll, batch=batch, gro=gro)
    except UringUnavailableError as error:
        if required:
            raise
        if not _warned:
            _warned = True
            warnings.warn(f"{error.strerror}. Using asyncio's own loop, by which all is copied; "
                          'URINGLOOP_DISABLE=1 asks for it without this warning.',
                          RuntimeWarning, stacklevel=_programs_frame())
    return CopyingLoop()


def _programs_frame() -> int:
    """The ``stacklevel`` of whoever wants the loop: the first above that is not asyncio's, or ours.

    (``uringloop.run``, asyncio's runners and the policy stand between.)
    """
    level, frame = 1, sys._getframe(1)
    while frame.f_back and str(frame.f_globals.get('__name__')).partition('.')[0] in (
            'asyncio', 'uringloop'):
        level, frame = level + 1, frame.f_back
    return level


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """As ``asyncio.run``, on what ``new_event_loop()`` makes.

    That is asyncio's own loop, and a warning, where io_uring cannot be had.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError('uringloop.run() cannot be called from a running event loop')
    if sys.version_info < (3, 11):
        return _run_310(main, debug)

    def new_current_loop() -> asyncio.AbstractEventLoop:
        # As ``asyncio.run``, which gives a runner no factory: runners leave that to one.
        loop = _loop_for(main)
        at_the_end.callback(asyncio.set_event_loop, None)
        asyncio.set_event_loop(loop)
        return loop

    with contextlib.ExitStack() as at_the_end, \
            asyncio.Runner(debug=debug, loop_factory=new_current_loop) as runner:
        return runner.run(main)


def _loop_for(main: Coroutine[Any, Any, Any]) -> asyncio.AbstractEventLoop:
    try:
        return new_event_loop()
    except BaseException:
        if asyncio.iscoroutine(main):
            main.close()                    # or that it was never awaited would be told besides
        raise


def _run_310(main: Coroutine[Any, Any, T], debug: bool | None) -> T:
    # asyncio.run of 3.10 takes its loop from the policy only.
    if not asyncio.iscoroutine(main):
        raise ValueError(f'a coroutine was expected, got {main!r}')
    loop = _loop_for(main)
    try:
        asyncio.set_event_loop(loop)
        if debug is not None:
            loop.set_debug(debug)
        return loop.run_until_complete(main)
    finally:
        try:
            end_loop(loop)
        finally:
            asyncio.set_event_loop(None)


def end_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what still runs on it, and close it: the end of ``asyncio.run``."""
    try:
        asyncio.runners._cancel_all_tasks(loop)  # type: ignore[attr-defined]
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


# By its private name, for asking for the public one warns from Python 3.14 on.
_AsyncioPolicy: Any = getattr(unix_events, '_UnixDefaultEventLoopPolicy', None)

_INSTEAD = 'uringloop.run(main()) or asyncio.Runner(loop_factory=uringloop.new_event_loop)'
NO_POLICIES = f'the asyncio of this Python has no event loop policies any more: use {_INSTEAD}'

if _AsyncioPolicy is not None:
    class EventLoopPolicy(_AsyncioPolicy):  # type: ignore[misc]
        """An event loop policy whose loops are on io_uring."""

        def _loop_factory(self) -> asyncio.AbstractEventLoop:
            return new_event_loop()


def install() -> None:
    """Make this loop the one that asyncio makes from now on, in this process.

    That takes an event loop policy, which asyncio deprecates from Python 3.14 on; so this
    warns there.  Where asyncio has none any more it raises ``RuntimeError``.
    """
    if sys.version_info >= (3, 14) and _AsyncioPolicy is not None:
        warnings.warn(f'asyncio deprecates event loop policies, and with them uringloop.install(): '
                      f'use {_INSTEAD}', DeprecationWarning, stacklevel=2)
    install_quietly()


def install_quietly() -> None:
    """The same for ``python -m uringloop run``, whose program is not to blame."""
    if _AsyncioPolicy is None:
        raise RuntimeError(NO_POLICIES)
    if sys.version_info >= (3, 14):
        events._set_event_loop_policy(EventLoopPolicy())
    else:
        asyncio.set_event_loop_policy(EventLoopPolicy())
