"""Run the interpreter's own asyncio tests on this loop and on asyncio's, and compare.

No test may fail here that passes there.  Those listed in exceptions.txt, each with
its reason, are not run.
"""
from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent

MODULES = (
    'test_base_events', 'test_buffered_proto', 'test_context', 'test_eager_task_factory',
    'test_ensure_future', 'test_events', 'test_free_threading', 'test_futures', 'test_futures2',
    'test_graph', 'test_locks', 'test_pep492', 'test_protocols', 'test_queues', 'test_runners',
    'test_selector_events', 'test_sendfile', 'test_server', 'test_server_context',
    'test_sock_lowlevel', 'test_ssl', 'test_sslproto', 'test_staggered', 'test_streams',
    'test_subprocess', 'test_taskgroups', 'test_tasks', 'test_threads', 'test_timeouts',
    'test_tools', 'test_transports', 'test_unix_events', 'test_waitfor',
)


def exceptions() -> dict[str, str]:
    """Test (or prefix ending in ``*``) to reason."""
    listed = {}
    for line in (HERE / 'exceptions.txt').read_text().splitlines():
        if line.strip() and not line.startswith('#'):
            test, _, reason = line.partition(': ')
            listed[test.strip()] = reason.strip()
    return listed


def run_module(module: str, loop: str, bound: float, excused: list[str]) -> dict[str, str]:
    """Outcome of each test of a module but those excused, in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        outcome = Path(scratch) / 'outcome.json'
        log = Path(scratch) / 'log'
        with log.open('wb') as stream:
            process = subprocess.Popen(
                [sys.executable, str(HERE / 'child.py'), module, loop, str(outcome), *excused],
                stdout=stream, stderr=subprocess.STDOUT, cwd=scratch,
                env={**os.environ, 'PYTHONPATH': os.pathsep.join(
                    [str(HERE.parent), os.environ.get('PYTHONPATH', '')])})
            try:
                process.wait(bound)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        results = {}
        if outcome.exists():
            for line in outcome.read_text().splitlines():
                test, what = json.loads(line)
                results[test] = what
        if process.returncode not in (0, 1) or not results:
            # It crashed, hung, or did not even start.
            results[f'{module}.(whole)'] = f'died with {process.returncode}'
        details = log.read_text(errors='replace')
        if os.environ.get('CONFORMANCE_LOG'):
            Path(os.environ['CONFORMANCE_LOG']).joinpath(f'{module}.{loop}.log').write_text(details)
        return results


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('modules', nargs='*', default=MODULES, metavar='MODULE',
                        help='of test.test_asyncio; all by default')
    parser.add_argument('--bound', type=float, default=240, metavar='SECONDS',
                        help='for each module (default: %(default)s)')
    options = parser.parse_args()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As a shell starts its background jobs; some tests are about that signal.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        import test.test_asyncio as suite
    except ImportError:
        parser.exit(2, f'{sys.executable} comes without test.test_asyncio: '
                       'install its test package (Debian: libpython3-testsuite)\n')
    there = {path.stem for path in Path(suite.__path__[0]).glob('test_*.py')}
    listed, regressions, total, spared = list(exceptions()), [], 0, 0
    for module in options.modules:
        if module not in there:
            continue
        start = time.monotonic()
        ours = run_module(module, 'uringloop', options.bound, listed)
        spared_here = list(ours.values()).count('excused')
        failed = {test: what for test, what in ours.items()
                  if what not in ('ok', 'skipped', 'excused')}
        # asyncio's own result is asked for only where it matters.
        theirs = run_module(module, 'asyncio', options.bound, []) if failed else {}
        worse = sorted(test for test in failed if theirs.get(test, 'ok') in ('ok', 'skipped'))
        regressions += worse
        total += len(ours)
        spared += spared_here
        print(f'{module}: {len(ours)} tests, {len(failed)} failed, of which '
              f'{len(failed) - len(worse)} fail on asyncio too, {len(worse)} do not; '
              f'{spared_here} excused ({time.monotonic() - start:.0f} s)', flush=True)
        for test in worse:
            print(f'    {test}: {failed[test]}', flush=True)
    version = '.'.join(map(str, sys.version_info[:3]))
    print(f'conformance: CPython {version}: {total} tests, {spared} excused, '
          f'{len(regressions)} regressions')
    return 1 if regressions or not total else 0


if __name__ == '__main__':
    sys.exit(main())
