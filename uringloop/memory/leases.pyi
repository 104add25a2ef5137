"""Buffer pools and their leases."""
import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, final, overload

from _typeshed import ReadableBuffer
from typing_extensions import Self

from uringloop.core.lender import Lender

class PoolCore:
    """A pool but for waiting."""

    def __init__(
            self, loop: Lender, count: int, size: int, hugepages: bool = False) -> None: ...
    @property
    def count(self) -> int:
        """How many buffers it has."""
    @property
    def size(self) -> int:
        """Bytes of each."""
    @property
    def free(self) -> int:
        """Buffers that can be had now."""
    @property
    def held(self) -> int:
        """Buffers whose leases are released, but which the kernel or a view still has."""
    @property
    def registered(self) -> bool:
        """Whether the kernel has the memory registered; if not, it is sent as any other."""
    @property
    def hugepages(self) -> bool:
        """Whether it lies on huge pages, in part at least."""
    @property
    def closed(self) -> bool: ...
    @property
    def _loop(self) -> Lender: ...
    @property
    def _error(self) -> int: ...
    def acquire(self) -> Coroutine[Any, Any, Lease]:
        """Borrow a buffer: a coroutine that waits, in order, until there is one."""
    def acquire_nowait(self) -> Lease:
        """A lease; BufferError if all are out, or others wait for one."""
    def close(self) -> asyncio.Future[None]:
        """Give out no more leases; returns a future that is done when the last is back.

        Leases that are out stay valid.  Whoever waits for one gets RuntimeError.
        """
    def _acquire_many_now(self, count: int) -> list[Lease] | None: ...
    def _wait(self, count: int) -> asyncio.Future[list[Lease]]: ...
    def _wait_no_longer(self, future: asyncio.Future[list[Lease]]) -> None: ...

@final
class Lease:
    """A buffer of a pool, until it is released.  It has the buffer protocol, and is writable.

    A slice of it is a ``memoryview``.  It can be sent, whole or in slices, several
    times, and be released at once: the buffer is free again when the kernel has let go
    of it too.
    """

    @property
    def released(self) -> bool: ...
    def release(self) -> None:
        """Give the buffer back; ValueError if that was done already."""
    def __enter__(self) -> Self: ...
    def __exit__(
            self, kind: type[BaseException] | None = None, error: BaseException | None = None,
            traceback: TracebackType | None = None) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int, /) -> int: ...
    @overload
    def __getitem__(self, index: slice, /) -> memoryview: ...
    @overload
    def __setitem__(self, index: int, value: int, /) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: ReadableBuffer, /) -> None: ...
