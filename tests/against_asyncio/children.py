"""A child process, and what its protocol is told."""
from __future__ import annotations

import asyncio
import select
import subprocess
from typing import TYPE_CHECKING, Any

from tests.against_asyncio import kernel_state
from tests.against_asyncio.programs import ProcessBehaviour
from tests.against_asyncio.world import MischiefError, told
from tests.simulation.ledger import Flow

if TYPE_CHECKING:
    from tests.against_asyncio.processes import Processes

# For a shell; none outlives its standard input and whoever kills it.
COMMANDS = {
    'cat': 'exec cat',
    'ends': 'exit 3',
    'asks': 'read x; exit 4',
    'speaks': 'echo out; echo err >&2; read x; exit 5',
    'much': 'head -c 300000 /dev/zero; exit 6',
    'silent': 'exec >&- 2>&-; read x; exit 7',
    'deaf': 'exec sleep 1000 <&-',
    'sleeps': 'exec sleep 1000',
    'falls': 'kill -9 $$',
    'leaves': 'exec 3<&0; cat <&3 & exit 8',           # another process has its pipes now
    'nobody': 'exec /nowhere/to/be/found',
}
ECHOES = ('cat', 'leaves')
READERS = ('asks', 'speaks', 'silent')                 # byte by byte, which takes its time
SAYS = {'speaks': 8, 'much': 300_000}                  # bytes
# What a child is doing meanwhile, and so what comes of it, is chance.
CUTS = ('kill', 'close', 'pause', 'close stdin')
PIPES = {
    'piped': (subprocess.PIPE, subprocess.PIPE, subprocess.PIPE),
    'joined': (subprocess.PIPE, subprocess.PIPE, subprocess.STDOUT),
    'no stderr': (subprocess.PIPE, subprocess.PIPE, subprocess.DEVNULL),
    'no stdin': (subprocess.DEVNULL, subprocess.PIPE, subprocess.PIPE),
    'none': (subprocess.DEVNULL, subprocess.DEVNULL, subprocess.DEVNULL),
}


class Child:
    """A child process."""

    def __init__(self, world: Processes, number: int, command: str) -> None:
        self.world = world
        self.command = command
        self.name = f'{command} {number}'
        self.state = 'new'
        self.transport: Any = None
        self.pid = 0
        self.pipes: dict[int, str] = {}          # 'open', or 'lost'
        self.paused: set[int] = set()
        self.flow = Flow(number, world.violations.append)
        self.came = {1: 0, 2: 0}
        self.exited = False
        self.is_chance = False
        self.stirred = ''            # by what, in this turn: it does something now
        self.told: list[str] = []
        self.waiting: list[asyncio.Task[Any]] = []

    def note(self, what: str) -> None:
        self.world.events += 1
        self.told.append(what)

    def pipe(self, fd: int) -> Any:
        return self.transport.get_pipe_transport(fd)

    def expected(self) -> int:
        """So many bytes come of it when all is said."""
        return self.flow.written if self.command in ECHOES else SAYS.get(self.command, 0)

    def in_motion(self) -> bool:
        return sum(self.came.values()) != self.expected() or not self.is_at_rest()

    def is_at_rest(self) -> bool:
        return self.exited or not (kernel_state.is_busy(self.pid)
                                   or kernel_state.has_ended(self.pid))

    # -- what is to happen -----------------------------------------------------------------------

    def due(self) -> str:
        what = ''
        if self.state == 'lost':
            return ''
        if self.state == 'new':
            what = 'connection_made'
        elif not self.exited and kernel_state.has_ended(self.pid):
            what = 'process_exited'
        elif not self.is_at_rest():
            what = 'it runs'
        elif self.exited and all(state == 'lost' for state in self.pipes.values()):
            what = 'connection_lost'
        elif self.is_outlived():
            what = 'what it has left behind'
        else:
            what = next(filter(None, map(self.pipe_due, self.pipes)), '')
        return what and f'{self.name}: {what}'

    def is_outlived(self) -> bool:
        """Whether a process that is not the loop's has still to say something, or to end."""
        if self.command != 'leaves' or not self.exited or 1 in self.paused:
            return False
        unsaid = self.came[1] < self.flow.written
        if unsaid and self.pipes.get(1) == 'open':
            return True
        ends = self.pipes.get(0) != 'open' or (unsaid and self.pipes.get(1) == 'lost')
        return ends and any(self.pipes.get(fd) == 'open' and fd not in self.paused
                            for fd in (1, 2))

    def pipe_due(self, fd: int) -> str:
        if self.pipes[fd] == 'lost':
            return ''
        pipe = self.pipe(fd)
        unsent = fd == 0 and pipe.get_write_buffer_size() > 0
        if pipe.is_closing() and not unsent:
            return f'pipe_connection_lost {fd}'
        if fd == 0:
            events = select.POLLOUT if unsent else 0
        elif fd in self.paused:
            return ''
        else:
            events = select.POLLIN
        found = kernel_state.polled(pipe.get_extra_info('pipe').fileno(), events)
        return f'pipe {fd} is ready ({found})' if found else ''

    def seen(self) -> Any:
        self.stirred = ''
        if self.state == 'lost' and not self.told:
            return None
        # The pipes of a child are closed one after the other, and then it ends: which of that
        # the loop notices first is chance.
        of_pipes = sorted(what for what in self.told if what.startswith('pipe'))
        told = [what for what in self.told if not what.startswith('pipe')]
        waiting = sum(not task.done() for task in self.waiting)
        seen = [*of_pipes, *told, '|', self.state, *map(self.state_of, self.pipes), dict(self.came),
                f'{waiting} wait']
        if self.transport is not None:
            seen.append(f'{self.transport.get_returncode()} {self.transport.is_closing()}')
        self.told = []
        return seen

    def state_of(self, fd: int) -> str:
        if self.pipes[fd] == 'lost':
            return f'{fd} lost'
        pipe = self.pipe(fd)
        buffered = fd == 0 and pipe.get_write_buffer_size() > 0
        return f'{fd} {"closing" if pipe.is_closing() else "open"}{" buffered" if buffered else ""}'

    # -- what programs do ------------------------------------------------------------------------

    def may(self, what: str) -> bool:
        """Whether it is certain what comes of that: not while it is doing something else."""
        if self.state == 'new' or self.transport is None:
            return False
        if self.stirred:
            more = self.command not in READERS and self.stirred == 'write'
            if not more or what not in ('write', 'close stdin'):
                return False
        self.stirred = what
        return True

    def write(self, size: int) -> None:
        if self.pipes.get(0) != 'open' or self.exited != (self.command == 'leaves') \
                or not self.may('write'):
            return
        pipe = self.pipe(0)
        if pipe.is_closing():
            size = 0
        elif self.command in READERS:
            size = min(size, 3000)
        data = self.flow.part(self.flow.written, size or 1)
        self.flow.written += size
        self.world.attempt(self.name, 'write', pipe.write, data)

    def close_pipe(self, fd: int, how: str = 'close') -> None:
        if self.pipes.get(fd) == 'open' and self.may('close stdin' if fd == 0 else 'close a pipe'):
            pipe = self.pipe(fd)
            self.world.attempt(self.name, how, getattr(pipe, how, pipe.close))

    def reads(self, fd: int, reads: bool) -> None:
        if self.pipes.get(fd) != 'open':
            return
        name = 'resume_reading' if reads else 'pause_reading'
        self.world.attempt(self.name, name, getattr(self.pipe(fd), name))
        (self.paused.discard if reads else self.paused.add)(fd)

    def signal(self, how: str, number: int | None = None) -> None:
        if not self.may('signal'):
            return
        if number is None:
            self.world.attempt(self.name, how, getattr(self.transport, how))
        else:
            self.world.attempt(self.name, how, self.transport.send_signal, number)

    def close(self) -> None:
        if self.may('close'):
            self.world.attempt(self.name, 'close', self.transport.close)

    def wait(self) -> None:
        if self.transport is not None:
            self.waiting.append(self.world.spawn(self.told_of_exit()))

    async def told_of_exit(self) -> None:
        try:
            self.note(f'wait {await self.transport._wait()}')
        except asyncio.CancelledError:
            self.note('wait cancelled')
            raise

    def cancel(self) -> None:
        for task in self.waiting:
            if not task.done():
                task.cancel()
                return


