"""The simulated kernel, as Python sees it: compiled, loaded before all else, and asked.

The C is in ``kernel/``; ``kernel/sim.h`` tells what it is.
"""
from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LIBRARY = ROOT / 'build' / 'simulation' / 'kernel.so'
SOURCES = sorted((HERE / 'kernel').glob('*.c'))
COUNTS = ('entered', 'submitted', 'completed', 'notified', 'refused', 'overflowed',
          'datagrams_sent', 'datagrams_taken', 'bytes_written', 'bytes_read',
          'system_calls', 'events', 'rings', 'violations')


def compile_kernel() -> Path:
    """Compile it, if it is older than its sources."""
    newest = max(path.stat().st_mtime for path in (HERE / 'kernel').iterdir())
    if not LIBRARY.exists() or LIBRARY.stat().st_mtime < newest:
        LIBRARY.parent.mkdir(parents=True, exist_ok=True)
        made = LIBRARY.with_suffix(f'.{os.getpid()}')
        subprocess.run(
            ['gcc', '-shared', '-fPIC', '-O1', '-g', '-Wall', '-Wextra', '-pthread',
             '-D_GNU_SOURCE', '-U_FORTIFY_SOURCE', '-fno-builtin',
             '-o', made, *SOURCES, '-ldl'], check=True)
        made.rename(LIBRARY)
    return LIBRARY


def environment() -> dict[str, str]:
    """What a process needs that is to have the simulated kernel, and the same each time."""
    paths = [str(ROOT)] + os.environ.get('PYTHONPATH', '').split(os.pathsep)
    preloaded = filter(None, [os.environ.get('LD_PRELOAD'), str(compile_kernel())])
    return {**os.environ, 'LD_PRELOAD': ':'.join(preloaded), 'PYTHONHASHSEED': '0',
            # What was freed is overwritten: memory that is let go of too early shows.
            'PYTHONMALLOC': 'malloc_debug', 'MALLOC_PERTURB_': '165',
            'MALLOC_MMAP_THRESHOLD_': '1073741824', 'MALLOC_TRIM_THRESHOLD_': '1073741824',
            'PYTHONPATH': os.pathsep.join(filter(None, paths)), 'URINGLOOP_SIMULATED': '1'}


class Kernel:
    """The one that this process was started with."""

    def __init__(self) -> None:
        self.library = library = ctypes.PyDLL(str(LIBRARY))
        library.sim_begin.argtypes = [ctypes.c_uint64]
        library.sim_fault_name.restype = ctypes.c_char_p
        library.sim_found.restype = ctypes.c_char_p
        library.sim_hash.restype = library.sim_now.restype = ctypes.c_uint64
        library.sim_hits.restype = ctypes.c_uint64
        library.sim_level.restype = ctypes.c_uint
        library.sim_unread.restype = ctypes.c_long
        library.sim_journal.restype = ctypes.c_void_p
        library.sim_journal.argtypes = [ctypes.POINTER(ctypes.c_size_t)]
        self.faults = [library.sim_fault_name(i).decode() for i in range(library.sim_faults())]

    def begin(self, seed: int, without: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        """From here on this process has the simulated kernel; ``without`` some of its faults."""
        self.library.sim_begin(seed)
        for i, name in enumerate(self.faults):
            if name in without or 'all' in without:
                self.library.sim_set_level(i, 0)

    def set_level(self, fault: str, level: int) -> None:
        """How often something happens, in thousandths."""
        self.library.sim_set_level(self.faults.index(fault), level)

    def finish(self) -> None:
        """All that is on its way arrives, all that is held is let go of."""
        self.library.sim_finish()

    def end(self) -> None:
        """The real kernel is back."""
        self.library.sim_end()

    def quiet(self) -> None:
        """Nothing fails any more."""
        self.library.sim_set_quiet(1)

    def unread(self, fd: int) -> int:
        """How many packets wait in this socket, or are on their way to or from it."""
        return int(self.library.sim_unread(fd))

    @property
    def hash(self) -> int:
        return int(self.library.sim_hash())

    @property
    def levels(self) -> dict[str, int]:
        return {name: self.library.sim_level(i) for i, name in enumerate(self.faults)}

    @property
    def hits(self) -> dict[str, int]:
        return {name: self.library.sim_hits(i) for i, name in enumerate(self.faults)}

    @property
    def found(self) -> list[str]:
        return self.library.sim_found().decode(errors='replace').splitlines()

    @property
    def counts(self) -> dict[str, int]:
        values = (ctypes.c_uint64 * len(COUNTS))()
        self.library.sim_counts(values)
        return dict(zip(COUNTS, values, strict=True))

    @property
    def journal(self) -> str:
        length = ctypes.c_size_t()
        begin = self.library.sim_journal(ctypes.byref(length))
        return ctypes.string_at(begin, length.value).decode(errors='replace')


def is_simulated() -> bool:
    return os.environ.get('URINGLOOP_SIMULATED') == '1'


def run_simulated(module: str, *arguments: str, **options: object) -> subprocess.CompletedProcess:
    """Run a module of this folder in a process of its own, with the simulated kernel."""
    return subprocess.run([sys.executable, '-m', module, *arguments], check=False,
                          env=environment(), cwd=ROOT, **options)  # type: ignore[call-overload]
