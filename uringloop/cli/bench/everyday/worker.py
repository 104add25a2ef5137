"""One measurement of one task on one loop, in a process of its own.

``python -m uringloop.cli.bench.everyday.worker JOB`` prints what it has measured; both are JSON.
"""
from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import sys
from typing import Any

from uringloop.cli.bench.everyday.tasks import TASKS
from uringloop.cli.bench.everyday.watch import Job, Watch
from uringloop.cli.bench.process import GRACE, FailedError, MissingError


def measured(job: Job) -> dict[str, Any]:
    run, watch = TASKS[job.task].run, Watch(job)
    if inspect.iscoroutinefunction(run):
        loop = watch.new_loop()
        asyncio.set_event_loop(loop)
        loop.run_until_complete(run(watch))
    else:
        watch.new_loop().close()        # whether there is such a loop
        run(watch)
    return {'seconds': watch.took, 'units': watch.units, 'cpu': watch.cpu, 'wrong': watch.wrong}


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    signal.alarm(int(job.seconds) + GRACE)
    try:
        said = measured(job)
    except MissingError as error:
        said = {'missing': str(error)}
    except NotImplementedError as error:
        said = {'missing': f'{job.loop} cannot do that {error}'.strip()}
    except FailedError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(1)
    print(json.dumps(said), flush=True)
    # Thousands of transports need no farewell, and a loop's threads might keep the process.
    os._exit(0)


if __name__ == '__main__':
    main()
