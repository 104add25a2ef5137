"""How far a long command is: a bar on a terminal, elsewhere a line now and then."""
from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType

PAUSE = 5.0         # seconds between two lines
WIDTH = 24          # of the bar, in characters


def tell(text: str) -> None:
    """One line that changes on a terminal, and nothing elsewhere."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1
        print(f'\r{text[:width]:{width}}\r', end='', file=sys.stderr, flush=True)


class Progress:
    """``with Progress(total) as progress: progress.step('what comes next')``; on stderr."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.begin = self.told = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        tell('')

    def step(self, text: str) -> None:
        """One more begins."""
        now = time.monotonic()
        share = min(self.done / max(self.total, 1), 1)
        left = ''
        if self.done >= 5:
            seconds = (now - self.begin) / self.done * (self.total - self.done)
            left = f', {seconds:.0f} s left'
        if self.terminal:
            filled = round(share * WIDTH)
            tell(f'[{"#" * filled}{"." * (WIDTH - filled)}] {share:4.0%}{left}: {text}')
        elif not self.done or now - self.told >= PAUSE:
            self.told = now
            print(f'{self.done} of {self.total} measured{left}', file=sys.stderr, flush=True)
        self.done += 1
