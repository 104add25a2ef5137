"""Callbacks, timers, tasks and futures run in the order that they have on asyncio's loop."""
import asyncio
import gc

import pytest

pytest.importorskip('hypothesis')

from hypothesis import given

import uringloop
from tests.against_asyncio.profile import profile
from tests.against_asyncio.schedule_strategies import schedules
from tests.against_asyncio.schedules import Performance


def perform(loop, schedule):
    """What has run, in order."""
    try:
        return Performance(loop, schedule).play()
    finally:
        loop.close()


@profile(100)
@given(schedules)
def test_schedules(schedule):
    gc.disable()                         # finalizers run when they are due, not by chance
    try:
        theirs = perform(asyncio.SelectorEventLoop(), schedule)
        ours = perform(uringloop.new_event_loop(require_uring=True), schedule)
    finally:
        gc.enable()
        gc.collect()
    assert ours == theirs
