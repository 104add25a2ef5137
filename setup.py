"""Builds the extension modules; everything else is in pyproject.toml.

Set in the environment, these ask for another build than the usual one:

URINGLOOP_STATIC=1
    has liburing.a linked in, so that what is built needs no liburing where it runs.
URINGLOOP_BUILD=asan|tsan|profile|trace|portable
    is a build for a purpose; see ``VARIANTS``.
"""
import multiprocessing
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# The longest first, so that no core is left with one of them in the end.
SOURCES = sorted(Path('uringloop').rglob('*.pyx'), key=lambda path: -path.stat().st_size)
# What Cython would put into each module; it is a third of what there is to compile.
SHARED = 'uringloop._cyutility'
# Which is none of ours to mend: gcc 16 cannot see that it is.
SHARED_COMPILE = ['-Wno-maybe-uninitialized']
# Debugging information takes a sixth of the time; builds for a purpose have it.
COMPILE = ['-O2', '-g0', '-Wall', '-Wextra', '-Wno-unused-parameter',
           '-Wno-missing-field-initializers', '-Wno-cast-function-type']
# What a build for a purpose is compiled with besides; tools/variant makes them.
VARIANTS = {
    '': [],
    'asan': ['-O1', '-g', '-fno-omit-frame-pointer', '-fsanitize=address,undefined',
             '-fno-sanitize-recover=undefined', '-DURINGLOOP_GUARD', '-I.'],
    # Of the modules only; what other threads do to Python itself it cannot see.
    'tsan': ['-O1', '-g', '-fno-omit-frame-pointer', '-fsanitize=thread'],
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
    # The GIL is counted on; see docs/freethreading.md.
    'freethreading_compatible': False,
}


def pkg_config(*arguments):
    """What pkg-config says of liburing, in words; None without either."""
    tool = shutil.which(os.environ.get('PKG_CONFIG', 'pkg-config'))
    found = tool and subprocess.run([tool, *arguments, 'liburing >= 2.3'],
                                    check=False, capture_output=True, text=True)
    return found.stdout.split() if found and found.returncode == 0 else None


def lacks(what):
    sys.exit(f'uringloop: {what} is not installed. Debian, Ubuntu: apt install gcc '
             'python3-dev liburing-dev pkg-config; Fedora: dnf install gcc python3-devel '
             'liburing-devel pkgconf; Arch: pacman -S gcc liburing pkgconf')


def find_compiler():
    """End with a word if there is none, instead of with pages of it."""
    words = shlex.split(os.environ.get('CC') or sysconfig.get_config_var('CC') or 'cc')
    if words and shutil.which(words[0]) is None:
        lacks(f'the compiler {words[0]}')


def liburing():
    """Flags of the system's liburing, for the compiler and for the linker."""
    compile_args, link_args = pkg_config('--cflags'), pkg_config('--libs')
    if compile_args is None:
        tool = shutil.which(os.environ.get('PKG_CONFIG', 'pkg-config'))
        lacks('liburing 2.3 or newer' if tool else 'pkg-config')
    wanted = os.environ.get('URINGLOOP_STATIC') or '0'
    if wanted not in ('0', '1'):
        sys.exit(f'uringloop: URINGLOOP_STATIC={wanted} is neither 0 nor 1')
    if wanted == '1':
        link_args = liburing_static(link_args)
    return compile_args, link_args


def liburing_static(link_args):
    """The same with the archive in place of the shared library, its names hidden."""
    folders = [flag[2:] for flag in link_args if flag.startswith('-L')]
    folders += pkg_config('--variable=libdir')
    for folder in folders:
        archive = Path(folder) / 'liburing.a'
        if archive.exists():
            return [str(archive) if flag == '-luring' else flag for flag in link_args] + [
                '-Wl,--version-script=tools/exports.map']
    sys.exit(f'uringloop: URINGLOOP_STATIC is set, and there is no liburing.a in {folders[-1]}. '
             'Debian, Ubuntu: apt install liburing-dev; elsewhere build it of its sources')


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
    compile_args, link_args = liburing()
    compile_args = COMPILE + flags + compile_args
    link_args += [flag for flag in flags if flag.startswith('-fsanitize')]
    # What compiles differently now is compiled again; Cython itself knows what cimports what.
    headers = sorted(map(str, Path('uringloop').rglob('*.h'))) if name in ('asan', 'trace') else []
    depends = ['setup.py', *headers]
    modules = {SHARED: SHARED.replace('.', '/') + '.c'}
    modules |= {'.'.join(path.with_suffix('').parts): str(path) for path in SOURCES}
    return [Extension(name, [source], depends=depends,
                      extra_compile_args=compile_args + SHARED_COMPILE * (name == SHARED),
                      extra_link_args=link_args)
            for name, source in modules.items()]


class BuildSideBySide(build_ext):
    """Translates and compiles as many modules at once as there are cores, and tells which.

    A module's C is compiled as soon as Cython has written it.  Only what is older than its
    sources, or than this file, is made again.
    """

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or len(os.sched_getaffinity(0))

    def build_extensions(self):
        find_compiler()
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
            shared_utility_qualified_name=SHARED,
            # Typed memoryviews: half of it, and nobody's.
            shared_utility_features_disabled=['MemoryView'],
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
