"""What Python 3.14 and 3.15 have brought: the same on this loop as on asyncio's."""
import asyncio
import contextvars
import os
import re
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from asyncio import events, unix_events
from pathlib import Path

import pytest

import uringloop
from tests.support.cases import both_sides
from tests.support.turns import settle
from tests.support.versions import since_314, since_315

ROOT = Path(__file__).resolve().parents[2]
variable = contextvars.ContextVar('variable', default='unset')


class Watched(asyncio.Protocol):
    """Keeps ``variable`` as each callback has seen it, and counts up what is its own."""

    def __init__(self, loop, seen):
        self.loop = loop
        self.seen = seen
        self.lost = loop.create_future()
        self.look('factory')

    def look(self, where):
        self.seen.append((where, variable.get()))
        variable.set(f'{where} was here')

    def connection_made(self, transport):
        self.transport = transport
        self.look('connection_made')

    def data_received(self, data):
        self.look('data_received')

    def eof_received(self):
        self.look('eof_received')

    def connection_lost(self, exc):
        self.look('connection_lost')
        self.lost.set_result(None)


# Each callback finds what the one before has set: they share one context.
ONE_AFTER_THE_OTHER = [
    ('connection_made', 'factory was here'), ('data_received', 'connection_made was here'),
    ('eof_received', 'data_received was here'), ('connection_lost', 'eof_received was here')]


