"""The programs in C: what the machine can do, and loads; compiled on the spot."""
from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

SOURCES = Path(__file__).parent
# Of each command, and the libraries that they take.
PROGRAMS: dict[str, dict[str, list[str]]] = {
    'zerocopy': {'socket_send': [], 'ring_send': ['-luring']},
    'datagrams': {'udp_load': [], 'udp_serve': [], 'udp_send': [], 'udp_sinks': []},
    'everyday': {'stream_load': []},
}
CURE = 'apt install gcc libc6-dev'
CURE_RING = 'apt install liburing-dev'


def build(folder: Path, command: str) -> tuple[dict[str, Path], dict[str, str]]:
    """Compile into ``folder``: the programs, and why others are missing."""
    programs, missing = {}, {}
    for name, libraries in PROGRAMS[command].items():
        compiler = shutil.which('gcc') or shutil.which('cc')
        if compiler is None:
            missing[name] = f'there is no C compiler: {CURE}'
            continue
        line = [compiler, '-O2', '-Wall', '-o', str(folder / name),
                str(SOURCES / command / f'{name}.c'), *libraries]
        done = subprocess.run(line, check=False, capture_output=True, text=True, timeout=60)
        if done.returncode == 0:
            programs[name] = folder / name
        elif libraries and ('liburing.h' in done.stderr or '-luring' in done.stderr):
            missing[name] = f'the headers of liburing are not installed: {CURE_RING}'
        else:
            first = next((said for said in done.stderr.splitlines() if 'error' in said), '')
            missing[name] = (f'{first.strip() or "it does not compile"} '
                             f'({shlex.join([Path(compiler).name, *libraries])}): {CURE}')
    return programs, missing


def version() -> str:
    """The compiler's first line."""
    compiler = shutil.which('gcc') or shutil.which('cc')
    if compiler is None:
        return ''
    done = subprocess.run([compiler, '--version'], check=False, capture_output=True, text=True,
                          timeout=10)
    return done.stdout.partition('\n')[0]
