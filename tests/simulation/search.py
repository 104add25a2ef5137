"""Runs many seeds in several processes, and makes what fails shorter."""
from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.simulation.kernel import ROOT, compile_kernel, environment
from tests.simulation.programs import program_of

ME = 'tests.simulation.run'
CHUNK = 200              # seeds of one process
SLOWEST = 60.0           # seconds for one seed
TOLD = 5                 # failures that are made shorter


class Outcome:
    """What came of all of them."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self.failed: dict[int, str] = {}


def command(*arguments: object) -> list[str]:
    return [sys.executable, '-m', ME, *map(str, arguments)]


def run_chunk(outcome: Outcome, first: int, end: int, until: float, without: str) -> None:
    """Run these seeds; one that ends its process is a failure, and the rest has another."""
    while first < end and time.monotonic() < until:
        process = subprocess.run(
            command('--range', f'{first}-{end}', '--without', without,
                    '--seconds', until - time.monotonic()),
            env=environment(), cwd=ROOT, check=False, text=True, errors='replace',
            capture_output=True)
        at = first
        for line in process.stdout.splitlines():
            word, _, rest = line.partition(' ')
            if word == 'at':
                at = int(rest)
            elif word == 'failed':
                seed, _, text = rest.partition(' ')
                outcome.failed[int(seed)] = text
            elif word == 'total':
                count, _, name = rest.partition(' ')
                outcome.totals[name] += int(count)
        if process.returncode == 0:
            return
        last = process.stderr.strip().splitlines()[-1:] or ['']
        outcome.failed[at] = f'the process ended with {process.returncode}: {last[0]}'
        outcome.totals['seeds'] += at - first + 1
        first = at + 1


def fails(seed: int, steps: list[int], without: list[str]) -> bool:
    """Whether this part of the program still fails."""
    try:
        process = subprocess.run(
            command('--seed', seed, '--steps', ','.join(map(str, steps)), '--quiet',
                    '--without', ','.join(without)),
            env=environment(), cwd=ROOT, check=False, capture_output=True, timeout=SLOWEST)
    except subprocess.TimeoutExpired:
        return True
    return process.returncode != 0


def shrink(seed: int, faults: list[str]) -> tuple[list[int], list[str]]:
    """Leave out steps, and faults, as long as it fails without them."""
    steps = list(range(len(program_of(seed).steps)))
    without: list[str] = []
    if not fails(seed, steps, without):
        return steps, without        # not by itself
    size = len(steps) // 2
    while size:
        at = 0
        while at < len(steps):
            fewer = steps[:at] + steps[at + size:]
            if fails(seed, fewer, without):
                steps = fewer
            else:
                at += size
        size //= 2
    for fault in faults:
        if fails(seed, steps, [*without, fault]):
            without.append(fault)
    return steps, without


def faults_of(seed: int) -> list[str]:
    """What happens in this seed."""
    process = subprocess.run(command('--seed', seed), env=environment(), cwd=ROOT, check=False,
                             capture_output=True, text=True, errors='replace')
    for line in process.stdout.splitlines():
        if line.startswith('  faults: '):
            return [part.split()[0] for part in line[10:].split(', ') if part]
    return []


def search(arguments: argparse.Namespace) -> int:
    """Run the seeds that are asked for; 1 if any fails."""
    outcome = Outcome()
    compile_kernel()             # before several processes want to
    begin = time.monotonic()
    until = begin + arguments.seconds
    first, end = arguments.first, arguments.first + arguments.seeds
    chunk = max(1, min(CHUNK, -(-arguments.seeds // arguments.jobs)))
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for job in [pool.submit(run_chunk, outcome, at, min(at + chunk, end), until,
                                arguments.without) for at in range(first, end, chunk)]:
            job.result()
    tell(outcome, time.monotonic() - begin)
    for seed in sorted(outcome.failed)[:TOLD]:
        print(f'\nseed {seed} fails: {outcome.failed[seed]}')
        again = ['--seed', str(seed)]
        if not arguments.no_shrink:
            steps, without = shrink(seed, faults_of(seed))
            again += ['--steps', ','.join(map(str, steps))]
            again += ['--without', ','.join(without)] if without else []
        print(f'    python -m {ME} {" ".join(again)}')
    return 1 if outcome.failed else 0


def tell(outcome: Outcome, seconds: float) -> None:
    totals = outcome.totals
    print(f'{totals["seeds"]} seeds in {seconds:.0f} s, {len(outcome.failed)} failed; '
          f'{totals["submitted"]} requests, {totals["completed"]} completions, '
          f'{totals["notified"]} notifications, {totals["datagrams_sent"]} datagrams, '
          f'{totals["bytes_written"] >> 20} MiB of streams, '
          f'{totals["system_calls"]} system calls')
    unused = [name[6:] for name, count in totals.items()
              if name.startswith('fault ') and not count]
    if unused:
        print('faults that never happened:', ', '.join(sorted(unused)))
