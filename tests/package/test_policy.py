"""How programs get the loop, and what they get where io_uring is forbidden."""
import asyncio
import re
import sys
import textwrap
import warnings

import pytest

import uringloop
from tests.support.programs import python, script
from tests.support.seccomp import FORBID, forbidden


@pytest.fixture
def policy():
    """Restore asyncio's policy afterwards."""
    yield
    asyncio.events._event_loop_policy = None


class TestNewEventLoop:

    def test_the_loop(self):
        loop = uringloop.new_event_loop()
        assert type(loop) is uringloop.Loop
        assert isinstance(loop, asyncio.AbstractEventLoop)
        loop.close()

    def test_several(self):
        loops = [uringloop.new_event_loop(require_uring=True) for _ in range(4)]
        for loop in loops:
            assert loop.run_until_complete(asyncio.sleep(0, 1)) == 1
        for loop in loops:
            assert loop.run_until_complete(asyncio.sleep(0, 2)) == 2
            loop.close()

    @pytest.mark.parametrize('entries', [1, 2, 3, 64, 4096])
    def test_entries(self, entries):
        loop = uringloop.new_event_loop(entries=entries)
        assert loop.run_until_complete(asyncio.sleep(0.001, 'ran')) == 'ran'
        loop.close()

    @pytest.mark.parametrize('entries', [0, -1, 32769, 1.5, '256', None])
    def test_bad_entries(self, entries):
        with pytest.raises(ValueError, match='entries must be an integer from 1 to 32768'):
            uringloop.new_event_loop(entries=entries)

    def test_arguments_are_keywords(self):
        with pytest.raises(TypeError):
            uringloop.new_event_loop(True)

    @pytest.mark.parametrize('busy_poll', [-1, 1001, float('nan'), '50', None])
    def test_bad_busy_poll(self, busy_poll):
        with pytest.raises(ValueError, match=re.escape(repr(busy_poll))):
            uringloop.new_event_loop(busy_poll=busy_poll)

    def test_loop(self):
        loop = uringloop.Loop()
        assert loop.run_until_complete(asyncio.sleep(0, 1)) == 1
        loop.close()


class TestRun:

    def test_result(self):
        async def main():
            return type(asyncio.get_running_loop())

        assert uringloop.run(main()) is uringloop.Loop

    def test_exception(self):
        async def main():
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            uringloop.run(main())

    @pytest.mark.parametrize('debug', [True, False])
    def test_debug(self, debug):
        async def main():
            return asyncio.get_running_loop().get_debug()

        assert uringloop.run(main(), debug=debug) is debug

    def test_not_a_coroutine(self):
        with pytest.raises((TypeError, ValueError), match=r'a coroutine (was|or an awaitable is)'):
            uringloop.run(42)

    def test_nested(self):
        async def main():
            coroutine = asyncio.sleep(0)
            with pytest.raises(RuntimeError, match='cannot be called from a running event loop'):
                uringloop.run(coroutine)
            coroutine.close()

        uringloop.run(main())

    def test_cleans_up(self):
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
    def test_runner(self):
        async def main():
            return asyncio.get_running_loop()

        with asyncio.Runner(loop_factory=uringloop.new_event_loop) as runner:
            loop = runner.run(main())
            assert type(loop) is uringloop.Loop
            assert runner.run(main()) is loop
        assert loop.is_closed()

    @pytest.mark.skipif(sys.version_info < (3, 12), reason='the argument is new in 3.12')
    def test_asyncio_run(self):
        async def main():
            return type(asyncio.get_running_loop())

        assert asyncio.run(main(), loop_factory=uringloop.new_event_loop) is uringloop.Loop

    def test_interrupted(self):
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


# What asyncio itself says of its policies, from Python 3.14 on.
@pytest.mark.filterwarnings("ignore:'asyncio:DeprecationWarning",
                            'ignore:asyncio deprecates:DeprecationWarning')
class TestPolicy:

    def test_policy(self, policy):
        asyncio.set_event_loop_policy(uringloop.EventLoopPolicy())
        loop = asyncio.new_event_loop()
        assert type(loop) is uringloop.Loop
        loop.close()

    def test_is_asyncios(self):
        assert issubclass(uringloop.EventLoopPolicy, asyncio.AbstractEventLoopPolicy)
        assert uringloop.EventLoopPolicy is uringloop.EventLoopPolicy
        assert repr(uringloop.EventLoopPolicy).endswith("EventLoopPolicy'>")

    def test_install(self, policy):
        async def main():
            return type(asyncio.get_running_loop())

        uringloop.install()
        assert isinstance(asyncio.get_event_loop_policy(), uringloop.EventLoopPolicy)
        assert asyncio.run(main()) is uringloop.Loop

    @pytest.mark.skipif(sys.version_info < (3, 14), reason='deprecated from Python 3.14 on')
    def test_install_warns_once_and_whom_it_concerns(self, policy):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            uringloop.install()
        [warning] = caught
        assert warning.category is DeprecationWarning
        assert warning.filename == __file__
        assert 'use uringloop.run(main()) or asyncio.Runner(' in str(warning.message)

    def test_nothing_warns_before_it_is_used(self):
        assert script('''
            import asyncio, uringloop
            from uringloop import *
            loop = EventLoopPolicy().new_event_loop()
            print(type(loop).__name__)
            loop.close()
        ''', '-W', 'error') == 'Loop\n'

    def test_where_asyncio_has_no_policies(self):
        assert script('''
            import asyncio
            del asyncio.unix_events._UnixDefaultEventLoopPolicy
            import uringloop
            from uringloop import *
            instead = 'no event loop policies any more: use uringloop.run(main()) or asyncio.Runner'
            try:
                uringloop.EventLoopPolicy
            except AttributeError as error:
                assert instead in str(error), error
            try:
                uringloop.install()
            except RuntimeError as error:
                assert instead in str(error), error
            print(uringloop.run(asyncio.sleep(0, 'runs')))
        ''', '-W', 'error') == 'runs\n'

    def test_subprocess_under_the_policy(self, policy):
        async def main():
            process = await asyncio.create_subprocess_exec(
                'echo', 'hello', stdout=asyncio.subprocess.PIPE)
            return (await process.communicate())[0]

        uringloop.install()
        assert asyncio.run(main()) == b'hello\n'

    def test_no_such_name(self):
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            _ = uringloop.nothing

    def test_public_names(self):
        for name in uringloop.__all__:
            assert getattr(uringloop, name) is not None


