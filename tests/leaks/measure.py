"""What is left in the process: blocks, bytes of the heap, references."""
from __future__ import annotations

import ctypes
import gc
import os
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

ROUNDS = 3


class _Mallinfo(ctypes.Structure):
    """``struct mallinfo2`` of malloc.h."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        'arena', 'ordblks', 'smblks', 'hblks', 'hblkhd', 'usmblks', 'fsmblks', 'uordblks',
        'fordblks', 'keepcost')]


def _heap_asker() -> Callable[[], _Mallinfo] | None:
    try:
        ask = ctypes.CDLL(None).mallinfo2       # glibc 2.33
    except AttributeError:
        return None
    ask.restype = _Mallinfo
    return ask


_ask_heap = _heap_asker()
# Neither the sanitizers' allocator nor PYTHONMALLOC=malloc has blocks to count.
COUNTS_BLOCKS = sys.getallocatedblocks() > 0


class Held(NamedTuple):
    """What the process has, or what it has more than before."""

    blocks: int            # of Python's allocator: objects up to 512 bytes
    heap: int              # bytes of the C library's: all else
    references: int        # of all objects, where a debug build of Python counts them

    def __sub__(self, before: Held) -> Held:
        return Held(*(now - then for now, then in zip(self, before, strict=True)))


def held() -> Held:
    gc.collect()
    info = _ask_heap() if _ask_heap is not None else _Mallinfo()
    count = getattr(sys, 'gettotalrefcount', lambda: 0)
    return Held(sys.getallocatedblocks(), info.uordblks + info.hblkhd, count())


def resident() -> int:
    """Bytes of memory that the process has."""
    with open('/proc/self/statm') as statm:
        return int(statm.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')


class Growth(NamedTuple):
    sends: int             # of a round
    left: Held             # in that of all rounds in which least was
    resident: int
    seconds: float


def growth(sends_of: Callable[[int], object], count: int, warm_up: int) -> Growth:
    """What ``count`` sends leave behind, at least: what caches keep they keep once."""
    sends_of(warm_up)
    memory, begin = resident(), time.monotonic()
    left = []
    for _ in range(ROUNDS):
        before = held()
        sends_of(count)
        left.append(held() - before)
    least = Held(*map(min, zip(*left, strict=True)))
    return Growth(count, least, resident() - memory, time.monotonic() - begin)
