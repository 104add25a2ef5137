"""The command ``bench datagrams``."""
from __future__ import annotations

from uringloop.cli.bench.datagrams import measure, rows
from uringloop.cli.bench.suite import Suite
from uringloop.cli.bench.work import WorkLook

_BENCH = 'python -m uringloop bench datagrams'
SUITE = Suite(
    'datagrams', 'measure answering and receiving datagrams, next to C and to other loops', f'''\
Sends datagrams over loopback to an echo server, and to one that only receives:
in C, on this loop, and on every other loop that is installed (pip install
uvloop rloop). The server has one processor, its load, in C, another. Shows how
many a second there are, and the processor time that the server takes for each.
All rows take three minutes.

An answer must be what was sent. What the load says that it has sent is compared
with what the server has counted and with what the kernel has dropped for want
of room, which is shown as lost. If that differs the row says so, and the
command fails.

It takes gcc. As root, sockets hold more, and less is lost.

examples:
  {_BENCH}
  {_BENCH} --rows echo --seconds 2 --against uvloop
  {_BENCH} --rows receive-trains,echo-64 --rounds 3
  {_BENCH} --json figures.json --plot figures.svg
''', rows.groups, measure.run, WorkLook(
        'datagrams', heading='Benchmarks of datagrams over loopback',
        picture='Datagrams answered and received by uringloop, by other loops and in C',
        unit='datagrams/s', lossy=True, legend=(
            '"of C": of the better of the two of C by rate; where datagrams are only received, of '
            'the first one, by processor time, for as many are sent as can be. "lost": what the '
            'socket had no room for, or was not answered. Each answer is compared with what was '
            'sent, and what the load says with what the server has counted.')))
