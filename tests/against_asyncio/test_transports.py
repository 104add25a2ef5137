"""Programs of transports, sockets and child processes do on this loop what they do on asyncio's.

See docs/reliability.md.  A program that they do not agree about is told, as short as can be.
"""
import asyncio
import functools
import logging
import sys

import pytest

pytest.importorskip('hypothesis')

from hypothesis import given

from tests.against_asyncio import strategies
from tests.against_asyncio.compare import compare, counted
from tests.against_asyncio.datagrams import Datagrams
from tests.against_asyncio.ipv6 import Datagrams6, Streams6
from tests.against_asyncio.processes import Processes
from tests.against_asyncio.profile import profile
from tests.against_asyncio.secure import Contexts, SecureStreams
from tests.against_asyncio.sockets import Sockets
from tests.against_asyncio.streams import Streams
from tests.support.sockets import needs_ipv6


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


@needs_ipv6
@profile(50)
@given(strategies.stream6_programs)
def test_streams_of_ipv6(program):
    compare(Streams6, program)


@needs_ipv6
@profile(50)
@given(strategies.datagram6_programs)
def test_datagrams_of_ipv6(program):
    compare(Datagrams6, program)


@pytest.mark.skipif(sys.version_info < (3, 11), reason='its TLS is another')
@profile(50)
@given(strategies.secure_programs)
def test_secure_streams(certificate, program):
    compare(functools.partial(SecureStreams, contexts=Contexts(*certificate)), program)


@pytest.fixture
def _pidfds():
    """Older asyncio waits for a child in a thread, unless it is told to do as newer ones."""
    if sys.version_info >= (3, 12):
        yield
        return
    policy = asyncio.get_event_loop_policy()
    watcher = policy.get_child_watcher()
    policy.set_child_watcher(asyncio.PidfdChildWatcher())
    yield
    policy.set_child_watcher(watcher)


@pytest.mark.usefixtures('_pidfds')
@profile(50)
@given(strategies.process_programs)
def test_processes(program):
    compare(Processes, program)
