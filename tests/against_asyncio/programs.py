"""What a program is: steps, and protocols that do something when they are called.

A program is a list of *turns*; a turn is a list of steps that are taken within one callback,
and it has ended when nobody has anything to do any more.  Numbers choose among what there is by
then: so each part of a program is a program, too, and one that fails can be made shorter.
"""
from __future__ import annotations

from typing import Any, NamedTuple

HUGE = 1_500_000               # more than sockets take while nobody reads
SIZES = (1, 100, 3000, 70_000, HUGE)
SMALL = (1, 100, 3000)


class Step(NamedTuple):
    """A method of the world, and what it is called with."""

    name: str
    arguments: tuple[Any, ...] = ()


class Behaviour(NamedTuple):
    """What a protocol of a stream does when it is called; '' is nothing."""

    made: str = ''
    data: str = ''
    after: int = 1             # bytes: when ``data`` is done, once; 'echo' begins with the first
    eof: str = ''
    keep_open: bool = False    # what eof_received returns
    pause: str = ''            # when it is told to pause writing
    resume: str = ''
    lost: str = ''
    buffered: bool = False     # a BufferedProtocol


class DatagramBehaviour(NamedTuple):
    """The same of an endpoint."""

    datagram: str = ''
    after: int = 1             # when that is done: with which datagram
    error: str = ''
    lost: str = ''


class ProcessBehaviour(NamedTuple):
    """The same of a child process."""

    made: str = ''
    data: str = ''
    after: int = 1             # bytes of all its pipes: when ``data`` is done, once
    pipe_lost: str = ''        # once, too
    exited: str = ''
    lost: str = ''


class Program(NamedTuple):
    turns: tuple[tuple[Step, ...], ...]
    options: tuple[tuple[str, Any], ...] = ()      # of this loop, for asyncio has none
