"""asyncio's stream transport, which takes leases, too."""
from __future__ import annotations

from asyncio import selector_events
from collections.abc import Iterable
from typing import Any

from uringloop.memory.leases import Lease


def is_lent(data: object) -> bool:
    """Whether it is a lease or a view of one, which may have been released."""
    if not isinstance(data, memoryview):
        return isinstance(data, Lease)
    try:
        return isinstance(data.obj, Lease)
    except ValueError:                   # a view that was released itself: asyncio says so
        return False


class CopyingStreamTransport(
        selector_events._SelectorSocketTransport):  # type: ignore[name-defined,misc]
    """asyncio's stream transport, which takes leases, too."""

    def __init__(self, loop: Any, *arguments: Any, **options: Any) -> None:
        self._home = loop                # asyncio forgets it when all is over
        super().__init__(loop, *arguments, **options)

    def write(self, data: bytes | bytearray | memoryview | Lease) -> None:
        """As asyncio's."""
        super().write(self._home._content(data, False) if is_lent(data) else data)

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """As asyncio's."""
        super().writelines([
            self._home._content(data, False) if is_lent(data) else data
            for data in list_of_data])
