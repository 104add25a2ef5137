"""Makes wheels that need nothing but the C library where they are installed.

    python tools/wheels.py build --zig ZIG PLATFORM...
    python tools/wheels.py finish

``build`` compiles one wheel a platform for the Python that runs it, with liburing inside, by the
C compiler of ZIG, which knows old C libraries and other processors; into build/wheels.
``finish`` has auditwheel look whether they keep what their names say, and puts them into dist.
``make wheels`` does both.
"""
from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RAW = ROOT / 'build' / 'wheels'
DIST = ROOT / 'dist'
# zig's name of each, its triplet in the names of extension modules, Debian's of the processor.
PLATFORMS = {
    'manylinux_2_17_x86_64': ('x86_64-linux-gnu.2.17', 'x86_64-linux-gnu', 'amd64'),
    'manylinux_2_17_aarch64': ('aarch64-linux-gnu.2.17', 'aarch64-linux-gnu', 'arm64'),
    'musllinux_1_2_x86_64': ('x86_64-linux-musl', 'x86_64-linux-musl', 'amd64'),
    'musllinux_1_2_aarch64': ('aarch64-linux-musl', 'aarch64-linux-musl', 'arm64'),
}
MEGABYTES = 3


def fail(message: str) -> None:
    sys.exit(f'wheels: {message}')


def headers(folder: Path) -> Path:
    """A folder in which Debian's pyconfig.h finds the one of each processor.

    They are of 64 bits, and do not differ in anything that an extension module sees.
    """
    include = Path(sysconfig.get_path('include'))
    name, triplet = include.name, sysconfig.get_config_var('MULTIARCH') or ''
    real = include.parent / triplet / name / 'pyconfig.h'
    for processor in ('x86_64', 'aarch64'):
        link = folder / f'{processor}-linux-gnu' / name / 'pyconfig.h'
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(real)
    return folder


def build(zig: str, platform: str) -> None:
    """One wheel, of the Python that runs this."""
    target, triplet, architecture = PLATFORMS[platform]
    machine = triplet.partition('-')[0]
    base, liburing = RAW / platform, ROOT / 'build' / f'liburing-{architecture}'
    compiler = f'{zig} cc -target {target}'
    environment = {
        **os.environ,
        'CC': compiler,
        'LDSHARED': f'{compiler} -shared -s',
        'CFLAGS': f'-I{headers(RAW / "headers")}',
        'ZIG_GLOBAL_CACHE_DIR': str(ROOT / 'build' / 'zig-cache'),
        'SETUPTOOLS_EXT_SUFFIX': f'.{sys.implementation.cache_tag}-{triplet}.so',
        'URINGLOOP_STATIC': '1',
        'PKG_CONFIG_SYSROOT_DIR': str(liburing),
        'PKG_CONFIG_LIBDIR': str(liburing / 'usr' / 'lib' / f'{machine}-linux-gnu' / 'pkgconfig'),
        'PKG_CONFIG_ALLOW_SYSTEM_CFLAGS': '1',
        'PKG_CONFIG_ALLOW_SYSTEM_LIBS': '1',
    }
    subprocess.run(
        [sys.executable, '-W', 'ignore', 'setup.py', '--quiet', 'build', '--build-base', base,
         'bdist_wheel', '--plat-name', f'linux_{machine}', '--dist-dir', base],
        cwd=ROOT, env=environment, check=True)


def finish() -> None:
    """From build/wheels into dist, under the names of what auditwheel finds them to be."""
    DIST.mkdir(exist_ok=True)
    for platform in PLATFORMS:
        for wheel in sorted((RAW / platform).glob('*.whl')):
            with tempfile.TemporaryDirectory() as scratch:
                fit = name_musl(wheel, Path(scratch)) if platform.startswith('musl') else wheel
                call('auditwheel', 'repair', '--wheel-dir', DIST, fit)
            start = '-'.join(wheel.name.split('-')[:-1])
            made = [path for path in DIST.glob(f'{start}-*.whl') if platform in path.name]
            if not made:
                fail(f'auditwheel does not find {wheel.name} to be {platform}')
            check(made[0])
            wheel.unlink()
            print(f'{made[0].relative_to(ROOT)}: {made[0].stat().st_size / 1e6:.2f} MB')


def name_musl(wheel: Path, scratch: Path) -> Path:
    """The same wheel, its C library called as where it is installed: zig knows it as libc.so."""
    machine = wheel.stem.partition('-linux_')[2]
    call('wheel', 'unpack', '--dest', scratch, wheel)
    [folder] = scratch.iterdir()
    call('patchelf', '--replace-needed', 'libc.so', f'libc.musl-{machine}.so.1',
         *folder.rglob('*.so'))
    call('wheel', 'pack', '--dest-dir', scratch, folder)
    [packed] = scratch.glob('*.whl')
    return packed


def call(program: str, *arguments: str | Path) -> None:
    """A program of the environment that this runs in; what it says, only if it fails."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    done = subprocess.run([program, *arguments], check=False, capture_output=True, text=True,
                          env={**os.environ, 'PATH': path})
    if done.returncode:
        fail(f'{program} {arguments[0]} has failed: {done.stderr}')


def check(wheel: Path) -> None:
    """What auditwheel does not look at."""
    if wheel.stat().st_size > MEGABYTES * 1e6:
        fail(f'{wheel.name} is larger than {MEGABYTES} MB')
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in ('LICENSE', 'LICENSE.liburing'):
        if not any(name.endswith(f'.dist-info/licenses/{wanted}') for name in names):
            fail(f'{wheel.name} lacks {wanted}')
    if any('.libs/' in name for name in names):
        fail(f'{wheel.name} brings shared libraries along')


def main() -> None:
    parser = argparse.ArgumentParser(prog='wheels.py', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    building = commands.add_parser('build')
    building.add_argument('--zig', required=True)
    building.add_argument('platforms', nargs='+', choices=PLATFORMS, metavar='PLATFORM')
    commands.add_parser('finish')
    arguments = parser.parse_args()
    if arguments.command == 'finish':
        finish()
        return
    for platform in arguments.platforms:
        build(arguments.zig, platform)
    print(f'Built for {", ".join(arguments.platforms)}')


if __name__ == '__main__':
    main()
