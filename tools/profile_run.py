"""Samples a program that runs on this loop, and tells where its time goes.

    python tools/profile_run.py [--seconds N] BUILD SCRIPT [ARGUMENT...]

`perf record` samples the stacks, 999 times a second of processor time.  What is printed are the
functions that most samples were in (self), and how many were in them or below (total).  In
build/profile-data are then perf.data, for `perf report`, and stacks.folded: one line a stack,
`a;b;c COUNT`, which flamegraph.pl, inferno-flamegraph and speedscope.app draw.
"""
from __future__ import annotations

import argparse
import collections
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / 'build' / 'profile-data'
SHOWN = 15
# Addresses of one symbol differ by what is added to it.
FRAME = re.compile(r'\s+[0-9a-f]+ (.*?)(?:\+0x[0-9a-f]+)? \((.*)\)$')


def fail(message: str) -> None:
    print(f'profile: {message}', file=sys.stderr)
    sys.exit(1)


def check_perf() -> None:
    """That perf is there and may sample; or one line that says what cures it."""
    if not shutil.which('perf'):
        fail('perf is not installed. Debian: apt-get install linux-perf; '
             'Ubuntu: linux-tools-generic; Fedora: dnf install perf; Arch: pacman -S perf')
    trial = subprocess.run(['perf', 'record', '-q', '-o', DATA / 'trial', '--', 'true'],
                           check=False, capture_output=True, text=True)
    (DATA / 'trial').unlink(missing_ok=True)
    if trial.returncode:
        level = '?'
        with contextlib.suppress(OSError):
            level = Path('/proc/sys/kernel/perf_event_paranoid').read_text().strip()
        fail(f'perf may not sample here (kernel.perf_event_paranoid is {level}): run this as root, '
             'or run "sudo sysctl kernel.perf_event_paranoid=1"; a container also wants '
             '--cap-add PERFMON and a seccomp profile with perf_event_open')


def symbols() -> tuple[list[str], str]:
    """Options for Python that make its functions known to perf, and what to say of it."""
    if sys.version_info < (3, 12):
        return [], ('Python has symbols for perf from 3.12 on: functions written in Python '
                    'appear as _PyEval_EvalFrameDefault (PYTHON=python3.12 chooses another)')
    if '-fno-omit-frame-pointer' not in f"{sysconfig.get_config_var('CFLAGS')}":
        return ['-X', 'perf'], ('this Python was compiled without -fno-omit-frame-pointer: '
                                'few or none of the functions written in Python are seen')
    return ['-X', 'perf'], ''


def record(command: list[str], seconds: float | None) -> int:
    """The exit status of the program."""
    perf = ['perf', 'record', '--quiet', '--freq', '999', '--call-graph', 'fp',
            '--output', str(DATA / 'perf.data'), '--', *command]
    # A Ctrl-C is for the program, and for perf, which ends after it.  (Ignored instead of
    # handled, it would be so in them too.)
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        process = subprocess.Popen(perf)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            # perf hands a SIGINT of its own on to nobody: its child gets one too.
            for child in children(process.pid):
                os.kill(child, signal.SIGINT)
            process.wait()
            return 0            # it was to end
    finally:
        signal.signal(signal.SIGINT, before)


def children(pid: int) -> list[int]:
    text = Path(f'/proc/{pid}/task/{pid}/children').read_text()
    return [int(word) for word in text.split()]


def readable(symbol: str) -> str:
    """Cython's `__pyx_f_9uringloop_4ring_4ring_4Ring_fetch` is uringloop.ring.ring.Ring.fetch.

    A name has its length before it, but for the last one: that has none, or a count.
    """
    found = re.match(r'__pyx_([a-z]+)_(?=9uringloop_)', symbol)
    if not found:
        return symbol
    parts, rest = [], symbol[found.end():]
    follows = r'_\d' if found[1] in ('pw', 'pf') else '_'
    while number := re.match(r'\d+', rest):
        end = number.end() + int(number[0])
        if not re.match(follows, rest[end:]):
            break
        parts.append(rest[number.end():end])
        rest = rest[end + 1:]
    return '.'.join([*parts, rest.lstrip('0123456789')])


