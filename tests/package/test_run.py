"""``uringloop.run`` and asyncio's own runners: what they return, raise and clean up."""
import asyncio
import gc
import sys
import textwrap
import warnings

import pytest

import uringloop
from tests.support.programs import python, script


class TestRun:

    def test_returns_the_result(self):
        async def main():
            return type(asyncio.get_running_loop())

        assert uringloop.run(main()) is uringloop.Loop

    def test_raises_the_exception(self):
        async def main():
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            uringloop.run(main())

    @pytest.mark.parametrize('debug', [True, False])
    def test_debug_mode_is_set(self, debug):
        async def main():
            return asyncio.get_running_loop().get_debug()

        assert uringloop.run(main(), debug=debug) is debug

    def test_what_is_no_coroutine_is_refused(self):
        with pytest.raises((TypeError, ValueError), match=r'a coroutine (was|or an awaitable is)'):
            uringloop.run(42)

    @pytest.mark.parametrize('run', ['asyncio.run', 'uringloop.run'])
    def test_its_loop_is_the_threads_meanwhile(self, run):
        """And none is so afterwards."""
        assert script(f'''
            import asyncio, uringloop, warnings

            async def main():
                policy = asyncio.get_event_loop_policy()
                assert policy.get_event_loop() is asyncio.get_running_loop()
                process = await asyncio.create_subprocess_exec('true')
                print(await process.wait())

            warnings.simplefilter('ignore', DeprecationWarning)
            if hasattr(asyncio, 'SafeChildWatcher'):
                asyncio.set_child_watcher(asyncio.SafeChildWatcher())
            {run}(main())
            try:
                asyncio.get_event_loop()
            except RuntimeError as error:
                print(error)
            ''').splitlines() == ['0', "There is no current event loop in thread 'MainThread'."]

    def test_what_cannot_begin_is_told_of_and_nothing_else(self, monkeypatch):
        """Not that the coroutine was never awaited, too."""
        monkeypatch.setenv('URINGLOOP_BATCH', 'no')
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            with pytest.raises(ValueError, match='URINGLOOP_BATCH must be 0 or 1'):
                uringloop.run(asyncio.sleep(0))
            gc.collect()

    def test_nested_calls_are_refused(self):
        async def main():
            coroutine = asyncio.sleep(0)
            with pytest.raises(RuntimeError, match='cannot be called from a running event loop'):
                uringloop.run(coroutine)
            coroutine.close()

        uringloop.run(main())

    def test_cancels_tasks_and_closes_generators(self):
        seen = []

        async def background():
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                seen.append('cancelled')

        async def generator():
            try:
                yield 1
                yield 2
            finally:
                seen.append('closed')

        async def main():
            task = asyncio.ensure_future(background())
            agen = generator()
            await agen.__anext__()
            await asyncio.sleep(0)
            return asyncio.get_running_loop(), task, agen

        loop, task, _ = uringloop.run(main())
        assert loop.is_closed()
        assert task.cancelled()
        assert seen == ['cancelled', 'closed']

    @pytest.mark.skipif(sys.version_info < (3, 11), reason='asyncio.Runner is new in 3.11')
    def test_under_asyncios_runner(self):
        async def main():
            return asyncio.get_running_loop()

        with asyncio.Runner(loop_factory=uringloop.new_event_loop) as runner:
            loop = runner.run(main())
            assert type(loop) is uringloop.Loop
            assert runner.run(main()) is loop
        assert loop.is_closed()

    @pytest.mark.skipif(sys.version_info < (3, 12), reason='the argument is new in 3.12')
    def test_under_asyncio_run(self):
        async def main():
            return type(asyncio.get_running_loop())

        assert asyncio.run(main(), loop_factory=uringloop.new_event_loop) is uringloop.Loop

    def test_ctrl_c_cancels_the_main_task(self):
        # Ctrl-C cancels the main task and leaves run() as KeyboardInterrupt.
        done = python('-c', textwrap.dedent('''
            import asyncio, os, signal, uringloop

            async def main():
                loop = asyncio.get_running_loop()
                loop.call_soon(os.kill, os.getpid(), signal.SIGINT)
                try:
                    await loop.create_future()
                finally:
                    print('cleaned up')

            try:
                uringloop.run(main())
            except KeyboardInterrupt:
                print('interrupted')
            '''))
        assert done.stdout == 'cleaned up\ninterrupted\n', done.stderr
