"""Processes that forbid themselves io_uring, as containers do."""
import textwrap

from tests.support.programs import script

# A child that forbids itself io_uring_setup (425; enter is 426, register 427), as containers do.
FORBID = '''
import ctypes, struct

def forbid_io_uring(error, call=425, action=0x00050000):
    """Answer io_uring_setup with an errno from now on, by a real seccomp filter."""
    code = [(0x20, 0, 0, 0),                       # load the system call's number
            (0x15, 0, 1, call),                    # not that one? skip the next line
            (0x06, 0, 0, action | error),          # SECCOMP_RET_ERRNO, usually
            (0x06, 0, 0, 0x7fff0000)]              # SECCOMP_RET_ALLOW
    program = b''.join(struct.pack('HBBI', *line) for line in code)
    buffer = ctypes.create_string_buffer(program)
    header = ctypes.create_string_buffer(
        struct.pack('HxxxxxxP', len(code), ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0         # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, header) == 0          # PR_SET_SECCOMP, SECCOMP_MODE_FILTER

'''


ERRNO = 0x00050000
KILL = 0x80000000          # SECCOMP_RET_KILL_PROCESS


def forbidden(text, error=1, *, action=ERRNO, **environment):
    """Run a script in a process that may not make rings."""
    return script(FORBID + f'forbid_io_uring({error}, action={action})\n' + textwrap.dedent(text),
                  **environment)
