"""Runs seeds of what programs and networks get wrong, and tells what came otherwise.

    python -m tests.fuzz.run --seeds 100 --datagrams 1000000
    python -m tests.fuzz.run --seed 17 addresses

As root: it makes a network namespace, in which no name is looked up.
"""
from __future__ import annotations

import argparse
import sys
import time
import warnings

from tests.fuzz import seeds

WHAT = ('addresses', 'messages', 'finalizers', 'datagrams')
TOLD = 10                 # findings that are told in full
EVERY = 30.0              # seconds between lines


class Progress:
    """A line from time to time."""

    def __init__(self) -> None:
        self.begin = self.last = time.monotonic()

    def tell(self, text: str, *, now: bool = False) -> None:
        at = time.monotonic()
        if now or at - self.last >= EVERY:
            self.last = at
            print(f'{at - self.begin:6.0f} s  {text}', flush=True)


def run_seed(what: str, seed: int, found: list[str]) -> None:
    try:
        problems = getattr(seeds, f'try_{what}')(seed)
    except AssertionError as exc:
        problems = [f'left behind: {exc}']
    found += [f'{what}, seed {seed}: {problem}' for problem in problems]


def run_seeds(arguments: argparse.Namespace, progress: Progress) -> list[str]:
    found: list[str] = []
    chosen = [arguments.seed] if arguments.seed is not None else range(
        arguments.first, arguments.first + arguments.seeds)
    for what in WHAT[:3]:
        if what not in arguments.what:
            continue
        for number, seed in enumerate(chosen, 1):
            run_seed(what, seed, found)
            progress.tell(f'{what}: {number} of {len(chosen)} seeds, {len(found)} findings',
                          now=number == len(chosen))
    return found


def run_datagrams(arguments: argparse.Namespace, progress: Progress) -> list[str]:
    found: list[str] = []
    came = endpoints = 0
    if arguments.seed is not None:
        some = [(arguments.seed, 5000)]
    else:
        some = seeds.counts_of(arguments.first, arguments.datagrams)
    for seed, count in some:
        problems, more = seeds.try_datagrams(seed, count)
        found += [f'datagrams, seed {seed}: {problem}' for problem in problems]
        came, endpoints = came + more, endpoints + 1
        progress.tell(f'datagrams: {came} at {endpoints} endpoints, {len(found)} findings')
    progress.tell(f'datagrams: {came} at {endpoints} endpoints, {len(found)} findings', now=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        prog='python -m tests.fuzz.run', description=__doc__.splitlines()[0])
    parser.add_argument('what', nargs='*', metavar='what', default=WHAT,
                        help='only these, of ' + ', '.join(WHAT))
    parser.add_argument('--seeds', type=int, default=20, help='of each but datagrams')
    parser.add_argument('--first', type=int, default=1, help='the first of them')
    parser.add_argument('--seed', type=int, help='this one only')
    parser.add_argument('--datagrams', type=int, default=200_000, help='to be received')
    arguments = parser.parse_args()
    unknown = set(arguments.what) - set(WHAT)
    if unknown:
        parser.error(f'there is no {", ".join(sorted(unknown))}')
    if not seeds.may_isolate():
        print('fuzz: takes root, for a network namespace in which no name is looked up',
              file=sys.stderr)
        return 2
    # Such names are what this is about.
    warnings.simplefilter('ignore', RuntimeWarning)
    progress = Progress()
    with seeds.isolated():
        found = run_seeds(arguments, progress)
        if 'datagrams' in arguments.what:
            found += run_datagrams(arguments, progress)
    for problem in found[:TOLD]:
        print('!!', problem)
    if found:
        print(f'{len(found)} findings; again by: python -m tests.fuzz.run --seed SEED WHAT')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
