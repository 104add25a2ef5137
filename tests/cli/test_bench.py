"""``python -m uringloop bench`` from outside: options, endings, one real row."""
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.support.features import needs_feature
from tests.support.namespaces import needs_root
from tests.support.programs import ROOT, python
from tests.support.seccomp import FORBID
from uringloop.cli.bench.results import from_json
from uringloop.cli.bench.zerocopy.look import share_copied

BENCH = ['-m', 'uringloop', 'bench']
QUICK = ['--rounds', '1', '--seconds', '0.1', '--against', 'asyncio']
UNSHARE = 272               # the system call


def bench(*arguments, **environment):
    return python(*BENCH, *arguments, cwd=ROOT, **environment)


# -- options -------------------------------------------------------------------------------------

COMMANDS = ['zerocopy', 'datagrams', 'everyday']


@pytest.mark.parametrize('command', COMMANDS)
@pytest.mark.parametrize(('arguments', 'words'), [
    (['--rows', 'nothing'], "--rows 'nothing': choose from "),
    (['--rows', ''], "--rows '': choose from "),
    (['--seconds', '0'], '--seconds 0: from 0.05 to 60'),
    (['--rounds', '0'], '--rounds 0: at least 1'),
    (['--against', 'no_such_loop'], '--against no_such_loop: there is no such module; pip'),
    (['--plot', 'figures.gif'], 'name a file that ends in .svg or .png'),
    (['--plot', '/nowhere/figures.svg'], '--plot /nowhere/figures.svg: nothing can be written'),
    (['--json', '/nowhere/figures.json'], '--json /nowhere/figures.json: nothing can be written'),
])
def test_what_is_wrong_is_one_line(command, arguments, words):
    done = bench(command, *arguments)
    assert (done.returncode, done.stdout) == (2, '')
    line, = done.stderr.splitlines()
    assert line.startswith('bench: ')
    assert words in line


@pytest.mark.parametrize(('command', 'words'), [
    ('zerocopy', 'rfc, copy, msg-zerocopy, zc-1'), ('datagrams', 'echo, echo-64, echo-1200'),
    ('everyday', 'connections, tcp-1k, tcp-64k')])
def test_rows_there_are(command, words):
    assert f"--rows 'nothing': choose from {words}, " in bench(command, '--rows', 'nothing').stderr


def test_memory_is_of_zerocopy():
    done = bench('zerocopy', '--memory', '-1')
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr == 'bench: --memory -1: from 0 to 65536 MB\n'
    assert bench('datagrams', '--memory', '1').returncode == 2


@pytest.mark.parametrize('arguments', [
    ['--help'], ['report', '--help'], *([command, '--help'] for command in COMMANDS)])
def test_help_shows_examples_and_fits_80_columns(arguments):
    done = bench(*arguments)
    assert (done.returncode, done.stderr) == (0, '')
    assert 'examples:\n  python -m uringloop bench ' in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_help_of_all_commands_names_it():
    done = python('-m', 'uringloop', '--help', cwd=ROOT)
    assert '    bench ' in done.stdout


@pytest.mark.parametrize('text', ['', '{}', '[]', 'words', '{"format": 99}'])
def test_report_of_something_else_is_one_line(text, tmp_path):
    file = tmp_path / 'figures.json'
    file.write_text(text)
    done = bench('report', file)
    assert (done.returncode, done.stdout) == (1, '')
    line, = done.stderr.splitlines()
    assert ('; `python -m uringloop bench zerocopy --json FILE` (or datagrams, everyday) makes one'
            in line)


# -- measuring -----------------------------------------------------------------------------------

needs_compiler = pytest.mark.skipif(not (shutil.which('gcc') or shutil.which('cc')),
                                    reason='without a C compiler no row of C is measured')


@needs_feature('send_zc', 'report_usage')
@needs_root
@needs_compiler
def test_a_row_is_measured_delivered_and_shown(tmp_path):
    file, picture = tmp_path / 'figures.json', tmp_path / 'figures.svg'
    done = bench('zerocopy', *QUICK, '--rows', 'zc-8', '--json', file, '--plot', picture)
    assert done.returncode == 0, done.stderr
    assert 'zc-8: zero-copy, 8 requests a system call' in done.stdout
    assert 'measured' in done.stderr
    results = from_json(file.read_text())
    [group] = results.groups
    [row] = group.rows
    measured = {(each.side, each.label): each for each in row.entrants}
    own = measured['uringloop', 'sendto(bytes)']
    [sample] = own.samples
    assert sample.packets == sample.datagrams > 0
    assert sample.bytes == sample.datagrams * 65_435
    assert share_copied(own) == 0
    assert sample.zerocopy_bytes == sample.bytes
    assert own.against(group.baseline, 'speed') is not None
    theirs = measured['asyncio', 'sendto(bytes)']
    assert share_copied(theirs) == 1
    assert not any(each.wrong or each.failed for each in row.entrants)
    assert '</svg>' in picture.read_text()
    page = bench('report', file)
    assert page.returncode == 0
    assert '| uringloop | sendto(bytes) |' in page.stdout


@needs_root
def test_trains_are_counted_as_datagrams():
    done = bench('zerocopy', *QUICK, '--rows', 'packets', '--json', '-')
    assert done.returncode == 0, done.stderr
    [group] = from_json(done.stdout).groups
    own = next(each for each in group.rows[0].entrants if each.side == 'uringloop')
    [sample] = own.samples
    assert 0 < sample.packets < sample.datagrams
    assert sample.bytes == sample.datagrams * 1_200


