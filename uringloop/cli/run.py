"""``python -m uringloop run``: what ``python`` does with a program, on this loop.

Where runpy does it as ``python`` does, it is runpy's.  What has no counterpart
there (``runpy.run_path`` is made for being returned from: it takes ``__main__``
away again) is done here as Modules/main.c and Python/pythonrun.c do it.
"""
from __future__ import annotations

import builtins
import io
import marshal
import os
import runpy
import sys
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from importlib.util import MAGIC_NUMBER
from pkgutil import get_importer
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

import uringloop
from uringloop.policy import install_quietly

if TYPE_CHECKING:
    import argparse

# Python 3.15 has done away with the name.
_CACHED = {'__cached__': None} if sys.version_info < (3, 15) else {}

_RUN = 'python -m uringloop run'
_WHAT = 'SCRIPT | -m MOD | -c CODE | -'
_EPILOG = f'''\
examples:
  {_RUN} server.py --port 8000
  {_RUN} -m package.server --port 8000
  {_RUN} -c "import asyncio; print(asyncio.new_event_loop())"
  python -X dev -W error {_RUN[7:]} server.py
'''
_DESCRIPTION = f'''\
Runs a program as python does, except that the event loops that asyncio makes
are uringloop's.  What python takes, this takes:

  SCRIPT    a file, or a directory or zip file with a __main__.py in it
  -m MOD    a module, or a package with a __main__ in it
  -c CODE   a program in one argument
  -         a program from standard input

Everything after that is the program's own.  Options for python itself stand
where they always do, before -m uringloop.

{_EPILOG}'''


def _parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """That of all commands, and that of this one."""
    # Imported only if there is something to tell: a program may have modules
    # of its own by the names of those that argparse imports.
    import argparse
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog='python -m uringloop', formatter_class=raw,
        epilog=f'{_EPILOG}  python -m uringloop doctor\n  python -m uringloop bench zerocopy\n',
        description='An asyncio event loop on io_uring that sends datagrams without copying them.')
    parser.add_argument('--version', action='version',
                        version=f'uringloop-zc {uringloop.__version__}')
    commands = parser.add_subparsers(title='commands', metavar='COMMAND')
    run = commands.add_parser(
        'run', help=f'run a program on this loop ({_RUN} --help)', formatter_class=raw,
        usage=f'{_RUN} {_WHAT} [ARGUMENT ...]', description=_DESCRIPTION)
    commands.add_parser('doctor', help='say what this machine lets the loop do '
                        '(python -m uringloop doctor --help)')
    commands.add_parser('bench', help='measure how fast the loop is '
                        '(python -m uringloop bench --help)')
    return parser, run


def _refuse(words: str) -> NoReturn:
    _parsers()[1].error(words)


def main() -> None:
    """Entry point of ``python -m uringloop``."""
    match sys.argv[1:]:
        case []:
            _parsers()[0].print_help(sys.stderr)
            sys.exit(2)
        case ['run']:
            _refuse('name a program: SCRIPT, -m MOD, -c CODE or -')
        case ['run', '-m' | '-c' as option]:
            _refuse(f'argument expected for the {option} option')
        case ['run', '--', script, *arguments]:
            _run('', script, arguments)
        case ['run', '-m' | '-c' as option, what, *arguments]:
            _run(option, what, arguments)
        case ['run', first, *arguments] if first[:2] in ('-m', '-c'):
            _run(first[:2], first[2:], arguments)
        case ['run', first, *arguments] if first == '-' or not first.startswith('-'):
            _run('', first, arguments)
        case ['bench', *arguments]:
            from uringloop.cli.bench import command
            command.main(arguments)
        case ['doctor', *arguments]:
            from uringloop.cli.doctor import command as doctor
            doctor.main(arguments)
        case ['run', option, *_] if option not in ('-h', '--help'):
            _refuse(f'unknown option {option}'
                    f' (options of python itself stand before -m uringloop)')
        case [first, *_] if first.endswith('.py') or (
                not first.startswith('-') and os.path.exists(first)):
            _parsers()[0].error(f'{first} is no command; did you mean: run {first}?')
        case _:
            _parsers()[0].parse_args()


