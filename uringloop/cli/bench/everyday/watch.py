"""How long, how much, how much processor time; and the load of servers."""
from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from uringloop.cli.bench.loops import loop_of
from uringloop.cli.bench.process import FailedError


@dataclass(frozen=True)
class Job:
    """What one process does."""

    task: str               # a row
    loop: str
    seconds: float
    folder: str             # for its files
    program: str            # stream_load
    load_processor: int


class Watch:
    """``with watch:`` is what is measured; the task adds to ``units`` what it has done."""

    def __init__(self, job: Job) -> None:
        self.loop_name = job.loop
        self.seconds = job.seconds
        self.folder = Path(job.folder)
        self.units = 0.0
        self.took = 0.0
        self.cpu = 0.0
        self.wrong = ''
        self._job = job
        self._begin = self._cpu_begin = 0.0

    def __enter__(self) -> Watch:
        self._cpu_begin = time.process_time()
        self._begin = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.took = time.perf_counter() - self._begin
        self.cpu = time.process_time() - self._cpu_begin

    def going(self) -> bool:
        """Whether there is time left."""
        return time.perf_counter() < self._begin + self.seconds

    def new_loop(self) -> asyncio.AbstractEventLoop:
        return loop_of(self.loop_name)

    def delivered(self, sent: int, received: int) -> None:
        """Bytes, of which none may be missing; they are the units, in millions."""
        self.units = received / 1e6
        if sent != received:
            self.wrong = f'{sent:,} bytes sent, {received:,} arrived'

    def start_load(self, way: str, address: str | int, size: int = 16,
                   connections: int = 1) -> subprocess.Popen[str]:
        """``stream_load`` on a processor of its own."""
        process = subprocess.Popen(
            [self._job.program, way, str(address), str(size), str(self.seconds), str(connections)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        os.sched_setaffinity(process.pid, {self._job.load_processor})
        return process

    async def loaded(self, way: str, address: str | int, size: int = 16,
                     connections: int = 1) -> None:
        """Measure what the load has got done."""
        load = self.start_load(way, address, size, connections)
        with self:
            out, errors = await asyncio.to_thread(load.communicate)
        if load.returncode:
            raise FailedError(f'the load: {errors.strip() or load.returncode}')
        said = json.loads(out)
        self.units, self.took = said['units'], said['seconds']
