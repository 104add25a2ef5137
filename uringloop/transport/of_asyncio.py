"""asyncio's own transports, of sockets that are no plain ones and of child processes.

What others have deferred leaves before one of them sends, be it a signal.
"""
from __future__ import annotations

from asyncio import selector_events, unix_events
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def chosen(ours: type) -> Any:
    """This class; or the one that a program has put in the place of asyncio's."""
    name = ours.__name__
    module: Any = unix_events if hasattr(unix_events, name) else selector_events
    theirs = getattr(module, name)
    # (If it was put there before this was imported, ours is made of it.)
    return ours if theirs is ours.__base__ else theirs


def send_deferred(transport: Any) -> None:
    """What others have deferred leaves before this one sends."""
    if transport._loop is not None:      # asyncio forgets it when all is over: nothing is sent then
        transport._loop._send_deferred()


# Their names are asyncio's, for a program may look at them.
class _SelectorDatagramTransport(
        selector_events._SelectorDatagramTransport):  # type: ignore[name-defined, misc]
    def sendto(self, data: ReadableBuffer, addr: Any = None) -> None:
        send_deferred(self)
        super().sendto(data, addr)


class _SelectorSocketTransport(
        selector_events._SelectorSocketTransport):  # type: ignore[name-defined, misc]
    def write(self, data: ReadableBuffer) -> None:
        send_deferred(self)
        super().write(data)

    def writelines(self, list_of_data: Iterable[ReadableBuffer]) -> None:
        send_deferred(self)
        super().writelines(list_of_data)

    def write_eof(self) -> None:
        send_deferred(self)
        super().write_eof()


class _UnixSubprocessTransport(
        unix_events._UnixSubprocessTransport):  # type: ignore[name-defined, misc]
    def send_signal(self, signal: int) -> None:
        send_deferred(self)
        super().send_signal(signal)

    def terminate(self) -> None:
        send_deferred(self)
        super().terminate()

    def kill(self) -> None:
        send_deferred(self)
        super().kill()
