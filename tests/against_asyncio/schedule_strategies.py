"""How Hypothesis makes programs of callbacks, timers, tasks and futures."""
from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import strategies as st

from tests.against_asyncio.schedules import Action, Schedule

PLAIN = ('cancel', 'stop', 'fail', 'set_variable', 'advance', 'future', 'set_result',
         'set_exception', 'cancel_future', 'cancel_future', 'put', 'set_event', 'clear_event',
         'interrupt', 'leave')
WITH_BODY = ('soon', 'later', 'later', 'at', 'threadsafe', 'thread', 'when_done', 'task', 'task',
             'execute', 'from_thread')
PLAIN_IN_TASKS = ('turn', 'turn', 'sleep', 'wait', 'wait', 'wait_shielded', 'get', 'wait_event')
WITH_BODY_IN_TASKS = ('call', 'catch', 'catch', 'gather', 'wait_for', 'first', 'locked')
TASKS = {'task', 'from_thread'}

numbers = st.integers(0, 6)


@cache
def actions(depth: int, in_task: bool) -> Any:
    plain = (PLAIN_IN_TASKS if in_task else ()) + PLAIN
    made = [st.builds(Action, st.sampled_from(plain), numbers, st.just(()))]
    if depth:
        names = (WITH_BODY_IN_TASKS if in_task else ()) + WITH_BODY
        made.append(st.sampled_from(names).flatmap(lambda name: st.builds(
            Action, st.just(name), numbers,
            bodies(depth - 1, name in TASKS or name in WITH_BODY_IN_TASKS))))
    return st.one_of(made)


@cache
def bodies(depth: int, in_task: bool) -> Any:
    return st.lists(actions(depth, in_task), max_size=4).map(tuple)


schedules = st.builds(
    Schedule,
    st.lists(st.tuples(st.integers(0, 8), bodies(3, False)), min_size=1, max_size=6).map(tuple),
    st.booleans())
