"""Runs a program on this loop as `python -m uringloop run` does, by another build of it.

    python tools/run_on.py build/trace SCRIPT [ARGUMENT...]
"""
import os
import sys
from pathlib import Path

if __name__ == '__main__':
    if len(sys.argv) < 3:
        print('usage: python tools/run_on.py BUILD SCRIPT [ARGUMENT...]', file=sys.stderr)
        sys.exit(2)
    build = str(Path(sys.argv.pop(1)).resolve())
    # Instead of the folder of this file; and for processes that the program starts.
    sys.path[0] = build
    os.environ['PYTHONPATH'] = os.pathsep.join(
        filter(None, [build, os.environ.get('PYTHONPATH', '')]))
    sys.argv.insert(1, 'run')

    from uringloop.cli.run import main
    main()
