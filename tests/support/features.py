"""What of io_uring a test looks at: it is left out where URINGLOOP_FEATURES switches that off."""
import pytest


def needs_feature(*names):
    """Of a test or a class; ``uringloop.ring.features`` has the names.

    It is not even collected without them: ``make features`` is about what does not need them.
    """
    return pytest.mark.feature(*names)


def without_what_is_off(items):
    """The pair of those tests that need nothing that is switched off, and the others."""
    from uringloop.ring.features import features_used
    off = {name for name, used in features_used().items() if not used}
    kept, left = [], []
    for item in items:
        needed = {name for mark in item.iter_markers('feature') for name in mark.args}
        (left if needed & off else kept).append(item)
    return kept, left