def test_without_a_namespace_loopback_is_measured_and_the_rest_explained():
    start = (f'{FORBID}\nforbid_io_uring(1, {UNSHARE})\nimport runpy, sys\n'
             f'sys.argv = ["uringloop", "bench", "zerocopy", *{QUICK!r}]\n'
             'runpy.run_module("uringloop", run_name="__main__", alter_sys=True)\n')
    done = python('-c', start, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('not measured: no network namespace can be made') == 2
    assert 'run it as root' in done.stdout
    own = next(line for line in done.stdout.splitlines() if 'sendto_zerocopy' in line)
    assert own.endswith('  100 %')


def test_a_loop_that_cannot_do_it_says_so():
    done = bench('zerocopy', *QUICK[:-1], 'json', '--rows', 'loopback', '--json', '-')
    assert done.returncode == 1
    assert done.stderr.endswith("bench: json: module 'json' has no attribute 'EventLoopPolicy'\n")
    [group] = from_json(done.stdout).groups
    theirs = next(each for each in group.rows[0].entrants if each.side == 'json')
    assert theirs.missing == "module 'json' has no attribute 'EventLoopPolicy'"


@pytest.mark.parametrize(('compiler', 'reason'), [
    (None, 'there is no C compiler: apt install gcc libc6-dev'),
    ('#!/bin/sh\necho "ring_send.c:8:10: fatal error: liburing.h: No such file" >&2\nexit 1\n',
     'the headers of liburing are not installed: apt install liburing-dev'),
])
def test_without_c_the_rest_is_measured(tmp_path, compiler, reason):
    if compiler:
        (tmp_path / 'gcc').write_text(compiler)
        (tmp_path / 'gcc').chmod(0o755)
    code = ('from uringloop.cli.bench import native\nfrom pathlib import Path\n'
            'print(native.build(Path("."), "zerocopy")[1]["ring_send"])')
    done = python('-c', code, cwd=tmp_path, PATH=str(tmp_path))
    assert done.stdout == f'{reason}\n'
    if compiler is None:
        done = bench('zerocopy', *QUICK, '--rows', 'loopback', PATH=str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert f'- {reason}' in done.stdout
        assert 'uringloop  sendto(bytes)' in done.stdout


# -- endings -------------------------------------------------------------------------------------

def namespace_of(process):
    try:
        return os.readlink(f'/proc/{process}/ns/net')
    except OSError:
        return ''           # it has ended


def inhabitants(namespace):
    return [process for process in os.listdir('/proc')
            if process.isdigit() and namespace_of(process) == namespace]


def arguments_of(process):
    try:
        with open(f'/proc/{process}/cmdline', 'rb') as file:
            return file.read().split(b'\0')
    except OSError:
        return [b'']        # it has ended


def is_sender(process):
    """And not the compiler, whose own children end a moment after it."""
    program, *arguments = arguments_of(process)
    return program.endswith((b'/ring_send', b'/socket_send')) or (
        b'uringloop.cli.bench.zerocopy.sender' in arguments)


@needs_root
@needs_compiler
@pytest.mark.parametrize('ending', [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_when_it_is_ended(tmp_path, ending):
    command = [sys.executable, *BENCH, 'zerocopy', '--seconds', '30', '--rows', 'zc-8']
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, 'TMPDIR': str(tmp_path)}) as process:
        try:
            # Until a sender, of C or of Python, is at it.
            end = time.monotonic() + 30
            while not any(map(is_sender, inhabitants(namespace_of(process.pid)))):
                assert time.monotonic() < end
                assert process.poll() is None
                time.sleep(0.02)
            namespace = namespace_of(process.pid)
            assert namespace != namespace_of('self')
            inside = inhabitants(namespace)
            process.send_signal(ending)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert 'Traceback' not in errors
    if ending == signal.SIGINT:
        assert process.returncode == -signal.SIGINT
        assert errors.endswith('bench: interrupted\n')
    # Not more: its number may be another's by now, that somebody else has made.
    assert set(inside).isdisjoint(inhabitants(namespace))
    assert list(tmp_path.iterdir()) == []


@needs_compiler
@pytest.mark.parametrize('ending', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(('command', 'row', 'there'), [
    ('datagrams', 'echo-64', [b'/udp_load', b'/udp_serve']),
    ('everyday', 'tcp-1k', [b'/stream_load']),
])
def test_servers_and_loads_end_too(tmp_path, command, row, there, ending):
    started = [sys.executable, *BENCH, command, '--seconds', '30', '--rows', row]

    def running():
        """The programs that are told of its folder, or are in there."""
        return [arguments[0] for process in os.listdir('/proc') if process.isdigit()
                if str(tmp_path).encode() in b' '.join(arguments := arguments_of(process))]

    with subprocess.Popen(started, cwd=ROOT, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, 'TMPDIR': str(tmp_path)}) as process:
        try:
            end = time.monotonic() + 30
            while not all(any(name in program for program in running())
                          for name in there):
                assert time.monotonic() < end
                assert process.poll() is None
                time.sleep(0.02)
            process.send_signal(ending)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert 'Traceback' not in errors
    assert process.returncode == (-ending if ending == signal.SIGINT else 128 + ending)
    # What a worker has started sees a moment later that it is gone.
    while running():
        assert time.monotonic() < end
        time.sleep(0.02)
    assert list(tmp_path.iterdir()) == []
