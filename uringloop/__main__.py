"""``python -m uringloop``: run an unmodified program on this loop."""
from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

import uringloop


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m uringloop',
        description='An asyncio event loop on io_uring that sends datagrams without copying them.')
    parser.add_argument('--version', action='version',
                        version=f'uringloop-zc {uringloop.__version__}')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    run = commands.add_parser(
        'run', help='run a program on this loop',
        description="Run a program whose event loops all are uringloop's. "
                    'Everything after the program is its own arguments.',
        epilog='examples: python -m uringloop run server.py --port 8000; '
               'python -m uringloop run -m http.server')
    run.add_argument('-m', dest='module', nargs=argparse.REMAINDER, metavar='MOD ARGUMENTS',
                     help='a module and its arguments, as in python -m MOD')
    run.add_argument('program', nargs=argparse.REMAINDER, metavar='SCRIPT ARGUMENTS',
                     help='a script and its arguments')
    return parser


def _run(parser: argparse.ArgumentParser, module: list[str] | None, program: list[str]) -> None:
    if not module and not program:
        parser.error('run: name a SCRIPT, or a module with -m MOD')
    uringloop.install()
    if module:
        sys.argv = module
        sys.path[0] = ''
        runpy.run_module(module[0], run_name='__main__', alter_sys=True)
        return
    script = Path(program[0])
    if not script.is_file():
        parser.error(f'run: there is no file {str(script)!r}')
    sys.argv = program
    sys.path[0] = str(script.resolve().parent)
    runpy.run_path(str(script), run_name='__main__')


def main() -> None:
    """Entry point of ``python -m uringloop``."""
    parser = _parser()
    options = parser.parse_args()
    _run(parser, options.module, options.program)


if __name__ == '__main__':
    main()
