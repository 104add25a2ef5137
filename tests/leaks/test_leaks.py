"""Some thousands of sends of each ending; ``make leaks`` sends a million of each."""
import pytest

from tests.leaks.endings import ENDINGS
from tests.leaks.measure import COUNTS_BLOCKS, growth
from tests.leaks.run import is_flat

SENDS = 1000                # of a round, of three
KEPT = []


@pytest.mark.parametrize('name', ENDINGS)
def test_nothing_stays(name):
    grown = growth(ENDINGS[name], SENDS, SENDS)
    if COUNTS_BLOCKS:
        assert is_flat(grown), grown


@pytest.mark.skipif(not COUNTS_BLOCKS, reason='this allocator has no blocks to count')
@pytest.mark.parametrize('size', [10, 1000])
def test_what_stays_is_found(size):
    """One of fifty sends leaves something."""
    def leaks(count):
        KEPT.extend(bytearray(size) for _ in range(count // 50))

    try:
        assert not is_flat(growth(leaks, SENDS * 10, SENDS))
    finally:
        KEPT.clear()
