"""What runs for long runs for a moment."""
import re
from xml.etree import ElementTree

from tests.support.programs import ROOT, python


def test_soak_finds_nothing_that_grows(tmp_path):
    """A moment of it: everything runs, nothing is left, and the loop is idle afterwards."""
    picture = tmp_path / 'soak.svg'
    done = python('benchmarks/soak.py', '--minutes', '0.02', '--picture', picture, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == 'flat'
    [works] = [line for line in lines if line.startswith('done: ')]
    for name in 'datagrams', 'many_and_trains', 'metadata', 'pools', 'registered_memory', 'tls':
        assert re.search(rf'\b{name} [1-9]', works), works
    texts = [text.text for text in ElementTree.parse(picture).iter() if text.tag.endswith('text')]
    assert {'memory', 'descriptors', 'bytes pinned, at most', 'timers late, at most'} <= {*texts}