@since_315
class _TestContexts:

    async def talk(self, connect, connections=1):
        """Connect, send, close."""
        for _ in range(connections):
            reader, writer = await connect()
            writer.write(b'hello')
            await writer.drain()
            await asyncio.sleep(0.01)
            writer.write_eof()
            assert await reader.read() == b''
            writer.close()
            await writer.wait_closed()

    def served(self, start, connect):
        """What the connections of a server see, whose context changes once it is made."""
        async def main():
            made = []

            def factory():
                made.append(Watched(self.loop, []))
                return made[-1]

            variable.set("the server's")
            server = await start(factory)
            variable.set('changed since')
            await self.talk(lambda: connect(server), 2)
            for protocol in made:
                await protocol.lost
            server.close()
            await server.wait_closed()
            assert variable.get() == 'changed since'
            return [protocol.seen for protocol in made]

        return self.run(main())

    def test_each_connection_has_a_copy_of_the_servers(self):
        seen = self.served(
            lambda factory: self.loop.create_server(factory, '127.0.0.1', 0),
            lambda server: asyncio.open_connection(*server.sockets[0].getsockname()))
        assert seen == 2 * [[('factory', "the server's"), *ONE_AFTER_THE_OTHER]]

    def test_a_server_on_a_path(self, tmp_path):
        path = str(tmp_path / 'path')
        seen = self.served(
            lambda factory: self.loop.create_unix_server(factory, path),
            lambda server: asyncio.open_unix_connection(path))
        assert seen == 2 * [[('factory', "the server's"), *ONE_AFTER_THE_OTHER]]

    def test_a_server_that_starts_later(self):
        async def main():
            seen = []
            variable.set('when made')
            server = await self.loop.create_server(
                lambda: Watched(self.loop, seen), '127.0.0.1', 0, start_serving=False)
            variable.set('when started')
            await server.start_serving()
            await self.talk(lambda: asyncio.open_connection(*server.sockets[0].getsockname()))
            server.close()
            return seen

        assert self.run(main())[0] == ('factory', 'when made')

    def test_tasks_of_streams(self):
        async def main():
            seen = []

            async def answer(reader, writer):
                seen.append(variable.get())
                variable.set('of one connection')
                await reader.read()
                writer.close()

            variable.set("the server's")
            server = await asyncio.start_server(answer, '127.0.0.1', 0)
            variable.set('changed since')
            await self.talk(lambda: asyncio.open_connection(*server.sockets[0].getsockname()), 2)
            server.close()
            return seen

        assert self.run(main()) == 2 * ["the server's"]

    def client(self, connect):
        """What a client's callbacks see."""
        async def main():
            with socket.create_server(('127.0.0.1', 0)) as listener:
                seen = []
                variable.set("the caller's")
                _, protocol = await connect(
                    lambda: Watched(self.loop, seen), listener.getsockname())
                variable.set('changed since')
                peer, _ = await asyncio.to_thread(listener.accept)
                peer.send(b'hello')
                await asyncio.sleep(0.01)
                peer.close()
                await protocol.lost
            return seen

        return self.run(main())

    def check_client(self, seen):
        # The factory runs in the caller's own; the rest in a copy made before.
        assert seen == [('factory', "the caller's"), ('connection_made', "the caller's"),
                        *ONE_AFTER_THE_OTHER[1:]]

    def test_client_of_an_address(self):
        self.check_client(self.client(
            lambda factory, address: self.loop.create_connection(factory, *address)))

    def test_client_of_a_name(self):
        self.check_client(self.client(lambda factory, address: self.loop.create_connection(
            factory, 'localhost', address[1], family=socket.AF_INET)))

    def test_client_of_a_socket(self):
        def connect(factory, address):
            sock = socket.create_connection(address)
            return self.loop.create_connection(factory, sock=sock)

        self.check_client(self.client(connect))

    def test_lost_in_its_own_whoever_closes(self):
        async def main():
            left, right = socket.socketpair()
            seen = []
            variable.set("the caller's")
            transport, protocol = await self.loop.create_unix_connection(
                lambda: Watched(self.loop, seen), sock=left)
            variable.set("the closer's")
            transport.close()
            await protocol.lost
            right.close()
            return seen[-1]

        assert self.run(main()) == ('connection_lost', 'connection_made was here')

    def test_tls(self, tmp_path):
        certificate = tmp_path / 'certificate'
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj',
                        '/CN=localhost', '-keyout', certificate, '-out', tmp_path / 'alone'],
                       check=True, capture_output=True)
        certificate.write_text(certificate.read_text() + (tmp_path / 'alone').read_text())
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ours.load_cert_chain(certificate)
        theirs = ssl.create_default_context(cafile=tmp_path / 'alone')
        theirs.check_hostname = False

        async def main():
            seen = []
            variable.set("the server's")
            server = await self.loop.create_server(
                lambda: Watched(self.loop, seen), '127.0.0.1', 0, ssl=ours)
            variable.set("the client's")
            _, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=theirs)
            writer.write(b'hello')
            await asyncio.sleep(0.05)
            writer.close()
            await writer.wait_closed()
            await asyncio.sleep(0.05)
            server.close()
            return seen

        assert self.run(main())[:3] == [
            ('factory', "the server's"), *ONE_AFTER_THE_OTHER[:2]]


class _TestConnecting:

    def not_made(self, connect):
        """A factory that raises: nothing stays open."""
        async def main():
            def factory():
                raise ZeroDivisionError

            with socket.create_server(('127.0.0.1', 0)) as listener:
                before = set(os.listdir('/proc/self/fd'))
                with pytest.raises(ZeroDivisionError) as caught:
                    await connect(factory, listener.getsockname())
                # While the traceback, which may refer to the socket, is there.
                assert set(os.listdir('/proc/self/fd')) <= before, caught
                await settle()

        self.run(main())

    @since_314
    def test_a_factory_that_raises(self):
        self.not_made(lambda factory, address: self.loop.create_connection(factory, *address))

    @since_314
    def test_a_factory_that_raises_for_a_name(self):
        self.not_made(lambda factory, address: self.loop.create_connection(
            factory, 'localhost', address[1], family=socket.AF_INET))


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
    def test_eager_start(self, debug):
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
    def test_call_graph(self):
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


