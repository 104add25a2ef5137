"""Programs that run in interpreters of their own."""
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import uringloop

ROOT = Path(uringloop.__file__).parent.parent
LOOPS = {
    'asyncio': 'asyncio.SelectorEventLoop()',
    'uring': 'uringloop.new_event_loop(require_uring=True)',
    'uring, no busy_poll': 'uringloop.new_event_loop(require_uring=True, busy_poll=0)',
}


def python(*arguments, cwd=None, pass_fds=(), timeout=60, **environment):
    """Run this interpreter; returns the finished process."""
    env = {name: value for name, value in os.environ.items()
           if name not in ('URINGLOOP_REQUIRE', 'URINGLOOP_DISABLE')}
    env['PYTHONPATH'] = str(ROOT)
    env.update(environment)
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, env=env, timeout=timeout,
                          pass_fds=pass_fds, capture_output=True, text=True, check=False)


def script(text, *options, arguments=(), **environment):
    """Run a script that must succeed; returns its output."""
    done = python(*options, '-c', textwrap.dedent(text), *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def outcome(source, *options, timeout=60):
    """Run a program in another interpreter: ``(exit code, stderr)``."""
    done = subprocess.run([sys.executable, *options, '-c', textwrap.dedent(source)],
                          capture_output=True, text=True, timeout=timeout, check=False)
    return done.returncode, done.stderr


def program(loop, source):
    """Run a program that has such a ``loop``: its exit code."""
    code, errors = outcome(f'import asyncio\nimport uringloop\nloop = {LOOPS[loop]}\n'
                          + textwrap.dedent(source), '-W', 'ignore', timeout=20)
    if code not in (0, 7):
        print(errors)
    return code
