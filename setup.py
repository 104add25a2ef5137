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
COMPILE = ['-O2', '-Wall', '-Wextra', '-Wno-unused-parameter',
           '-Wno-missing-field-initializers', '-Wno-cast-function-type']
# What a build for a purpose is compiled with besides; tools/variant makes them.
VARIANTS = {
    '': [],
    'asan': ['-O1', '-g', '-fno-omit-frame-pointer', '-fsanitize=address,undefined',
             '-fno-sanitize-recover=undefined'],
    'profile': ['-g', '-fno-omit-frame-pointer', '-mno-omit-leaf-frame-pointer'],
    'trace': ['-DURINGLOOP_TRACE', '-I.'],
    # Nothing assumed of CPython's inside: see uringloop/_cpython.pyx.
    'portable': ['-DURINGLOOP_PORTABLE'],
}
THIS = Path(__file__)
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


def variant():
    """Flags of URINGLOOP_BUILD; URINGLOOP_SANITIZE=1 is another word for URINGLOOP_BUILD=asan."""
    name = os.environ.get('URINGLOOP_BUILD', '')
    if not name and os.environ.get('URINGLOOP_SANITIZE'):
        name = 'asan'
    if name not in VARIANTS:
        sys.exit(f'uringloop: there is no build {name!r}: '
                 f'set URINGLOOP_BUILD to {", ".join(filter(None, VARIANTS))}, or unset it')
    return name, VARIANTS[name]


def extensions():
    """One extension a module."""
    name, flags = variant()
    link_args = liburing() + [flag for flag in flags if flag.startswith('-fsanitize')]
    # What compiles differently now is compiled again; Cython itself knows what cimports what.
    depends = ['setup.py'] + sorted(map(str, Path('uringloop').rglob('*.h'))) * (name == 'trace')
    return [Extension('.'.join(source.with_suffix('').parts), [str(source)], depends=depends,
                      extra_compile_args=COMPILE + flags, extra_link_args=link_args)
            for source in SOURCES]


class BuildSideBySide(build_ext):
    """Translates and compiles as many modules at once as there are cores, and tells which.

    A module's C is compiled as soon as Cython has written it.  Only what is older than its
    sources, or than this file, is made again.
    """

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or len(os.sched_getaffinity(0))

    def build_extensions(self):
        self.done, self.told, self.compiled = 0, time.monotonic(), 0
        self.begin = time.time()
        self.at_work = []
        # Not by fork: threads, one for each compiler, run already when the first process starts.
        with ProcessPoolExecutor(
                self.parallel, multiprocessing.get_context('forkserver')) as self.translators:
            super().build_extensions()

    def build_extension(self, ext):
        [source] = ext.sources
        self.at_work.append(ext.name.removeprefix('uringloop.'))
        self.tell()
        written = Path(source).with_suffix('.c')
        outdated = written.exists() and written.stat().st_mtime < THIS.stat().st_mtime
        [translated] = self.translators.submit(
            cythonize, [ext], quiet=True, force=outdated or None,
            compiler_directives=DIRECTIVES).result()
        ext.sources = translated.sources
        super().build_extension(ext)
        self.at_work.remove(ext.name.removeprefix('uringloop.'))
        self.done += 1
        self.compiled += Path(self.get_ext_fullpath(ext.name)).stat().st_mtime >= self.begin
        self.tell()

    def tell(self):
        """One line that changes on a terminal, elsewhere one every three seconds."""
        total = len(self.extensions)
        line = f'Compiled {self.compiled} modules, {self.done - self.compiled} are up to date'
        if self.done < total:
            # Those that turn out to be up to date are gone from here at once.
            line = f'Compiling {", ".join(self.at_work)} ({self.done}/{total} modules done)'
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns - 1
            print(f'\r{line[:width]:{width}}', end='\n' * (self.done == total), flush=True)
        elif self.done == total or time.monotonic() - self.told >= 3:
            self.told = time.monotonic()
            print(line, flush=True)


# What the translators' processes import is this file too.
if __name__ == '__main__':
    setup(ext_modules=extensions(), cmdclass={'build_ext': BuildSideBySide})
