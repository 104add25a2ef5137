"""``python -m uringloop doctor``, as it is run: where all is well, and where it is not."""
import errno
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys

import pytest

from tests.support.features import needs_feature
from tests.support.namespaces import Hole, Namespace, Wire, needs_root
from tests.support.programs import ROOT, python
from tests.support.seccomp import FORBID
from uringloop.cli.doctor import advice, command
from uringloop.cli.doctor import path as path_module

DOCTOR = [sys.executable, '-m', 'uringloop', 'doctor']
ENVIRONMENT = {name: value for name, value in os.environ.items()
               if not name.startswith('URINGLOOP_')}


def doctor(*arguments, before=(), **changes):
    """Run it, behind ``before`` if need be; it is told of nothing that is switched off."""
    return subprocess.run([*before, *DOCTOR, *arguments], cwd=ROOT, timeout=60,
                          env=ENVIRONMENT | changes, capture_output=True, text=True, check=False)


def doctor_in(namespace, *arguments):
    with namespace.entered():
        return doctor(*arguments)


def advice_of(done):
    """What stands behind the last empty line: the verdict, and a line a finding."""
    verdict, *found = done.stdout.rpartition('\n\n')[2].splitlines()
    return verdict, [line.removeprefix('  - ') for line in found]


def words(done):
    """Its lines, without the blanks of tables."""
    return {' '.join(line.split()) for line in done.stdout.splitlines()}


def forbidden_doctor(*arguments, calls='forbid_io_uring(1)'):
    """Run it in a process that may not make rings."""
    return python('-c', f'{FORBID}{calls}\nfrom uringloop.cli.doctor import command\n'
                        f'command.main({list(arguments)!r})')


@pytest.fixture(scope='module')
def hole():
    with Hole() as namespace:
        yield namespace


@pytest.fixture(scope='module')
def narrow():
    with Hole(1500) as namespace:
        yield namespace


@needs_root
class TestHealthy:

    def test_nothing_is_short(self, hole):
        done = doctor_in(hole)
        assert (done.returncode, done.stderr) == (0, ''), done.stdout
        assert advice_of(done) == ('Nothing is short.', [])
        assert 'io_uring        yes, with 256 submissions, restricted' in done.stdout
        assert 'SEND_ZC' in done.stdout
        [line] = [line for line in done.stdout.splitlines() if line.startswith('hole')]
        assert line.split()[:5] == ['hole', '65535', 'on', 'on', 'on']
        assert line.endswith('trains; single datagrams to 65,507 bytes')

    def test_as_json(self, hole):
        done = doctor_in(hole, '--json')
        facts = json.loads(done.stdout)
        assert done.returncode == 0
        assert facts['status'] == 'healthy'
        assert facts['findings'] == []
        assert facts['path'] is None
        assert facts['ring']['available'] and facts['ring']['restricted']
        assert facts['ring']['lacking_requests'] == facts['ring']['lacking_flags'] == []
        assert facts['system']['sysctls']['net.core.wmem_max'] > 0
        by_name = {each['name']: each for each in facts['interfaces']}
        assert by_name['lo']['loopback'] and by_name['lo']['copies']
        hole_facts = by_name['hole']
        assert (hole_facts['mtu'], hole_facts['driver'], hole_facts['up']) == (65535, 'ifb', True)
        assert hole_facts['scatter_gather'] is hole_facts['checksum_ipv4'] is True
        assert hole_facts['copies'] == ''

    @pytest.mark.parametrize('peer', [Hole.peer, Hole.peer6])
    def test_the_path_is_tried(self, hole, peer):
        before = hole.taken()[0]
        done = doctor_in(hole, '--dest', peer[0])
        assert done.returncode == 0, done.stdout
        assert f'to {peer[0]} by hole, MTU 65535:' in done.stdout
        assert {'a datagram of 65,000 bytes zero-copy',
                'a train of 16 datagrams of 1,200 bytes zero-copy'} <= words(done), done.stdout
        assert hole.taken()[0] >= before + 2

    def test_nothing_is_sent_unasked(self, narrow):
        before = narrow.taken()[0]
        assert doctor_in(narrow).returncode == 0
        assert narrow.taken()[0] == before

    def test_what_exceeds_the_mtu_is_copied_and_no_shortfall(self, narrow):
        done = doctor_in(narrow, '--dest', narrow.peer[0])
        assert done.returncode == 0, done.stdout
        assert 'single datagrams to 1,472 bytes where asked for' in done.stdout
        assert {'a datagram of 1,472 bytes zero-copy',
                'a train of 16 datagrams of 1,200 bytes zero-copy',
                'a datagram of 16,384 bytes copied, for it exceeds the MTU'} <= words(done)


