"""Why io_uring cannot be had, and what cures that."""
from __future__ import annotations

import errno
import os

_ALLOW = 'allow io_uring_setup, io_uring_enter and io_uring_register in '

# Cause and cure, where a ring cannot be made.
_CAUSES = {
    errno.EPERM: (
        'a seccomp filter (a container?) or the sysctl kernel.io_uring_disabled forbids it',
        _ALLOW + 'the seccomp profile, or set kernel.io_uring_disabled=0'),
    errno.EACCES: ('a security policy forbids it', _ALLOW + 'that policy'),
    errno.ENOSYS: (
        'the kernel was built without io_uring, or a seccomp filter hides it',
        'use Linux 6.1 or newer with CONFIG_IO_URING, or allow it in the seccomp profile'),
    errno.EINVAL: (
        'the kernel is older than 6.1 and lacks SINGLE_ISSUER or DEFER_TASKRUN',
        'use Linux 6.1 or newer'),
    errno.ENOMEM: (
        'locked memory of this user is used up',
        'raise the limit (ulimit -l) or close other rings'),
    errno.EMFILE: ('this process has no descriptor left', 'raise the limit (ulimit -n)'),
    errno.ENFILE: ('the system has no descriptor left', 'raise fs.file-max'),
}

FORBIDDEN = (errno.EPERM, errno.EACCES, errno.ENOSYS)


class UringUnavailableError(OSError):
    """io_uring cannot be had: refused, switched off, or out of memory."""


def unavailable(error: int) -> UringUnavailableError:
    """A ring cannot be made, or not be run: the errno, the likely cause and the cure."""
    cause, cure = _CAUSES.get(error, ('the kernel refused it', 'see io_uring_setup(2)'))
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
