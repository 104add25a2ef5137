"""What of io_uring a test looks at: it is left out where URINGLOOP_FEATURES switches that off."""
import pytest


def needs_feature(*names, where=None):
    """Of a test or a class; ``uringloop.ring.features`` has the names.

    It is not even collected without them: ``make features`` is about what does not need them.
    ``where``: a feature that has to be there for that, as there is nothing to report where
    nothing goes zero-copy.
    """
    return pytest.mark.feature(*names, where=where)


def without_what_is_off(items):
    """The pair of those tests that need nothing that is switched off, and the others."""
    from uringloop.ring.features import features_used
    off = {name for name, used in features_used().items() if not used}
    kept, left = [], []
    for item in items:
        needed = {name for mark in item.iter_markers('feature') for name in mark.args
                  if mark.kwargs.get('where') not in off}
        (left if needed & off else kept).append(item)
    return kept, left
