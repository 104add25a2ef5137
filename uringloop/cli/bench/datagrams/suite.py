"""The command ``bench datagrams``."""
from __future__ import annotations

from uringloop.cli.bench.datagrams import measure, rows
from uringloop.cli.bench.datagrams.look import DatagramsLook
from uringloop.cli.bench.suite import Suite

_BENCH = 'python -m uringloop bench datagrams'
SUITE = Suite(
    'datagrams', 'measure answering, receiving and sending datagrams, next to C and other loops',
    f'''\
Sends datagrams over loopback to an echo server, to one that only receives, and
to echo servers that share a port, one a processor; and has datagrams of random
sizes sent to many sockets in turn, which no loop can gather: in C, on this
loop, and on every other loop that is installed (pip install uvloop rloop). What
is measured has one processor, the other side, in C, another. Shows how many a
second there are, and the processor time that is taken for each. All rows take
five minutes.

An answer must be what was sent, and each datagram as long as it says. What the
one side says that it has sent is compared with what the other has counted and
with what the kernel has dropped for want of room, which is shown as lost. If
that differs the row says so, and the command fails.

It takes gcc. As root, sockets hold more, and less is lost.

examples:
  {_BENCH}
  {_BENCH} --rows echo --seconds 2 --against uvloop
  {_BENCH} --rows receive-trains,echo-64 --rounds 3
  {_BENCH} --rows send-mix,workers
  {_BENCH} --json figures.json --plot figures.svg
''', rows.groups, measure.run, DatagramsLook(
        'datagrams', heading='Benchmarks of datagrams over loopback',
        picture='Datagrams answered, received and sent by uringloop, by other loops and in C',
        unit='datagrams/s', lossy=True, legend=(
            '"of C": of the better of the two of C by rate; where datagrams are only received, of '
            'the first one, by processor time, for as many are sent as can be. "lost": what the '
            'socket had no room for, or was not answered. Each answer is compared with what was '
            'sent, and what the one side says with what the other has counted.')))