@needs_root
class TestLimited:

    @pytest.mark.parametrize(('feature', 'name'), [('sg', 'scatter/gather'), ('tx', 'checksum')])
    def test_a_device_without(self, feature, name):
        with Hole() as namespace:
            namespace.without('hole', feature)
            done = doctor_in(namespace, '--dest', namespace.peer[0])
        assert done.returncode == 1
        verdict, found = advice_of(done)
        assert verdict == 'The loop works, and could do more:'
        assert found[0] == (f'hole: {name} off, so the kernel copies all sends: '
                            f'ethtool -K hole {feature} on')
        # The kernel says the same.
        assert found[1].startswith(f'the way to {namespace.peer[0]} copies a datagram of ')
        assert found[1].split(': ')[1] == 'hole'
        assert len(found) == 2

    def test_only_interfaces_that_copy(self):
        with Namespace() as namespace:
            done = doctor_in(namespace)
        assert done.returncode == 1
        [found] = advice_of(done)[1]
        assert found.startswith('no interface that is up sends without copying: ')

    def test_a_veth_is_no_way_out(self, wire):
        done = doctor_in(wire, '--json')
        facts = json.loads(done.stdout)
        [found] = facts['findings']
        assert found['problem'] == 'no interface that is up sends without copying'
        [veth] = [each for each in facts['interfaces'] if each['name'] == 'wire']
        assert veth['copies'] == 'veth: it ends on this machine'

    @pytest.mark.skipif(not shutil.which('setpriv'), reason='needs setpriv, of util-linux')
    def test_little_memory_that_may_be_locked(self, hole):
        """A process without CAP_IPC_LOCK, whose limit counts."""
        limit = 64 << 10
        with hole.entered():
            done = subprocess.run(
                ['setpriv', '--bounding-set=-ipc_lock', '--inh-caps=-ipc_lock', *DOCTOR,
                 '--dest', hole.peer[0]], cwd=ROOT, capture_output=True, text=True, timeout=60,
                check=False, env=ENVIRONMENT,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit)))
        assert done.returncode == 1, done.stdout
        assert 'locked memory   64 KiB, room for 1 x 64 KiB on the way' in done.stdout
        found = advice_of(done)[1]
        assert any(line.startswith('64 KiB of memory may be locked') for line in found)
        assert any('submissions only: raise the limit of locked memory' in line for line in found)

    def test_the_own_machine_as_destination(self):
        done = doctor('--dest', '127.0.0.1')
        assert re.search(r'bytes +copied, for the receiver is on this machine$', done.stdout,
                         re.MULTILINE)
        assert done.returncode == doctor().returncode       # nothing is short that was not before


