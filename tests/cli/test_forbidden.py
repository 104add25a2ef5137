"""``python -m uringloop run`` where io_uring is forbidden."""
from tests.support.programs import python
from tests.support.seccomp import FORBID


def test_the_program_runs_and_is_told_once(tmp_path):
    # The program runs all the same, and is told once.
    program = tmp_path / 'program.py'
    program.write_text('import asyncio, sys\n'
                       'async def main():\n'
                       '    print(type(asyncio.get_running_loop()).__name__)\n'
                       'asyncio.run(main())\n'
                       'asyncio.run(main())\n'
                       'sys.exit(3)\n')
    start = tmp_path / 'start.py'
    start.write_text(FORBID + 'forbid_io_uring(1)\n'
                     'import runpy, sys\n'
                     f'sys.argv = ["uringloop", "run", {str(program)!r}]\n'
                     'runpy.run_module("uringloop", run_name="__main__", alter_sys=True)\n')
    done = python(start)
    assert done.returncode == 3, done.stderr
    assert 'CopyingLoop' in done.stdout
    assert done.stderr.count('RuntimeWarning: io_uring is not available') == 1
    assert f'{program}:4: RuntimeWarning' in done.stderr
