"""One measurement of one task."""
from __future__ import annotations

import os
from dataclasses import asdict

from uringloop.cli.bench import process, results, turns
from uringloop.cli.bench.everyday.rows import Loop
from uringloop.cli.bench.everyday.tasks import TASKS
from uringloop.cli.bench.everyday.watch import Job
from uringloop.cli.bench.rows import Group
from uringloop.cli.bench.turns import Plan

PROCESSORS = sorted(os.sched_getaffinity(0))        # the first is the loop's, the last the load's


def sample(loop: Loop, plan: Plan) -> results.Work:
    program = plan.program('stream_load') if TASKS[loop.task].load else ''
    job = Job(loop.task, loop.side, plan.seconds, str(plan.folder), program, PROCESSORS[-1])
    with process.started(process.python('everyday.worker', asdict(job)), PROCESSORS[0]) as running:
        return results.Work(**process.outcome(running, plan.seconds))


def run(groups: list[Group[Loop]], plan: Plan) -> list[results.Group]:
    return turns.take(groups, {}, plan, lambda group, loop: sample(loop, plan))
