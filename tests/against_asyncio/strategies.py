"""How Hypothesis makes programs.  What stands first in a list is what it shrinks to."""
from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.against_asyncio.children import COMMANDS
from tests.against_asyncio.ipv6 import BOTH, FORMS, FOUR, MAPPED, SIX, WRONG
from tests.against_asyncio.programs import (
    SIZES,
    SMALL,
    Behaviour,
    DatagramBehaviour,
    ProcessBehaviour,
    Program,
    Step,
)

which = st.integers(0, 7)
sizes = st.sampled_from(SIZES)
small = st.sampled_from(SMALL)
kinds = st.sampled_from(('bytes', 'bytearray', 'memoryview'))
STREAMS = ('unix', 'tcp', 'tcp server', 'unix server', 'half tcp', 'half unix', 'pipe')


def rarely(*values: str, weight: int = 3) -> Any:
    """Mostly nothing, or one of these."""
    return st.sampled_from(('',) * weight + values)


behaviours = st.builds(
    Behaviour,
    made=rarely('write', 'eof', 'close', 'pause', 'raise', 'huge', weight=12),
    data=rarely('echo', 'echo', 'write', 'eof', 'close', 'abort', 'pause', 'raise', 'switch',
                'close soon', weight=5),
    after=st.sampled_from((1, 1, 50, 2000, 200_000)),
    eof=rarely('write', 'eof', 'close', 'abort', 'raise', 'pause', weight=6),
    keep_open=st.booleans(),
    pause=rarely('close', 'abort', 'raise', 'write', 'eof', weight=8),
    resume=rarely('write', 'close', 'abort', 'raise', 'eof', 'huge', weight=8),
    lost=rarely('raise', weight=10),
    buffered=st.sampled_from((False, False, True)))

datagram_behaviours = st.builds(
    DatagramBehaviour,
    datagram=rarely('echo', 'echo', 'write', 'close', 'abort', 'pause', 'raise', 'switch',
                    weight=4),
    after=st.integers(1, 4),
    error=rarely('close', 'abort', 'raise', 'write', weight=4),
    lost=rarely('raise', weight=10))


def step(name: str, *arguments: Any) -> Any:
    return st.tuples(*arguments).map(lambda drawn: Step(name, drawn))


stream_steps = (
    step('write', which, sizes, kinds),
    step('write', which, small, kinds),
    step('writelines', which, st.lists(small, max_size=4).map(tuple)),
    step('reads', which, st.booleans()),
    step('ends', which, st.sampled_from(('write_eof', 'close', 'abort'))),
    step('limits', which, st.sampled_from((None, 0, 50, 70_000, 8_000_000)),
         st.sampled_from((None, 0, 50))),
    step('set_protocol', which, behaviours),
    step('peer_write', which, small),
    step('peer_reads', which, st.booleans()),
    step('peer_ends', which, st.sampled_from(('shutdown', 'close', 'reset'))))

datagram_sizes = st.sampled_from((12, 0, 100, 1200, 9000, 60_000, 65_508, 70_000))
datagram_steps = (
    step('sendto', which, which, datagram_sizes, kinds),
    step('sendto', which, which, st.sampled_from((12, 100, 0)), kinds),
    step('sendto_nobody', which, st.sampled_from((12, 0, 70_000))),
    step('sendto_wrongly', which, st.sampled_from(('type', 'address', 'port', 'family'))),
    step('reads', which, st.booleans()),
    step('ends', which, st.sampled_from(('close', 'abort'))),
    step('outsider_sends', which, st.sampled_from((12, 0, 100, 1200))),
    step('set_datagram_protocol', which, datagram_behaviours))

# These take turns of the loop, and are by themselves.
new_stream = step('stream', st.sampled_from(STREAMS), behaviours, behaviours)
new_endpoint = step('endpoint', st.sampled_from(('', '', 'peer', 'nobody')), which,
                    datagram_behaviours)
datagram_bulk = step('bulk', which, which, st.integers(2, 40), st.sampled_from((12, 100, 1200)))
write_bulk = step('write_bulk', which, st.integers(2, 40), small)

options = st.sampled_from(((), (), (('batch', False),), (('busy_poll', 0),), (('gro', False),),
                           (('entries', 2),)))


@st.composite
def programs(draw: Any, make: Any, steps: tuple[Any, ...], alone: Any, count: int) -> Program:
    """Programs that begin with something that can be used.

    Each has a few kinds of steps only: so each kind is with few others at times.
    """
    first = draw(make)
    chosen = draw(st.lists(st.sampled_from(steps), min_size=1, max_size=5, unique_by=id))
    some = st.one_of(chosen)
    turn = st.one_of(
        st.lists(some, min_size=1, max_size=1).map(tuple),
        st.lists(some, min_size=1, max_size=4).map(tuple),
        st.lists(some, min_size=1, max_size=4).map(tuple),
        alone.map(lambda one: (one,)))
    rest = draw(st.lists(turn, min_size=1, max_size=count))
    return Program(((first,), *rest), draw(options))


stream_programs = programs(new_stream, stream_steps, st.one_of(write_bulk, new_stream), 10)
datagram_programs = programs(
    new_endpoint, datagram_steps, st.one_of(new_endpoint, new_endpoint, datagram_bulk), 12)

