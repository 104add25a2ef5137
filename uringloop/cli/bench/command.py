"""``python -m uringloop bench``: options and endings."""
from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from uringloop.cli import output
from uringloop.cli.bench import loops, machine, native, picture, plot, png, report, rows
from uringloop.cli.bench.datagrams import suite as datagrams
from uringloop.cli.bench.everyday import suite as everyday
from uringloop.cli.bench.look import Look
from uringloop.cli.bench.plot import PlotError
from uringloop.cli.bench.results import Results, ResultsError, from_json
from uringloop.cli.bench.suite import Suite
from uringloop.cli.bench.turns import BenchError, Plan
from uringloop.cli.bench.zerocopy import suite as zerocopy

BENCH = 'python -m uringloop bench'
MOST_SECONDS = 60.0
WANTED = ('uvloop', 'rloop')        # besides asyncio
SUITES = {suite.name: suite for suite in (zerocopy.SUITE, datagrams.SUITE,
                                       everyday.SUITE)}
_REPORT = f'''\
Shows what --json of the other commands has written as a page of Markdown, or
as a table, and draws it.

examples:
  {BENCH} report figures.json > page.md
  {BENCH} report figures.json --plot page.svg > page.md
  {BENCH} report figures.json --table
'''


def _fail(words: str) -> NoReturn:
    print(f'bench: {words}', file=sys.stderr)
    sys.exit(1)


def _refuse(words: str) -> NoReturn:
    """As argparse ends with wrong arguments."""
    print(f'bench: {words}', file=sys.stderr)
    sys.exit(2)


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    whole = argparse.ArgumentParser(
        prog=BENCH, formatter_class=raw, description='How fast this loop is on this machine.',
        epilog='\n'.join(['examples:', *(f'  {BENCH} {name}' for name in SUITES),
                          f'  {BENCH} zerocopy --help']))
    commands = whole.add_subparsers(title='commands', metavar='COMMAND', dest='command',
                                    required=True)
    for suite in SUITES.values():
        names = '\n'.join(['rows, after which stands their group, a name for all of them:',
                           *suite.names()])
        _options(suite, commands.add_parser(
            suite.name, help=suite.help, formatter_class=raw, description=suite.description,
            epilog=names))
    shown = commands.add_parser('report', help='show the figures of a file', formatter_class=raw,
                                description=_REPORT)
    shown.add_argument('file', metavar='FILE', help='what --json has written; - is standard input')
    shown.add_argument('--table', action='store_true', help='as the command itself shows it')
    shown.add_argument('--plot', default='', metavar='FILE',
                       help='draw them, .svg or .png, and show the picture in the page')
    return whole


def _options(suite: Suite, taken: argparse.ArgumentParser) -> None:
    """Those of a command that measures."""
    taken.add_argument('--seconds', type=float, default=0.5, metavar='S',
                       help='of one measurement (default: 0.5)')
    taken.add_argument('--rounds', type=int, default=5, metavar='N',
                       help='in which all take turns (default: 5)')
    taken.add_argument('--rows', default=None, metavar='NAMES',
                       help='of rows or groups, with commas (default: all)')
    taken.add_argument('--against', default=None, metavar='LOOPS',
                       help='the other loops, with commas; MODULE:CALLABLE makes one too '
                            f'(default: those of {", ".join(loops.KNOWN)} that are installed)')
    if suite.memory:
        taken.add_argument('--memory', type=int, default=0, metavar='MB',
                           help='that the payloads walk through, more than the caches hold '
                                '(default: 0, one hot payload)')
    taken.add_argument('--json', default='', metavar='FILE',
                       help='write all figures there; - is standard output, and no table then')
    taken.add_argument('--plot', default='', metavar='FILE', help='draw them: .svg or .png')


def main(arguments: list[str]) -> None:
    """Entry point of ``python -m uringloop bench``."""
    whole = parser()
    options = whole.parse_args(arguments)
    if options.plot and (reason := _cannot_draw(options.plot)):
        _refuse(reason)
    if options.command == 'report':
        return _report(options)
    signal.signal(signal.SIGTERM, _ended)
    signal.signal(signal.SIGHUP, _ended)
    try:
        _measure(SUITES[options.command], options)
    except KeyboardInterrupt:
        # Namespaces end with this process, and what it has started and made is gone.
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


