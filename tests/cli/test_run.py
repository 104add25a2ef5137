"""``python -m uringloop run`` is ``python``: the same program under both, and what they show."""
import asyncio
import os
import py_compile
import re
import signal
import subprocess
import sys
import zipfile

import pytest

from tests.support.programs import ROOT

RUN = ['-m', 'uringloop', 'run']

# Tells all that a program can see of how it was started.
TELL = '''\
"""A docstring."""
import sys
print(sys.argv, sys.path, sys.flags, sys.warnoptions, sys.excepthook, sys.stdin, sep='\\n')
print(__name__, __doc__, __package__, __spec__, __builtins__, __loader__)
print(globals().get('__file__'), globals().get('__cached__'))
print(globals().get('__annotations__'))
print(list(globals()), vars(sys.modules['__main__']) is globals())
'''

FAIL = '''\
def fail():
    raise ZeroDivisionError('of the program')
fail()
'''

# What the threads, the functions of atexit and pickle find when the last line is done.
AFTERWARDS = '''\
import atexit, pickle, sys, threading
class Thing:
    pass
def tell(when):
    main = sys.modules['__main__']
    same = type(pickle.loads(pickle.dumps(Thing()))) is Thing
    print(when, same, main.Thing is Thing, vars(main) is globals(), main.tell is tell)
atexit.register(tell, 'atexit')
def wait():
    threading.main_thread().join()
    tell('thread')
threading.Thread(target=wait).start()
tell('program')
'''

# Children import the program again, unless they are forked.
CHILDREN = '''\
import multiprocessing, sys
print('imported as', __name__)
class Thing:
    pass
def child(thing):
    print(type(thing) is Thing, __name__, sys.argv)
if __name__ == '__main__':
    context = multiprocessing.get_context(sys.argv[1])
    process = context.Process(target=child, args=(Thing(),))
    process.start()
    process.join()
    print(process.exitcode)
'''

HOOK = '''\
import sys, traceback
def hook(kind, value, tb):
    print(kind, value, [frame.name for frame in traceback.extract_tb(tb)])
    print(value.__traceback__ is tb is sys.last_traceback, sys.last_value is value)
    print(sys.excepthook is hook)
sys.excepthook = hook
def fail():
    1 / 0
fail()
'''

FILES = {
    'tell.py': TELL,
    'fail.py': FAIL,
    'afterwards.py': AFTERWARDS,
    'children.py': CHILDREN,
    'hook.py': HOOK,
    'nohook.py': 'import sys\nsys.excepthook = None\ndel sys.excepthook\nsys.exit("no hook")\n',
    'exit.py': 'import sys\nsys.exit(eval(sys.argv[1]))\n',
    'interrupted.py': 'import atexit\natexit.register(print, "atexit")\nraise KeyboardInterrupt\n',
    'elsewhere.py': 'import os\nos.chdir("/")\nprint(os.path.exists(__file__), __file__)\n',
    'beside/imports.py': 'import neighbour\nprint(neighbour.__file__)\n',
    'beside/neighbour.py': '',
    'directory/__main__.py': TELL,
    'directory/neighbour.py': '',
    'package/__init__.py': 'import sys\nprint("the package sees", sys.argv)\n',
    'package/__main__.py': TELL,
    'package/tell.py': TELL,
    'package/fail.py': FAIL,
    'broken/__init__.py': FAIL,
    'broken/mod.py': '',
    'mainless/__init__.py': '',
    'empty/neighbour.py': '',
    'unclosed.py': 'x = (1,\n',
    'unindented.py': 'if True:\npass\n',
    'inner.py': 'import unclosed\n',
    'latin.py': '# -*- coding: latin-1 -*-\nprint("\xe9", ascii("\xe9"))\n'.encode('latin-1'),
    'bom.py': '\ufeffprint(ascii("\xe9"))\n',
    'warns.py': 'import warnings\nwarnings.warn("of the program")\n',
    'futureless.py': 'def f(x: 1 + 1): pass\nprint(f.__annotations__)\n',
    'optimized.py': 'assert False\nprint(__debug__, f"{__file__}")\n',
    'input.py': 'print(input())\n',
    'not.pyc': 'print("not compiled")\n',
}


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
    """Where the programs are."""
    path = tmp_path_factory.mktemp('programs').resolve()
    for name, content in FILES.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with zipfile.ZipFile(path / 'program.zip', 'w') as archive:
        archive.writestr('__main__.py', TELL)
        archive.writestr('fail.py', FAIL)
    py_compile.compile(path / 'tell.py', path / 'compiled.pyc')
    py_compile.compile(path / 'fail.py', path / 'compiled-by-content')
    (path / 'link.py').symlink_to('beside/imports.py')
    (path / 'unreadable.py').symlink_to('unreadable.py')
    return path


def python(directory, *arguments, stdin='', **environment):
    """Run a Python of this kind; returns the finished process."""
    env = {name: value for name, value in os.environ.items()
           if not name.startswith(('PYTHON', 'URINGLOOP'))}
    return subprocess.run(
        [sys.executable, *arguments], cwd=directory, input=stdin, timeout=60,
        env={**env, 'PYTHONPATH': str(ROOT), **environment},
        capture_output=True, text=True, check=False)


