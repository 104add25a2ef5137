"""The contributor's tools: builds for a purpose, traces, profiles, the benchmark, progress."""
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest

from tests.support.features import needs_feature

ROOT = Path(__file__).resolve().parents[2]
RING = ROOT / 'uringloop' / 'ring' / 'ring.c'
INCLUDE = sysconfig.get_path('include')
TRACED = '''
import asyncio
import uringloop

async def main():
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=('127.0.0.1', 0))
    await transport.sendto_zerocopy(bytearray(5000), transport.get_extra_info('sockname'))
    transport.close()
    await asyncio.sleep(0.01)

uringloop.run(main())
'''

needs_compiler = pytest.mark.skipif(
    not RING.exists() or not shutil.which('gcc') or not os.path.exists(f'{INCLUDE}/Python.h')
    or 'URINGLOOP_BUILD' in os.environ, reason='takes gcc, headers of Python and what Cython wrote')


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*command, **options):
    return subprocess.run([*map(str, command)], check=False, capture_output=True, text=True,
                          timeout=120, **options)


# -- builds for a purpose ----------------------------------------------------------------------

@pytest.fixture
def variant(tmp_path, monkeypatch):
    """The tool, and a tree of its own to work on."""
    module = tool('variant')
    for name in ('setup.py', 'uringloop/a.pyx', 'uringloop/a.c', 'uringloop/a.so', 'tests/one.py'):
        path = tmp_path / 'tree' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    os.utime(tmp_path / 'tree' / 'uringloop' / 'a.pyx', (1e9, 1e9))
    os.utime(tmp_path / 'tree' / 'setup.py', (1e9, 1e9))
    monkeypatch.setattr(module, 'ROOT', tmp_path / 'tree')
    return module


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def test_copy_has_the_sources_and_nothing_compiled(variant, tmp_path):
    variant.synchronize(tmp_path / 'copy')
    assert files(tmp_path / 'copy') == ['setup.py', 'tests/one.py', 'uringloop/a.c',
                                        'uringloop/a.pyx']


def test_copy_keeps_what_has_not_changed(variant, tmp_path):
    copy = tmp_path / 'copy'
    variant.synchronize(copy)
    (copy / 'uringloop' / 'a.so').write_text('compiled there')
    for name in files(copy):
        os.utime(copy / name, (2e9, 2e9))
    (tmp_path / 'tree' / 'tests' / 'one.py').unlink()
    (tmp_path / 'tree' / 'uringloop' / 'a.pyx').write_text('changed')
    variant.synchronize(copy)
    assert files(copy) == ['setup.py', 'uringloop/a.c', 'uringloop/a.pyx', 'uringloop/a.so']
    changed = [name for name in files(copy) if (copy / name).stat().st_mtime != 2e9]
    assert changed == ['uringloop/a.pyx']


def test_copy_does_without_c_that_is_older_than_a_source(variant, tmp_path):
    os.utime(tmp_path / 'tree' / 'uringloop' / 'a.c', (1e8, 1e8))
    variant.synchronize(tmp_path / 'copy')
    assert 'uringloop/a.c' not in files(tmp_path / 'copy')


def test_unknown_build_is_refused(tmp_path):
    pytest.importorskip('Cython')
    shutil.copy(ROOT / 'setup.py', tmp_path)
    (tmp_path / 'uringloop').mkdir()
    done = run(sys.executable, 'setup.py', 'build_ext', cwd=tmp_path,
               env={**os.environ, 'URINGLOOP_BUILD': 'fast'})
    assert done.returncode == 1
    assert done.stderr == ("uringloop: there is no build 'fast': set URINGLOOP_BUILD to asan, "
                           'tsan, profile, trace, portable, or unset it\n')


@needs_compiler
def test_only_the_build_of_asan_guards_memory():
    """See uringloop/ring/guard.h."""
    source = RING.parents[1] / 'memory' / 'leases.c'
    for flags in [], ['-DURINGLOOP_GUARD']:
        done = run('gcc', '-E', '-P', *flags, f'-I{ROOT}', f'-I{INCLUDE}', source)
        assert done.returncode == 0, done.stderr
        assert ('__asan_poison' in done.stdout) == bool(flags)


