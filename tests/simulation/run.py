"""Runs programs made from seeds on the simulated kernel.

    python -m tests.simulation.run --seeds 2000
    python -m tests.simulation.run --seed 17 --journal

A seed that fails is told with the command that runs it again; that makes it shorter, too.
"""
from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

from tests.simulation.kernel import Kernel, is_simulated, run_simulated
from tests.simulation.programs import Program, program_of

ME = 'tests.simulation.run'
NOT_SIMULATED = 77       # the loop has not asked this kernel for its ring


def warm_up(kernel: Kernel) -> None:
    """What a process asks the kernel once it asks now, when nothing fails."""
    play(kernel, Program(0, {}, False, []), {'all'})
    if not kernel.counts['rings']:
        print('this build has liburing inside (URINGLOOP_STATIC): it cannot be simulated',
              file=sys.stderr)
        os._exit(NOT_SIMULATED)


def play(kernel: Kernel, program: Program, without: set[str]) -> list[str]:
    """What is wrong with a program."""
    from tests.simulation.play import Play

    kernel.begin(program.seed, without)
    return Play(kernel, program).run()


def selected(arguments: argparse.Namespace, seed: int) -> Program:
    program = program_of(seed)
    if arguments.steps is None:
        return program
    kept = [int(number) for number in arguments.steps.split(',') if number]
    return program._replace(steps=[program.steps[number] for number in kept])


def one(arguments: argparse.Namespace) -> int:
    """Run one seed, or a part of it, and tell everything."""
    kernel = Kernel()
    warm_up(kernel)
    without = set(filter(None, arguments.without.split(',')))
    program = selected(arguments, arguments.seed)
    problems = play(kernel, program, without)
    if arguments.journal:
        print(kernel.journal)
    if not arguments.quiet:
        print(f'seed {arguments.seed}: {program.options}'
              f'{", closed abruptly" if program.abrupt else ""}')
        for i, step in enumerate(program.steps):
            print(f'  {i:3} {step.name} {" ".join(map(str, step.numbers))}')
        print('  faults:', ', '.join(f'{name} {kernel.hits[name]}' for name, level
                                     in kernel.levels.items() if level and kernel.hits[name]))
        print(f'  journal: {kernel.hash:016x}')
    for problem in problems:
        print('!!', problem)
    kernel.end()
    sys.stdout.flush()
    os._exit(1 if problems else 0)


def scenario(name: str) -> None:
    """Run what was found once; see ``scenarios``."""
    from tests.simulation.scenarios import run_scenario

    kernel = Kernel()
    warm_up(kernel)
    kernel.end()
    problems = run_scenario(kernel, name)
    for problem in problems:
        print('!!', problem)
    sys.stdout.flush()
    os._exit(1 if problems else 0)


def many(arguments: argparse.Namespace) -> None:
    """Run seeds one after another, and tell each that fails by a line ``failed SEED``."""
    kernel = Kernel()
    warm_up(kernel)
    kernel.end()
    totals: Counter[str] = Counter()
    first, end = (int(part) for part in arguments.range.split('-'))
    without = set(filter(None, arguments.without.split(',')))
    until = time.time() + arguments.seconds
    for seed in range(first, end):
        print(f'at {seed}', flush=True)
        problems = play(kernel, program_of(seed), without)
        if arguments.journal:
            print(f'hash {seed} {kernel.hash:016x}', flush=True)
        totals.update(kernel.counts)
        totals.update({f'fault {name}': count for name, count in kernel.hits.items()})
        totals['seeds'] += 1
        kernel.end()
        if problems:
            print(f'failed {seed} {problems[0].splitlines()[-1]}', flush=True)
        if time.time() > until:
            break
    for name, count in totals.items():
        print(f'total {count} {name}')
    sys.stdout.flush()
    os._exit(0)                  # what a failed seed has left is not to be looked at


def main() -> int:
    parser = argparse.ArgumentParser(prog=f'python -m {ME}', description=__doc__.splitlines()[0])
    parser.add_argument('--seeds', type=int, default=1000, help='how many')
    parser.add_argument('--first', type=int, default=1, help='the first of them')
    parser.add_argument('--seconds', type=float, default=1e9, help='no longer than that')
    parser.add_argument('--jobs', type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument('--seed', type=int, help='this one, and tell everything')
    parser.add_argument('--steps', help='with --seed: these of its steps only')
    parser.add_argument('--without', default='', help='faults that are not to happen, or all')
    parser.add_argument('--journal', action='store_true', help='with --seed: what the kernel did')
    parser.add_argument('--quiet', action='store_true', help=argparse.SUPPRESS)
    parser.add_argument('--range', help=argparse.SUPPRESS)
    parser.add_argument('--scenario', help=argparse.SUPPRESS)
    parser.add_argument('--no-shrink', action='store_true', help='do not make failures shorter')
    arguments = parser.parse_args()
    if is_simulated():
        if arguments.scenario:
            scenario(arguments.scenario)
        if arguments.range:
            many(arguments)
        return one(arguments)
    if arguments.seed is not None or arguments.scenario:
        return run_simulated(ME, *sys.argv[1:]).returncode
    from tests.simulation.search import search

    return search(arguments)


if __name__ == '__main__':
    sys.exit(main())
