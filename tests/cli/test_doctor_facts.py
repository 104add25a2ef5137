"""What ``doctor`` reads of a machine, and how it judges: it is shown those of others."""
import dataclasses
import errno
import os
from unittest.mock import Mock

import pytest

from uringloop import UringUnavailableError
from uringloop.cli.doctor import advice, report
from uringloop.cli.doctor.advice import Facts, findings, status
from uringloop.cli.doctor.interfaces import Interface, _can_be_switched_on, interfaces
from uringloop.cli.doctor.path import PathFacts, Try
from uringloop.cli.doctor.ring import Ring
from uringloop.cli.doctor.system import container, system
from uringloop.ring.probe import probe_ring
from uringloop.ring.unavailable import unavailable

HEALTHY = {
    'proc/self/status': 'Name:\tpython\nCapEff:\t0000000000000000\nSeccomp:\t0\n',
    'proc/self/uid_map': '         0          0 4294967295\n',
    'proc/sys/kernel/io_uring_disabled': '0\n',
    'proc/sys/kernel/io_uring_group': '-1\n',
    'proc/sys/net/core/rmem_default': '212992\n',
    'proc/sys/net/core/rmem_max': '212992\n',
    'proc/sys/net/core/wmem_default': '212992\n',
    'proc/sys/net/core/wmem_max': '212992\n',
}
ETH0 = Interface('eth0', True, False, 1500, 'igb', True, True, True, True, ())
LO = Interface('lo', True, True, 65536, '', True, True, True, True, ())


@pytest.fixture
def machine(tmp_path):
    """Makes the files of one; returns where they begin."""
    def make(**files):
        for name, text in (HEALTHY | files).items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if text is not None:
                file.write_text(text)
        return tmp_path
    return make


@pytest.fixture
def facts(machine):
    """Facts of a machine on which nothing is short, but for what is given."""
    def make(files=(), *, ring=None, interfaces=(LO, ETH0), path=None, **changed):
        read = system(machine(**dict(files)))
        read = dataclasses.replace(read, **{
            'memlock': None, 'environment': {}, 'refused': '', 'features': '', **changed})
        return Facts(read, ring or Ring(whole_ring()), list(interfaces), path)
    return make


def whole_ring():
    """One that lacks nothing, whatever this kernel has and the environment switches off."""
    made = probe_ring()
    return made._replace(
        flags=made.flags + made.lacking_flags, lacking_flags=[],
        requests=made.requests + made.lacking_requests, lacking_requests=[],
        reports_copies=True, registered_trains=True, no_iowait=True)


def refused(code):
    """A ring that could not be had for that reason."""
    error = unavailable(code)
    assert isinstance(error, UringUnavailableError)
    return Ring(None, code, error.strerror)


def lines(facts):
    return [str(finding) for finding in findings(facts)]


class TestBlocked:

    @pytest.mark.parametrize(('files', 'words'), [
        ({'proc/sys/kernel/io_uring_disabled': '2'},
         ['kernel.io_uring_disabled is 2', ': set kernel.io_uring_disabled=0']),
        ({'proc/sys/kernel/io_uring_disabled': '1'},
         ['kernel.io_uring_disabled is 1', 'kernel.io_uring_group to a group of this user']),
        # It is not the sysctl: this group may.
        ({'proc/sys/kernel/io_uring_disabled': '1', 'proc/sys/kernel/io_uring_group': 'MINE',
          'proc/self/status': 'CapEff: 0\nSeccomp: 2\n'}, ['a seccomp filter forbids']),
        ({'proc/sys/kernel/io_uring_disabled': '1',
          'proc/self/status': 'CapEff: 000001ffffffffff\nSeccomp: 2\n'},
         ['a seccomp filter forbids']),
        # Capabilities of a user namespace are nothing to io_uring.
        ({'proc/sys/kernel/io_uring_disabled': '1', 'proc/self/uid_map': '0 1000 1\n',
          'proc/self/status': 'CapEff: 000001ffffffffff\nSeccomp: 2\n'},
         ['kernel.io_uring_disabled is 1']),
        ({'proc/self/status': 'CapEff: 0\nSeccomp: 2\n'}, ['a seccomp filter', 'SystemCallFilter']),
        ({'proc/self/status': 'CapEff: 0\nSeccomp: 2\n', '.dockerenv': ''},
         ['a seccomp filter', '--security-opt seccomp=FILE']),
        ({'proc/version': 'Linux version 4.4.0 (gVisor)'}, ['gVisor', 'runc']),
        ({}, ['io_uring is not available (EPERM: ', 'allow io_uring_setup']),
        # A kernel that has no such sysctl.
        ({'proc/sys/kernel/io_uring_disabled': ''}, ['io_uring is not available (EPERM: ']),
    ])
    def test_who_forbids_it(self, facts, files, words):
        files = {name: text.replace('MINE', str(os.getegid())) for name, text in files.items()}
        given = facts(files, ring=refused(errno.EPERM))
        [line] = lines(given)
        for word in words:
            assert word in line
        assert status(findings(given)) == 'blocked'
        assert line in report.to_text(given, findings(given))

    @pytest.mark.parametrize(('code', 'word'), [
        (errno.ENOSYS, 'hides it'), (errno.EINVAL, 'use Linux 6.1'),
        (errno.ENOMEM, 'ulimit -l'), (errno.EMFILE, 'ulimit -n'), (errno.EIO, 'io_uring_setup(2)')])
    def test_other_errors_have_their_own_words(self, facts, code, word):
        [line] = lines(facts(ring=refused(code)))
        assert errno.errorcode[code] in line and word in line