# -- tracing -----------------------------------------------------------------------------------

@needs_compiler
def test_normal_build_has_nothing_of_tracing(tmp_path):
    """After the preprocessor it is what it would be without; so the machine code is the same."""
    text = RING.read_text()
    without, found = re.subn(r'#ifdef URINGLOOP_TRACE.*?#endif', '\n\n', text, flags=re.DOTALL)
    assert found == 1
    outputs = []
    for number, source in enumerate([text, without]):
        path = tmp_path / f'{number}' / 'ring.c'
        path.parent.mkdir()
        path.write_text(source)
        done = run('gcc', '-E', '-P', f'-I{INCLUDE}', 'ring.c', cwd=path.parent)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert 'trace_handed_over' not in outputs[0]


@pytest.fixture(scope='module')
def traced(tmp_path_factory):
    """The lines of a trace.  Only the module that talks to the ring is compiled for it."""
    folder = tmp_path_factory.mktemp('traced')
    shutil.copytree(ROOT / 'uringloop', folder / 'uringloop')
    flags = run('pkg-config', '--cflags', '--libs', 'liburing').stdout.split()
    done = run('gcc', '-shared', '-fPIC', '-Wall', '-Werror', '-Wno-cast-function-type',
               '-DURINGLOOP_TRACE', '-I.', f'-I{INCLUDE}', RING, *flags, '-o',
               f'uringloop/ring/ring{sysconfig.get_config_var("EXT_SUFFIX")}', cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / 'program.py').write_text(TRACED)
    done = run(sys.executable, ROOT / 'tools' / 'run_on.py', folder, folder / 'program.py',
               env={**os.environ, 'URINGLOOP_TRACE': str(folder / 'trace')})
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
    return (folder / 'trace').read_text().splitlines()


@needs_compiler
def test_trace_has_one_line_an_entry(traced):
    for line in traced:
        assert re.match(r' *\d+\.\d{6} +\d+:\d+ +[<>] [A-Z_]+ +((fd|file) \d+ +)?op (none|\d+/\d+)',
                        line), line
        assert line == line.rstrip()


@needs_feature('send_zc', 'report_usage', 'registered_files')
@needs_compiler
def test_trace_tells_of_a_send(traced):
    asked, result, notification = (line.split(None, 4)[2:] for line in traced
                                   if 'SEND_ZC' in line)
    assert asked[:2] == ['>', 'SEND_ZC']
    what = r'file \d+ +op (\d+/\d+) +5000 bytes \+report_usage \+dontwait \+nosignal'
    operation = re.fullmatch(what, asked[2])[1]
    assert result[:2] == notification[:2] == ['<', 'SEND_ZC']
    assert result[2].split() == ['op', operation, '5000', '+more']
    assert notification[2].split() == ['op', operation, 'copied', '+notif']


@needs_feature('send_zc', 'registered_files')
@needs_compiler
def test_trace_tells_of_a_poll(traced):
    """With its flags, what it tells, and the error that it ends with when it is cancelled."""
    text = '\n'.join(traced)
    asked = r'> POLL_ADD +file \d+ +op (\d+/\d+) +\+in \+multishot$'
    poll = re.search(asked, text, re.MULTILINE)[1]
    told = re.search(rf'< POLL_ADD +op {poll} +\+in \+more$', text, re.MULTILINE)
    cancel = re.search(rf'> ASYNC_CANCEL +op none +of op {poll}$', text, re.MULTILINE)
    ended = re.search(rf'< POLL_ADD +op {poll} +(ECANCELED|-125) \(.*\)$', text, re.MULTILINE)
    assert told.start() < cancel.start() < ended.start()


def test_run_on_wants_a_program():
    done = run(sys.executable, ROOT / 'tools' / 'run_on.py', 'build/trace')
    assert done.returncode == 2
    assert done.stderr.startswith('usage: ')


# -- profiling ---------------------------------------------------------------------------------

