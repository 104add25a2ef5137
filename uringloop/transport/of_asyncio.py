"""asyncio's own transports, of sockets that are no plain ones and of child processes.

What others have deferred leaves before one of them sends, be it a signal.
"""
from __future__ import annotations

import sys
from asyncio import selector_events, unix_events
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from uringloop.core.loop_core import LoopCore


def chosen(ours: type) -> Any:
    """This class; or the one that a program has put in the place of asyncio's."""
    base = ours.__mro__[1]
    theirs = getattr(sys.modules[base.__module__], base.__name__)
    return ours if theirs is base else theirs


# Their names are asyncio's, for a program may look at them.
class _SelectorDatagramTransport(
        selector_events._SelectorDatagramTransport):  # type: ignore[name-defined, misc]
    _loop: LoopCore

    def sendto(self, data: ReadableBuffer, addr: Any = None) -> None:
        self._loop._send_deferred()
        super().sendto(data, addr)


class _SelectorSocketTransport(
        selector_events._SelectorSocketTransport):  # type: ignore[name-defined, misc]
    _loop: LoopCore

    def write(self, data: ReadableBuffer) -> None:
        self._loop._send_deferred()
        super().write(data)

    def writelines(self, list_of_data: Iterable[ReadableBuffer]) -> None:
        self._loop._send_deferred()
        super().writelines(list_of_data)

    def write_eof(self) -> None:
        self._loop._send_deferred()
        super().write_eof()


class _UnixSubprocessTransport(
        unix_events._UnixSubprocessTransport):  # type: ignore[name-defined, misc]
    _loop: LoopCore

    def send_signal(self, signal: int) -> None:
        self._loop._send_deferred()
        super().send_signal(signal)

    def terminate(self) -> None:
        self._loop._send_deferred()
        super().terminate()

    def kill(self) -> None:
        self._loop._send_deferred()
        super().kill()
