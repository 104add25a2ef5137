"""Why io_uring cannot be had, and what cures that."""
from __future__ import annotations

import errno
import os
import resource

from uringloop.ring.permissions import status, switched_off, sysctl

PROC = '/proc'

_ALLOW = 'allow io_uring_setup, io_uring_enter and io_uring_register in '

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
    """io_uring cannot be had: refused, switched off, or out of memory.

    ``errno`` is that of io_uring_setup(2), ``strerror`` names the likely cause and the cure.
    """


def unavailable(error: int) -> UringUnavailableError:
    """A ring cannot be made, or not be run: the errno, the likely cause and the cure."""
    cause, cure = _cause_of(error)
    name = errno.errorcode.get(error, str(error))
    return UringUnavailableError(
        error, f'io_uring is not available ({name}: {os.strerror(error)}): {cause}; {cure}')


def without_eventfd(error: int) -> UringUnavailableError:
    """Threads could not wake the loop: what to raise."""
    cause, cure = _CAUSES.get(error, ('the kernel refused it', 'see eventfd(2)'))
    if error in FORBIDDEN:
        cause, cure = 'a seccomp filter, or another policy, forbids it', 'allow eventfd2 there'
    name = errno.errorcode.get(error, str(error))
    return UringUnavailableError(
        error, f'eventfd is not available ({name}: {os.strerror(error)}): {cause}; {cure}')


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
        return switched_off(PROC) or _filtered('forbids')
    if error == errno.ENOSYS:
        # From Linux 6.6 on there is the sysctl if there is io_uring.
        if sysctl(PROC, 'kernel.io_uring_disabled') is not None:
            return _filtered('hides')
        return ('the kernel was built without io_uring, or a seccomp filter hides it',
                'use Linux 6.1 or newer with CONFIG_IO_URING, or allow it in the seccomp profile')
    if error == errno.ENOMEM:
        limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
        allowed = 'unlimited' if limit < 0 else f'{limit} bytes'
        return (f'locked memory of this user is used up (RLIMIT_MEMLOCK: {allowed})',
                'raise the limit (ulimit -l, LimitMEMLOCK= of systemd) or close other rings')
    return _CAUSES.get(error, ('the kernel refused it', 'see io_uring_setup(2)'))


def _filtered(verb: str) -> tuple[str, str]:
    if status(PROC).get('Seccomp') == '0':
        return f'a security policy or the sandbox that this runs in {verb} it', \
            _ALLOW + 'that policy'
    return f'a seccomp filter {verb} it (that of a container?)', _ALLOW + 'the seccomp profile'
