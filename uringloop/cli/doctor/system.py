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
from uringloop.options import check_options
from uringloop.ring import permissions
from uringloop.ring.permissions import read, status

SECCOMP = {0: 'off', 1: 'strict', 2: 'filter'}      # <linux/seccomp.h>


@dataclass(frozen=True)
class System:
    """None is what this kernel, or this process, is not told."""

    versions: dict[str, str]
    kernel: str
    # sysctls by their names
    sysctls: dict[str, int | None]
    # variables whose names begin with URINGLOOP_, unless they are empty
    environment: dict[str, str]
    # the ValueError by which new_event_loop refuses them; '' if it does not
    refused: str
    # what is switched off on purpose: URINGLOOP_FEATURES
    features: str
    # cause and cure, if the sysctls keep this process from io_uring
    switched_off: tuple[str, str] | None
    # bytes; None: without limit
    memlock: int | None
    memlock_most: int | None                # what the process may raise it to
    memlock_counts: bool                    # False: CAP_IPC_LOCK
    seccomp: str
    container: str                          # '' outside of any


def system(root: Path = Path('/')) -> System:
    """All of this process."""
    proc = root / 'proc'
    sysctls = {name: permissions.sysctl(proc, name) for name in (
        'kernel.io_uring_disabled', 'kernel.io_uring_group',
        'net.core.rmem_default', 'net.core.rmem_max',
        'net.core.wmem_default', 'net.core.wmem_max')}
    soft, hard = (None if limit == resource.RLIM_INFINITY else limit
                  for limit in resource.getrlimit(resource.RLIMIT_MEMLOCK))
    return System(
        {'uringloop-zc': uringloop.__version__,
         platform.python_implementation(): platform.python_version() + sys.abiflags},
        os.uname().release, sysctls,
        {name: value for name, value in sorted(os.environ.items())
         if name.startswith('URINGLOOP_') and value},
        refused(), os.environ.get('URINGLOOP_FEATURES', ''),
        permissions.switched_off(proc),
        soft, hard, not permissions.capabilities(proc) >> permissions.CAP_IPC_LOCK & 1,
        SECCOMP.get(int(status(proc).get('Seccomp', '0')), 'unknown'), container(root))


def refused() -> str:
    """What a loop that is made as most are says of this environment, if it cannot be made."""
    try:
        check_options(entries=256, busy_poll=50)
    except ValueError as error:
        return str(error)
    return ''


def container(root: Path = Path('/')) -> str:
    """What kind of container this process is in, as far as it shows; '' if it does not."""
    if 'gvisor' in read(root / 'proc/version').lower():
        return 'gVisor'
    # Runtimes tell the first process; systemd writes it down for all.
    told = read(root / 'run/systemd/container').strip()
    for variable in read(root / 'proc/1/environ').split('\0'):
        if variable.startswith('container='):
            told = told or variable.partition('=')[2]
    if (root / 'var/run/secrets/kubernetes.io').exists():
        return 'Kubernetes'
    if (root / 'run/.containerenv').exists():
        return 'Podman'
    if (root / '.dockerenv').exists():
        return 'Docker'
    groups = read(root / 'proc/1/cgroup')
    for word, name in (('kubepods', 'Kubernetes'), ('docker', 'Docker'), ('libpod', 'Podman'),
                       ('lxc', 'LXC')):
        if word in groups:
            return name
    return told
