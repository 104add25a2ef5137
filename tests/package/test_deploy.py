"""The profiles of docs/deploy.md: programs run under them, and nothing else does."""
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.support.features import needs_feature
from tests.support.namespaces import Hole, needs_root
from tests.support.programs import ROOT
from tests.support.seccomp_profiles import Profile, numbers
from uringloop.ring.probe import probe_ring

pytestmark = pytest.mark.skipif(not shutil.which('gcc'),
                                reason='gcc tells the numbers of system calls')

DEPLOY = (ROOT / 'docs/deploy.md').read_text()
DOCUMENT = json.loads((ROOT / 'docs/seccomp.json').read_text())
PYTHON = [sys.executable, '-W', 'error']
URING = {'io_uring_setup', 'io_uring_enter', 'io_uring_register'}

# Much of what a service does: datagrams, streams, TLS, names, children, threads, files, signals.
SERVICE = '''
import asyncio, os, signal, socket, ssl, subprocess, sys, tempfile, threading
import uringloop

class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport
    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)

class Client(asyncio.DatagramProtocol):
    def datagram_received(self, data, addr):
        self.answer.set_result(data)

async def echo_stream(reader, writer):
    writer.write(await reader.read(100_000))
    await writer.drain()
    writer.close()

async def main():
    loop = asyncio.get_running_loop()
    assert type(loop) is uringloop.Loop, loop
    server, _ = await loop.create_datagram_endpoint(Echo, ('127.0.0.1', 0))
    Client.answer = loop.create_future()
    client, _ = await loop.create_datagram_endpoint(
        Client, remote_addr=server.get_extra_info('sockname'))
    client.sendto(b'datagram')
    assert await Client.answer == b'datagram'
    report = await client.sendto_zerocopy(bytearray(4000))
    pool = loop.create_buffer_pool(2, 4096)
    with await pool.acquire() as lease:
        client.sendto(lease)
    await pool.close()
    client.close()
    server.close()

    listener = await asyncio.start_server(echo_stream, '127.0.0.1', 0)
    reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    writer.write(b'stream' * 1000)
    writer.write_eof()
    assert await reader.read() == b'stream' * 1000
    writer.close()
    listener.close()
    await loop.getaddrinfo('localhost', 80)
    ssl.create_default_context()

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'socket')
        listener = await asyncio.start_unix_server(echo_stream, path)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b'unix')
        writer.write_eof()
        assert await reader.read() == b'unix'
        writer.close()
        listener.close()
    child = await asyncio.create_subprocess_exec(
        sys.executable, '-c', 'print(1)', stdout=subprocess.PIPE)
    assert (await child.communicate())[0] == b'1\\n'
    assert await loop.run_in_executor(None, threading.get_ident) != threading.get_ident()
    got = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, got.set_result, None)
    os.kill(os.getpid(), signal.SIGUSR1)
    await got
    return report.nbytes

print(uringloop.run(main()))
'''

# What a service has no need of.  Each answers an errno, and nothing happens.
OUTSIDE = '''
import ctypes, errno, socket
libc = ctypes.CDLL(None, use_errno=True)
def errors():
    for call in ({calls}):
        libc.syscall(call, 0, 0, 0, 0, 0)
        yield ctypes.get_errno()
    # clone(2) with CLONE_NEWUSER, CLONE_NEWNET
    for flags in (0x10000000, 0x40000000):
        assert libc.syscall({clone}, flags | 17, 0, 0, 0, 0) == -1
        yield ctypes.get_errno()
    for family in (socket.AF_PACKET, socket.AF_VSOCK, socket.AF_ALG):
        try:
            socket.socket(family, socket.SOCK_RAW)
            yield 0
        except OSError as error:
            yield error.errno
print([errno.errorcode.get(code, code) for code in errors()])
'''


def without_uring(document):
    """The same, where nobody has thought of io_uring."""
    return document | {'syscalls': [rule for rule in document['syscalls']
                                    if not URING & set(rule['names'])]}


def block(language):
    """Of deploy.md."""
    [text] = re.findall(rf'^```{language}\n(.*?)^```$', DEPLOY, re.MULTILINE | re.DOTALL)
    return text