class TestBlocked:

    @pytest.mark.parametrize('call', [425, 426, 427])
    def test_by_a_filter(self, call):
        done = forbidden_doctor(calls=f'forbid_io_uring(1, {call})')
        assert done.returncode == 3, done.stdout
        assert 'io_uring        no\n' in done.stdout
        assert 'seccomp         filter\n' in done.stdout
        verdict, found = advice_of(done)
        assert verdict.startswith('io_uring cannot be had here')
        assert found[0].startswith('a seccomp filter forbids io_uring: allow io_uring_setup, ')

    def test_by_a_filter_that_kills(self):
        """As a unit's SystemCallFilter does."""
        done = forbidden_doctor(calls='forbid_io_uring(0, action=0x80000000)')
        assert done.returncode == 3, done.stderr
        assert advice_of(done)[1][0].startswith('a seccomp filter forbids io_uring and kills: ')

    def test_by_another_policy(self):
        done = forbidden_doctor(calls='forbid_io_uring(13)')
        assert done.returncode == 3
        assert 'EACCES' in advice_of(done)[1][0]

    def test_as_json_and_nothing_is_sent(self):
        done = forbidden_doctor('--json', '--dest', '127.0.0.1')
        facts = json.loads(done.stdout)
        assert done.returncode == 3
        assert facts['status'] == 'blocked'
        assert facts['findings'][0]['level'] == 'blocked'
        assert facts['ring']['available'] is False and facts['ring']['errno'] == 1
        assert facts['path'] is None


class TestEnvironment:

    def test_none(self):
        assert 'environment     nothing that begins with URINGLOOP_\n' in doctor().stdout

    @pytest.mark.parametrize(('name', 'value'), [
        ('DISABLE', 'yes'), ('REQUIRE', 'true'), ('GRO', '2'), ('BATCH', ' '),
        ('FEATURES', '-frob')])
    def test_one_by_which_no_loop_can_be_made(self, name, value):
        """The words are those of the exception; and no loop is made to try a path, either."""
        variable = {f'URINGLOOP_{name}': value}
        done = doctor('--dest', '127.0.0.1', **variable)
        made = python('-c', 'import uringloop; uringloop.new_event_loop()', cwd=ROOT, **variable)
        assert (done.returncode, done.stderr) == (3, '')
        assert shlex.split(re.search(r'^environment +(.*)$', done.stdout, re.MULTILINE)[1]) == [
            f'URINGLOOP_{name}={value}']
        verdict, found = advice_of(done)
        assert verdict == 'No loop can be made in this environment:'
        assert found[0] == f'new_event_loop raises {made.stderr.splitlines()[-1]}'

    def test_switched_off(self):
        done = doctor(URINGLOOP_DISABLE='1')
        assert done.returncode == 3
        verdict, found = advice_of(done)
        assert verdict == 'io_uring is switched off in this environment:'
        assert found[0] == "URINGLOOP_DISABLE=1: programs run on asyncio's own loop: unset it"

    def test_switched_off_and_required(self):
        done = doctor(URINGLOOP_DISABLE='1', URINGLOOP_REQUIRE='1')
        assert done.returncode == 3
        assert advice_of(done)[1][0] == (
            'URINGLOOP_DISABLE=1 switches off what URINGLOOP_REQUIRE=1 requires, so '
            'new_event_loop raises UringUnavailableError: unset one of them')

    def test_a_name_that_there_is_not(self):
        done = doctor('--json', URINGLOOP_DISABEL='1')
        facts = json.loads(done.stdout)
        assert facts['system']['environment'] == {'URINGLOOP_DISABEL': '1'}
        assert {'level': 'limited', 'problem': 'URINGLOOP_DISABEL is no variable of uringloop',
                'cure': 'choose from URINGLOOP_FEATURES, URINGLOOP_REQUIRE, URINGLOOP_DISABLE, '
                        'URINGLOOP_BATCH, URINGLOOP_GRO'} in facts['findings']

    def test_what_is_well(self):
        settings = {'URINGLOOP_REQUIRE': '1', 'URINGLOOP_DISABLE': '0', 'URINGLOOP_BATCH': '0'}
        done = doctor(**settings)
        assert advice_of(done) == advice_of(doctor())
        assert ('environment     URINGLOOP_BATCH=0 URINGLOOP_DISABLE=0 URINGLOOP_REQUIRE=1\n'
                in done.stdout)

    def test_features_that_are_switched_off_tell_nothing_of_the_kernel(self):
        found = advice_of(doctor(URINGLOOP_FEATURES='-all'))[1]
        assert found[0] == ('URINGLOOP_FEATURES=-all switches off what the kernel may have: '
                            'unset it')
        assert not [line for line in found[1:] if 'use Linux' in line]