@pytest.mark.parametrize(('symbol', 'name'), [
    ('__pyx_f_9uringloop_4ring_4ring_4Ring_fetch', 'uringloop.ring.ring.Ring.fetch'),
    ('__pyx_pw_9uringloop_8datagram_9transport_17DatagramTransport_29sendto',
     'uringloop.datagram.transport.DatagramTransport.sendto'),
    ('__pyx_pw_9uringloop_8datagram_9transport_17DatagramTransport_3foo_bar',
     'uringloop.datagram.transport.DatagramTransport.foo_bar'),
    ('udp_sendmsg', 'udp_sendmsg'),
])
def test_names_of_cython_are_readable(symbol, name):
    assert tool('profile_run').readable(symbol) == name


def test_stacks_are_read_from_the_outermost_function():
    text = '''\
        python
            ffff8123 udp_sendmsg+0x1a ([kernel.kallsyms])
                5610 py::main:/tmp/x y.py (/tmp/perf-12.map)
                   0 [unknown] (/usr/lib/libssl.so.3)

        python
                5610 main+0x1 (/usr/bin/python3.11)
        '''
    assert list(tool('profile_run').stacks(textwrap.dedent(text).splitlines())) == [
        (('python', '[libssl.so.3]', 'py::main:/tmp/x y.py', 'udp_sendmsg'), 'kernel.kallsyms'),
        (('python', 'main'), 'python3.11')]


def test_report_has_python_functions_of_their_own(capsys):
    samples = [(('python', 'py::main:x.py', 'py::f:x.py', '_PyEval', 'sendto'), 'libc.so.6'),
               (('python', 'py::main:x.py', '_PyEval'), 'python3.12'),
               (('python', 'py::main:x.py', 'go'), 'ring.so'),
               (('python', 'udp_sendmsg'), 'kernel.kallsyms')]
    tool('profile_run').report(samples, {'ring.so'})
    lines = capsys.readouterr().out.splitlines()
    assert '  50.0%   75.0%  main:x.py' in lines
    assert '  25.0%   25.0%  f:x.py' in lines
    for where in ('libraries', 'Python', 'uringloop', 'the kernel'):
        assert f'  25.0% in {where}' in lines


def test_profile_without_perf_says_what_to_install(tmp_path):
    done = run(sys.executable, ROOT / 'tools' / 'profile_run.py', '--check',
               env={**os.environ, 'PATH': str(tmp_path)})
    assert done.returncode == 1
    line, = done.stderr.splitlines()
    assert line.startswith('profile: perf is not installed. Debian: apt-get install linux-perf')


def test_profile_without_permission_says_what_cures_it(tmp_path):
    perf = tmp_path / 'perf'
    perf.write_text('#!/bin/sh\nexit 255\n')
    perf.chmod(0o755)
    done = run(sys.executable, ROOT / 'tools' / 'profile_run.py', '--check',
               env={**os.environ, 'PATH': f'{tmp_path}:{os.environ["PATH"]}'})
    assert done.returncode == 1
    line, = done.stderr.splitlines()
    assert 'sudo sysctl kernel.perf_event_paranoid=1' in line


# -- the benchmark -----------------------------------------------------------------------------

BENCH = ROOT / 'benchmarks' / 'bench.py'


@pytest.mark.parametrize('what', ['udp-echo', 'udp-small', 'udp-bulk', 'udp-large', 'tcp-echo',
                                  'call-soon', 'timers'])
def test_bench(what):
    done = run(sys.executable, BENCH, what, '--against', 'asyncio,no_such_loop', '--rounds', '1',
               '--seconds', '0.1')
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "Left out: no_such_loop (No module named 'no_such_loop')"
    assert re.search(r' [1-9][\d,]* \w+ a second', lines[-2])
    assert re.match(r'  asyncio +\d+\.\d\d [# ]{9}\|', lines[-1])


def test_bench_help():
    done = run(sys.executable, BENCH, '--help')
    assert done.returncode == 0
    assert 'udp-bulk' in done.stdout
    assert 'make bench' in done.stdout


# -- progress of the tests ---------------------------------------------------------------------

@pytest.fixture
def some_tests(tmp_path):
    shutil.copy(ROOT / 'conftest.py', tmp_path)
    (tmp_path / 'test_some.py').write_text(textwrap.dedent('''
        import pytest

        def test_good():
            pass

        def test_bad():
            assert 1 == 2

        @pytest.mark.skip
        def test_skipped():
            pass
        '''))
    return tmp_path


