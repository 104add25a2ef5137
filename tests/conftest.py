"""What all tests need of the process they run in, and the fixtures that several of them use."""
import gc
import itertools
import os
import signal

import pytest

# As in test modules: a bare assert says what it has compared.
pytest.register_assert_rewrite('tests.support')

from tests.support.cases import Case  # noqa: E402
from tests.support.features import without_what_is_off  # noqa: E402
from tests.support.namespaces import wire  # noqa: E402, F401
from tests.support.tls import certificate, contexts  # noqa: E402, F401

# A shell starts its background jobs with SIGINT ignored, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    """Leave out what looks at a feature that URINGLOOP_FEATURES switches off."""
    if os.environ.get('URINGLOOP_FEATURES'):
        items[:], left = without_what_is_off(items)
        config.hook.pytest_deselected(items=left)


ended = itertools.count(1)          # tests, so far


def pytest_collection_finish(session):
    """What is there by now stays: no collection, of which each test has one or two, looks at it.

    (Of thousands of tests: three quarters of the time that they took.)
    """
    gc.collect()
    gc.freeze()


def pytest_runtest_logfinish(nodeid, location):
    """Nor at what pytest keeps of those that have ended."""
    if next(ended) % 64 == 0:
        gc.collect()
        gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Say with a failure what the loop's exception handler was told, and note that it failed.

    An error inside the loop only ends a connection, and the test that waits for it times out:
    what has gone wrong stands in those problems.
    """
    report = yield
    case = getattr(item, 'instance', None)
    if report.failed and isinstance(case, Case) and not case.body_failed:
        case.body_failed = report.when == 'call'
        problems = case.told_problems()
        if problems:
            report.sections.append(("Told to the loop's exception handler", problems))
    return report
