"""Why io_uring cannot be had, and what cures that."""
from __future__ import annotations

import errno
import os
import resource

PROC = '/proc'

_ALLOW = 'allow io_uring_setup, io_uring_enter and io_uring_register in '
_SWITCH_ON = 'set kernel.io_uring_disabled=0'
_CAP_SYS_ADMIN = 1 << 21
_ALL_USERS = ['0', '0', '4294967295']       # uid_map outside of any user namespace

# Cause and cure, where a ring cannot be made; those of others are found out.
_CAUSES = {
    errno.EACCES: ('a security policy forbids it', _ALLOW + 'that policy'),
    errno.EINVAL: (
        'the kernel is older than 6.1 and lacks SINGLE_ISSUER or DEFER_TASKRUN',
        'use Linux 6.1 or newer'),
    errno.EOPNOTSUPP: (
        'the sandbox that this runs in (gVisor?) has no io_uring',
        'switch it on there (runsc --iouring), or run this outside of it'),
    errno.EMFILE: ('this process has no descriptor left', 'raise the limit (ulimit -n)'),
    errno.ENFILE: ('the system has no descriptor left', 'raise fs.file-max'),
}

FORBIDDEN = (errno.EPERM, errno.EACCES, errno.ENOSYS)


class UringUnavailableError(OSError):
    """io_uring cannot be had: refused, switched off, or out of memory."""


def unavailable(error: int) -> UringUnavailableError:
    """A ring cannot be made, or not be run: the errno, the likely cause and the cure."""
    cause, cure = _cause_of(error)
    name = errno.errorcode.get(error, str(error))
    return UringUnavailableError(
        error, f'io_uring is not available ({name}: {os.strerror(error)}): {cause}; {cure}')


def not_entered(error: int) -> OSError:
    """The kernel lets nobody in who has a ring already: what to raise."""
    if error not in FORBIDDEN:
        return OSError(error, f'io_uring_enter: {os.strerror(error)}')
    name = errno.errorcode[error]
    return UringUnavailableError(
        error, f'io_uring is no longer available ({name}: {os.strerror(error)}): a seccomp '
               f'filter, or another policy, that came after the loop was made forbids '
               f'io_uring_enter; {_ALLOW}it, or make the loop after it')


def _cause_of(error: int) -> tuple[str, str]:
    if error == errno.EPERM:
        return _switched_off() or _filtered('forbids')
    if error == errno.ENOSYS:
        if _sysctl('io_uring_disabled') is not None:       # as Linux 6.6 or newer, with io_uring
            return _filtered('hides')
        return ('the kernel was built without io_uring, or a seccomp filter hides it',
                'use Linux 6.1 or newer with CONFIG_IO_URING, or allow it in the seccomp profile')
    if error == errno.ENOMEM:
        limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
        allowed = 'unlimited' if limit < 0 else f'{limit} bytes'
        return (f'locked memory of this user is used up (RLIMIT_MEMLOCK: {allowed})',
                'raise the limit (ulimit -l, LimitMEMLOCK= of systemd) or close other rings')
    return _CAUSES.get(error, ('the kernel refused it', 'see io_uring_setup(2)'))


def _switched_off() -> tuple[str, str] | None:
    """Cause and cure, if it is the sysctl that forbids it."""
    level = _sysctl('io_uring_disabled')
    if level == 2:
        return 'the sysctl kernel.io_uring_disabled is 2, which forbids it to all', _SWITCH_ON
    if level != 1 or _is_privileged():
        return None
    group = _sysctl('io_uring_group')
    if group is None or group < 0:
        return ('the sysctl kernel.io_uring_disabled is 1, which forbids it without '
                'CAP_SYS_ADMIN, and kernel.io_uring_group names no group',
                f'{_SWITCH_ON}, or kernel.io_uring_group to a group of this user')
    if group in (os.getegid(), *os.getgroups()):
        return None
    return ('the sysctl kernel.io_uring_disabled is 1, and this process is not in the group '
            f'{group} (kernel.io_uring_group)',
            f'{_SWITCH_ON}, or add the user to that group')


def _filtered(verb: str) -> tuple[str, str]:
    if _status('Seccomp') == '0':
        return f'a security policy or the sandbox that this runs in {verb} it', \
            _ALLOW + 'that policy'
    return f'a seccomp filter {verb} it (that of a container?)', _ALLOW + 'the seccomp profile'


def _read(name: str) -> str:
    with open(f'{PROC}/{name}') as file:
        return file.read()


def _sysctl(name: str) -> int | None:
    """None: there is no such, as before Linux 6.6, or it cannot be read."""
    try:
        return int(_read(f'sys/kernel/{name}'))
    except (OSError, ValueError):
        return None


def _status(name: str) -> str | None:
    """What /proc/self/status says of this process."""
    try:
        for line in _read('self/status').splitlines():
            key, _, value = line.partition(':')
            if key == name:
                return value.strip()
    except OSError:
        pass
    return None


def _is_privileged() -> bool:
    """Whether it has CAP_SYS_ADMIN that counts: not in a user namespace."""
    try:
        users = _read('self/uid_map').split()
        return users == _ALL_USERS and bool(int(_status('CapEff') or '0', 16) & _CAP_SYS_ADMIN)
    except (OSError, ValueError):
        return False