def shown(done):
    """What can be compared: without addresses of objects and numbers of processes."""
    varying = r'0x[0-9a-f]+|/proc/(self|\d+)'
    return [re.sub(varying, '...', text) for text in (done.stdout, done.stderr)] \
        + [done.returncode]


def case(command, options='', **more):
    """A row of the table: what follows ``python``, and options of python's own."""
    return pytest.param(command.split(), options.split(), more,
                        id=' '.join([*options.split(), *command.split(), *more]))


CASES = [
    # arguments
    case('tell.py'),
    case('tell.py a b'),
    case('tell.py -- -x --help run -m mod'),
    case('tell.py -m'),
    case('-- tell.py x'),
    case('-m tell'),
    case('-m tell -- x'),
    case('-m tell a -- b --help'),
    case('-mtell a -m b'),
    # files: where they are, and what they are
    case('./tell.py'),
    case('beside/../tell.py'),
    case('elsewhere.py'),
    case('beside/imports.py'),
    case('link.py'),
    case('/dev/stdin', stdin=TELL),
    case('directory a'),
    case('directory/'),
    case('./directory'),
    case('program.zip a'),
    case('compiled.pyc a'),
    case('compiled-by-content'),
    case('latin.py', options='-X utf8'),
    case('bom.py'),
    case('futureless.py'),
    case('optimized.py', options='-O'),
    case('input.py', stdin='of the program\n'),
    # modules
    case('-m package a'),
    case('-m package.tell a'),
    # neither
    case('- a -b', stdin=TELL),
    case('-', stdin='print(1)\nfail\n'),
    case('-c print(__import__("sys").argv,__import__("sys").path,list(globals())) a -c'),
    case('-cprint(__name__) a'),
    # options of python's own
    *(case(program, options=option)
      for option in ('-I', '-E', '-s', '-B', '-W error', '-X dev', '-bb', '-u')
      for program in ('tell.py', '-m tell', 'directory')
      if (option, program) != ('-I', '-m tell')),
    *([case(program, options='-P') for program in ('tell.py', 'directory')]
      if sys.version_info >= (3, 11) else []),
    case('tell.py', PYTHONSAFEPATH='1'),
    case('tell.py', PYTHONPATH=f'{ROOT}{os.pathsep}/nowhere'),
    case('tell.py', options='-i', stdin='print(__name__, sys.argv)\n'),
    case('exit.py 3', options='-i', stdin='print(__name__, sys)\n'),
    case('fail.py', options='-i', stdin='print(__name__, fail)\n'),
    case('-m tell', PYTHONINSPECT='1', stdin='print(sys)\n'),
    case('warns.py'),
    case('warns.py', options='-W error'),
    # what outlives the last line
    case('afterwards.py'),
    case('-m afterwards'),
    *(case(f'{program} {method}') for program in ('children.py', '-m children')
      for method in ('fork', 'spawn', 'forkserver')),
    # how they end
    case('fail.py'),
    case('-m fail'),
    case('-m package.fail'),
    case('compiled-by-content', options='-X dev'),
    case('hook.py'),
    case('-m hook'),
    case('nohook.py'),
    case('exit.py 0'),
    case('exit.py 3'),
    case('exit.py None'),
    case('exit.py "words"'),
    case('exit.py -1'),
    case('-m exit 3'),
    case('interrupted.py'),
    case('-m interrupted'),
    # what cannot be run
    case('unclosed.py'),
    case('unindented.py'),
    case('inner.py'),
    case('-m unclosed'),
    case('not.pyc'),
    case('nothing.py'),
    case('./nothing.py a'),
    case('/nowhere/nothing.py'),
    case('unreadable.py'),
    case('empty'),
    case('-m nothing'),
    case('-m tell.py'),
    case('-m mainless'),
    case('-m broken.mod'),
    case('-m .tell'),
]


@pytest.mark.parametrize('command, options, more', CASES)
def test_as_under_python(directory, command, options, more):
    expected = python(directory, *options, *command, **more)
    assert shown(python(directory, *options, *RUN, *command, **more)) == shown(expected)


@pytest.mark.parametrize('name', ['.', './'])
def test_the_working_directory(directory, name):
    where = directory / 'directory'
    expected = python(where, name, 'a')
    assert expected.returncode == 0
    assert shown(python(where, *RUN, name, 'a')) == shown(expected)


WHICH = 'import asyncio; loop = asyncio.new_event_loop(); print(type(loop).__name__); loop.close()'


@pytest.mark.parametrize('command', [
    ['which.py'], ['-m', 'which'], ['-mwhich'], ['-c', WHICH], [f'-c{WHICH}'], ['-'], ['which']],
    ids=lambda command: command[0][:8])
def test_the_loop_is_this_one(tmp_path, command):
    (tmp_path / 'which').mkdir()
    for name in ('which.py', 'which/__main__.py'):
        (tmp_path / name).write_text(WHICH)
    done = python(tmp_path, '-W', 'error', *RUN, *command, stdin=WHICH)
    assert shown(done) == ['Loop\n', '', 0]


