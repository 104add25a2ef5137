"""``run_asyncio``: what is asyncio's, awaited by a trio task."""
import asyncio

import pytest
import trio

from tests.support.hosting import Hosted, turns
from uringloop.trio import run_asyncio
from uringloop.trio.bridge import until_done


class TestBridge(Hosted):

    def test_results_and_exceptions(self):
        async def of_asyncio(outcome):
            await asyncio.sleep(0.001)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        async def main():
            assert await run_asyncio(of_asyncio(1)) == 1
            with pytest.raises(LookupError):
                await run_asyncio(of_asyncio(LookupError()))
            task = asyncio.get_running_loop().create_task(of_asyncio(2))
            assert await run_asyncio(task) == 2
            assert await run_asyncio(task) == 2

        self.run(main)

    def test_cancelling_waits_for_the_end(self):
        async def of_asyncio():
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0.001)
                seen.append('cleaned up')

        async def main():
            with trio.move_on_after(0.001) as scope:
                await run_asyncio(of_asyncio())
            assert scope.cancelled_caught
            assert seen == ['cleaned up']

        seen = []
        self.run(main)

    def test_in_a_cancelled_scope_nothing_begins(self):
        async def of_asyncio():
            seen.append('begun')

        async def main():
            with trio.CancelScope() as scope:
                scope.cancel()
                await run_asyncio(of_asyncio())
            assert scope.cancelled_caught

        seen = []
        self.run(main)
        assert seen == []

    def test_one_that_does_not_mind_being_cancelled_has_its_result(self):
        async def of_asyncio():
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                return 'all the same'

        async def main():
            with trio.move_on_after(0.001):
                return await run_asyncio(of_asyncio())

        assert self.run(main) == 'all the same'

    def test_one_that_others_cancel(self):
        async def main():
            future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.001, future.cancel)
            with pytest.raises(asyncio.CancelledError):
                await run_asyncio(future)

        self.run(main)

    def test_a_future_that_is_done_just_before_its_task_is_cancelled(self):
        async def main():
            future = asyncio.get_running_loop().create_future()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(until_done, future)
                await turns()
                future.set_result(None)         # its callbacks run a turn later
                nursery.cancel_scope.cancel()
            await turns()
            await until_done(future)

        self.run(main)

    def test_streams_and_pools_of_the_loop(self):
        async def echo(reader, writer):
            writer.write(await reader.read(100))
            writer.close()

        async def client(port):
            reader, writer = await asyncio.open_connection('127.0.0.1', port)
            writer.write(b'there')
            back = await reader.read()
            writer.close()
            await writer.wait_closed()
            return back

        async def main():
            loop = asyncio.get_running_loop()
            pool = loop.create_buffer_pool(1, 100)
            lease = await run_asyncio(pool.acquire())
            for acquire in pool.acquire, lambda: pool.acquire_many(1):
                with pytest.raises(RuntimeError, match=r'await uringloop\.trio\.run_asyncio'):
                    await acquire()
            loop.call_later(0.001, lease.release)
            with await run_asyncio(pool.acquire()):
                pass
            await run_asyncio(pool.close())
            server = await run_asyncio(asyncio.start_server(echo, '127.0.0.1', 0))
            port = server.sockets[0].getsockname()[1]
            assert await run_asyncio(client(port)) == b'there'
            server.close()
            await turns()

        self.run(main)
