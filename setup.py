"""Builds the extension modules; everything else is in pyproject.toml."""
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = sorted(Path('uringloop').rglob('*.pyx'))
DIRECTIVES = {
    'language_level': 3,
    'boundscheck': False,
    'wraparound': False,
    'cdivision': True,
    'initializedcheck': False,
    'binding': True,
    'embedsignature': False,
    'legacy_implicit_noexcept': False,
}


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
    """One extension a module.  URINGLOOP_SANITIZE=1 builds for the address sanitizer.

    URINGLOOP_PORTABLE=1 builds without what is assumed of CPython (see _cpython.pyx).
    """
    compile_args = ['-O2', '-Wall', '-Wextra', '-Wno-unused-parameter',
                    '-Wno-missing-field-initializers', '-Wno-cast-function-type']
    link_args = liburing()
    if os.environ.get('URINGLOOP_SANITIZE'):
        compile_args += ['-fsanitize=address,undefined', '-g', '-O1', '-fno-omit-frame-pointer']
        link_args += ['-fsanitize=address,undefined']
    if os.environ.get('URINGLOOP_PORTABLE'):
        compile_args += ['-DURINGLOOP_PORTABLE']
    return [Extension('.'.join(source.with_suffix('').parts), [str(source)],
                      extra_compile_args=compile_args, extra_link_args=link_args)
            for source in SOURCES]


class BuildSideBySide(build_ext):
    """Translates and compiles as many modules at once as there are cores, and tells how far it is.

    A module's C is compiled as soon as Cython has written it.  Only what is older than its
    sources is made again.
    """

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or len(os.sched_getaffinity(0))

    def build_extensions(self):
        self.done, self.told = 0, 0.0
        self.tell()
        # Not by fork: threads, one for each compiler, run already when the first process starts.
        with ProcessPoolExecutor(
                self.parallel, multiprocessing.get_context('forkserver')) as self.translators:
            super().build_extensions()

    def build_extension(self, ext):
        [translated] = self.translators.submit(
            cythonize, [ext], quiet=True, compiler_directives=DIRECTIVES).result()
        ext.sources = translated.sources
        super().build_extension(ext)
        self.done += 1
        self.tell()

    def tell(self):
        """One line that changes on a terminal, elsewhere one every three seconds."""
        total = len(self.extensions)
        line = f'Compiled {self.done}/{total} modules'
        if sys.stdout.isatty():
            print(f'\r{line}', end='\n' * (self.done == total), flush=True)
        elif self.done == total or time.monotonic() - self.told >= 3:
            self.told = time.monotonic()
            print(line, flush=True)


# What the translators' processes import is this file too.
if __name__ == '__main__':
    setup(ext_modules=extensions(), cmdclass={'build_ext': BuildSideBySide})
