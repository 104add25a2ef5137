"""The command ``bench everyday``."""
from __future__ import annotations

from uringloop.cli.bench.everyday import measure, rows
from uringloop.cli.bench.suite import Suite
from uringloop.cli.bench.work import WorkLook

_BENCH = 'python -m uringloop bench everyday'
SUITE = Suite(
    'everyday', 'measure what programs do besides datagrams, next to other loops', f'''\
Does what programs do every day, on this loop and on every other one that is
installed (pip install uvloop rloop): connections, TLS, pipes, processes,
threads, callbacks, tasks, timers, and starting. Shows how much of it a loop
gets done in a second, and the processor time that each takes. Each measurement
is a new process on one processor; a load of its own, in C, has another. All
rows take ten minutes.

What is sent is compared with what arrives. If that differs the row says so,
and the command fails; it fails too where this loop, or one that --against
names, has no figure. One round says little: ratios take some.

Rows of servers take gcc, those of TLS openssl.

examples:
  {_BENCH}
  {_BENCH} --rows threads,pipes --against uvloop
  {_BENCH} --rows tls-64k --seconds 2 --rounds 3
  {_BENCH} --json figures.json --plot figures.svg
''', rows.groups, measure.run, WorkLook(
        'everyday', heading='Benchmarks of what programs do every day',
        picture='What programs do every day, by uringloop and by other loops',
        unit='figure', legend=(
            'What a figure counts stands in the title of its row; a megabyte is a million bytes. '
            'What is sent is compared with what arrives.')))
