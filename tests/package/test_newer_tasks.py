"""Tasks, children and the clock, as Python 3.14 and 3.15 have changed them."""
import asyncio
import contextvars
import os
import re
import subprocess
import sys
import textwrap
from asyncio import unix_events

import pytest

from tests.support.cases import both_sides
from tests.support.programs import ROOT
from tests.support.versions import since_314, since_315

variable = contextvars.ContextVar('variable', default='unset')


class _TestTasks:

    @since_314
    def test_a_factory_gets_what_the_caller_gives(self):
        given = []

        def factory(loop, coroutine, **options):
            given.append(sorted(options))
            return asyncio.Task(coroutine, loop=loop, **options)

        async def main():
            await self.loop.create_task(asyncio.sleep(0))
            await asyncio.create_task(asyncio.sleep(0), name='named')
            await self.loop.create_task(asyncio.sleep(0), name=None)
            await self.loop.create_task(asyncio.sleep(0), eager_start=False)
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0), context=contextvars.copy_context())

        self.loop.set_task_factory(factory)
        self.run(main())
        # wait_for's own are first and the one of run_until_complete.
        assert given[-5:] == [[], ['name'], ['name'], ['eager_start'], ['context']]

    @since_314
    def test_what_a_factory_returns_is_returned(self):
        # Before, its name was set: it need not have one.
        future = self.loop.create_future()

        def factory(loop, coroutine, **options):
            coroutine.close()
            return future

        self.loop.set_task_factory(factory)
        assert self.loop.create_task(asyncio.sleep(0)) is future
        self.loop.set_task_factory(None)

    @since_314
    @pytest.mark.parametrize('debug', [False, True])
    def test_eager_start_begins_at_once(self, debug):
        self.loop.set_debug(debug)

        async def quick():
            return variable.get()

        async def main():
            context = contextvars.copy_context()
            context.run(variable.set, 'given')
            task = self.loop.create_task(quick(), eager_start=True, name='soon', context=context)
            assert task.done() and task.result() == 'given' and task.get_name() == 'soon'
            assert not self.loop.create_task(quick(), eager_start=False).done()
            async with asyncio.TaskGroup() as group:
                assert group.create_task(quick(), eager_start=True).done()

        self.run(main())

    @since_315
    def test_a_group_is_cancelled(self):
        async def main():
            async with asyncio.TaskGroup() as group:
                task = group.create_task(asyncio.sleep(60))
                group.cancel()
            return task.cancelled()

        assert self.run(main())

    @since_314
    def test_call_graph_names_who_awaits(self):
        async def inner():
            return asyncio.format_call_graph(outer_task)

        async def outer():
            return await inner()

        async def main():
            nonlocal outer_task
            outer_task = asyncio.create_task(outer(), name='the outer one')
            return await outer_task

        outer_task = None
        graph = self.run(main())
        assert re.search(r"Task\(name='the outer one'.*async .*inner\(\).*async .*outer\(\)"
                         r'.*Awaited by:.*async .*main\(\)', graph, re.DOTALL), graph


class _TestChildren:

    @since_314
    def test_a_second_cancellation_leaves_the_wait_for_the_child_alone(self, monkeypatch):
        outcome = []

        class Transport(unix_events._UnixSubprocessTransport):
            async def _wait(self):
                try:
                    await asyncio.sleep(0.05)
                    outcome.append('ended')
                except asyncio.CancelledError:
                    outcome.append('cancelled')
                await super()._wait()

        async def main():
            task = asyncio.create_task(
                self.loop.subprocess_exec(asyncio.SubprocessProtocol, 'sleep', '60'))
            for _ in range(2):
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.2)

        monkeypatch.setattr(unix_events, '_UnixSubprocessTransport', Transport)
        self.run(main())
        assert outcome == ['ended']

    @since_314
    def test_an_end_is_told_as_soon_as_the_number_is_free(self, monkeypatch):
        seen, waitpid = [], os.waitpid

        def wait(pid, options):
            result = waitpid(pid, options)
            self.loop.call_soon(lambda: seen.append(process.returncode))
            return result

        async def main():
            nonlocal process
            process = await asyncio.create_subprocess_exec('true')
            return await process.wait()

        process = None
        monkeypatch.setattr(os, 'waitpid', wait)
        assert self.run(main()) == 0
        assert seen == [0]


class _TestClock:

    @since_315
    def test_timers_are_due_far_from_zero(self):
        # A step of the clock is then a thousand times its resolution.
        now = 2.0 ** 33
        self.loop.time = lambda: now
        ran = []
        self.loop.call_at(now, ran.append, 'due')
        self.loop.call_at(now + 1, ran.append, 'later')
        self.loop.call_soon(lambda: None)
        self.turns(2)
        assert ran == ['due']


PROGRAM = '''
    import asyncio, uringloop

    async def leaf():
        print('ready', flush=True)
        await asyncio.sleep(60)

    async def main():
        assert type(asyncio.get_running_loop()) is uringloop.Loop
        async with asyncio.TaskGroup() as group:
            group.create_task(leaf(), name='a leaf')

    uringloop.run(main())
'''


@since_314
@pytest.mark.parametrize('command', ['ps', 'pstree'])
def test_tasks_are_seen_from_outside(command):
    with subprocess.Popen([sys.executable, '-c', textwrap.dedent(PROGRAM)], cwd=ROOT,
                          stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout.readline() == 'ready\n'
            done = subprocess.run(
                [sys.executable, '-m', 'asyncio', command, str(program.pid)], check=False,
                capture_output=True, text=True, timeout=30)
        finally:
            program.kill()
    if 'ermission' in done.stdout + done.stderr:
        pytest.skip('this process may not look into others')
    assert done.returncode == 0, done.stderr
    assert 'a leaf' in done.stdout
    assert 'main' in done.stdout


both_sides(globals(), _TestTasks, _TestChildren, _TestClock)
