"""The command ``bench zerocopy``."""
from __future__ import annotations

from uringloop.cli.bench.suite import Suite
from uringloop.cli.bench.zerocopy import measure, rows
from uringloop.cli.bench.zerocopy.look import ZerocopyLook

_BENCH = 'python -m uringloop bench zerocopy'
SUITE = Suite(
    'zerocopy', 'measure zero-copy sends, next to C and to other loops', f'''\
Sends datagrams into a device that drops them, in a network namespace of its
own, as fast as one core can: from C, from Python by this loop, and by every
other loop that is installed (pip install uvloop rloop). Shows the table of the
RFC that brought zero-copy sends to io_uring, datagrams of 65,435 bytes, and
beside it an ordinary network with an MTU of 1,500. All rows
take four minutes.

What each sender says it has sent is compared with what the device has counted.
If that differs the row says so, and the command fails.

It takes root, or a kernel that allows user namespaces. Without, only loopback
is measured, where the kernel always copies. C senders take gcc and liburing.

examples:
  {_BENCH}
  {_BENCH} --rows zc-8,trains --seconds 0.2 --rounds 3
  {_BENCH} --against uvloop --memory 512
  {_BENCH} --json figures.json --plot figures.svg
''', rows.groups, measure.run, ZerocopyLook(), memory=True)
