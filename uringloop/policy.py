"""How a program gets this loop: ``new_event_loop``, ``run``, ``install``, ``EventLoopPolicy``."""
from __future__ import annotations

import asyncio
import errno
import os
import sys
import warnings
from collections.abc import Coroutine
from typing import Any, TypeVar

from uringloop._uring import UringUnavailableError, try_ring
from uringloop.loop import Loop, check_options

T = TypeVar('T')

# Whether a ring could be made in this process, and whether that was complained about.
_available = False
_warned = False

_CAUSES = {
    errno.EPERM: (
        'a seccomp filter (a container?) or the sysctl kernel.io_uring_disabled forbids it',
        'allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile, '
        'or set kernel.io_uring_disabled=0'),
    errno.EACCES: (
        'a security policy forbids it',
        'allow io_uring_setup, io_uring_enter and io_uring_register in that policy'),
    errno.ENOSYS: (
        'the kernel was built without io_uring, or a seccomp filter hides it',
        'use Linux 6.1 or newer with CONFIG_IO_URING, or allow it in the seccomp profile'),
    errno.EINVAL: (
        'the kernel is older than 6.1 and lacks SINGLE_ISSUER or DEFER_TASKRUN',
        'use Linux 6.1 or newer'),
    errno.ENOMEM: (
        'locked memory of this user is used up',
        'raise the limit (ulimit -l) or close other rings'),
    errno.EMFILE: ('this process has no descriptor left', 'raise the limit (ulimit -n)'),
    errno.ENFILE: ('the system has no descriptor left', 'raise fs.file-max'),
}


def _explain(error: OSError) -> str:
    cause, cure = _CAUSES.get(error.errno or 0, ('the kernel refused it', 'see io_uring_setup(2)'))
    name = errno.errorcode.get(error.errno or 0, str(error.errno))
    return (f'io_uring is not available ({name}: {os.strerror(error.errno or 0)}): '
            f'{cause}; {cure}')


def new_event_loop(
        *, require_uring: bool = False, entries: int = 256, busy_poll: float = 50,
        batch: bool | None = None) -> asyncio.AbstractEventLoop:
    """Make an event loop on io_uring.

    ``entries`` is the size of its submission queue, 1 to 32768, rounded up
    to a power of two; the completion queue has sixteen times as many.

    ``busy_poll`` is how many microseconds, up to 1000, the loop may look for
    something to do before it lets the processor sleep.  It does so only while
    that keeps succeeding: an answer that is awaited then finds it awake.  0
    switches it off.  (The same bargain as net.core.busy_poll, sysctl documentation
    of Linux; 50 is the value recommended there.)

    ``batch=False``, or URINGLOOP_BATCH=0 in the environment, has every datagram and
    every piece of a stream leave at the call, also in bulk: none then waits for the end
    of its turn to leave with its neighbours.

    Where io_uring cannot be had, warns once (``RuntimeWarning``) and returns
    asyncio's own loop; with ``require_uring=True``, or URINGLOOP_REQUIRE=1 in
    the environment, raises ``UringUnavailableError``.
    """
    global _available, _warned
    check_options(entries, busy_poll)
    if not _available:
        try:
            try_ring()
        except UringUnavailableError as error:
            explanation = _explain(error)
            if require_uring or os.environ.get('URINGLOOP_REQUIRE') == '1':
                raise UringUnavailableError(error.errno, explanation) from None
            if not _warned:
                _warned = True
                warnings.warn(f"{explanation}. Using asyncio's own loop.",
                              RuntimeWarning, stacklevel=2)
            return asyncio.SelectorEventLoop()
        _available = True
    return Loop(entries=entries, busy_poll=busy_poll, batch=batch)


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """As ``asyncio.run``, on this loop."""
    if asyncio._get_running_loop() is not None:
        raise RuntimeError('uringloop.run() cannot be called from a running event loop')
    if sys.version_info >= (3, 11):
        with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
            return runner.run(main)
    return _run_310(main, debug)


def _run_310(main: Coroutine[Any, Any, T], debug: bool | None) -> T:
    # asyncio.run of 3.10 takes its loop from the policy only.
    if not asyncio.iscoroutine(main):
        raise ValueError(f'a coroutine was expected, got {main!r}')
    loop = new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        if debug is not None:
            loop.set_debug(debug)
        return loop.run_until_complete(main)
    finally:
        try:
            asyncio.runners._cancel_all_tasks(loop)  # type: ignore[attr-defined]
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def install() -> None:
    """Make this loop the one that asyncio makes from now on, in this process."""
    asyncio.set_event_loop_policy(__getattr__('EventLoopPolicy')())


def __getattr__(name: str) -> Any:
    # Made when asked for: policies are deprecated from Python 3.14 on, and
    # naming asyncio's at import time would warn everyone.
    if name != 'EventLoopPolicy':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

    class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
        """An event loop policy whose loops are on io_uring."""

        def _loop_factory(self) -> asyncio.AbstractEventLoop:
            return new_event_loop()

    EventLoopPolicy.__qualname__ = 'EventLoopPolicy'
    globals()['EventLoopPolicy'] = EventLoopPolicy
    return EventLoopPolicy