def test_progress_is_told_without_names_of_files(some_tests):
    done = run(sys.executable, '-m', 'pytest', '-ra', '-p', 'no:cacheprovider', cwd=some_tests)
    lines = done.stdout.splitlines()
    assert 'FAILED test_some.py::test_bad' in lines
    assert '3/3 tests, 1 failed' in lines
    assert 'FAILED test_some.py::test_bad - assert 1 == 2' in lines
    assert not [line for line in lines if re.match(r'test_some\.py \.', line)]
    assert '1 failed, 1 passed, 1 skipped' in lines[-1]


def test_verbose_tests_are_told_by_pytest(some_tests):
    done = run(sys.executable, '-m', 'pytest', '-v', '-p', 'no:cacheprovider', cwd=some_tests)
    assert re.search(r'^test_some\.py::test_good PASSED', done.stdout, re.MULTILINE)


# -- what a failure tells ----------------------------------------------------------------------

def test_a_failure_tells_what_the_loop_was_told_and_of_no_leak(tmp_path):
    """A leak is told only of a test that has passed."""
    (tmp_path / 'test_some.py').write_text(textwrap.dedent('''
        from tests.support import cases

        def leak(loop):
            raise AssertionError('a leak')

        cases.assert_no_leaks = leak

        class TestSome(cases.UringCase):
            def test_bad(self):
                self.loop.call_exception_handler(
                    {'message': 'something broke', 'exception': ValueError('its reason')})
                assert 1 == 2

            def test_leaky(self):
                pass
        '''))
    done = run(sys.executable, '-m', 'pytest', '-p', 'tests.conftest', '-p', 'no:cacheprovider',
               cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    lines = done.stdout.splitlines()
    assert sorted(line for line in lines if line.startswith(('FAILED', 'ERROR'))) == [
        'ERROR test_some.py::TestSome::test_leaky - AssertionError: a leak',
        'FAILED test_some.py::TestSome::test_bad - assert 1 == 2']
    told = lines[[' Told to the loop\'s exception handler ' in line for line in lines].index(True):]
    assert told[1] == 'something broke'
    assert 'ValueError: its reason' in told


# -- the page for contributors -----------------------------------------------------------------

def test_links_of_contributing_lead_somewhere():
    text = (ROOT / 'CONTRIBUTING.md').read_text()
    for target in re.findall(r'\]\((?!https?:)([^)#]+)', text):
        assert (ROOT / target).exists(), target


def test_contributing_names_targets_that_exist():
    targets = re.search(r'^\.PHONY: (.*)$', (ROOT / 'Makefile').read_text(), re.MULTILINE)[1]
    named = set(re.findall(r'`?make ([a-z-]+)', (ROOT / 'CONTRIBUTING.md').read_text()))
    assert named - set(targets.split()) == {'does'}


# -- what make says before it changes anything ---------------------------------------------------

def make(*arguments):
    """What it says in a line of its own, behind which it says that it has failed."""
    # Not as a part of the make that may have begun this test.
    environment = {name: value for name, value in os.environ.items()
                   if name not in ('MAKEFLAGS', 'MAKELEVEL', 'MFLAGS')}
    done = subprocess.run(['make', *arguments], cwd=ROOT, env=environment, capture_output=True,
                          text=True, timeout=60, check=False)
    line, failed = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, '')
    assert failed.startswith('make: *** ')
    return line


needs_make = pytest.mark.skipif(not shutil.which('make'), reason='make is not installed')


@needs_make
@pytest.mark.parametrize('target', ['profile', 'trace'])
def test_target_that_wants_a_program_says_so(target):
    assert make(target) == (
        f'make {target}: which program? make {target} SCRIPT=examples/demo.py')
    assert make(target, 'SCRIPT=nofile.py') == 'SCRIPT=nofile.py: no such file'


@needs_make
@pytest.mark.parametrize('target', ['demo', 'system'])
def test_make_names_a_python_that_there_is_not(target):
    assert make(target, 'PYTHON=python3.99') == 'PYTHON=python3.99: there is no such command'