class TestLimited:

    def test_nothing_is_short(self, facts):
        given = facts()
        assert lines(given) == []
        assert status([]) == 'healthy'

    @pytest.mark.parametrize('name', ['rmem_max', 'wmem_max'])
    def test_small_socket_buffers(self, facts, name):
        [line] = lines(facts({f'proc/sys/net/core/{name}': '8192\n'}))
        assert line.startswith(f'net.core.{name} is 8 KiB')
        assert f': sysctl net.core.{name}=4194304 ' in line

    @pytest.mark.parametrize(('memlock', 'counts', 'short'), [
        (64 << 10, True, True), (8 << 20, True, False), (64 << 10, False, False),
        (None, True, False)])
    def test_locked_memory(self, facts, memlock, counts, short):
        given = facts(memlock=memlock, memlock_counts=counts)
        assert [line.startswith('64 KiB of memory') for line in lines(given)] == [True] * short

    def test_locked_memory_counts_without_the_capability(self, machine):
        cap_ipc_lock = f'CapEff: {1 << 14:016x}\n'
        assert system(machine()).memlock_counts
        assert not system(machine(**{'proc/self/status': cap_ipc_lock})).memlock_counts
        assert system(machine(**{'proc/self/status': cap_ipc_lock,
                                 'proc/self/uid_map': '0 1000 65536\n'})).memlock_counts

    def test_an_older_kernel(self, facts):
        new = whole_ring()
        old = new._replace(requests=new.requests[:-1], lacking_requests=['SENDMSG_ZC'],
                           reports_copies=False, registered_trains=False, entries=64)
        given = facts(ring=Ring(old))
        found = lines(given)
        assert found[0] == 'the kernel lacks SENDMSG_ZC: use Linux 6.1 or newer'
        assert 'use Linux 6.2' in found[1]
        assert found[2].startswith('memory was there for 64 submissions only')
        assert 'pin it at each send' in report.to_text(given, findings(given))

    def test_what_is_switched_off_on_purpose(self, facts):
        [line] = lines(facts(features='-send_zc'))
        assert line == ('URINGLOOP_FEATURES=-send_zc switches off what the kernel may have: '
                        'unset it')

    @pytest.mark.parametrize(('features', 'kernel'), [
        ('-all', 'SENDMSG_ZC'), ('-submit_all, -report_usage', 'SENDMSG_ZC, TASKRUN_FLAG')])
    def test_of_the_kernel_only_what_it_was_asked_for(self, facts, features, kernel):
        new = whole_ring()
        given = facts(features=features, ring=Ring(new._replace(
            lacking_requests=['SENDMSG_ZC'], lacking_flags=['SUBMIT_ALL', 'TASKRUN_FLAG'],
            reports_copies=False)))
        assert lines(given)[1:] == [f'the kernel lacks {kernel}: use Linux 6.1 or newer']

    def test_the_worst_first(self, facts):
        environment = {'URINGLOOP_DISABEL': '1', 'URINGLOOP_TRACE': '/tmp/trace'}
        found = findings(facts(environment=environment, ring=refused(errno.EIO)))
        assert [finding.level for finding in found] == ['blocked', 'limited']

    @pytest.mark.parametrize(('change', 'word'), [
        ({'scatter_gather': False}, 'no interface that is up sends without copying'),
        ({'scatter_gather': False, 'can_be_switched_on': ('scatter_gather',)},
         ': ethtool -K eth0 sg on'),
        ({'checksum_ipv4': False, 'checksum_ipv6': False, 'can_be_switched_on': ('checksum',)},
         ': ethtool -K eth0 tx on'),
        ({'driver': 'veth'}, 'no interface that is up'),
        ({'driver': 'tun'}, 'no interface that is up'),
        ({'up': False}, 'no interface that is up'),
        ({'udp_segmentation': False}, None),     # the kernel cuts trains itself, without a copy
        ({'scatter_gather': None, 'checksum_ipv4': None, 'checksum_ipv6': None}, None),
    ])
    def test_interfaces(self, facts, change, word):
        given = facts(interfaces=[LO, dataclasses.replace(ETH0, **change)])
        found = lines(given)
        assert [word in line for line in found] == [True] * (word is not None)

    def test_one_good_interface_is_enough(self, facts):
        fixed = dataclasses.replace(ETH0, name='eth1', scatter_gather=False)
        assert lines(facts(interfaces=[LO, fixed, ETH0])) == []

    def test_where_no_interface_is_told(self, facts, monkeypatch):
        """A service may be without netlink sockets."""
        monkeypatch.setattr('socket.if_nameindex', Mock(side_effect=OSError(97, 'no such family')))
        assert interfaces() == []
        assert lines(facts(interfaces=[])) == []

    @pytest.mark.parametrize(('features', 'expected'), [
        ({'tx-scatter-gather': (False, True)}, ('scatter_gather',)),
        ({'tx-scatter-gather': (False, False)}, ()),
        ({'tx-checksum-ip-generic': (False, True), 'tx-checksum-ipv4': (False, False)},
         ('checksum',)),
        ({'tx-checksum-ipv4': (True, True), 'tx-checksum-ipv6': (False, True)}, ()),
        ({}, ())])
    def test_what_may_be_switched_on(self, features, expected):
        assert _can_be_switched_on(features) == expected


