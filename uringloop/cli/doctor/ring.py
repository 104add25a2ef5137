"""Whether io_uring can be had, and what a ring is like: tried in a child.

A seccomp filter may kill whoever calls what it forbids, so this process does not call it.
"""
from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from typing import Any

from uringloop import UringUnavailableError
from uringloop.ring.probe import RingFacts, probe_ring


@dataclass(frozen=True)
class Ring:
    """Either a ring, or why there is none."""

    facts: RingFacts | None
    errno: int | None = None
    reason: str = ''


def ring() -> Ring:
    """Make one as a loop does."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with os.fdopen(writing, 'w') as file:
                json.dump(_asked(), file)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        answer = file.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return Ring(None, None, 'io_uring is not available: a process that asks for it is killed '
                                f'({signal.Signals(os.WTERMSIG(status)).name}), as seccomp filters '
                                'do')
    facts, errno, reason = json.loads(answer)
    return Ring(RingFacts(*facts) if facts else None, errno, reason)


def _asked() -> tuple[Any, ...]:
    try:
        return probe_ring(), None, ''
    except UringUnavailableError as error:
        return None, error.errno, error.strerror
    except OSError as error:
        return None, error.errno, str(error)
