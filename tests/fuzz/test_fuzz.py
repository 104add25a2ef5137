"""Some seeds that are always the same; ``make fuzz`` runs others."""
import pytest

from tests.fuzz import messages, seeds
from tests.support.compiled import compile_parts, imported, needs_parts
from tests.support.namespaces import needs_root

# Python 3.15 warns of numbers that are too long, and takes them as ever.
pytestmark = pytest.mark.filterwarnings('ignore::RuntimeWarning', 'ignore::DeprecationWarning')


@pytest.fixture(scope='module', autouse=True)
def _isolated():
    if not seeds.may_isolate():
        yield
        return
    with seeds.isolated():
        yield


@needs_root
def test_addresses():
    """Names are looked up, in a namespace where that fails at once."""
    for seed in 1, 2:
        assert seeds.try_addresses(seed) == []


def test_control_messages():
    for seed in 1, 2, 3:
        assert seeds.try_messages(seed) == []


# What is cancelled in the midst leaves leases and sockets behind.
@pytest.mark.filterwarnings('ignore::ResourceWarning',
                            'ignore::pytest.PytestUnraisableExceptionWarning')
def test_finalizers():
    for seed in 1, 2, 3:
        assert seeds.try_finalizers(seed) == []


@needs_parts
def test_what_control_messages_say(tmp_path):
    parts = imported(compile_parts(tmp_path))
    assert messages.differences_of_facts(parts, 1, 10_000) == []


def test_datagrams():
    for seed in range(1, 25):
        problems, came = seeds.try_datagrams(seed, 500)
        assert problems == []
        assert came > 0
