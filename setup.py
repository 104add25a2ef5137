"""Builds the extension modules; everything else is in pyproject.toml."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

MODULES = sorted(path.stem for path in Path('uringloop').glob('_*.pyx'))


def liburing():
    """Compiler and linker flags of the system's liburing, by pkg-config."""
    tool = shutil.which(os.environ.get('PKG_CONFIG', 'pkg-config'))
    found = tool and subprocess.run([tool, '--cflags', '--libs', 'liburing >= 2.3'],
                                    check=False, capture_output=True, text=True)
    if not found or found.returncode:
        missing = 'liburing 2.3 or newer' if tool else 'pkg-config'
        sys.exit(f'uringloop: {missing} is not installed. Debian, Ubuntu: apt install '
                 'liburing-dev pkg-config; Fedora: dnf install liburing-devel pkgconf; '
                 'Arch: pacman -S liburing pkgconf')
    return found.stdout.split()


def extensions():
    """One extension a module.  URINGLOOP_SANITIZE=1 builds for the address sanitizer."""
    compile_args = ['-O2', '-Wall', '-Wextra', '-Wno-unused-parameter',
                    '-Wno-missing-field-initializers', '-Wno-cast-function-type']
    link_args = liburing()
    if os.environ.get('URINGLOOP_SANITIZE'):
        compile_args += ['-fsanitize=address,undefined', '-g', '-O1', '-fno-omit-frame-pointer']
        link_args += ['-fsanitize=address,undefined']
    return [Extension(f'uringloop.{name}', [f'uringloop/{name}.pyx'],
                      extra_compile_args=compile_args, extra_link_args=link_args)
            for name in MODULES]


setup(ext_modules=cythonize(
    extensions(),
    nthreads=os.cpu_count() or 1,
    compiler_directives={
        'language_level': 3,
        'boundscheck': False,
        'wraparound': False,
        'cdivision': True,
        'initializedcheck': False,
        'binding': True,
        'embedsignature': False,
        'legacy_implicit_noexcept': False,
    }))
