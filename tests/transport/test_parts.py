"""Parts by themselves: which sends are a bulk, what is a segment, when to spin, queue and rings."""
import errno
import itertools
import socket
import struct
import sys
from typing import ClassVar

import pytest

import uringloop
from tests.support.compiled import compile_parts, imported, needs_parts

pytestmark = needs_parts

BULK = 4                       # transport/bulk.pxd


@pytest.fixture(scope='module')
def parts(tmp_path_factory):
    """``tests/support/parts.pyx``, compiled."""
    return imported(compile_parts(tmp_path_factory.mktemp('parts')))


class TestSizeOfTrains:
    """What control messages tell of the datagrams that came with them."""

    LEVELS: ClassVar = {'socket': 1, 'ip': 0, 'ipv6': 41}
    SIZE = (17, 104, struct.pack('i', 1200))                # SOL_UDP, UDP_GRO

    def written(self, *messages):
        """As the kernel writes them: each with a head of 16 bytes, and filled up to a word."""
        return b''.join(struct.pack('nii', 16 + len(data), level, kind) + data
                        + bytes(-len(data) % 8) for level, kind, data in messages)

    def other(self, level, size=4):
        return self.LEVELS[level], 99, bytes(size)

    def test_it_is_found_wherever_it_is(self, parts):
        assert parts.size_told(b'') == 0
        assert parts.size_told(self.written(self.SIZE)) == 1200
        for level in self.LEVELS:
            for size in 0, 1, 8, 17, 300:
                other = self.other(level, size)
                assert parts.size_told(self.written(other)) == 0
                assert parts.size_told(self.written(other, self.SIZE)) == 1200
                assert parts.size_told(self.written(self.SIZE, other)) == 1200
                assert parts.size_told(self.written(other, self.SIZE, other)) == 1200

    def test_one_that_is_cut_off_is_not_believed(self, parts):
        whole = self.written(self.other('socket'), self.SIZE)
        assert parts.size_told(whole[:-4], cut_off=True) == 1200        # only what fills it up
        for length in range(24, len(whole) - 4):
            # The kernel says in the head how much of it there is.
            head = whole[:24] + struct.pack('n', length - 24) + whole[32:]
            for control in whole[:length], head[:length]:
                assert parts.size_told(control, cut_off=True) is None

    def test_if_others_are_cut_off_it_is_known(self, parts):
        others = [self.other('socket'), self.SIZE, self.other('ipv6', 600)]
        assert parts.size_told(self.written(*others)[:512], cut_off=True) == 1200
        del others[1]
        # It would stand before those of IP.
        assert parts.size_told(self.written(*others)[:512], cut_off=True) == 0
        assert parts.size_told(self.written(self.other('socket', 600))[:512], cut_off=True) is None
        assert parts.size_told(b'', cut_off=True) is None

    def test_nonsense_is_no_size(self, parts):
        for size in 0, -5:
            assert parts.size_told(self.written((17, 104, struct.pack('i', size)))) == 0
        assert parts.size_told(struct.pack('nii', 0, 17, 104) + bytes(8)) == 0
        assert parts.size_told(struct.pack('nii', 1 << 62, 1, 99) + bytes(8)) == 0
        assert parts.size_told(struct.pack('Nii', (1 << 64) - 1, 1, 99) + bytes(8)) == 0


class TestBulk:

    def test_the_first_of_a_turn_leave_at_the_call(self, parts):
        assert parts.bulks([1] * 6) == [False] * BULK + [True] * 2

    def test_lone_sends_never_wait(self, parts):
        assert not any(parts.bulks(range(1, 50)))

    def test_after_a_bulk_only_the_first_leaves_at_the_call(self, parts):
        assert parts.bulks([1] * 5 + [2] * 3)[5:] == [False, True, True]
        assert parts.bulks([1] * 5 + [9] * 3)[5:] == [False, True, True]     # later, too

    def test_bulks_in_a_row_wait_from_the_first_on(self, parts):
        turns = [turn for turn in range(1, 5) for _ in range(5)]
        assert parts.bulks(turns)[15:] == [True] * 5

    def test_a_turn_without_a_bulk_ends_that(self, parts):
        turns = [turn for turn in range(1, 5) for _ in range(5)] + [5] + [6] * 5
        assert parts.bulks(turns)[21:] == [False] * BULK + [True]

    def test_a_pause_between_bulks_is_no_row(self, parts):
        turns = [turn for turn in (1, 2, 3, 10) for _ in range(5)]
        assert parts.bulks(turns)[15:] == [False] + [True] * 4