@pytest.mark.parametrize('source', [b'# coding: nothing\n', b'"\xe9"\n', b'\0\n'])
def test_source_that_cannot_be_decoded_is_told_of(tmp_path, source):
    """Said in the words of compile(), not in those that python has for files."""
    (tmp_path / 'program.py').write_bytes(source)
    done = python(tmp_path, *RUN, 'program.py')
    assert done.returncode == 1
    # It is a ValueError for the zero until Python 3.12.
    assert done.stderr.splitlines()[-1].startswith(('SyntaxError: ', 'ValueError: '))
    assert 'command.py' not in done.stderr


def test_original_arguments_are_kept(tmp_path):
    done = python(tmp_path, *RUN, '-c', 'import sys; print(sys.orig_argv[1:])', 'a')
    assert done.stdout == f"{[*RUN, '-c', 'import sys; print(sys.orig_argv[1:])', 'a']}\n"


def test_interrupted_by_a_signal(tmp_path):
    """As under a shell: the parent sees that it was SIGINT."""
    (tmp_path / 'waits.py').write_text(
        'import asyncio\n'
        'async def main():\n'
        '    print("waiting", flush=True)\n'
        '    await asyncio.sleep(60)\n'
        'asyncio.run(main())\n')
    with subprocess.Popen([sys.executable, *RUN, 'waits.py'], cwd=tmp_path, text=True,
                          env={**os.environ, 'PYTHONPATH': str(ROOT)},
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == 'waiting\n'
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert errors.endswith('\nKeyboardInterrupt\n')
    assert 'runpy' not in errors
    assert 'command.py' not in errors


def test_runs_in_a_directory_that_is_gone(directory, tmp_path):
    ways = []
    for run in ([], RUN):
        gone = tmp_path / 'gone'
        gone.mkdir()
        code = f'import os, sys; os.rmdir({str(gone)!r}); os.execv(sys.executable, ' \
               f'[sys.executable, *{run}, {str(directory / "tell.py")!r}])'
        ways.append(shown(python(gone, '-c', code)))
    assert ways[0] == ways[1]
    assert ways[0][2] == 0


def test_which_children_have_the_loop(tmp_path):
    """Those that are forked: what docs/run.md says."""
    (tmp_path / 'which.py').write_text(
        'import multiprocessing, sys\n'
        f'def child():\n    {WHICH}\n'
        'if __name__ == "__main__":\n'
        '    process = multiprocessing.get_context(sys.argv[1]).Process(target=child)\n'
        '    process.start()\n'
        '    process.join()\n')
    asyncios = asyncio.SelectorEventLoop.__name__
    for method, loop in (('fork', 'Loop'), ('spawn', asyncios), ('forkserver', asyncios)):
        assert shown(python(tmp_path, *RUN, 'which.py', method)) == [f'{loop}\n', '', 0], method


def test_under_a_profiler(directory):
    """It hears of the end of the program, and its own __main__ is left alone."""
    done = python(directory, '-m', 'cProfile', *RUN, 'exit.py', '"over"')
    assert 'Traceback' not in done.stderr
    assert '(_run_file)' in done.stdout


def test_deprecated_policies_are_not_the_programs_fault(tmp_path):
    """And other warnings are still heard."""
    done = python(tmp_path, '-W', 'error', *RUN, '-c', WHICH)
    assert shown(done) == ['Loop\n', '', 0]
    if sys.version_info >= (3, 14):
        done = python(tmp_path, '-W', 'error', *RUN, '-c',
                      'import asyncio; asyncio.set_event_loop_policy(None)')
        assert done.returncode == 1
        assert 'DeprecationWarning' in done.stderr


# -- the command itself ------------------------------------------------------------------------

@pytest.mark.parametrize('arguments, message', [
    ([], 'COMMAND'),
    ([], 'python -m uringloop run server.py'),
    (['run'], 'run: error: name a program: SCRIPT, -m MOD, -c CODE or -'),
    (['run'], 'usage: python -m uringloop run SCRIPT | -m MOD'),
    (['run', '-m'], 'argument expected for the -m option'),
    (['run', '-c'], 'argument expected for the -c option'),
    (['run', '-x', 'tell.py'], 'unknown option -x (options of python itself stand before'),
    (['run', '--'], 'unknown option --'),
    (['server.py'], 'server.py is no command; did you mean: run server.py?'),
    (['.', 'argument'], '. is no command; did you mean: run .?'),
    (['walk'], 'walk'),
    (['--walk'], 'walk')])
def test_usage_errors_are_told(tmp_path, arguments, message):
    done = python(tmp_path, '-m', 'uringloop', *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ''


@pytest.mark.parametrize('arguments', [['--help'], ['-h'], ['run', '--help'], ['run', '-h']])
def test_help_fits_80_columns(tmp_path, arguments):
    done = python(tmp_path, '-m', 'uringloop', *arguments)
    assert (done.returncode, done.stderr) == (0, '')
    assert 'examples:\n  python -m uringloop run server.py' in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
