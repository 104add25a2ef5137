"""That the build for ``make tsan`` tells of a race, and that the GIL is none."""
import os
import subprocess

import pytest

from tests.support.programs import python

pytestmark = pytest.mark.skipif(
    'tsan' not in os.environ.get('URINGLOOP_BUILD', ''), reason='of make tsan only')

WORD = '''
int word;
void touch(void) { word++; }
'''
# ctypes gives up the GIL for what is called by CDLL, and keeps it by PyDLL.
PROGRAM = '''
import ctypes, sys, threading
touch = getattr(ctypes, sys.argv[1])(sys.argv[2]).touch
threads = [threading.Thread(target=lambda: [touch() for _ in range(100_000)]) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
'''


@pytest.fixture(scope='module')
def library(tmp_path_factory):
    """Compiled as the modules are."""
    path = tmp_path_factory.mktemp('race') / 'word.so'
    env = {name: value for name, value in os.environ.items() if name != 'LD_PRELOAD'}
    subprocess.run(['gcc', '-x', 'c', '-shared', '-fPIC', '-O1', '-g', '-fsanitize=thread', '-',
                    '-o', path], input=WORD, text=True, check=True, env=env)
    return path


@pytest.mark.parametrize(('how', 'races'), [('CDLL', True), ('PyDLL', False)])
def test_a_word_of_two_threads(library, how, races):
    done = python('-c', PROGRAM, how, library,
                  TSAN_OPTIONS='exitcode=0:ignore_noninstrumented_modules=1')
    assert done.returncode == 0
    assert ('WARNING: ThreadSanitizer: data race' in done.stderr) == races
