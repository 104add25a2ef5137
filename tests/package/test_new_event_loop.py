"""``new_event_loop`` and ``Loop``: the loops that they make, and the options that they take."""
import asyncio
import re

import pytest

import uringloop
from tests.support.cases import UringCase
from tests.support.protocols import endpoint


class TestNewEventLoop:

    def test_makes_a_loop_of_this_kind(self):
        loop = uringloop.new_event_loop()
        assert type(loop) is uringloop.Loop
        assert isinstance(loop, asyncio.AbstractEventLoop)
        loop.close()

    def test_several_loops_run_one_after_another(self):
        loops = [uringloop.new_event_loop(require_uring=True) for _ in range(4)]
        for loop in loops:
            assert loop.run_until_complete(asyncio.sleep(0, 1)) == 1
        for loop in loops:
            assert loop.run_until_complete(asyncio.sleep(0, 2)) == 2
            loop.close()

    @pytest.mark.parametrize('entries', [1, 2, 3, 64, 4096])
    def test_any_number_of_entries_runs(self, entries):
        loop = uringloop.new_event_loop(entries=entries)
        assert loop.run_until_complete(asyncio.sleep(0.001, 'ran')) == 'ran'
        loop.close()

    @pytest.mark.parametrize('entries', [0, -1, 32769, 1.5, '256', None])
    def test_bad_entries_are_refused(self, entries):
        with pytest.raises(ValueError, match='entries must be an integer from 1 to 32768'):
            uringloop.new_event_loop(entries=entries)

    def test_arguments_are_keywords(self):
        with pytest.raises(TypeError):
            uringloop.new_event_loop(True)

    @pytest.mark.parametrize('busy_poll', [-1, 1001, float('nan'), '50', None])
    def test_bad_busy_poll_is_refused(self, busy_poll):
        with pytest.raises(ValueError, match=re.escape(repr(busy_poll))):
            uringloop.new_event_loop(busy_poll=busy_poll)

    @pytest.mark.parametrize('name', [
        'URINGLOOP_REQUIRE', 'URINGLOOP_DISABLE', 'URINGLOOP_BATCH', 'URINGLOOP_GRO'])
    @pytest.mark.parametrize('value', ['yes', 'true', 'no', 'off', '2', ' 1'])
    def test_switches_are_0_or_1(self, monkeypatch, name, value):
        monkeypatch.setenv(name, value)
        with pytest.raises(ValueError, match=f'^{name} must be 0 or 1, not {value!r}$'):
            uringloop.new_event_loop()

    @pytest.mark.parametrize('name', ['URINGLOOP_BATCH', 'URINGLOOP_GRO'])
    def test_a_switch_is_looked_at_also_if_an_argument_goes_before(self, monkeypatch, name):
        monkeypatch.setenv(name, 'no')
        with pytest.raises(ValueError, match=f'^{name} must be'):
            uringloop.Loop(batch=True, gro=True)

    @pytest.mark.parametrize('name', ['URINGLOOP_REQUIRE', 'URINGLOOP_DISABLE'])
    @pytest.mark.parametrize('value', ['', '0'])
    def test_an_empty_switch_is_none(self, monkeypatch, name, value):
        monkeypatch.setenv(name, value)
        loop = uringloop.new_event_loop()
        assert type(loop) is uringloop.Loop
        loop.close()

    def test_loop_is_made_without_it(self):
        loop = uringloop.Loop()
        assert loop.run_until_complete(asyncio.sleep(0, 1)) == 1
        loop.close()


class TestBatchOption(UringCase):

    def test_bad_batch_is_refused(self):
        with pytest.raises(ValueError, match="not 'x'"):
            uringloop.new_event_loop(batch='x')
        with pytest.raises(ValueError, match='not 2'):
            self.run(endpoint(local_addr=('127.0.0.1', 0), batch=2))