class TestOutput:

    @pytest.mark.parametrize('arguments', [[], ['--json']])
    @pytest.mark.parametrize(('how', 'error'), [
        ('>/dev/full', errno.ENOSPC), ('>&-', errno.EBADF), ('| exec 0<&-', errno.EPIPE)])
    def test_that_cannot_be_written(self, arguments, how, error):
        """One line and a status of its own, no traceback, and nothing more at the exit."""
        line = f'{shlex.join([*DOCTOR, *arguments])} {how}; exit ${{PIPESTATUS[0]}}'
        done = subprocess.run(['bash', '-c', line], cwd=ROOT, env=ENVIRONMENT, timeout=60,
                              capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (4, '')
        assert done.stderr == f'doctor: standard output: {os.strerror(error)}\n'

    def test_with_nobody_to_tell(self):
        done = subprocess.run(['bash', '-c', f'{shlex.join(DOCTOR)} >&- 2>&-'], cwd=ROOT,
                              env=ENVIRONMENT, timeout=60, check=False)
        assert done.returncode == 4


class TestDestinations:

    @pytest.mark.parametrize('name', ['nowhere.invalid', 'a' * 70])
    def test_no_such_host(self, name):
        done = doctor('--dest', name)
        assert (done.returncode, done.stdout) == (2, '')
        assert done.stderr.startswith(f'doctor: --dest {name}: ')
        assert done.stderr.count('\n') == 1

    def test_a_port_is_not_asked_for(self):
        assert doctor('--dest', '127.0.0.1:9000').stderr.endswith(
            '; name a host or its address, without a port\n')

    @pytest.mark.parametrize(('name', 'what'), [
        ('127.255.255.255', 'a broadcast address'), ('224.0.0.1', 'the address of a group'),
        ('ff02::1', 'the address of a group')])
    def test_more_than_one_host(self, name, what):
        done = doctor('--dest', name)
        assert (done.returncode, done.stdout) == (2, '')
        assert done.stderr == f'doctor: --dest {name}: {what}; name one host\n'

    @needs_root
    def test_no_way_there(self):
        with Namespace() as namespace:
            done = doctor_in(namespace, '--dest', '192.0.2.1')
        assert (done.returncode, done.stdout) == (2, '')
        assert done.stderr == 'doctor: --dest 192.0.2.1: Network is unreachable\n'

    @needs_feature('send_zc', 'report_usage')
    @needs_root
    def test_a_neighbour_that_does_not_answer(self, monkeypatch):
        monkeypatch.setattr(path_module, 'PATIENCE', 0.01)
        with Wire() as wire, wire.entered():
            facts = path_module.path(wire.peer[0])
            wire.release()
        assert {(each.copied, each.problem) for each in facts.tries} == {
            (None, 'not sent within 3 seconds: the next host does not answer')}
        assert len(facts.tries) == 2
        found = list(advice._of_path(advice.Facts(None, None, [], facts)))
        assert [each.cure for each in found] == ['look at the route and at the next host']


    def test_what_the_kernel_says_while_nobody_answers_is_not_told(self, monkeypatch):
        """It drops some, and lets go of them without having copied."""
        async def silent(loop, address, what, length, segment=None):
            tried.append(what)
            return path_module.Try(what, length, None, path_module.SILENT)

        tried = []
        monkeypatch.setattr(path_module, '_try', silent)
        facts = path_module.path('127.0.0.1')
        assert len(tried) == 1
        assert [each.problem for each in facts.tries] == [path_module.SILENT] * 2


def test_arguments(capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(['--des', 'x', 'what'])
    assert ended.value.code == 2
    with pytest.raises(SystemExit) as ended:
        command.main(['--help'])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for word in ('--dest ADDRESS', '--json', 'exit status:', 'examples:'):
        assert word in shown


def test_help_of_the_package_names_it():
    assert 'doctor' in python('-m', 'uringloop', '--help', cwd=ROOT).stdout
