"""``python -m uringloop doctor``: options and endings."""
from __future__ import annotations

import argparse
import sys

from uringloop import UringUnavailableError
from uringloop.cli import output
from uringloop.cli.doctor import report
from uringloop.cli.doctor.advice import Facts, findings, status
from uringloop.cli.doctor.interfaces import interfaces
from uringloop.cli.doctor.path import PathError, path
from uringloop.cli.doctor.ring import ring
from uringloop.cli.doctor.system import system

DOCTOR = 'python -m uringloop doctor'
# 2 is that of wrong arguments.
EXIT = {'healthy': 0, 'limited': 1, 'blocked': 3}
UNTOLD = 4
_DESCRIPTION = f'''\
Says what this machine and this process let the loop do: whether io_uring can
be had, how much memory may be locked, which interfaces send without copying.
For each thing that is short there is a line that says what cures it.

Nothing is changed, and nothing is sent but with --dest. Run it as the user,
and in the container or service, that the program runs as.

exit status:
  0  nothing is short
  1  the loop works, and something is copied, or small, that need not be
  2  the arguments are wrong, or --dest names nothing that can be sent to
  3  io_uring cannot be had, or a variable of the environment keeps from it
  4  the answer could not be written

examples:
  {DOCTOR}
  {DOCTOR} --dest 192.0.2.7
  {DOCTOR} --json
  docker run --rm IMAGE {DOCTOR}
'''


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(
        prog=DOCTOR, formatter_class=argparse.RawDescriptionHelpFormatter,
        description=_DESCRIPTION)
    whole.add_argument('--dest', default='', metavar='ADDRESS',
                       help='also send a few datagrams there, to the discard port, and say whether '
                            'the kernel copied them')
    whole.add_argument('--json', action='store_true', help='all facts, for programs')
    return whole


def main(arguments: list[str]) -> None:
    """Entry point of ``python -m uringloop doctor``."""
    options = parser().parse_args(arguments)
    here, made = system(), ring()
    tried = None
    if options.dest and made.facts is not None and not here.refused:
        try:
            tried = path(options.dest)
        except (PathError, UringUnavailableError) as error:
            print(f'doctor: {error}', file=sys.stderr)
            sys.exit(2)
    facts = Facts(here, made, interfaces(), tried)
    found = findings(facts)
    show = report.to_json if options.json else report.to_text
    output.write(show(facts, found), 'doctor', UNTOLD)
    sys.exit(EXIT[status(found)])