def _draw(results: Results, look: Look, file: str) -> None:
    try:
        if file.endswith('.png'):
            png.write(plot.picture(results, look), file)
        else:
            Path(file).write_text(picture.svg(plot.picture(results, look)))
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
        look = SUITES[results.bench].look
    except (OSError, UnicodeDecodeError, ResultsError, KeyError) as error:
        first, *others = SUITES
        _fail(f'{options.file}: {getattr(error, "strerror", None) or error}; '
              f'`{BENCH} {first} --json FILE` (or {", ".join(others)}) makes one')
    if options.plot:
        _draw(results, look, options.plot)
    _print(report.table(results, look) if options.table
           else report.page(results, look, Path(options.plot).name))


def _names(text: str) -> list[str]:
    """What is between commas."""
    return [name.strip() for name in text.split(',') if name.strip()]


def _peers(named: str | None) -> list[str]:
    if named is None:
        return [name for name in loops.KNOWN if loops.installed(name)]
    peers = [*dict.fromkeys(_names(named))]
    for name in peers:
        if name == loops.OWN:
            _refuse(f'--against {name}: that is measured in any case')
        if not loops.installed(name):
            _refuse(f'--against {name}: there is no such module; pip install it, or leave it out')
    return peers


def _chosen(suite: Suite, options: argparse.Namespace) -> list[Any]:
    if not 0.05 <= options.seconds <= MOST_SECONDS:
        _refuse(f'--seconds {options.seconds:g}: from 0.05 to {MOST_SECONDS:g}')
    if options.rounds < 1:
        _refuse(f'--rounds {options.rounds}: at least 1')
    if suite.memory and not 0 <= options.memory <= 1 << 16:
        _refuse(f'--memory {options.memory}: from 0 to {1 << 16} MB')
    everything = suite.groups(_peers(options.against))
    if options.rows is None:
        return everything
    names = _names(options.rows)
    known = [name for group in everything
             for name in (group.name, *(row.name for row in group.rows))]
    for name in names or ['']:
        if name not in known:
            _refuse(f'--rows {name!r}: choose from {", ".join(dict.fromkeys(known))}')
    return rows.chosen(everything, names)


def _measure(suite: Suite, options: argparse.Namespace) -> None:
    groups = _chosen(suite, options)
    # Now, and not when all has been measured.
    for name, file in (('--json', options.json), ('--plot', options.plot)):
        if file not in ('', '-') and not os.access(Path(file).parent, os.W_OK):
            _refuse(f'{name} {file}: nothing can be written there')
    facts = machine.machine(), machine.versions(_peers(options.against))
    memory = options.memory * 1_000_000 if suite.memory else 0
    with tempfile.TemporaryDirectory(prefix='uringloop-bench-') as folder:
        plan = Plan(options.seconds, options.rounds, memory, Path(folder),
                    *native.build(Path(folder), suite.name))
        try:
            measured = suite.run(groups, plan)
        except BenchError as error:
            _fail(str(error))
    _show(Results(suite.name, *facts, options.seconds, options.rounds, memory, measured),
          suite.look, options)


def _tell_absent() -> None:
    absent = [name for name in WANTED if not loops.installed(name)]
    if absent:
        _print(f'\nNot installed, so not compared: {", ".join(absent)} '
               f'(pip install {" ".join(absent)})\n')


def _without_figures(results: Results, options: argparse.Namespace) -> dict[str, list[str]]:
    """Who was asked for, or is what all is about, and has no figure at all: by the reason."""
    reasons: dict[str, str] = {}
    seen = set()
    for _, each in results.entrants():
        reasons.setdefault(each.side, each.missing)
        if each.samples:
            seen.add(each.side)
    wrong: dict[str, list[str]] = {}
    for name in (loops.OWN, *_names(options.against or '')):
        if name in reasons and name not in seen:
            wrong.setdefault(reasons[name], []).append(name)
    return wrong


def _show(results: Results, look: Look, options: argparse.Namespace) -> None:
    # What cannot be written keeps nobody from the rest of what took minutes.
    try:
        if options.json not in ('', '-'):
            _write(options.json, results)
        if options.plot:
            _draw(results, look, options.plot)
    finally:
        _print(results.to_json() if options.json == '-' else report.table(results, look))
        if options.against is None and options.json != '-':
            _tell_absent()
    wrong = _without_figures(results, options)
    for row, each in results.entrants():
        if each.wrong or each.failed:
            wrong.setdefault(each.wrong or each.missing, []).append(
                f'{row.name}: {each.who} {each.label}')
    if wrong:
        _fail('\nbench: '.join(
            f'{names[0]}{f" and {len(names) - 1} more" * (len(names) > 1)}: {reason}'
            for reason, names in wrong.items()))
