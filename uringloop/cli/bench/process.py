"""Programs that measure, each in a process of its own, which is gone when we have done with it."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uringloop

# Whatever happens, a program ends so many seconds after it should have.
GRACE = 20
MISSING = 3                 # the exit status of C where the kernel does not offer it
ENDINGS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
ROOT = str(Path(uringloop.__file__).parent.parent)


class FailedError(Exception):
    """A program has failed: its last line."""


class MissingError(Exception):
    """There is no such thing to measure here, and why."""


def python(module: str, job: dict[str, Any]) -> list[str]:
    """The command of a module of ours that is told its job as JSON."""
    return [sys.executable, '-m', f'uringloop.cli.bench.{module}', json.dumps(job)]


def _environment() -> dict[str, str]:
    paths = [ROOT, *os.environ.get('PYTHONPATH', '').split(os.pathsep)]
    return {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths)),
            # A loop that is not ours must not be measured in its name.
            'URINGLOOP_REQUIRE': '1'}


@contextmanager
def started(command: list[str], processor: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """A program, bound to a processor; it is gone when the with statement is.

    It goes on as long as it likes, or until its standard input ends.
    """
    process = None
    # Between its fork and our knowing of it, no signal may end us: it would stay.  It inherits
    # that, and is killed by what cannot be blocked.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    try:
        try:
            # In a session of its own: Ctrl-C is for this process, which ends the program.
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, env=_environment(), start_new_session=True)
            if processor is not None:
                os.sched_setaffinity(process.pid, {processor})
        except OSError as error:
            raise FailedError(f'{error.filename}: {error.strerror}') from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield process
    finally:
        if process is not None:
            with process:           # which waits for it
                # What it has started itself ends with its sockets and pipes.
                process.kill()


def first_line(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What it says when it is ready."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        return outcome(process, 0)
    return _said(line)


def outcome(process: subprocess.Popen[str], seconds: float) -> dict[str, Any]:
    """End its standard input, and return what it prints in the end."""
    try:
        out, errors = process.communicate(timeout=seconds + 2 * GRACE)
    except subprocess.TimeoutExpired:
        raise FailedError('it did not end') from None
    if process.returncode:
        said = errors.strip().splitlines() or [_ending(process.returncode)]
        raise (MissingError if process.returncode == MISSING else FailedError)(said[-1])
    return _said(out)


def _ending(status: int) -> str:
    if status == -signal.SIGALRM:
        return 'it did not end'
    return f'{signal.Signals(-status).name} ended it' if status < 0 else f'its status was {status}'


def _said(text: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(text)
    if reason := said.pop('missing', ''):
        raise MissingError(reason)
    return said
