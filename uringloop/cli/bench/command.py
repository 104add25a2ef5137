"""``python -m uringloop bench``: options and endings."""
from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import NoReturn

from uringloop.cli import output
from uringloop.cli.bench import loops, machine, measure, namespace, native, plot, png, report, rows
from uringloop.cli.bench.measure import Plan
from uringloop.cli.bench.namespace import EnteredError, NamespaceError
from uringloop.cli.bench.plot import PlotError
from uringloop.cli.bench.results import Results, ResultsError, from_json

BENCH = 'python -m uringloop bench'
MOST_SECONDS = 60.0
_ZEROCOPY = f'''\
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
  {BENCH} zerocopy
  {BENCH} zerocopy --rows zc-8,trains --seconds 0.2 --rounds 3
  {BENCH} zerocopy --against uvloop --memory 512
  {BENCH} zerocopy --json figures.json --plot figures.svg
'''
_REPORT = f'''\
Shows what --json of "{BENCH} zerocopy" has written
as a page of Markdown, or as a table, and draws it.

examples:
  {BENCH} report figures.json > page.md
  {BENCH} report figures.json --plot page.svg > page.md
  {BENCH} report figures.json --table
'''


def _fail(words: str) -> NoReturn:
    print(f'bench: {words}', file=sys.stderr)
    sys.exit(1)


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    whole = argparse.ArgumentParser(
        prog=BENCH, formatter_class=raw, description='How fast datagrams leave on this machine.',
        epilog=f'examples:\n  {BENCH} zerocopy\n  {BENCH} zerocopy --help')
    commands = whole.add_subparsers(title='commands', metavar='COMMAND', dest='command',
                                    required=True)
    names = '\n'.join(f'  {row.name:13} {group.name}: {row.title}'
                      for group in rows.groups([]) for row in group.rows)
    zerocopy = commands.add_parser(
        'zerocopy', help='measure zero-copy sends, next to C and to other loops',
        formatter_class=raw, description=_ZEROCOPY,
        epilog=f'rows, after which stands their group, a name for all of them:\n{names}')
    zerocopy.add_argument('--seconds', type=float, default=0.5, metavar='S',
                          help='of one measurement (default: 0.5)')
    zerocopy.add_argument('--rounds', type=int, default=5, metavar='N',
                          help='in which all take turns (default: 5)')
    zerocopy.add_argument('--rows', default='', metavar='NAMES',
                          help='of rows or groups, with commas (default: all)')
    zerocopy.add_argument('--against', default=None, metavar='LOOPS',
                          help='the other loops, with commas; MODULE:CALLABLE makes one too '
                               f'(default: those of {", ".join(loops.KNOWN)} that are installed)')
    zerocopy.add_argument('--memory', type=int, default=0, metavar='MB',
                          help='that the payloads walk through, more than the caches hold '
                               '(default: 0, one hot payload)')
    zerocopy.add_argument('--json', default='', metavar='FILE',
                          help='write all figures there; - is standard output, and no table then')
    zerocopy.add_argument('--plot', default='', metavar='FILE', help='draw them: .svg or .png')
    shown = commands.add_parser('report', help='show the figures of a file', formatter_class=raw,
                                description=_REPORT)
    shown.add_argument('file', metavar='FILE', help='what --json has written; - is standard input')
    shown.add_argument('--table', action='store_true', help='as bench zerocopy shows it')
    shown.add_argument('--plot', default='', metavar='FILE',
                       help='draw them, .svg or .png, and show the picture in the page')
    return whole


def main(arguments: list[str]) -> None:
    """Entry point of ``python -m uringloop bench``."""
    whole = parser()
    options = whole.parse_args(arguments)
    if options.plot and (reason := _cannot_draw(options.plot)):
        _fail(reason)
    if options.command == 'report':
        return _report(options)
    signal.signal(signal.SIGTERM, _ended)
    signal.signal(signal.SIGHUP, _ended)
    try:
        _zerocopy(options)
    except KeyboardInterrupt:
        # The namespace ends with this process, the C programs are gone.
        print('bench: interrupted', file=sys.stderr)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)


def _ended(number: int, frame: FrameType | None) -> NoReturn:
    """As an exception: what is under way is ended and removed."""
    sys.exit(128 + number)


def _cannot_draw(file: str) -> str:
    """Why not; asked before minutes of measuring."""
    suffix = Path(file).suffix
    if suffix == '.png':
        return png.missing()
    return '' if suffix == '.svg' else f'--plot {file}: name a file that ends in .svg or .png'