class _TestThreadSafeHandles:

    def start(self, callback):
        """Run the loop in a thread of its own until ``callback`` has run there."""
        handle = self.loop.call_soon_threadsafe(callback)
        self.loop.call_soon(self.loop.stop)
        thread = threading.Thread(target=self.loop.run_forever)
        thread.start()
        return handle, thread

    @since_314
    @pytest.mark.parametrize('debug', [False, True])
    @pytest.mark.parametrize('wait', ['cancel', 'cancelled'])
    def test_waits_for_a_callback_that_runs(self, wait, debug):
        self.loop.set_debug(debug)
        begun, end, order = threading.Event(), threading.Event(), []

        def callback():
            begun.set()
            end.wait(5)
            order.append('ran')

        handle, thread = self.start(callback)
        begun.wait(5)
        others = [threading.Thread(target=lambda: (getattr(handle, wait)(), order.append('told')))
                  for _ in range(3)]
        for other in others:
            other.start()
        others[0].join(0.05)
        assert others[0].is_alive()
        end.set()
        for waiting in (*others, thread):
            waiting.join(5)
        assert order == ['ran', 'told', 'told', 'told']

    @since_314
    def test_kind(self):
        handle = self.loop.call_soon_threadsafe(print)
        assert isinstance(handle, events._ThreadSafeHandle)
        assert handle.__class__ is events._ThreadSafeHandle
        handle.cancel()
        assert handle.cancelled()
        assert 'cancelled' in repr(handle)

    def test_cancelled_in_time(self):
        ran = []
        handle = self.loop.call_soon_threadsafe(ran.append, 1)
        handle.cancel()
        self.loop.call_soon_threadsafe(ran.append, 2)
        self.turns()
        assert ran == [2]
        assert handle.cancelled()

    def test_cancels_itself(self):
        cancelled = []

        def callback():
            handle.cancel()
            cancelled.append(handle.cancelled())

        handle = self.loop.call_soon_threadsafe(callback)
        self.turns()
        assert cancelled == [True]

    def test_an_error_in_it_is_told_and_it_is_free_again(self):
        handle = self.loop.call_soon_threadsafe(lambda: 1 / 0)
        self.turns()
        [context] = self.problems
        assert isinstance(context['exception'], ZeroDivisionError)
        assert context['handle'] is handle
        thread = threading.Thread(target=handle.cancel)
        thread.start()
        thread.join(5)
        assert handle.cancelled()

    def test_an_interrupt_goes_on(self):
        def interrupt():
            raise KeyboardInterrupt

        handle = self.loop.call_soon_threadsafe(interrupt)
        with pytest.raises(KeyboardInterrupt):
            self.turns()
        thread = threading.Thread(target=handle.cancel)
        thread.start()
        thread.join(5)
        assert handle.cancelled()

    def test_patched(self, monkeypatch):
        ran, original = [], events.Handle._run

        def _run(handle):
            ran.append(handle._callback)
            original(handle)

        monkeypatch.setattr(events.Handle, '_run', _run)
        self.loop.call_soon_threadsafe(ran.append, 'called')
        self.turns()
        assert ran[:2] == [ran.append, 'called']


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
    def test_far_from_zero(self):
        # A step of the clock is then a thousand times its resolution.
        now = 2.0 ** 33
        self.loop.time = lambda: now
        ran = []
        self.loop.call_at(now, ran.append, 'due')
        self.loop.call_at(now + 1, ran.append, 'later')
        self.loop.call_soon(lambda: None)
        self.turns(2)
        assert ran == ['due']


both_sides(globals(), _TestContexts, _TestConnecting, _TestTasks, _TestThreadSafeHandles,
           _TestChildren, _TestClock)


# -- from outside ------------------------------------------------------------------------------

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


@since_314
def test_handles_are_native():
    loop = uringloop.new_event_loop(require_uring=True)
    try:
        handle = loop.call_soon_threadsafe(print)
        assert type(handle).__module__ == 'uringloop.core.handles'
        handle.cancel()
    finally:
        loop.close()
