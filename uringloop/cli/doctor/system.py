"""What the kernel is and what it allows this process: read from files below /proc and /run.

Each function takes the root of those files, so that it can be shown others.
"""
from __future__ import annotations

import os
import platform
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import uringloop

# <linux/capability.h>
CAP_IPC_LOCK, CAP_SYS_ADMIN = 14, 21

SECCOMP = {0: 'off', 1: 'strict', 2: 'filter'}      # <linux/seccomp.h>

# What a process that belongs to the machine, and not to a user namespace, has there.
WHOLE_RANGE = 4294967295


@dataclass(frozen=True)
class System:
    """None is what this kernel, or this process, is not told."""

    versions: dict[str, str]
    kernel: str
    # sysctls by their names
    sysctls: dict[str, int | None]
    # Whether this process is exempt where io_uring_disabled is 1
    may_use_when_restricted: bool
    # bytes; None: without limit
    memlock: int | None
    memlock_most: int | None                # what the process may raise it to
    memlock_counts: bool                    # False: CAP_IPC_LOCK
    seccomp: str
    container: str                          # '' outside of any


def system(root: Path = Path('/')) -> System:
    """All of this process."""
    status = _status(root)
    sysctls = {name: _sysctl(root, name) for name in (
        'kernel.io_uring_disabled', 'kernel.io_uring_group',
        'net.core.rmem_default', 'net.core.rmem_max',
        'net.core.wmem_default', 'net.core.wmem_max')}
    soft, hard = (None if limit == resource.RLIM_INFINITY else limit
                  for limit in resource.getrlimit(resource.RLIMIT_MEMLOCK))
    capabilities = int(status.get('CapEff', '0'), 16) if _is_of_machine(root) else 0
    group = sysctls['kernel.io_uring_group']
    return System(
        {'uringloop-zc': uringloop.__version__,
         platform.python_implementation(): platform.python_version() + sys.abiflags},
        os.uname().release, sysctls,
        bool(capabilities >> CAP_SYS_ADMIN & 1) or group in (os.getegid(), *os.getgroups()),
        soft, hard, not capabilities >> CAP_IPC_LOCK & 1,
        SECCOMP.get(int(status.get('Seccomp', '0')), 'unknown'), container(root))


def container(root: Path = Path('/')) -> str:
    """What kind of container this process is in, as far as it shows; '' if it does not."""
    if 'gvisor' in _read(root / 'proc/version').lower():
        return 'gVisor'
    # Runtimes tell the first process; systemd writes it down for all.
    told = _read(root / 'run/systemd/container').strip()
    for variable in _read(root / 'proc/1/environ').split('\0'):
        if variable.startswith('container='):
            told = told or variable.partition('=')[2]
    if (root / 'var/run/secrets/kubernetes.io').exists():
        return 'Kubernetes'
    if (root / 'run/.containerenv').exists():
        return 'Podman'
    if (root / '.dockerenv').exists():
        return 'Docker'
    groups = _read(root / 'proc/1/cgroup')
    for word, name in (('kubepods', 'Kubernetes'), ('docker', 'Docker'), ('libpod', 'Podman'),
                       ('lxc', 'LXC')):
        if word in groups:
            return name
    return told


def _is_of_machine(root: Path) -> bool:
    """Whether capabilities count: io_uring wants those of the first user namespace."""
    fields = _read(root / 'proc/self/uid_map').split()
    return not fields or fields[-1] == str(WHOLE_RANGE)


def _status(root: Path) -> dict[str, str]:
    lines = _read(root / 'proc/self/status').splitlines()
    return {name: value.strip() for name, _, value in (line.partition(':') for line in lines)}


def _sysctl(root: Path, name: str) -> int | None:
    try:
        return int(_read(root / 'proc/sys' / name.replace('.', '/')))
    except ValueError:
        return None


def _read(file: Path) -> str:
    """Its text; '' if it is not there, or is nobody's to read."""
    try:
        return file.read_text(errors='replace')
    except OSError:
        return ''
