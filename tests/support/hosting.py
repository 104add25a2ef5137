"""trio's tasks on this loop, for tests: bounded in time, and looked at for leaks afterwards."""
import asyncio
import gc
import time

import pytest
import trio

import uringloop.trio
from tests.support.cases import assert_no_leaks

TIMEOUT = 5.0


class OwnClock(trio.abc.Clock):
    """A program's own clock: with one, trio waits in its thread."""

    def start_clock(self):
        pass

    def current_time(self):
        return time.perf_counter()

    def deadline_to_sleep_time(self, deadline):
        return deadline - time.perf_counter()


class Hosted:
    """``self.run`` hosts trio; every test runs in each of the ways in which that goes."""

    @pytest.fixture(autouse=True, params=['direct', 'thread', 'fallback'])
    def way(self, request, monkeypatch):
        monkeypatch.delenv('URINGLOOP_DISABLE', raising=False)
        if request.param == 'fallback':
            monkeypatch.setenv('URINGLOOP_DISABLE', '1')
        return request.param

    @pytest.fixture(autouse=True)
    def _run(self, way):
        self.way = way

    def run(self, async_fn, *args, **options):
        """As ``uringloop.trio.run``; fails when it takes too long."""
        if self.way == 'thread':
            options = {'clock': OwnClock(), **options}
        loops, problems = [], []

        async def main():
            loops.append(asyncio.get_running_loop())
            loops[0].set_exception_handler(lambda loop, context: problems.append(context))
            with trio.fail_after(TIMEOUT):
                return await async_fn(*args)

        result = uringloop.trio.run(main, **options)
        gc.collect()
        assert loops[0].is_closed()
        assert problems == []
        if self.way != 'fallback':
            assert_no_leaks(loops[0])
        return result


async def turns(count=5):
    """Let trio and the loop turn that many times."""
    for _ in range(count):
        await trio.lowlevel.checkpoint()


async def turns_until(condition):
    """The same until ``condition()``."""
    while not condition():
        await trio.lowlevel.checkpoint()
