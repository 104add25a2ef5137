"""Programs made from seeds, on a kernel that does what any may do: see docs/simulation.md."""
import os
import shutil
import subprocess
import sys

import pytest

from tests.simulation.kernel import ROOT, compile_kernel, run_simulated
from tests.simulation.programs import program_of
from tests.simulation.run import ME, NOT_SIMULATED
from tests.simulation.scenarios import SCENARIOS

# `make simulate` runs as many as one likes.
SEEDS = 300
SECONDS = 15
BOUND = 120              # of one process, where many things run

pytestmark = [
    pytest.mark.skipif(not shutil.which('gcc'), reason='the simulated kernel takes a C compiler'),
    pytest.mark.skipif('asan' in os.environ.get('URINGLOOP_BUILD', ''),
                       reason='the sanitizers have system calls of their own'),
]


def simulate(*arguments):
    done = run_simulated(ME, *map(str, arguments), stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, errors='replace', timeout=BOUND)
    if done.returncode == NOT_SIMULATED:
        pytest.skip(done.stdout.strip())
    return done


@pytest.fixture(scope='module', autouse=True)
def _compiled():
    compile_kernel()


def test_programs_of_many_seeds():
    """As many as there is time for; each failure is told with the command that runs it again."""
    simulate('--seed', 1, '--without', 'all')            # or it is skipped
    done = subprocess.run(
        [sys.executable, '-m', ME, '--seeds', str(SEEDS), '--seconds', str(SECONDS),
         '--no-shrink'], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ' 0 failed' in done.stdout


@pytest.mark.parametrize('name', SCENARIOS)
def test_what_was_found_once(name):
    done = simulate('--scenario', name)
    assert done.returncode == 0, done.stdout


def test_a_seed_is_the_same_each_time():
    """By itself, and after others."""
    def journal(*arguments):
        return [line for line in simulate(*arguments).stdout.splitlines() if 'hash 7 ' in line]

    alone, after_others = journal('--range', '7-8', '--journal'), \
        journal('--range', '3-8', '--journal')
    assert alone
    assert alone == after_others


def test_a_part_of_a_program_is_a_program():
    steps = program_of(3).steps
    done = simulate('--seed', 3, '--steps', f'0,1,{len(steps) - 1}', '--without', 'all')
    assert done.returncode == 0, done.stdout
    assert f'    2 {steps[-1].name}' in done.stdout
