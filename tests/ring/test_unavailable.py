"""Why io_uring cannot be had: which cause and which cure are named for which errno."""
import errno
import os

import pytest

from tests.support.namespaces import needs_root
from tests.support.programs import script
from tests.support.seccomp import FORBID
from uringloop.ring import unavailable as module
from uringloop.ring.unavailable import UringUnavailableError, unavailable

EVENTFD2 = {'x86_64': 290, 'aarch64': 19}.get(os.uname().machine)    # its number
MINE = os.getegid()
OTHER = 60_001
PRIVILEGED, BARE = '000001ffffffffff', '0000000000000000'
WHOLE, NAMESPACE = '         0          0 4294967295\n', '         0       1000          1\n'


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Say what /proc has: its sysctls, the seccomp mode, capabilities and the user namespace."""
    def make(disabled=None, group=None, seccomp='2', capabilities=BARE, users=WHOLE):
        (tmp_path / 'sys/kernel').mkdir(parents=True)
        (tmp_path / 'self').mkdir()
        for name, value in (('io_uring_disabled', disabled), ('io_uring_group', group)):
            if value is not None:
                (tmp_path / 'sys/kernel' / name).write_text(f'{value}\n')
        (tmp_path / 'self/status').write_text(
            f'Name:\tpython\nCapEff:\t{capabilities}\nSeccomp:\t{seccomp}\nSeccomp_filters:\t1\n')
        (tmp_path / 'self/uid_map').write_text(users)
        monkeypatch.setattr(module, 'PROC', tmp_path)

    return make


def text_of(error):
    told = unavailable(error)
    assert type(told) is UringUnavailableError
    assert told.errno == error
    name = errno.errorcode[error]
    assert told.strerror.startswith(f'io_uring is not available ({name}: {os.strerror(error)}): ')
    return told.strerror.partition('): ')[2]


class TestSwitchedOff:

    def test_for_all(self, machine):
        machine(disabled=2, group=-1, capabilities=PRIVILEGED)
        assert text_of(errno.EPERM) == ('the sysctl kernel.io_uring_disabled is 2, which forbids '
                                        'it to all; set kernel.io_uring_disabled=0')

    @pytest.mark.parametrize(('capabilities', 'users'), [
        (BARE, WHOLE), (PRIVILEGED, NAMESPACE)])
    def test_for_those_without_privilege_and_there_is_no_group(self, machine, capabilities, users):
        """Root of a user namespace has none that counts."""
        machine(disabled=1, group=-1, capabilities=capabilities, users=users)
        assert 'is 1, which forbids it without CAP_SYS_ADMIN' in text_of(errno.EPERM)
        assert 'kernel.io_uring_group to a group of this user' in text_of(errno.EPERM)

    def test_for_those_outside_a_group(self, machine):
        machine(disabled=1, group=OTHER)
        assert f'not in the group {OTHER} (kernel.io_uring_group)' in text_of(errno.EPERM)
        assert 'add the user to that group' in text_of(errno.EPERM)

    @pytest.mark.parametrize('how', [
        {'disabled': 1, 'group': MINE},
        {'disabled': 1, 'group': -1, 'capabilities': PRIVILEGED},
        {'disabled': 0, 'group': -1}, {}])
    def test_not_by_the_sysctl(self, machine, how):
        machine(**how)
        assert text_of(errno.EPERM) == (
            'a seccomp filter forbids it (that of a container?); allow io_uring_setup, '
            'io_uring_enter and io_uring_register in the seccomp profile')

    def test_neither_by_it_nor_by_a_filter(self, machine):
        machine(disabled=0, seccomp='0')
        assert 'a security policy or the sandbox' in text_of(errno.EPERM)

    def test_nothing_can_be_read(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module, 'PROC', tmp_path)
        assert 'seccomp' in text_of(errno.EPERM)
        assert 'CONFIG_IO_URING' in text_of(errno.ENOSYS)


class TestOthers:

    def test_hidden_or_not_built(self, machine):
        machine(disabled=0)
        # From Linux 6.6 on there is the sysctl if there is io_uring.
        assert 'a seccomp filter hides it' in text_of(errno.ENOSYS)

    def test_not_built(self, machine):
        machine()
        assert 'CONFIG_IO_URING' in text_of(errno.ENOSYS)

    def test_locked_memory(self, monkeypatch):
        monkeypatch.setattr(module.resource, 'getrlimit', lambda _: (65536, 65536))
        assert 'used up (RLIMIT_MEMLOCK: 65536 bytes); raise the limit (ulimit -l' \
            in text_of(errno.ENOMEM)

    @pytest.mark.parametrize(('error', 'cause', 'cure'), [
        (errno.EACCES, 'a security policy forbids it', 'allow io_uring_setup'),
        (errno.EOPNOTSUPP, 'gVisor', 'runsc --iouring'),
        (errno.EINVAL, 'older than 6.1', 'use Linux 6.1 or newer'),
        (errno.EMFILE, 'no descriptor left', 'ulimit -n'),
        (errno.EIO, 'refused', 'io_uring_setup(2)')])
    def test_by_the_errno_alone(self, error, cause, cure):
        said, _, helps = text_of(error).partition('; ')
        assert cause in said
        assert cure in helps


@pytest.mark.skipif(EVENTFD2 is None, reason='the number of eventfd2 is not known')
@pytest.mark.parametrize(('error', 'said'), [
    (errno.EPERM, 'a seccomp filter, or another policy, forbids it; allow eventfd2 there'),
    (errno.EMFILE, 'this process has no descriptor left; raise the limit (ulimit -n)'),
    (errno.ENOMEM, 'the kernel refused it; see eventfd(2)')])
def test_no_eventfd_to_be_woken_by(error, said):
    assert script(FORBID + f'''
import asyncio, os, uringloop, warnings
forbid_io_uring({error}, call={EVENTFD2})
before = os.listdir('/proc/self/fd')
try:
    uringloop.new_event_loop(require_uring=True)
except uringloop.UringUnavailableError as exc:
    print(exc.errno, exc.strerror)
print(os.listdir('/proc/self/fd') == before)
warnings.simplefilter('ignore')
print(uringloop.run(asyncio.sleep(0, 'runs all the same')))
''') == (f'{error} eventfd is not available ({errno.errorcode[error]}: '
           f'{os.strerror(error)}): {said}\nTrue\nruns all the same\n')


@needs_root
@pytest.mark.parametrize(('level', 'said'), [
    (2, 'kernel.io_uring_disabled is 2'), (0, 'a seccomp filter forbids it')])
def test_the_sysctl_is_really_read(tmp_path, level, said):
    """In a mount namespace of its own: the machine's sysctl is left alone."""
    value = tmp_path / 'value'
    value.write_text(f'{level}\n')
    assert said in script(FORBID + f'''
import subprocess, uringloop
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0                  # CLONE_NEWNS
assert libc.mount(b'none', b'/', None, 0x44000, None) == 0      # MS_REC | MS_PRIVATE
assert libc.mount({str(value).encode()!r}, b'/proc/sys/kernel/io_uring_disabled', None,
                  0x1000, None) == 0               # MS_BIND
forbid_io_uring(1)
try:
    uringloop.new_event_loop(require_uring=True)
except uringloop.UringUnavailableError as error:
    print(error)
''')


def test_register_is_forbidden_while_the_loop_runs():
    """What is registered for a run cannot be given up then; it runs again all the same."""
    assert script(FORBID + '''
import asyncio, uringloop

async def main():
    forbid_io_uring(1, call=427)                   # io_uring_register
    await asyncio.sleep(0)

loop = uringloop.new_event_loop(require_uring=True)
loop.run_until_complete(main())
loop.run_until_complete(asyncio.sleep(0.001))
loop.close()
print('ran twice')
''') == 'ran twice\n'