def _draw(results: Results, file: str) -> None:
    try:
        if file.endswith('.png'):
            png.write(plot.picture(results), file)
        else:
            Path(file).write_text(plot.svg(plot.picture(results)))
    except (OSError, PlotError) as error:
        _fail(f'--plot {file}: {getattr(error, "strerror", None) or error}')


def _write(file: str, results: Results) -> None:
    try:
        Path(file).write_text(results.to_json())
    except OSError as error:
        _fail(f'--json {file}: {error.strerror or error}')


def _print(text: str) -> None:
    output.write(text, 'bench', 1)


def _report(options: argparse.Namespace) -> None:
    try:
        text = sys.stdin.read() if options.file == '-' else Path(options.file).read_text()
        results = from_json(text)
    except (OSError, UnicodeDecodeError, ResultsError) as error:
        _fail(f'{options.file}: {getattr(error, "strerror", None) or error}; '
              f'{BENCH} zerocopy --json FILE makes such a file')
    if options.plot:
        _draw(results, options.plot)
    _print(report.table(results) if options.table
           else report.page(results, Path(options.plot).name))


def _peers(named: str | None) -> list[str]:
    if named is None:
        return [name for name in loops.KNOWN if loops.installed(name)]
    peers = [name for name in named.split(',') if name]
    for name in peers:
        if not loops.installed(name):
            _fail(f'--against {name}: there is no such module; pip install it, or leave it out')
    return peers


def _chosen(options: argparse.Namespace) -> list[rows.Group]:
    if not 0.05 <= options.seconds <= MOST_SECONDS:
        _fail(f'--seconds {options.seconds:g}: from 0.05 to {MOST_SECONDS:g}')
    if options.rounds < 1:
        _fail(f'--rounds {options.rounds}: at least 1')
    if not 0 <= options.memory <= 1 << 16:
        _fail(f'--memory {options.memory}: from 0 to {1 << 16} MB')
    everything = rows.groups(_peers(options.against))
    if not options.rows:
        return everything
    names = [name for name in options.rows.split(',') if name]
    known = [name for group in everything
             for name in (group.name, *(row.name for row in group.rows))]
    for name in names:
        if name not in known:
            _fail(f'--rows {name}: choose from {", ".join(dict.fromkeys(known))}')
    return rows.chosen(everything, names)


def _zerocopy(options: argparse.Namespace) -> None:
    groups = _chosen(options)
    peers = _peers(options.against)
    # Now, and not when all has been measured.
    for name, file in (('--json', options.json), ('--plot', options.plot)):
        if file not in ('', '-') and not os.access(Path(file).parent, os.W_OK):
            _fail(f'{name} {file}: nothing can be written there')
    facts = machine.machine(), machine.versions(peers)
    absent = _network(groups)
    # All that is measured is born on this processor; the others are the system's.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(prefix='uringloop-bench-') as folder:
        programs, missing = native.build(Path(folder))
        plan = Plan(options.seconds, options.rounds, options.memory * 1_000_000, programs, missing)
        results = Results(*facts, options.seconds, options.rounds, plan.memory,
                          measure.run(groups, absent, plan))
    _show(results, options)


def _network(groups: list[rows.Group]) -> dict[str, str]:
    """Move into a namespace and make the devices; which groups cannot be measured, and why."""
    devices = [group.device for group in groups if group.device is not None]
    try:
        namespace.enter()
        for device in devices:
            namespace.make(device)
    except EnteredError as error:
        _fail(str(error))
    except NamespaceError as error:
        return {group.name: str(error) for group in groups if group.device is not None}
    return {}


def _show(results: Results, options: argparse.Namespace) -> None:
    # What cannot be written keeps nobody from the rest of what took minutes.
    try:
        if options.json not in ('', '-'):
            _write(options.json, results)
        if options.plot:
            _draw(results, options.plot)
    finally:
        _print(results.to_json() if options.json == '-' else report.table(results))
    wrong: dict[str, list[str]] = {}
    for row, each in results.senders():
        if each.wrong or each.failed:
            wrong.setdefault(each.wrong or each.missing, []).append(
                f'{row.name}: {each.who} {each.label}')
    if wrong:
        _fail('\nbench: '.join(
            f'{senders[0]}{f" and {len(senders) - 1} more" * (len(senders) > 1)}: {reason}'
            for reason, senders in wrong.items()))