class ChildProtocol(asyncio.SubprocessProtocol):
    """Tells its child what it is told, and does what its behaviour says."""

    def __init__(self, child: Child, behaviour: ProcessBehaviour) -> None:
        self.child = child
        self.behaviour = behaviour

    def connection_made(self, transport: Any) -> None:
        child = self.child
        child.state, child.transport = 'made', transport
        child.pid = transport.get_pid()
        child.pipes = {fd: 'open' for fd in range(3) if transport.get_pipe_transport(fd)}
        child.note('made')
        self.act(self.behaviour.made)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        child = self.child
        child.world.events += 1
        before = sum(child.came.values())
        child.came[fd] += len(data)
        if child.command in ECHOES:
            child.flow.came(data)
        if before < self.behaviour.after <= before + len(data):
            self.act(self.behaviour.data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        child = self.child
        child.pipes[fd] = 'lost'
        # Of a pipe with more to be written asyncio sees that it is hung up; here it may be the
        # write that fails, with a number.
        child.note(f'pipe {fd} lost {type(exc).__name__}')
        action, self.behaviour = self.behaviour.pipe_lost, self.behaviour._replace(pipe_lost='')
        self.act(action)

    def process_exited(self) -> None:
        self.child.exited = True
        self.child.note(f'exited {self.child.transport.get_returncode()}')
        self.act(self.behaviour.exited)

    def connection_lost(self, exc: Exception | None) -> None:
        self.child.state = 'lost'
        self.child.note(f'lost {told(exc)}')
        self.act(self.behaviour.lost)

    def pause_writing(self) -> None:
        self.child.note('pipe 0 pause_writing')

    def resume_writing(self) -> None:
        self.child.note('pipe 0 resume_writing')

    def act(self, action: str) -> None:
        child = self.child
        if action in CUTS and (child.in_motion() or child.stirred):
            child.is_chance = True
        if action == 'raise':
            raise MischiefError(child)
        child.stirred = ''
        if action == 'write':
            child.write(100)
        elif action == 'close stdin':
            child.close_pipe(0)
        elif action == 'pause':
            child.reads(1, False)
        elif action == 'kill':
            child.signal('kill')
        elif action == 'close':
            child.close()