def stacks(lines: Iterable[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each sample of `perf script`, from the outermost function to the innermost, and its place."""
    command, place, frames = '', '', []
    for line in [*lines, '']:
        found = FRAME.match(line)
        if found:
            name, file = found.groups()
            file = Path(file.strip('[]')).name
            frames.append(f'[{file}]' if name == '[unknown]' else readable(name))
            place = place or file
        elif line.strip():
            command = line.strip()
        elif command:
            yield (command, *reversed(frames)), place
            command, place, frames = '', '', []


def kind(place: str, extensions: set[str]) -> str:
    if place == 'kernel.kallsyms' or place.endswith('.ko'):
        return 'the kernel'
    if place in extensions:
        return 'uringloop'
    if place.startswith(('python', 'libpython', 'perf-', 'jitted-')):
        return 'Python'
    return 'libraries'


def report(samples: list[tuple[tuple[str, ...], str]], extensions: set[str]) -> None:
    inner: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    below: collections.Counter[str] = collections.Counter()
    python: collections.Counter[str] = collections.Counter()
    for stack, place in samples:
        inner[kind(place, extensions)][stack[-1]] += 1
        below.update(set(stack[1:]))
        # What runs a Python function is the interpreter's, so it is never the innermost itself.
        python.update([name for name in stack if name.startswith('py::')][-1:])
    total = len(samples)
    print(f'\n{total:,} samples')
    if python:
        print('\nfunctions written in Python; self: with what they call in C\n'
              '   self   total  function')
        for name, count in python.most_common(SHOWN):
            print(f'{count / total:7.1%} {below[name] / total:7.1%}  {name[4:94]}')
    for where, names in sorted(inner.items(), key=lambda item: -item[1].total()):
        print(f'\n{names.total() / total:7.1%} in {where}\n   self   total  function')
        for name, count in names.most_common(SHOWN):
            print(f'{count / total:7.1%} {below[name] / total:7.1%}  {name[:90]}')


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, help='interrupt the program after so many')
    parser.add_argument('--check', action='store_true',
                        help='only find out whether perf is there and may sample')
    parser.add_argument('build', nargs='?',
                        help='folder of a build with frame pointers: build/profile')
    parser.add_argument('script', nargs='?')
    parser.add_argument('arguments', nargs=argparse.REMAINDER)
    options = parser.parse_args()
    DATA.mkdir(parents=True, exist_ok=True)
    check_perf()
    if options.check:
        return 0
    if not options.script:
        parser.error('which program?')
    flags, remark = symbols()
    status = record([sys.executable, *flags, str(ROOT / 'tools' / 'run_on.py'), options.build,
                     options.script, *options.arguments], options.seconds)
    script = subprocess.run(
        ['perf', 'script', '--input', DATA / 'perf.data', '--fields', 'comm,ip,sym,dso'],
        check=False, capture_output=True, text=True, errors='replace')
    samples = list(stacks(script.stdout.splitlines()))
    if not samples:
        fail(f'nothing was sampled; the program ended with status {status}')
    counted = collections.Counter(stack for stack, _ in samples)
    folded = DATA / 'stacks.folded'
    folded.write_text(''.join(f'{";".join(stack)} {count}\n'
                              for stack, count in sorted(counted.items())))
    report(samples, {path.name for path in Path(options.build).rglob('*.so')})
    if remark:
        print(f'\nNote: {remark}.')
    print(f'\nperf report -i {DATA.relative_to(ROOT)}/perf.data   looks further\n'
          f'{folded.relative_to(ROOT)}   is for flamegraph.pl, inferno-flamegraph, speedscope.app')
    return status


if __name__ == '__main__':
    sys.exit(main())
