"""Runs the tests on what is installed in the environment of this Python, not on this tree.

    .venv/bin/python tools/test_wheel.py [ARGUMENT OF PYTEST...]

The tests, and what they read, are copied to a folder of their own, in which `uringloop` has what
is installed, and the Cython sources beside it, which some tests read.
"""
from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ('tests', 'examples', 'benchmarks', 'conformance', 'docs', 'tools')


def installed() -> Path:
    """The folder of the installed package."""
    # This file's folder is the first on the path, and the tree is not.
    spec = importlib.util.find_spec('uringloop')
    if spec is None or spec.origin is None or (ROOT in Path(spec.origin).parents and not any(
            part.startswith('.venv') for part in Path(spec.origin).relative_to(ROOT).parts)):
        sys.exit('test_wheel: install a wheel in the environment of this Python first')
    return Path(spec.origin).parent


def main() -> int:
    package = installed()
    with tempfile.TemporaryDirectory(prefix='uringloop-wheel-') as folder:
        copy = Path(folder) / 'tree'
        for name in FOLDERS:
            shutil.copytree(ROOT / name, copy / name,
                            ignore=shutil.ignore_patterns('__pycache__'))
        for path in ROOT.iterdir():
            if path.is_file():
                shutil.copy(path, copy)
        shutil.copytree(package, copy / 'uringloop')
        for source in (ROOT / 'uringloop').rglob('*.pyx'):
            shutil.copy(source, copy / source.relative_to(ROOT))
        return subprocess.run(
            [sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider', *sys.argv[1:]],
            cwd=copy, check=False).returncode


if __name__ == '__main__':
    sys.exit(main())
