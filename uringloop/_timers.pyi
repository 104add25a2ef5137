"""The timers of a loop: a heap, ordered by time and then by age."""
import asyncio

class Timers:
    """A binary heap of handles, asyncio's own too; each is referred to strongly."""

def due(handle: asyncio.TimerHandle) -> float: ...
