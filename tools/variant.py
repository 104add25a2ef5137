"""Makes a build for a purpose, in a copy of this tree, so that the normal build stays.

    python tools/variant.py asan|tsan|profile|trace|portable

The copy is build/asan, and so on.  Only what has changed is copied and
compiled again.  What each is compiled with stands in setup.py (VARIANTS).
"""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = ('asan', 'tsan', 'profile', 'trace', 'portable')
# Tests read documents, scripts and examples too.
FOLDERS = ('uringloop', 'tests', 'examples', 'benchmarks', 'conformance', 'docs', 'tools', '.ci')
MADE = {'.so', '.pyc'}


def originals() -> Iterator[Path]:
    """What is copied: sources, and what Cython has written of them as they are now."""
    paths = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in FOLDERS:
        paths += (ROOT / folder).rglob('*')
    newest = max(path.stat().st_mtime for path in paths
                 if path.suffix in ('.pyx', '.pxd') or path.name == 'setup.py')
    for path in paths:
        by_cython = path.suffix == '.c' and path.with_suffix('.pyx').exists()
        up_to_date = not by_cython or path.stat().st_mtime >= newest
        if path.is_file() and path.suffix not in MADE and up_to_date:
            yield path.relative_to(ROOT)


def same(one: Path, other: Path) -> bool:
    return (other.exists() and one.stat().st_size == other.stat().st_size
            and one.read_bytes() == other.read_bytes())


def synchronize(copy: Path) -> None:
    """Copy what differs, and delete what is gone.

    What is copied gets the present time: a file that was changed back is older than what was
    compiled of the change.  Cython's files come last, for they are the newer ones.
    """
    wanted = sorted(originals(), key=lambda path: path.suffix == '.c')
    for path in wanted:
        if not same(ROOT / path, copy / path):
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, copy / path)
            shutil.copymode(ROOT / path, copy / path)
    modules = {path.with_suffix('') for path in wanted if path.suffix == '.pyx'}
    for folder in FOLDERS:
        for path in list((copy / folder).rglob('*')):
            name = path.relative_to(copy)
            stem = name.parent / name.name.partition('.')[0]
            kept = name in wanted or path.is_dir() or path.suffix == '.pyc' or (
                path.suffix in ('.so', '.c') and stem in modules)
            if not kept:
                path.unlink()


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] not in VARIANTS:
        print(f'usage: python tools/variant.py {"|".join(VARIANTS)}', file=sys.stderr)
        return 2
    name = sys.argv[1]
    copy = ROOT / 'build' / name
    synchronize(copy)
    print(f'Building in {copy.relative_to(ROOT)}', flush=True)
    return subprocess.run([sys.executable, 'setup.py', '--quiet', 'build_ext', '--inplace'],
                          cwd=copy, env={**os.environ, 'URINGLOOP_BUILD': name},
                          check=False).returncode


if __name__ == '__main__':
    sys.exit(main())
