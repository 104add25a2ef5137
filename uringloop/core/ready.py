"""The ready queue as those see it who look into asyncio's: ``loop._ready``.

asyncio's is a deque of handles.  Tests spin the loop until it is empty, and debuggers list it.
"""
from __future__ import annotations

from asyncio import Handle
from collections import deque
from collections.abc import Iterable, Iterator, MutableSequence
from typing import Any, Protocol


class _Core(Protocol):
    def _count_ready(self) -> int: ...
    def _list_ready(self) -> list[Handle]: ...
    def _splice_ready(
            self, start: int, stop: int, handles: Iterable[Handle]) -> list[Handle]: ...


class ReadyQueue(MutableSequence[Handle]):
    """What is ready in a loop, with a deque's methods; what changes it changes the loop's.

    A transport that has something to deliver is shown as a handle, made when it is looked at.
    """

    maxlen = None

    def __init__(self, core: _Core) -> None:
        self._core = core

    def __len__(self) -> int:
        return self._core._count_ready()

    def __iter__(self) -> Iterator[Handle]:
        return iter(self._core._list_ready())

    def __getitem__(self, index: Any) -> Any:
        return self._core._list_ready()[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        place = self._place(index)
        self._core._splice_ready(place, place + 1, [value])

    def __delitem__(self, index: Any) -> None:
        place = self._place(index)
        self._core._splice_ready(place, place + 1, [])

    def __repr__(self) -> str:
        return f'deque({self._core._list_ready()!r})'

    def _place(self, index: int) -> int:
        return range(len(self))[index]

    def insert(self, index: int, value: Handle) -> None:
        """Insert before ``index``."""
        self._core._splice_ready(index, index, [value])

    def append(self, value: Handle) -> None:
        """Have ``value`` run after all others."""
        self.insert(len(self), value)

    def appendleft(self, value: Handle) -> None:
        """Have ``value`` run next."""
        self.insert(0, value)

    def pop(self, index: int = -1) -> Handle:
        """Remove one, the last, and return it."""
        place = self._place(index)
        return self._core._splice_ready(place, place + 1, [])[0]

    def popleft(self) -> Handle:
        """Remove the first and return it."""
        return self.pop(0)

    def extendleft(self, values: Iterable[Handle]) -> None:
        """Have ``values`` run next, the last first."""
        for value in values:
            self.appendleft(value)

    def rotate(self, n: int = 1) -> None:
        """Have the last ``n`` run first; for a negative one, the first last."""
        handles = deque(self)
        handles.rotate(n)
        self._core._splice_ready(0, len(self), handles)

    def copy(self) -> deque[Handle]:
        """The handles, in a deque of their own."""
        return deque(self)

    def clear(self) -> None:
        """Drop all."""
        self._core._splice_ready(0, len(self), [])
