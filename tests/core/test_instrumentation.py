"""What programs put in the place of asyncio's own to hear of callbacks and tasks."""
import asyncio
import socket
from asyncio import events, futures, selector_events, tasks, unix_events
from unittest import mock

import pytest

from tests.support.cases import both_sides
from tests.support.programs import script


class _TestInstrumentation:

    def test_handles_run_by_another_method(self):
        """Monitors of slow callbacks do that."""
        def run(handle):
            seen.append(handle._callback)
            return original(handle)

        def fail():
            raise ZeroDivisionError

        seen, done = [], []
        original = events.Handle._run
        self.loop.call_soon(done.append, 'before')
        self.turns()
        with mock.patch.object(events.Handle, '_run', run):
            self.loop.call_soon(done.append, 'soon')
            self.loop.call_later(0, done.append, 'later')
            self.loop.call_soon(fail)
            self.turns()
        self.loop.call_soon(done.append, 'after')
        self.turns()
        assert sorted(done) == ['after', 'before', 'later', 'soon']
        assert len(seen) == 3
        [context] = self.problems
        assert isinstance(context['exception'], ZeroDivisionError)

    def test_timer_handles_run_by_another_method(self):
        def run(handle):
            seen.append(handle.when())
            return original(handle)

        seen = []
        original = events.TimerHandle._run
        with mock.patch.object(events.TimerHandle, '_run', run):
            self.loop.call_soon(int)
            timer = self.loop.call_later(0, int)
            self.turns()
        assert seen == [timer.when()]

    def test_tasks_made_by_another_method(self):
        def create_task(loop, coro, **options):
            seen.append(coro.__name__)
            return original(loop, coro, **options)

        async def child():
            pass

        async def main():
            await self.loop.create_task(child(), name='child')
            await asyncio.gather(child())
            with mock.patch.object(asyncio.BaseEventLoop, 'create_task', create_task):
                await self.loop.create_task(child(), name='child')
                await asyncio.gather(child())
            await asyncio.create_task(child())

        seen = []
        original = asyncio.BaseEventLoop.create_task
        self.run(main())
        assert seen == ['child'] * 2

    def test_tasks_and_futures_of_another_class(self):
        class Task(tasks._PyTask):
            pass

        class Future(futures._PyFuture):
            pass

        async def main():
            return type(self.loop.create_future())

        with mock.patch.object(tasks, 'Task', Task), \
                mock.patch.object(futures, 'Future', Future):
            task = self.loop.create_task(main())
            assert type(task) is Task
            assert self.loop.run_until_complete(task) is Future

    def test_an_overridden_call_soon_is_called(self):
        class Counting(type(self.loop)):
            def call_soon(self, callback, *args, context=None):
                counted.append(callback)
                return super().call_soon(callback, *args, context=context)

        counted = []
        loop = Counting()
        try:
            loop.run_until_complete(asyncio.sleep(0))
            assert len(counted) >= 3
        finally:
            loop.close()

    @pytest.mark.parametrize('debug', [False, True])
    def test_a_callback_runs_turns_of_the_loop(self, debug):
        """Some drain the loop themselves, from within a callback."""
        def drain():
            self.loop.call_soon(self.loop.call_soon, seen.append, 'inner')
            while self.loop._ready:
                self.loop._run_once()
            seen.append('drained')

        seen = []
        self.loop.set_debug(debug)
        self.loop.call_soon(drain)
        self.turns()
        assert seen == ['inner', 'drained']


    def test_another_transport_of_children(self):
        class Transport(unix_events._UnixSubprocessTransport):
            pass

        async def main():
            with mock.patch.object(unix_events, '_UnixSubprocessTransport', Transport):
                transport, _ = await self.loop.subprocess_exec(asyncio.SubprocessProtocol, 'true')
            assert type(transport) is Transport
            await transport._wait()
            transport.close()

        self.run(main())

    def test_another_transport_of_sockets_that_are_asked(self):
        class Asked(socket.socket):
            def sendto(self, *arguments):
                return super().sendto(*arguments)

        class Transport(selector_events._SelectorDatagramTransport):
            pass

        async def main():
            sock = Asked(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            with mock.patch.object(selector_events, '_SelectorDatagramTransport', Transport):
                transport, _ = await self.loop.create_datagram_endpoint(
                    asyncio.DatagramProtocol, sock=sock)
            assert type(transport) is Transport
            transport.close()
            await asyncio.sleep(0)

        self.run(main())


def test_another_transport_of_children_that_was_there_before():
    """Before this package was imported."""
    assert script('''
        from asyncio import unix_events

        def traced(base):
            class Traced(base):
                def __init__(self, *arguments, **options):
                    print('traced')
                    super().__init__(*arguments, **options)
            return Traced

        unix_events._UnixSubprocessTransport = traced(unix_events._UnixSubprocessTransport)
        import asyncio, uringloop

        async def main():
            print(await (await asyncio.create_subprocess_exec('true')).wait())

        uringloop.run(main())
        ''').split() == ['traced', '0']


both_sides(globals(), _TestInstrumentation)
