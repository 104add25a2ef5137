"""One program on the simulated kernel, and what must hold when it has come to its end."""
from __future__ import annotations

import asyncio
import gc
import sys
import threading
import traceback
import warnings
from collections.abc import Coroutine
from typing import Any

import uringloop
from tests.simulation.datagram_steps import DatagramSteps
from tests.simulation.kernel import Kernel
from tests.simulation.ledger import Flow, Ledger
from tests.simulation.loop_steps import LoopSteps
from tests.simulation.memory_steps import MemorySteps
from tests.simulation.programs import Program, Step
from tests.simulation.protocols import Checked, DatagramProtocol, MischiefError, StreamProtocol
from tests.simulation.stream_steps import StreamSteps
from uringloop.ring import orphans

TOO_LONG = 3000.0              # seconds of the simulated clock
AT_THE_END = 120.0             # that what is going on may take when nothing fails any more


class Play(DatagramSteps, StreamSteps, MemorySteps, LoopSteps):
    """A program that runs."""

    def __init__(self, kernel: Kernel, program: Program) -> None:
        self.kernel = kernel
        self.program = program
        self.failures: list[str] = []
        self.protocols: list[Checked] = []
        self.peers: list[Any] = []
        self.servers: list[Any] = []
        self.flows: dict[Any, Flow] = {}
        self.pools: list[Any] = []
        self.leases: list[Any] = []
        self.registered: list[Any] = []
        self.closing_pools: list[Any] = []
        self.sockets: list[Any] = []
        self.clients: list[Any] = []
        self.readers: list[Any] = []
        self.sending: set[Any] = set()
        self.futures: list[Any] = []         # of zero-copy sends
        self.of_sockets: dict[Any, list[Any]] = {}   # by sock_* calls
        self.others: list[Any] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.waiting: list[asyncio.Task[Any]] = []
        self.attempted = self.sent_by_peers = self.mischief = 0
        self.move = False
        self.ledger = Ledger(self.fail)

    # -- what goes wrong -------------------------------------------------------------------------

    def fail(self, text: str) -> None:
        """Something is not as it must be."""
        if len(self.failures) < 20:
            self.failures.append(text)

    def expected(self, exc: OSError) -> None:
        """What a program has to expect of a network, and of a kernel without memory."""

    def told(self, _: Any, context: dict[str, Any]) -> None:
        """The loop's exception handler."""
        exc = context.get('exception')
        if isinstance(exc, MischiefError):
            return
        if self.program.abrupt and 'was destroyed but it is pending' in context['message']:
            return
        text = ''.join(traceback.format_exception(exc)) if exc is not None else ''
        self.fail(f'told to the exception handler: {context.get("message")} {text}')

    # -- running ---------------------------------------------------------------------------------

    def run(self) -> list[str]:
        """What is wrong with it."""
        gc.collect()
        gc.disable()
        hook, sys.unraisablehook = sys.unraisablehook, self.unraisable
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                self.run_loop()
        except uringloop.UringUnavailableError:
            pass                         # no memory for a ring
        except BaseException:
            self.fail(traceback.format_exc())
        finally:
            gc.enable()
            sys.unraisablehook = hook
        return self.kernel.found + self.failures

    def unraisable(self, what: Any) -> None:
        if not self.program.abrupt:      # coroutines that want to go on
            self.fail(f'in a finalizer: {what.exc_value!r} {what.object!r}')

    def run_loop(self) -> None:
        self.loop = loop = uringloop.new_event_loop(
            require_uring=True, **self.program.options)    # type: ignore[arg-type]
        loop.set_exception_handler(self.told)
        try:
            main = loop.create_task(self.main())
            main.add_done_callback(lambda _: loop.stop())
            while not main.done():
                self.run_once()
            if not main.cancelled() and main.exception() is not None:
                raise main.exception()     # type: ignore[misc]
        finally:
            main = None                    # type: ignore[assignment]
            if not self.program.abrupt:
                self.compare(loop.stats())
            loop.close()
            self.after_close()

    def run_once(self) -> None:
        """Until the loop is stopped; in another thread if it is to move."""
        if not self.move:
            self.loop.run_forever()
            return
        problems: list[BaseException] = []

        def run() -> None:
            try:
                self.loop.run_forever()
            except BaseException as exc:
                problems.append(exc)

        self.move = False
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if problems:
            raise problems[0]

    def spawn(self, coroutine: Coroutine[Any, Any, Any], waits: bool = False) -> Any:
        """A task; ``waits``: perhaps for what never comes."""
        task = self.loop.create_task(coroutine)
        self.tasks.append(task)
        if waits:
            self.waiting.append(task)
        return task

    async def main(self) -> None:
        guard = self.loop.call_later(TOO_LONG, self.too_late)
        for step in self.program.steps:
            await self.perform(step)
        guard.cancel()
        self.kernel.quiet()
        if not self.program.abrupt:
            await self.come_to_an_end()

    def too_late(self) -> None:
        self.fail('the program does not come to its end')
        for task in asyncio.all_tasks(self.loop):
            task.cancel()

    async def perform(self, step: Step) -> None:
        result = getattr(self, f'step_{step.name}')(*step.numbers)
        if result is not None:
            await result

    # -- the end ---------------------------------------------------------------------------------

    async def come_to_an_end(self) -> None:
        """All that was begun ends: nothing fails any more."""
        for task in self.waiting:
            task.cancel()
        for lease in self.leases:
            lease.release()
        self.leases.clear()
        for protocol in self.open_streams() + self.open_endpoints():
            protocol.reactions.clear()
            protocol.transport.resume_reading()
        await self.wait_for(self.tasks + self.others, 'tasks')
        await self.end_streams()
        await self.wait_for(self.futures, 'futures of zero-copy sends')
        await self.until(self.all_is_sent, 'what was sent does not leave')
        await self.until(self.all_is_received, 'what has come is not received')
        await self.close_all()

    async def wait_for(self, futures: list[Any], what: str) -> None:
        if futures:
            _, pending = await asyncio.wait(list(dict.fromkeys(futures)), timeout=AT_THE_END)
            if pending:
                self.fail(f'{len(pending)} {what} are forgotten: {next(iter(pending))!r}')
            for future in futures:
                if future.done() and not future.cancelled() and future.exception() is not None \
                        and not isinstance(future.exception(), (OSError, MischiefError)):
                    self.fail(f'{what}: {future.exception()!r}')

    async def until(self, condition: Any, problem: str) -> None:
        end = self.loop.time() + AT_THE_END
        while not condition():
            if self.loop.time() > end:
                self.fail(problem)
                return
            await asyncio.sleep(0.01)

    async def end_streams(self) -> None:
        """Both ends of a connection say so, and have had everything then."""
        for stream in self.open_streams():
            self.know_stream(stream)
            if not stream.wrote_eof:
                self.write_eof(stream)
        pairs = [stream for stream in self.open_streams() if self.other_end(stream) is not None]
        await self.until(lambda: all(self.has_ended(stream) for stream in pairs),
                         'the end of a stream does not come')

    def other_end(self, stream: StreamProtocol) -> Any:
        for other in self.open_streams():
            if other.sends is stream.receives and other is not stream:
                return other
        return None

    def has_ended(self, stream: StreamProtocol) -> bool:
        if stream.state == 'lost' or stream.transport.is_closing():
            return True
        if self.other_end(stream) is None:
            return True
        return stream.ended and stream.receives.read == stream.receives.written

    def all_is_sent(self) -> bool:
        return all(each.transport.get_write_buffer_size() == 0 for each in self.open_endpoints())

    def all_is_received(self) -> bool:
        for peer in self.peers:
            peer.read()
        return all(self.kernel.unread(each.transport.get_extra_info('socket').fileno()) == 0
                   for each in self.open_endpoints())

    async def close_all(self) -> None:
        for server in self.servers:
            server.close()
        for protocol in self.protocols:
            if protocol.state == 'made':
                protocol.close()
        await asyncio.sleep(1)
        for protocol in self.protocols:          # streams whose other end never reads
            if protocol.state == 'made':
                protocol.close(abort=True)
        await self.until(lambda: all(each.state != 'made' for each in self.protocols),
                         'connection_lost is not called')
        for pool in self.pools:
            self.closing_pools.append(pool.close())
        for registered, _, _ in self.registered:
            self.closing_pools.append(registered.close())
        await self.wait_for(self.closing_pools, 'closing pools')

    # -- what must hold --------------------------------------------------------------------------

    def compare(self, stats: Any) -> None:
        """The loop's counters with those of the kernel, and of the program."""
        counts = self.kernel.counts
        for what, ours, theirs in (
                ('datagrams sent', stats.datagrams_sent,
                 counts['datagrams_sent'] - self.sent_by_peers),
                ('submissions', stats.submissions, counts['submitted'])):
            if ours != theirs:
                self.fail(f'{what}: the loop has counted {ours}, and it were {theirs}')
        if not any(step.name.startswith('sock_') for step in self.program.steps):
            accounted = stats.datagrams_sent + stats.datagrams_dropped
            if accounted != self.attempted:
                self.fail(f'{self.attempted} datagrams were to be sent, and the loop has counted '
                          f'{accounted} as sent or dropped')
        received = sum(each.count for each in self.protocols if isinstance(each, DatagramProtocol))
        if stats.datagrams_received != received + stats.datagrams_discarded:
            self.fail(f'datagrams received: the loop has counted {stats.datagrams_received}, '
                      f'of them {stats.datagrams_discarded} discarded; protocols had {received}')

    def after_close(self) -> None:
        """The kernel lets go of everything: nothing is left."""
        futures, self.futures = self.futures, []
        loop, stats = self.loop, self.loop.stats
        for sock, _ in self.sockets:
            sock.close()
        for sock in self.clients + [each for pair in self.readers for each in pair]:
            sock.close()
        for peer in self.peers:
            peer.sock.close()
        self.kernel.finish()
        orphans.release_torn_down()
        # Tasks that were going on when the loop was closed never end.
        of_sockets = {future for each in self.of_sockets.values() for future in each}
        forgotten = [future for future in futures if not future.done()
                     and not (self.program.abrupt and future in of_sockets)]
        for future in futures:
            if future.done() and not future.cancelled():
                future.exception()               # nobody else asks
        if forgotten:
            self.fail(f'{len(forgotten)} futures are forgotten: {forgotten[0]!r}')
        del futures, forgotten, of_sockets
        self.of_sockets.clear()
        self.let_go_of_all()
        gc.collect()
        self.kernel.finish()
        orphans.release_torn_down()
        left = stats()
        for name in ('operations_in_flight', 'operations_live', 'bytes_pinned',
                     'unknown_completions', 'rings_orphaned'):
            if getattr(left, name):
                self.fail(f'{name} is {getattr(left, name)} in the end')
        orphans.orphaned_rings.clear()
        del loop

    def let_go_of_all(self) -> None:
        for name in ('protocols', 'servers', 'pools', 'leases', 'registered', 'closing_pools',
                     'tasks', 'waiting', 'others'):
            setattr(self, name, [])