def _run(option: str, what: str, arguments: list[str]) -> None:
    # There is no other way yet to reach loops that a program makes by itself.
    install_quietly()
    sys.argv = [option or what, *arguments]
    names = _fresh_main()
    try:
        if option == '-m':
            runpy._run_module_as_main(what)  # type: ignore[attr-defined]
        elif option == '-c':
            _set_path0('')
            if sys.version_info >= (3, 14):
                import textwrap
                what = textwrap.dedent(what)
            exec(compile(what, '<string>', 'exec', dont_inherit=True), names)
        elif what == '-':
            _set_path0('')
            names.update(__file__='<stdin>', **_CACHED)
            exec(compile(sys.stdin.buffer.read(), '<stdin>', 'exec', dont_inherit=True), names)
        else:
            _run_file(what, names)
    except BaseException as error:
        if not isinstance(error, SystemExit) or sys.flags.inspect:
            _show_without_our_frames(error)
        raise


def _run_file(script: str, names: dict[str, Any]) -> None:
    path = _working_directory()
    # To the interpreter "./" is something else, and before Python 3.11 "." too.
    if script != '.' or not path or sys.version_info < (3, 11):
        path = os.path.join(path, script)
    if get_importer(path):                      # a directory or a zip file
        _set_path0(path, always=True)
        runpy._run_module_as_main('__main__', alter_argv=False)  # type: ignore[attr-defined]
        return
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        print(f"{sys.orig_argv[0]}: can't open file {path!r}: "
              f'[Errno {error.errno}] {error.strerror}', file=sys.stderr)
        sys.exit(2)
    _set_path0(os.path.dirname(os.path.realpath(path)))
    loader: type[SourceFileLoader | SourcelessFileLoader]
    if source.startswith(MAGIC_NUMBER):
        loader, code = SourcelessFileLoader, marshal.loads(source[16:])
    elif path.endswith('.pyc'):
        raise RuntimeError('Bad magic number in .pyc file')
    else:
        loader, code = SourceFileLoader, compile(source, path, 'exec', dont_inherit=True)
    names.update(__file__=path, __loader__=loader('__main__', path), **_CACHED)
    exec(code, names)


def _fresh_main() -> dict[str, Any]:
    """Begin ``__main__`` anew, as the interpreter makes it; returns its names.

    A new module, for the old one belongs to whoever runs this: a profiler, say.
    """
    module = sys.modules['__main__'] = ModuleType('__main__')
    names = vars(module)
    names['__loader__'] = BuiltinImporter
    if sys.version_info < (3, 14):
        names['__annotations__'] = {}
    names['__builtins__'] = builtins
    return names


def _set_path0(entry: str, always: bool = False) -> None:
    # With -P or -I no program's place is on the path (but that of one with a
    # __main__.py is), and so -m uringloop has put nothing there either.
    safe = getattr(sys.flags, 'safe_path', sys.flags.isolated)
    if not safe and sys.path[0] == _working_directory():
        del sys.path[0]
    if always or not safe:
        sys.path.insert(0, entry)


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:                   # removed meanwhile
        return ''


def _show_without_our_frames(error: BaseException) -> None:
    """Let a traceback begin with the program's first frame, where ``python`` begins it.

    That is left to the last moment, because each frame that an exception leaves
    adds itself.  Printing it here instead would keep it from whoever runs this.
    """
    traceback = error.__traceback__
    while traceback and traceback.tb_frame.f_globals is globals():
        traceback = traceback.tb_next
    programs_hook = getattr(sys, 'excepthook', sys.__excepthook__)

    def excepthook(kind: type[BaseException], value: BaseException,
                   whole: TracebackType | None) -> None:
        sys.excepthook = programs_hook
        sys.last_traceback = traceback
        programs_hook(kind, value.with_traceback(traceback), traceback)

    sys.excepthook = excepthook