class TestSeccompProfile:
    """Of containers."""

    def test_a_service_runs_under_it(self):
        done = Profile.of(DOCUMENT).run(*PYTHON, '-c', SERVICE, cwd=ROOT)
        assert (done.stdout, done.stderr) == ('4000\n', '')

    def test_the_doctor_has_a_ring(self):
        done = Profile.of(DOCUMENT).run(*PYTHON, '-m', 'uringloop', 'doctor', '--json', cwd=ROOT)
        facts = json.loads(done.stdout)
        assert facts['ring']['available'] and facts['ring']['restricted']
        assert facts['system']['seccomp'] == 'filter'
        assert facts['interfaces']

    @needs_feature('send_zc', 'report_usage')
    @needs_root
    def test_datagrams_leave_without_a_copy(self):
        profile = Profile.of(DOCUMENT)
        with Hole() as hole, hole.entered():
            done = profile.run(*PYTHON, '-m', 'uringloop', 'doctor', '--dest', hole.peer[0],
                               cwd=ROOT)
        assert done.stdout.count('  zero-copy\n') == 3, done.stdout     # and the table's head

    def test_without_its_rule_of_io_uring_there_is_none(self):
        done = Profile.of(without_uring(DOCUMENT)).run(
            *PYTHON, '-m', 'uringloop', 'doctor', cwd=ROOT)
        assert done.returncode == 3
        assert '- a seccomp filter forbids io_uring: ' in done.stdout

    def test_what_no_service_needs_is_refused(self):
        calls = [numbers()[name] for name in (
            'mount', 'ptrace', 'unshare', 'setns', 'bpf', 'perf_event_open', 'userfaultfd',
            'init_module', 'kexec_load', 'keyctl', 'process_vm_readv', 'clone3')]
        source = OUTSIDE.format(calls=', '.join(map(str, calls)), clone=numbers()['clone'])
        done = Profile.of(DOCUMENT).run(*PYTHON, '-c', source, cwd=ROOT)
        assert done.stdout == f'{["ENOSYS"] * (len(calls) + 5)}\n', done.stderr

    def test_names_are_of_system_calls_and_each_once(self):
        named = [name for rule in DOCUMENT['syscalls'] for name in rule['names']
                 if name != 'socket']               # one rule a family
        assert len(named) == len(set(named))
        # Headers may be older than the profile.
        newer = {'fchmodat2', 'futex_requeue', 'futex_wait', 'futex_wake', 'map_shadow_stack'}
        if os.uname().machine == 'x86_64':
            assert set(named) - set(numbers()) <= newer


class TestSecurity:
    """What SECURITY.md says."""

    @needs_feature('send_zc')
    def test_filters_do_not_see_what_goes_through_the_ring(self):
        rules = [rule | {'names': [name for name in rule['names'] if not name.startswith('send')]}
                 for rule in DOCUMENT['syscalls']]
        done = Profile.of(DOCUMENT | {'syscalls': rules}).run(*PYTHON, '-c', '''
import asyncio, socket, uringloop
async def main():
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, ('127.0.0.1', 0))
    here = transport.get_extra_info('sockname')
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(b'x', here)
        except OSError as error:
            print(type(error).__name__)
    print((await transport.sendto_zerocopy(bytes(2000), here)).nbytes)
    transport.close()
uringloop.run(main())
''', cwd=ROOT)
        assert (done.stdout, done.stderr) == ('OSError\n2000\n', '')

    def test_the_requests_that_a_ring_does_not_refuse_are_named(self):
        facts = probe_ring()
        [told] = re.findall(r'^\| requests \| (.*) \|$', (ROOT / 'SECURITY.md').read_text(),
                            re.MULTILINE)
        assert facts.restricted
        assert sorted(told.split(', ')) == sorted(facts.requests)


@pytest.mark.skipif(not shutil.which('systemd-analyze'), reason='systemd-analyze is not installed')
class TestUnit:
    """Of systemd."""

    def test_systemd_has_nothing_to_say_against_it(self, tmp_path):
        unit = tmp_path / 'echo.service'
        # What it starts has to be there.
        unit.write_text(re.sub(r'^ExecStart(Pre)?=\S+', rf'ExecStart\1={sys.executable}',
                               block('ini'), flags=re.MULTILINE))
        done = subprocess.run(['systemd-analyze', 'verify', '--man=no', unit], check=False,
                              capture_output=True, text=True)
        ours = [line for line in (done.stdout + done.stderr).splitlines() if 'echo' in line]
        assert (done.returncode, ours) == (0, [])

    def calls(self, *filters):
        """The system calls of systemd's groups."""
        names = set()
        for one in filters:
            told = subprocess.run(['systemd-analyze', 'syscall-filter', one], check=True,
                                  capture_output=True, text=True).stdout
            for name in re.findall(r'^    ([@\w-]+)$', told, re.MULTILINE):
                names |= self.calls(name) if name.startswith('@') else {name}
        return names

    @property
    def filter(self):
        [groups] = re.findall('^SystemCallFilter=(.*)$', block('ini'), re.MULTILINE)
        return self.calls('@default', *groups.split())      # that one is always in it

    def test_a_service_runs_under_its_filter(self):
        assert self.filter >= URING
        done = Profile.of_names(sorted(self.filter)).run(*PYTHON, '-c', SERVICE, cwd=ROOT)
        assert (done.stdout, done.stderr) == ('4000\n', '')

    def test_without_io_uring_it_would_not(self):
        done = Profile.of_names(sorted(self.filter - URING)).run(
            *PYTHON, '-m', 'uringloop', 'doctor', cwd=ROOT)
        assert done.returncode == 3
