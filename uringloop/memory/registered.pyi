"""A program's own memory, registered with the ring: made by ``loop.register_buffer``."""
import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, final

from _typeshed import WriteableBuffer
from typing_extensions import Self

from uringloop.core.lender import Lender

@final
class RegisteredBuffer:
    """Memory of the program that the kernel has registered.

    The buffer is exported until ``close``: a ``bytearray`` cannot be resized meanwhile.
    Whatever lies inside it and is sent by a ``*_zerocopy`` call goes from registered memory.

    Keep it to close it: the loop holds it until then, or until its own end, so one that is
    dropped leaves the memory exported and its pages pinned.
    """

    def __init__(self, loop: Lender, obj: WriteableBuffer) -> None: ...
    @property
    def nbytes(self) -> int: ...
    def close(self) -> asyncio.Future[None]:
        """Unregister the memory; returns a future, done when no send uses it any more.

        The export is given up then.  Sends that begin from now on go from ordinary memory.
        """
    def __aenter__(self) -> Coroutine[Any, Any, Self]: ...
    def __aexit__(
            self, kind: type[BaseException] | None = None, error: BaseException | None = None,
            traceback: TracebackType | None = None) -> Coroutine[Any, Any, None]: ...
    def __len__(self) -> int: ...
