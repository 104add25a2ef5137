"""What ``async with`` of a ``RegisteredBuffer`` awaits.

Coroutines of Python's own: one of Cython's (3.3) takes a reference to its type, which it never
gives back.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uringloop.memory.registered import RegisteredBuffer


async def enter(buffer: RegisteredBuffer) -> RegisteredBuffer:
    return buffer


async def leave(buffer: RegisteredBuffer) -> None:
    await buffer.close()