class TestPaths:

    WAY = PathFacts('far', '192.0.2.1', 'eth0', False, 1500, 1472, ())

    def judged(self, facts, *tries, interfaces=(LO, ETH0), **changed):
        way = dataclasses.replace(self.WAY, tries=tries, **changed)
        return lines(facts(path=way, interfaces=interfaces))

    def test_without_a_copy(self, facts):
        assert self.judged(facts, Try('a datagram', 1472, False, '')) == []

    def test_a_kernel_that_does_not_tell(self, facts):
        assert self.judged(facts, Try('a datagram', 1472, None, '')) == []

    def test_beyond_the_mtu(self, facts):
        assert self.judged(facts, Try('a datagram', 16384, True, '')) == []

    def test_copied_for_no_visible_reason(self, facts):
        [line] = self.judged(facts, Try('a datagram', 1472, True, ''), Try('a train', 9, True, ''))
        assert line.startswith('the way to far copies a datagram, a train: neither MTU nor device')

    def test_copied_by_a_veth(self, facts):
        veth = dataclasses.replace(ETH0, driver='veth')
        line = self.judged(facts, Try('a train', 1200, True, ''), interfaces=[veth])[-1]
        assert line == 'the way to far copies a train: eth0: veth: it ends on this machine'

    def test_refused(self, facts):
        problem = 'the kernel refused to send it without copying'
        [line] = self.judged(facts, Try('a', 1200, True, problem), Try('b', 1472, True, problem))
        assert line == f'a to far: {problem}: raise the limit of locked memory (ulimit -l)'


@pytest.mark.parametrize(('files', 'expected'), [
    ({}, ''),
    ({'.dockerenv': ''}, 'Docker'),
    ({'run/.containerenv': 'engine="podman"\n'}, 'Podman'),
    ({'proc/1/cgroup': '0::/kubepods/besteffort/pod1/2\n', '.dockerenv': None}, 'Kubernetes'),
    ({'.dockerenv': '', 'var/run/secrets/kubernetes.io/token': ''}, 'Kubernetes'),
    ({'run/systemd/container': 'systemd-nspawn\n'}, 'systemd-nspawn'),
    ({'proc/1/environ': 'PATH=/bin\0container=lxc\0'}, 'lxc'),
    ({'proc/version': 'Linux version 4.4.0 gVisor'}, 'gVisor')])
def test_containers(machine, files, expected):
    assert container(machine(**files)) == expected


def test_files_that_are_not_there(tmp_path):
    read = system(tmp_path)
    assert set(read.sysctls.values()) == {None}
    assert (read.seccomp, read.container) == ('off', '')
    text = report.to_text(Facts(read, Ring(probe_ring()), [], None), [])
    assert 'kernel.io_uring_disabled=unknown' in text and 'wmem_max unknown' in text


@pytest.mark.parametrize(('count', 'words'), [
    (0, '0 bytes'), (1023, '1023 bytes'), (65536, '64 KiB'), (212992, '208 KiB'),
    (8 << 20, '8 MiB'), (3 << 29, '1.5 GiB')])
def test_sizes(count, words):
    assert advice.size(count) == words
