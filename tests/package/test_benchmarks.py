"""The benchmarks run, and say what they are asked for."""
import re

import pytest

from tests.support.programs import ROOT, python

COMPARE = ROOT / 'benchmarks' / 'compare.py'


@pytest.mark.parametrize('what', ['tls', 'idle', 'connect', 'spawn'])
def test_compare_measures_both(what):
    done = python(COMPARE, what, 'asyncio', 'uringloop',
                  '--rounds', '1', '--seconds', '0.1', '--count', '50')
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ['asyncio', 'uringloop']
    for line in lines:
        assert re.search(r'[1-9]', line.split()[1]), line
    assert ', 1.00 of the first' in lines[0]


def test_help_names_an_example():
    done = python(COMPARE, '--help')
    assert done.returncode == 0
    assert 'compare.py tls asyncio uringloop' in done.stdout


def test_soak_finds_nothing_that_grows():
    """A moment of it: everything runs, nothing is left, and the loop is idle afterwards."""
    done = python('benchmarks/soak.py', '--minutes', '0.02', cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == 'flat'
