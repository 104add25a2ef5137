"""Programs of transports and sockets do on this loop what they do on asyncio's.

See docs/reliability.md.  A program that they do not agree about is told, as short as can be.
"""
import logging
import sys

import pytest

pytest.importorskip('hypothesis')

from hypothesis import given

from tests.against_asyncio import strategies
from tests.against_asyncio.compare import compare, counted
from tests.against_asyncio.datagrams import Datagrams
from tests.against_asyncio.profile import profile
from tests.against_asyncio.sockets import Sockets
from tests.against_asyncio.streams import Streams


@pytest.fixture(scope='module', autouse=True)
def _counts():
    """What a long run has done; asyncio warns of writes that programs make in vain."""
    logger = logging.getLogger('asyncio')
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    counted.clear()
    yield
    logger.setLevel(level)
    print('\n' + ', '.join(f'{number} {what}' for what, number in counted.items()))


@profile(100)
@given(strategies.stream_programs)
def test_streams(program):
    compare(Streams, program)


@profile(100)
@given(strategies.datagram_programs)
def test_datagrams(program):
    compare(Datagrams, program)


@pytest.mark.skipif(sys.version_info < (3, 11), reason='asyncio has no sock_sendto')
@profile(100)
@given(strategies.socket_programs)
def test_sockets(program):
    compare(Sockets, program)
