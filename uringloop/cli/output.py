"""Standard output of the commands: what cannot be written there is told in one line."""
from __future__ import annotations

import errno
import os
import sys
from typing import NoReturn


def write(text: str, command: str, status: int) -> None:
    """Write all of it, or say why not and exit with ``status``."""
    if sys.stdout is None:                      # closed before Python began
        _fail(command, os.strerror(errno.EBADF), status)
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What is left in there would be tried once more, and told of, at the exit.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        _fail(command, error.strerror or str(error), status)


def _fail(command: str, reason: str, status: int) -> NoReturn:
    if sys.stderr is not None:
        print(f'{command}: standard output: {reason}', file=sys.stderr)
    sys.exit(status)