def test_importing_warns_of_nothing():
    assert script('import uringloop; print("quiet")', '-W', 'error') == 'quiet\n'


def test_importing_makes_no_ring():
    assert forbidden('import uringloop; print("imported")') == 'imported\n'


class TestForbidden:

    PROGRAM = '''
        import asyncio, warnings
        import uringloop

        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, addr):
                self.transport.sendto(data, addr)

        class Client(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                self.answer.set_result(data)

        async def main():
            loop = asyncio.get_running_loop()
            Client.answer = loop.create_future()
            server, _ = await loop.create_datagram_endpoint(Echo, ('127.0.0.1', 0))
            client, _ = await loop.create_datagram_endpoint(
                Client, remote_addr=server.get_extra_info('sockname'))
            client.sendto(b'echo')
            answer = await Client.answer
            client.close()
            server.close()
            return type(loop).__module__, answer

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            for _ in range(2):
                print(*uringloop.run(main()))
            uringloop.new_event_loop().close()
        for warning in caught:
            print(warning.category.__name__, warning.message)
        '''

    @pytest.mark.parametrize('error, name, words', [
        (1, 'EPERM', ['seccomp', 'kernel.io_uring_disabled', 'allow io_uring_setup']),
        (13, 'EACCES', ['security policy', 'allow io_uring_setup']),
        (38, 'ENOSYS', ['CONFIG_IO_URING', 'seccomp']),
        (22, 'EINVAL', ['older than 6.1', 'use Linux 6.1 or newer']),
        (5, 'EIO', ['io_uring_setup(2)'])])
    def test_warns_once_and_works(self, error, name, words):
        first, second, *warned = forbidden(self.PROGRAM, error).splitlines()
        assert first == second
        assert first.startswith('asyncio.')
        assert first.endswith("b'echo'")
        [warning] = warned
        assert warning.startswith(f'RuntimeWarning io_uring is not available ({name}: ')
        assert warning.endswith("Using asyncio's own loop.")
        for word in words:
            assert word in warning

    def test_the_warning_points_at_the_caller(self):
        done = python('-c', FORBID + 'forbid_io_uring(1)\nimport uringloop\n'
                      'uringloop.new_event_loop().close()\n')
        assert done.returncode == 0
        assert done.stderr.startswith('<string>:')
        assert done.stderr.count('RuntimeWarning') == 1

    REQUIRED = '''
        import uringloop
        try:
            uringloop.new_event_loop({})
        except uringloop.UringUnavailableError as error:
            assert isinstance(error, OSError)
            print(error.errno, error)
        '''

    def test_required_by_argument(self):
        output = forbidden(self.REQUIRED.format('require_uring=True'))
        assert output.startswith('1 ')
        assert 'EPERM' in output and 'seccomp' in output

    def test_required_by_environment(self):
        output = forbidden(self.REQUIRED.format(''), URINGLOOP_REQUIRE='1')
        assert 'EPERM' in output

    def test_not_required(self):
        assert forbidden(self.REQUIRED.format(''), URINGLOOP_REQUIRE='0') == ''

    def test_required_and_run(self):
        done = python('-c', FORBID + 'forbid_io_uring(1)\nimport asyncio, uringloop\n'
                      'uringloop.run(asyncio.sleep(0))\n', URINGLOOP_REQUIRE='1')
        assert done.returncode == 1
        assert 'UringUnavailableError' in done.stderr


def test_run_where_it_is_forbidden(tmp_path):
    # The program runs all the same, and is told once.
    program = tmp_path / 'program.py'
    program.write_text('import asyncio, sys\n'
                       'async def main():\n'
                       '    print(type(asyncio.get_running_loop()).__name__)\n'
                       'asyncio.run(main())\n'
                       'asyncio.run(main())\n'
                       'sys.exit(3)\n')
    start = tmp_path / 'start.py'
    start.write_text(FORBID + 'forbid_io_uring(1)\n'
                     'import runpy, sys\n'
                     f'sys.argv = ["uringloop", "run", {str(program)!r}]\n'
                     'runpy.run_module("uringloop", run_name="__main__", alter_sys=True)\n')
    done = python(start)
    assert done.returncode == 3, done.stderr
    assert 'SelectorEventLoop' in done.stdout
    assert done.stderr.count('RuntimeWarning: io_uring is not available') == 1