class TestSegments:

    @pytest.mark.parametrize(('datagrams', 'said'), [
        ([(10, 1), (10, 1), (10, 1)], [0, 1, 1]),
        ([(10, 1), (10, 2)], [0, 0]),
        ([(10, 1), (4, 1)], [0, 2]),
        ([(10, 1), (11, 1)], [0, 0]),
        ([(10, 1), (0, 1), (0, 1)], [0, 0, 0]),
        ([(200, 1), (200, 1)], [0, 0]),
    ])
    def test_likeness_to_the_one_before(self, parts, datagrams, said):
        assert parts.likenesses(100, datagrams) == said

    @pytest.mark.parametrize(('datagrams', 'count'), [
        ([(10, 1, False)] * 70, 64),
        ([(100, 1, False)] * 3 + [(7, 1, False)] * 2, 4),        # the shorter one is the last
        ([(100, 1, False)] * 3 + [(0, 1, False)], 3),            # an empty one would vanish
        ([(100, 1, False)] * 2 + [(100, 2, False)], 2),
        ([(100, 1, False)] * 2 + [(100, 1, True)], 2),           # a report is wanted on it
        ([(100, 1, True)] * 3, 1),
        ([(16000, 1, False)] * 6, 4),                            # of 65,000 bytes in all
        ([(20000, 1, False)] * 2, 1),
        ([(0, 1, False)] * 2, 1),
    ])
    def test_how_many_leave_as_one_send(self, parts, datagrams, count):
        assert parts.alike(16384, datagrams) == count

    def test_those_of_a_refused_send_leave_singly(self, parts):
        assert parts.alike(16384, [(100, 1, False)] * 3, due=2) == 1

    @pytest.mark.parametrize(('refusal', 'outcomes', 'learned'), [
        (errno.EMSGSIZE, [(1400, 0), (1400, 0)], [1400, 0]),
        (errno.EINVAL, [(1400, 0)], [1400]),
        (errno.EIO, [(1400, 0)], [1]),
        (errno.EOPNOTSUPP, [(1400, 0)], [1]),
        (errno.EMSGSIZE, [(1400, errno.EMSGSIZE)], [0]),         # it was the datagram's fault
        (errno.EMSGSIZE, [(1400, errno.EMSGSIZE), (1300, 0)], [0, 0]),
        (errno.ENOBUFS, [(1400, 0)], [0]),
    ])
    def test_what_a_refusal_teaches(self, parts, refusal, outcomes, learned):
        assert parts.learned_from(3, refusal, outcomes) == (learned, 3 - len(outcomes))


class TestSpinBudget:

    def test_goes_on_while_it_pays(self, parts):
        assert all(parts.spins([True] * 100))

    def test_stops_when_it_does_not_and_tries_again(self, parts):
        done = parts.spins([False] * 100)
        assert done[:8] == [True] * 8 and not any(done[8:39])
        assert done[39:41] == [True] * 2 and not any(done[41:])

    def test_tries_less_often_each_time(self, parts):
        tries = [n for n, tried in enumerate(parts.spins([False] * 4000)) if tried][8::2]
        waits = [after - before - 1 for before, after in itertools.pairwise(tries)]
        assert waits[:6] == [64, 128, 256, 512, 512, 512]

    def test_tries_as_often_as_ever_once_it_has_paid(self, parts):
        done = parts.spins([False] * 1000 + [True] * 1000 + [False] * 100)
        assert all(done[1500:2000])
        assert done[2000:].count(True) == 16 + 2
        assert done[2016:2047] == [False] * 31

    def test_not_for_a_timer_that_is_nearer(self, parts):
        assert not any(parts.spins([True] * 3, timeout=40e-6))
        assert not any(parts.spins([True] * 3, spin_ns=0))


class TestReadyQueue:

    def test_order_across_the_end_of_the_memory(self, parts):
        items = list(range(1000, 1300))
        steps = items[:200] + [None] * 150 + items[200:] + [None] * 150
        assert parts.through_the_queue(steps) == (items, 0)

    def test_grows_while_it_wraps_around(self, parts):
        items = list(range(1000, 2000))
        steps = items[:250] + [None] * 200 + items[250:] + [None] * 800
        assert parts.through_the_queue(steps) == (items, 0)

    def test_references_are_given_back(self, parts):
        item = object()
        before = sys.getrefcount(item)
        assert parts.through_the_queue([item] * 10 + [None] * 3)[1] == 7
        assert sys.getrefcount(item) == before


class TestCollector:
    """What the collector is shown beside fields."""

    def test_it_takes_no_reference(self, parts):
        """To give one back would free an object that is being freed: a debug Python ends there."""
        loop = uringloop.new_event_loop(require_uring=True)
        try:
            for _ in range(20):
                loop.call_soon(print)
                loop.call_later(1000, print)
            loop.stop()
            loop.run_forever()               # it has polls armed now
            for _ in range(20):
                loop.call_soon(print)
            for thing, least in (loop, 40), (parts.operations_of(loop), 1):
                while_traversed, otherwise, looked_at = parts.while_traversed(thing)
                assert while_traversed == otherwise
                assert looked_at > least
        finally:
            loop.close()


class TestRestrictions:
    """A ring refuses what no loop asks for, by the numbers of <linux/io_uring.h>."""

    REQUESTS: ClassVar = {6: 'POLL_ADD', 9: 'SENDMSG', 14: 'ASYNC_CANCEL',
                          26: 'SEND', 47: 'SEND_ZC', 48: 'SENDMSG_ZC'}
    CALLS: ClassVar = {6: 'FILES_UPDATE', 12: 'ENABLE_RINGS', 15: 'BUFFERS2', 16: 'BUFFERS_UPDATE',
                       20: 'RING_FDS', 21: 'UNREGISTER_RING_FDS'}

    @pytest.fixture
    def ring(self, parts):
        mine, peer = socket.socketpair()
        with mine, peer:
            ring = parts.a_ring(mine.fileno())
            yield ring
            ring.close(peer.fileno(), 0)

    def test_requests(self, parts, ring):
        allowed = {code for code in range(49) if parts.answer(ring, code) != -errno.EACCES}
        assert allowed == set(self.REQUESTS)

    def test_flags_of_requests(self, parts, ring):
        # FIXED_FILE, IO_DRAIN, IO_LINK, IO_HARDLINK, ASYNC, BUFFER_SELECT, CQE_SKIP_SUCCESS
        allowed = [bit for bit in range(7) if parts.answer(ring, 6, 1 << bit) == -errno.EBADF]
        assert allowed == [0, 2]

    def test_register_calls(self, parts, ring):
        allowed = {call for call in range(25)
                   if parts.register_answer(ring, call) != -errno.EACCES}
        assert allowed == set(self.CALLS)