CALLS = ('sock_recv', 'sock_recv_into', 'sock_recvfrom')
socket_steps = (
    step('receive', which, st.sampled_from(CALLS), st.sampled_from((1, 100, 3000, 70_000))),
    step('receive', which, st.sampled_from(CALLS), st.sampled_from((1, 100, 3000, 70_000))),
    step('send', which, sizes, kinds),
    step('send', which, small, kinds),
    step('push', which, small),
    step('cancel', which, st.booleans()),
    step('watch', which),
    step('unwatch', which),
    step('shut', which),
    step('close_any', which))
new_sockets = step('sockets', st.sampled_from(('unix', 'tcp', 'accepted', 'udp')))
socket_programs = programs(new_sockets, socket_steps, new_sockets, 12)

forms = st.sampled_from(tuple(FORMS))
bounds = st.sampled_from((SIX, SIX, BOTH, FOUR))
datagram_sizes = st.sampled_from((12, 0, 100, 1200, 9000, 60_000, 70_000))
datagram6_steps = (
    step('sendto_as', which, which, datagram_sizes, forms),
    step('sendto_as', which, which, st.sampled_from((12, 100, 0)), forms),
    step('sendto', which, which, datagram_sizes, kinds),
    step('sendto_nobody', which, st.sampled_from((12, 0, 70_000))),
    step('sendto_wrongly', which, st.sampled_from(tuple(WRONG))),
    step('reads', which, st.booleans()),
    step('ends', which, st.sampled_from(('close', 'abort'))),
    step('outsider_sends', which, st.sampled_from((12, 0, 100, 1200))))
new_endpoint6 = step('endpoint6', bounds, forms, st.booleans(), which, datagram_behaviours)
datagram6_programs = programs(
    new_endpoint6, datagram6_steps, st.one_of(new_endpoint6, new_endpoint6, datagram_bulk), 12)
new_stream6 = step(
    'named', st.sampled_from((SIX, MAPPED, FOUR)), bounds,
    st.sampled_from(('loop', 'local', *FORMS)), behaviours, behaviours)
stream6_programs = programs(
    new_stream6, stream_steps[:7], st.one_of(write_bulk, new_stream6), 6)

SECURE = ('accepted unix', 'accepted tcp', 'server tcp', 'server unix', 'upgraded tcp',
          'upgraded unix', 'half tcp', 'half unix')
VERSIONS = ('TLSv1_3', 'TLSv1_2')
REFUSALS = ('plain text', 'end', 'reset', 'cancelled', 'silence', 'authority', 'name', 'version')
secure_steps = (
    step('write', which, sizes, kinds),
    step('flood', which),
    step('writelines', which, st.lists(small, max_size=4).map(tuple)),
    step('reads', which, st.booleans()),
    step('ends', which, st.sampled_from(('write_eof', 'close', 'abort'))),
    step('ends', which, st.sampled_from(('close', 'abort'))),
    step('limits', which, st.sampled_from((None, 50, 70_000, 8_000_000)),
         st.sampled_from((None, 50))),
    step('set_protocol', which, behaviours),
    step('peer_write', which, small),
    step('peer_reads', which, st.booleans()),
    step('peer_ends', which, st.sampled_from(('unwrap', 'shutdown', 'close', 'reset', 'garbage'))),
    step('time_passes'))
new_secure = step('secure', st.sampled_from(SECURE), st.sampled_from(VERSIONS), behaviours,
                  behaviours)
refused = step('refused', st.sampled_from(REFUSALS),
               st.sampled_from(('client', 'server', 'start_tls')))
secure_programs = programs(
    new_secure, secure_steps, st.one_of(write_bulk, new_secure, refused), 10)

process_behaviours = st.builds(
    ProcessBehaviour,
    made=rarely('write', 'close', 'kill', 'raise', 'close stdin', weight=12),
    data=rarely('write', 'close', 'kill', 'raise', 'pause', 'close stdin', weight=6),
    after=st.sampled_from((1, 1, 50, 2000, 65_536)),
    pipe_lost=rarely('raise', 'close', 'kill', 'close stdin', weight=8),
    exited=rarely('raise', 'close', 'kill', 'write', weight=8),
    lost=rarely('raise', weight=10))
pipes = st.sampled_from(('piped', 'piped', 'joined', 'no stderr', 'no stdin', 'none'))
commands = st.sampled_from(tuple(COMMANDS))
process_steps = (
    step('write', which, st.sampled_from((1, 3000, 300_000, 300_000))),
    step('write', which, small),
    step('close_pipe', which, st.sampled_from((0, 0, 1, 2)), st.sampled_from(('close', 'abort'))),
    step('reads', which, st.sampled_from((1, 2)), st.booleans()),
    step('signal', which, st.sampled_from(('kill', 'terminate', 'interrupt', 'nothing'))),
    step('close', which),
    step('wait', which),
    step('cancel', which))
new_process = step('child', commands, st.booleans(), pipes, process_behaviours)
talk = step('talk', commands, st.sampled_from((0, 1, 3000, 300_000)),
            st.sampled_from(('communicate', 'communicate', 'cancel', 'kill')))
many = step('many', st.integers(2, 8))
process_programs = programs(
    new_process, process_steps, st.one_of(new_process, new_process, talk, many), 8)
