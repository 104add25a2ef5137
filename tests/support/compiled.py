"""``parts.pyx``, compiled: what lets tests call the parts that show no face to Python."""
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.programs import ROOT

needs_parts = pytest.mark.skipif(
    not importlib.util.find_spec('Cython') or not shutil.which('gcc')
    or not (ROOT / 'uringloop/transport/bulk.pxd').exists(),
    reason='needs Cython, gcc and the declarations of the modules')


def compile_parts(folder: Path) -> Path:
    """The library that it has become, in ``folder``."""
    # Not what a sanitizer is preloaded into: that takes ten times as long.
    env = {name: value for name, value in os.environ.items()
           if name not in ('LD_PRELOAD', 'PYTHONMALLOC')}
    source = folder / 'parts.pyx'
    shutil.copy(ROOT / 'tests' / 'support' / 'parts.pyx', source)
    subprocess.run(
        [sys.executable, '-m', 'cython', '-3', '-I', ROOT, '-X', 'legacy_implicit_noexcept=False',
         source], cwd=ROOT, env=env, check=True)
    flags = subprocess.run(['pkg-config', '--cflags', '--libs', 'liburing'], env=env,
                           check=True, capture_output=True, text=True).stdout.split()
    library = folder / f'parts{sysconfig.get_config_var("EXT_SUFFIX")}'
    subprocess.run(
        ['gcc', '-shared', '-fPIC', '-O1', '-w', '-I', sysconfig.get_path('include'),
         source.with_suffix('.c'), '-o', library, *flags], env=env, check=True)
    return library


def imported(library: Path):
    """The module of a compiled library."""
    spec = importlib.util.spec_from_file_location('parts', library)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
