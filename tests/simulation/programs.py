"""Programs made from a seed: options of the loop, and a list of steps.

A step is a name and numbers.  Numbers choose among what there is by then: so any part of a
program is a program, too, and one that fails can be made shorter.
"""
from __future__ import annotations

import random
from typing import NamedTuple

SIZES = (12, 64, 700, 1200, 1200, 1200, 9000, 16384, 20000, 60000)
# Name, and how often it is chosen in a program that has it at all.
STEPS = {
    'endpoint': 6, 'peer': 2, 'send': 14, 'send_zerocopy': 12, 'send_many': 6,
    'send_many_zerocopy': 5, 'send_train': 6, 'slices': 6, 'peer_sends': 5, 'peer_reads': 3,
    'react': 6, 'pause': 4, 'resume': 4, 'limits': 2, 'close': 3, 'abort': 2,
    'server': 2, 'connect': 6, 'write': 14, 'write_lines': 4, 'write_eof': 2,
    'pool': 3, 'lease': 8, 'release': 4, 'close_pool': 1, 'acquire': 3,
    'register': 3, 'unregister': 2, 'send_registered': 5,
    'sock_pair': 2, 'sock_send': 6, 'sock_send_zerocopy': 6, 'sock_train': 3, 'sock_receive': 6,
    'sock_connect': 3, 'sock_send_all': 4, 'sock_close': 2,
    'cancel': 5, 'cancel_future': 3,
    'sleep': 10, 'turns': 10, 'later': 4, 'stop': 2, 'move': 1, 'thread': 3, 'reader': 2,
    'pipe': 1, 'collect': 2,
}
# Without these nothing happens.
ALWAYS = ('endpoint', 'send', 'send_zerocopy', 'sleep', 'turns')


class Step(NamedTuple):
    name: str
    numbers: tuple[int, ...]


class Program(NamedTuple):
    seed: int
    options: dict[str, object]
    abrupt: bool               # the loop is closed with all of it going on
    steps: list[Step]


def program_of(seed: int) -> Program:
    """The program of this seed."""
    chance = random.Random(seed)
    options: dict[str, object] = {
        'entries': chance.choice((2, 4, 16, 256)),
        'busy_poll': chance.choice((0, 50)),
        'batch': chance.choice((True, True, False)),
        'gro': chance.choice((True, True, False)),
    }
    # Each program has a part of the steps only: so each is with few others at times.
    share = chance.choice((0.3, 0.6, 1.0))
    names = [name for name in STEPS if name in ALWAYS or chance.random() < share]
    weights = [STEPS[name] for name in names]
    count = chance.choice((10, 25, 25, 60))
    steps = [Step('endpoint', numbers(chance)), Step('endpoint', numbers(chance))]
    steps += [Step(name, numbers(chance)) for name in chance.choices(names, weights, k=count)]
    return Program(seed, options, chance.random() < 0.2, steps)


def numbers(chance: random.Random) -> tuple[int, ...]:
    return tuple(chance.randrange(1 << 16) for _ in range(5))
