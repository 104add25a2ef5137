"""What runs for long runs for a moment."""
from tests.support.programs import ROOT, python


def test_soak_finds_nothing_that_grows():
    """A moment of it: everything runs, nothing is left, and the loop is idle afterwards."""
    done = python('benchmarks/soak.py', '--minutes', '0.02', cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == 'flat'
