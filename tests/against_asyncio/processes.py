"""Steps of child processes."""
from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from typing import Any

from tests.against_asyncio import kernel_state
from tests.against_asyncio.children import COMMANDS, ECHOES, PIPES, Child, ChildProtocol
from tests.against_asyncio.programs import ProcessBehaviour
from tests.against_asyncio.world import CHANCE, World, told
from tests.simulation.ledger import MIB_OF_NOISE as NOISE

SIGNALS = {'interrupt': signal.SIGINT, 'nothing': 0}
ALIVE = ('cat', 'asks', 'speaks', 'deaf', 'sleeps')        # as long as nobody says anything
SLEEPERS = ('deaf', 'sleeps')
MOST = 6                       # children of a program, at once or not


class Processes(World):
    """A world of child processes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, uring: bool) -> None:
        super().__init__(loop, uring)
        self.violations: list[str] = []
        self.children: list[Child] = []
        self.talks: list[str] = []
        if sys.version_info < (3, 12) and not uring:
            asyncio.get_event_loop_policy().get_child_watcher().attach_loop(loop)

    def due(self) -> str:
        return next(filter(None, (child.due() for child in self.children)), '')

    def seen(self) -> dict[str, Any]:
        seen = {child.name: what for child in self.children if (what := child.seen()) is not None}
        seen.update({child.name: CHANCE for child in self.children if child.is_chance})
        for name in ('violations', 'talks'):
            if getattr(self, name):
                seen[name] = list(getattr(self, name))
                getattr(self, name).clear()
        return seen

    async def finish(self) -> None:
        for child in self.children:
            for task in child.waiting:
                task.cancel()
            if child.state == 'made':
                child.transport.close()

    # -- steps -----------------------------------------------------------------------------------

    async def child(self, command: str, shell: bool, pipes: str,
                    behaviour: ProcessBehaviour) -> None:
        if len(self.children) == MOST:
            return
        child = Child(self, len(self.children), command)
        stdin, stdout, stderr = PIPES[pipes]
        make, arguments = self.program(command, shell)
        try:
            await make(lambda: ChildProtocol(child, behaviour), *arguments, stdin=stdin,
                       stdout=stdout, stderr=stderr)
        except OSError as exc:
            self.talks.append(f'{child.name}: {told(exc)}')
        else:
            self.children.append(child)

    def program(self, command: str, shell: bool) -> tuple[Any, tuple[str, ...]]:
        text = COMMANDS[command]
        if shell:
            return self.loop.subprocess_shell, (text,)
        if command == 'nobody':
            return self.loop.subprocess_exec, (text.split()[1],)
        return self.loop.subprocess_exec, ('sh', '-c', text)

    def any(self, which: int) -> Child | None:
        """One that has not ended altogether."""
        found = self.children[which % len(self.children)] if self.children else None
        return found if found is not None and found.state == 'made' else None

    def write(self, which: int, size: int) -> None:
        if child := self.any(which):
            child.write(size)

    def close_pipe(self, which: int, fd: int, how: str) -> None:
        if child := self.any(which):
            child.close_pipe(fd, how)

    def reads(self, which: int, fd: int, reads: bool) -> None:
        if child := self.any(which):
            child.reads(fd, reads)

    def signal(self, which: int, how: str) -> None:
        if child := self.any(which):
            child.signal(how, SIGNALS.get(how))

    def close(self, which: int) -> None:
        if child := self.any(which):
            child.close()

    def wait(self, which: int) -> None:
        if self.children:                # also for one that has ended
            self.children[which % len(self.children)].wait()

    def cancel(self, which: int) -> None:
        if child := self.any(which):
            child.cancel()

    async def many(self, count: int) -> None:
        """Children that end at once, by themselves."""
        async def one(number: int) -> int | None:
            process = await asyncio.create_subprocess_exec('sh', '-c', f'exit {number}')
            return await process.wait()

        self.talks.append(f'many: {await asyncio.gather(*map(one, range(count)))}')

    async def talk(self, command: str, size: int, how: str) -> None:
        """As programs do it, by streams."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self.program(command, False)[1], stdin=PIPE, stdout=PIPE, stderr=PIPE)
        except OSError as exc:
            self.talks.append(f'{command}: {told(exc)}')
            return
        if how != 'communicate' or command in SLEEPERS:
            await self.until(lambda: not kernel_state.is_busy(process.pid))
        if how == 'cancel':
            waiting = self.spawn(process.wait())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        if (how != 'communicate' and command in ALIVE) or command in SLEEPERS:
            process.kill()
            size = 0                     # whether that is still taken is chance
        data = NOISE[:size if command in ECHOES else min(size, 3000)]
        try:
            out, errors = await process.communicate(data)
        except OSError as exc:           # not all Pythons keep it to themselves
            self.talks.append(f'{command}: {told(exc)}')
        else:
            self.talks.append(f'{command}: {len(out)} {out == data} {len(errors)}')
        self.talks.append(f'{command}: {process.returncode} {await process.wait()}')
