"""Whether this process may have io_uring, as far as files below /proc tell: sysctls, capabilities.

Each function takes the folder of those files, so that it can be shown others.
"""
from __future__ import annotations

import os

# No pathlib: it would be imported with the package.
Path = str | os.PathLike[str]

# <linux/capability.h>
CAP_IPC_LOCK, CAP_SYS_ADMIN = 14, 21

_SWITCH_ON = 'set kernel.io_uring_disabled=0'
_ALL_USERS = ['0', '0', '4294967295']       # uid_map outside of any user namespace


def switched_off(proc: Path) -> tuple[str, str] | None:
    """Cause and cure, if it is the sysctl that forbids it."""
    level = sysctl(proc, 'kernel.io_uring_disabled')
    if level == 2:
        return 'the sysctl kernel.io_uring_disabled is 2, which forbids it to all', _SWITCH_ON
    if level != 1 or capabilities(proc) >> CAP_SYS_ADMIN & 1:
        return None
    group = sysctl(proc, 'kernel.io_uring_group')
    if group is None or group < 0:
        return ('the sysctl kernel.io_uring_disabled is 1, which forbids it without '
                'CAP_SYS_ADMIN, and kernel.io_uring_group names no group',
                f'{_SWITCH_ON}, or kernel.io_uring_group to a group of this user')
    if group in (os.getegid(), *os.getgroups()):
        return None
    return ('the sysctl kernel.io_uring_disabled is 1, and this process is not in the group '
            f'{group} (kernel.io_uring_group)',
            f'{_SWITCH_ON}, or add the user to that group')


def sysctl(proc: Path, name: str) -> int | None:
    """None: there is no such, as before Linux 6.6, or it cannot be read."""
    try:
        return int(read(f'{proc}/sys/{name.replace(".", "/")}'))
    except ValueError:
        return None


def capabilities(proc: Path) -> int:
    """Those that count: io_uring wants those of the first user namespace."""
    if read(f'{proc}/self/uid_map').split() not in ([], _ALL_USERS):
        return 0
    return int(status(proc).get('CapEff', '0'), 16)


def status(proc: Path) -> dict[str, str]:
    """What /proc/self/status says of this process."""
    lines = read(f'{proc}/self/status').splitlines()
    return {name: value.strip() for name, _, value in (line.partition(':') for line in lines)}


def read(file: Path) -> str:
    """Its text; '' if it is not there, or is nobody's to read."""
    try:
        with open(file, errors='replace') as opened:
            return opened.read()
    except OSError:
        return ''
