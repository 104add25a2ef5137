"""A mix of everything for a long time: does anything grow, and is the loop idle afterwards?

    python benchmarks/soak.py --minutes 10

Datagrams (single, in bulk, zero-copy, many by one call, in trains, with metadata, refused), pools
and their leases, registered memory, streams (TCP, AF_UNIX, TLS; short connections and bulk), sock_*
calls, threads, timers, cancellations and child processes, all in one loop over loopback.  Every
30 seconds, and at the end: memory, descriptors, what the loop counts, and how late a timer of
10 ms was at most.  Then it is idle for 5 seconds, and what that costs is told.  Fails if anything
has grown, or an idle loop is not idle.  What was seen each second is drawn, as build/soak.svg.
"""
from __future__ import annotations

import argparse
import asyncio
import gc
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from soak_picture import Sample, write
from soak_works import all_works

import uringloop

GROWTH = 16 << 20      # bytes, after the first report
EVERY = 30.0           # seconds between reports
PICTURE = Path(__file__).resolve().parent.parent / 'build' / 'soak.svg'


def name_of(work: Callable[[], Awaitable[None]]) -> str:
    return getattr(work, 'func', work).__name__


class Report:
    """What may not grow."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.start = time.monotonic()
        self.done: Counter[str] = Counter()
        self.samples: list[Sample] = []
        self.told = 0                  # samples so far when it was last told
        self.first: Sample | None = None
        self.latest = 0.0
        self.pinned = 0

    async def watch_timers(self) -> None:
        while True:
            due = self.loop.time() + 0.01
            await asyncio.sleep(0.01)
            self.latest = max(self.latest, self.loop.time() - due)
            self.pinned = max(self.pinned, self.loop.stats().bytes_pinned)

    async def take_samples(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.take_sample()

    def take_sample(self) -> None:
        with open('/proc/self/statm') as statm:
            memory = int(statm.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
        self.samples.append(Sample(
            time.monotonic() - self.start, memory, len(os.listdir('/proc/self/fd')),
            self.pinned, self.latest))
        self.latest, self.pinned = 0.0, 0

    def line(self) -> None:
        self.take_sample()
        stats, last = self.loop.stats(), self.samples[-1]
        late = max(sample.late for sample in self.samples[self.told:])
        pinned = max(sample.pinned for sample in self.samples[self.told:])
        self.told = len(self.samples)
        print(f'{last.second:6.0f} s  {last.memory >> 20:4} MiB  {last.descriptors:4} '
              f'descriptors  {stats.operations_live:4} operations  {pinned:8} bytes pinned at most'
              f'  {stats.datagrams_sent:10} datagrams  timers late by {late * 1000:.0f} ms at most',
              flush=True)
        if self.first is None:
            self.first = last
        assert last.memory < self.first.memory + GROWTH, 'memory grows'
        assert stats.unknown_completions == 0

    def end(self) -> None:
        """After all of it: what has been done, and what of it is left."""
        print('done: ' + ', '.join(f'{name} {count}' for name, count in self.done.items()))
        stats = self.loop.stats()
        assert stats.bytes_pinned == 0, stats
        assert stats.pool_leases == 0, stats


async def again_and_again(work: Callable[[], Awaitable[None]], report: Report, end: float) -> None:
    while time.monotonic() < end:
        await work()
        report.done[name_of(work)] += 1
        await asyncio.sleep(0.001)


async def idle(loop) -> None:
    entered, used = loop.stats().syscalls, time.process_time()
    await asyncio.sleep(5)
    entered, used = loop.stats().syscalls - entered, time.process_time() - used
    print(f'idle for 5 s: {used:.3f} s of the processor, {entered} system calls')
    assert used < 0.1 and entered < 50, 'an idle loop is not idle'


async def main(minutes: float, picture: Path) -> None:
    report = Report()
    watching = [asyncio.ensure_future(report.watch_timers()),
                asyncio.ensure_future(report.take_samples())]
    end = time.monotonic() + minutes * 60
    try:
        with all_works() as some:
            works = [asyncio.ensure_future(again_and_again(work, report, end)) for work in some]
            while time.monotonic() < end:
                done, _ = await asyncio.wait(
                    works, timeout=min(EVERY, max(end - time.monotonic(), 0)),
                    return_when=asyncio.FIRST_EXCEPTION)
                for work in done:
                    work.result()
                report.line()
            await asyncio.gather(*works)
        for task in watching:
            task.cancel()
        gc.collect()
        await asyncio.sleep(0.5)
        report.line()
        report.end()
    finally:
        if report.samples:
            write(picture, report.samples, f'uringloop {uringloop.__version__}, CPython '
                  f'{platform.python_version()}, Linux {platform.release()}')
            print(f'drawn: {os.path.relpath(picture)}')
    await idle(asyncio.get_running_loop())


if __name__ == '__main__':
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=1)
    parser.add_argument('--picture', type=Path, default=PICTURE, help='where to draw it')
    options = parser.parse_args()
    loop = uringloop.new_event_loop(require_uring=True)
    try:
        loop.run_until_complete(main(options.minutes, options.picture))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    stats = loop.stats()
    assert stats.operations_live == stats.bytes_pinned == 0, stats
    print('flat')
    sys.exit(0)
