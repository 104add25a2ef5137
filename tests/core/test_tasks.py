"""Tasks and futures of the loop, and factories of tasks."""
import asyncio
import contextvars
import socket
import sys

import pytest

from tests.support.cases import both_sides

variable = contextvars.ContextVar('variable', default='unset')


class _TestTasks:

    def test_create_task_names_and_runs_it(self):
        async def main():
            task = self.loop.create_task(asyncio.sleep(0, 'done'), name='a name')
            assert task.get_name() == 'a name'
            assert await task == 'done'

        self.run(main())

    @pytest.mark.skipif(sys.version_info < (3, 11), reason='the argument is new in 3.11')
    def test_runs_in_the_context_given(self):
        context = contextvars.copy_context()
        context.run(variable.set, 'given')

        async def read():
            await asyncio.sleep(0)
            return variable.get()

        async def main():
            assert await self.loop.create_task(read(), context=context) == 'given'
            assert await self.loop.create_task(read()) == 'unset'

        self.run(main())

    def test_a_factory_makes_the_tasks(self):
        made = []

        def factory(loop, coroutine, **kwargs):
            made.append(loop)
            return asyncio.Task(coroutine, loop=loop, **kwargs)

        with pytest.raises(TypeError):
            self.loop.set_task_factory('no factory')
        self.loop.set_task_factory(factory)
        assert self.loop.get_task_factory() is factory
        assert self.loop.run_until_complete(asyncio.sleep(0, 5)) == 5
        assert made == [self.loop]
        self.loop.set_task_factory(None)

    @pytest.mark.skipif(sys.version_info < (3, 12), reason='eager tasks are new in 3.12')
    def test_eager_tasks_begin_at_once(self):
        async def quick():
            return 'at once'

        async def main():
            self.loop.set_task_factory(asyncio.eager_task_factory)
            task = asyncio.create_task(quick())
            assert task.done()
            slow = asyncio.create_task(asyncio.sleep(0, 'later'))
            assert not slow.done()
            assert await slow == 'later'
            assert task.result() == 'at once'
            self.loop.set_task_factory(None)

        self.run(main())

    def test_a_cancelled_wait_leaves_the_future_alone(self):
        async def main():
            task = asyncio.ensure_future(self.loop.create_future().__class__(loop=self.loop))
            waiter = asyncio.ensure_future(asyncio.wait({task}))
            await asyncio.sleep(0)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            assert not task.done()
            task.cancel()

        self.run(main())

    def test_gather_of_many(self):
        async def step(n):
            await asyncio.sleep(0)
            return n

        async def main():
            assert await asyncio.gather(*map(step, range(2000))) == list(range(2000))

        self.run(main())

    def test_current_task_and_all_tasks(self):
        async def main():
            assert asyncio.current_task() in asyncio.all_tasks()
            assert asyncio.current_task().get_loop() is self.loop

        self.run(main())

    def test_create_future_makes_one_of_this_loop(self):
        future = self.loop.create_future()
        assert isinstance(future, asyncio.Future)
        assert future.get_loop() is self.loop


class _TestTaskFactory:

    def test_one_that_raises_while_a_connection_is_accepted(self):
        """It is reported, and the server serves the next one."""
        def factory(loop, coroutine, **how):
            coroutine.close()
            reported.set_result(None)
            raise ZeroDivisionError

        async def served(reader, writer):
            writer.close()

        async def main():
            nonlocal reported
            reported = self.loop.create_future()
            server = await asyncio.start_server(served, '127.0.0.1', 0)
            address = server.sockets[0].getsockname()
            with socket.create_connection(address):
                self.loop.set_task_factory(factory)
                # No task may be made meanwhile, so a plain wait.
                await reported
                for _ in range(3):
                    await asyncio.sleep(0)
                self.loop.set_task_factory(None)
            assert ZeroDivisionError in [type(p.get('exception')) for p in self.problems]
            reader, writer = await asyncio.open_connection(*address)
            assert await reader.read() == b''
            writer.close()
            server.close()
            for _ in range(5):
                await asyncio.sleep(0)

        reported = None
        self.run(main())


both_sides(globals(), _TestTasks, _TestTaskFactory)
