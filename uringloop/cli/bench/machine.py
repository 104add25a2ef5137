"""What the figures were measured on: no names of hosts, no paths."""
from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import uringloop
from uringloop.cli.bench import loops, native


def _processor() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(':')[2].strip() for line in lines
                 if line.startswith('model name')), platform.machine())


def _memory() -> str:
    size = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return f'{size / 2**30:.0f} GiB'


def machine() -> dict[str, str]:
    return {'processor': _processor(),
            'cores': str(len(os.sched_getaffinity(0))),
            'memory': _memory(),
            # What follows the number is often a name of one's own.
            'kernel': f'Linux {os.uname().release.partition("-")[0]}'}


def versions(peers: list[str]) -> dict[str, str]:
    named = {'uringloop-zc': uringloop.__version__,
             platform.python_implementation(): platform.python_version()}
    named |= {peer: loops.version(peer) for peer in peers}
    named['C compiler'] = native.version()
    build = sys.abiflags
    return {name: value + build * (name == platform.python_implementation())
            for name, value in named.items() if value}
