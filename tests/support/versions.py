"""Marks for tests of what only some versions of Python have."""
import sys

import pytest

since_314 = pytest.mark.skipif(sys.version_info < (3, 14), reason='new in Python 3.14')
since_315 = pytest.mark.skipif(sys.version_info < (3, 15), reason='new in Python 3.15')
