"""What all tests need of the process they run in, and the fixtures that several of them use."""
import signal

import pytest

# As in test modules: a bare assert says what it has compared.
pytest.register_assert_rewrite('tests.support')

from tests.support.namespaces import wire  # noqa: E402, F401
from tests.support.tls import certificate, contexts  # noqa: E402, F401

# A shell starts its background jobs with SIGINT ignored, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
