"""Subprocesses and pipes: what they say, how they end, and who waits for them."""
import asyncio
import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from tests.support.cases import UringCase, both_sides
from tests.support.streams import MANY_BYTES, Recorder, Streams
from tests.support.turns import turns


class _TestSubprocesses:

    def test_communicate_and_exit_code(self):
        async def main():
            process = await asyncio.create_subprocess_exec(
                sys.executable, '-c',
                'import sys; sys.stdout.write(sys.stdin.read().upper()); sys.exit(7)',
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
            out, _ = await process.communicate(b'hello')
            assert out == b'HELLO'
            assert process.returncode == 7

        self.run(main())

    def test_shell_and_kill(self):
        async def main():
            process = await asyncio.create_subprocess_shell(
                'echo out; echo err >&2', stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE)
            assert await process.communicate() == (b'out\n', b'err\n')
            process = await asyncio.create_subprocess_exec(
                'cat', stdin=asyncio.subprocess.PIPE)
            process.kill()
            assert await process.wait() == -signal.SIGKILL

        self.run(main())

    def test_a_child_that_is_gone_already_has_ended_with_255(self):
        """Nobody waits for children where SIGCHLD is ignored."""
        async def main():
            for _ in range(5):
                process = await asyncio.create_subprocess_exec(sys.executable, '-c', '')
                assert await process.wait() == 255

        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            if self.uring or sys.version_info >= (3, 12):
                self.run(main())
        finally:
            signal.signal(signal.SIGCHLD, before)

    def test_waited_for_without_a_pidfd(self, monkeypatch):
        def refuse(pid, flags=0):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        async def main():
            monkeypatch.setattr(os, 'pidfd_open', refuse)
            process = await asyncio.create_subprocess_exec(
                sys.executable, '-c', 'raise SystemExit(7)')
            assert await process.wait() == 7

        if self.uring:
            self.run(main())

    def test_no_such_program_is_told_at_the_call(self):
        async def main():
            with pytest.raises(FileNotFoundError):
                await asyncio.create_subprocess_exec('/no/such/program')

        self.run(main())


    def test_signals_to_one_that_has_ended(self):
        async def main():
            process = await asyncio.create_subprocess_exec('true')
            await process.wait()
            await turns()                # all of it is forgotten then
            for signal_it in (process.kill, process.terminate,
                              lambda: process.send_signal(signal.SIGHUP)):
                with pytest.raises(ProcessLookupError):
                    signal_it()

        self.run(main())


class _TestPipes(Streams):

    def test_a_pipe_carries_a_megabyte_and_ends(self):
        async def main():
            read_end, write_end = os.pipe()
            _, reader = await self.loop.connect_read_pipe(
                self.kept(Recorder), os.fdopen(read_end, 'rb', 0))
            _, writer = await self.loop.connect_write_pipe(
                self.kept(Recorder), os.fdopen(write_end, 'wb', 0))
            writer.transport.write(MANY_BYTES[:1_000_000])
            await reader.until_length(1_000_000)
            assert reader.data == MANY_BYTES[:1_000_000]
            writer.transport.write_eof()
            assert await reader.until_lost() is None
            assert await writer.until_lost() is None

        self.run(main())

    def test_communicate_a_megabyte(self):
        async def main():
            process = await asyncio.create_subprocess_exec(
                sys.executable, '-c',
                'import sys; data = sys.stdin.buffer.read(); '
                'sys.stdout.buffer.write(data[::-1]); sys.stderr.write(str(len(data)))',
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            output, errors = await process.communicate(MANY_BYTES[:1_000_000])
            assert output == MANY_BYTES[:1_000_000][::-1]
            assert errors == b'1000000'
            assert process.returncode == 0

        self.run(main())


class _TestPipeStreams:

    def test_a_pipe_feeds_a_stream_reader(self):
        async def main():
            reader, writer = os.pipe()
            stream = asyncio.StreamReader()
            receiving, _ = await self.loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reader, 'rb', 0))
            sending, _ = await self.loop.connect_write_pipe(
                asyncio.BaseProtocol, os.fdopen(writer, 'wb', 0))
            sending.write(b'through a pipe')
            sending.close()
            assert await stream.read() == b'through a pipe'
            receiving.close()
            await asyncio.sleep(0)

        self.run(main())


class _TestStubbornChildren(Streams):

    def test_a_child_that_ignores_sigterm_is_killed(self):
        async def main():
            process = await asyncio.create_subprocess_exec(
                sys.executable, '-c',
                'import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); '
                'print("ready", flush=True); '
                'print("heard", sys.stdin.readline().strip(), flush=True); signal.pause()',
                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert await process.stdout.readline() == b'ready\n'
            process.terminate()
            process.stdin.write(b'still there\n')
            assert await process.stdout.readline() == b'heard still there\n'
            assert process.returncode is None
            process.kill()
            assert await process.wait() == -signal.SIGKILL
            assert await process.stdout.read() == b''

        self.run(main())


class TestPidfds(UringCase):

    def test_no_thread_watches_the_child(self):

        async def main():
            before = threading.active_count()
            children = [await asyncio.create_subprocess_exec('sh', '-c', f'exit {code}')
                        for code in range(5)]
            assert threading.active_count() == before
            assert [await child.wait() for child in children] == list(range(5))

        self.run(main())

    # asyncio's own objects complain, rightly, that nobody waited for the child.
    @pytest.mark.filterwarnings('ignore::ResourceWarning')
    @pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
    def test_a_child_that_outlives_the_loop_leaves_no_descriptor(self):
        async def main():
            return await asyncio.create_subprocess_exec('cat', stdin=asyncio.subprocess.PIPE)

        child = self.run(main())
        pidfds = set(self.loop._pidfds)
        assert len(pidfds) == 1
        child._transport.close()
        self.loop.close()
        for fd in pidfds:
            with pytest.raises(OSError, match='Bad file descriptor'):
                os.fstat(fd)


class Asked(socket.socket):
    """Which asyncio's selector watches while a call waits on it."""

    def recv(self, *arguments):
        return super().recv(*arguments)


class TestNumbers(UringCase):
    """A child's pidfd has the number of a socket that was closed, and the selector still lists."""

    async def child(self, monkeypatch, closed):
        def opened(pid):
            pidfd = pidfd_open(pid)
            asked.append(pid)
            if pidfd != number:
                os.dup2(pidfd, number, inheritable=False)
                os.close(pidfd)
            return number

        pidfd_open, asked, number = os.pidfd_open, [], closed.fileno()
        monkeypatch.setattr(os, 'pidfd_open', opened)
        closed.close()
        process = await asyncio.create_subprocess_exec('true')
        assert asked == [process.pid]
        assert await process.wait() == 0

    @pytest.mark.parametrize('ways', [['reader'], ['writer'], ['reader', 'writer']])
    def test_of_one_that_the_program_watched(self, monkeypatch, ways):
        async def main():
            closed, peer = socket.socketpair()
            with peer:
                for way in ways:
                    getattr(self.loop, f'add_{way}')(closed, int)
                await turns()
                await self.child(monkeypatch, closed)

        self.run(main())

    def test_of_one_that_a_cancelled_call_has_waited_on(self, monkeypatch):
        async def main():
            closed, peer = socket.socketpair()
            closed = Asked(fileno=closed.detach())
            closed.setblocking(False)
            with peer:
                waiting = asyncio.ensure_future(self.loop.sock_recv(closed, 10))
                await turns()
                waiting.cancel()
                await self.child(monkeypatch, closed)

        self.run(main())


class TestOrderOfTheEnd(UringCase):
    """The order of events that asyncio's child watcher makes, by pidfd."""

    def test_pipes_are_lost_before_the_child_is_heard_of(self):
        """Also if all of it is found in one turn."""
        class Protocol(asyncio.SubprocessProtocol):
            def __init__(self):
                self.heard = []

            def pipe_connection_lost(self, fd, exc):
                self.heard.append(fd)

            def process_exited(self):
                self.heard.append('exited')

            def connection_lost(self, exc):
                self.heard.append('lost')
                done.set_result(None)

        async def main():
            transport, protocol = await self.loop.subprocess_exec(Protocol, 'cat')
            # The loop, which would see one after the other, waits meanwhile.
            transport.send_signal(signal.SIGKILL)
            os.waitid(os.P_PID, transport.get_pid(), os.WEXITED | os.WNOWAIT)
            await done
            transport.close()
            return protocol.heard

        done = self.loop.create_future()
        heard = self.run(main())
        assert sorted(heard[:3]) == [0, 1, 2]
        assert heard[3:] == ['exited', 'lost']


class TestExitedChild(UringCase):

    def test_terminated_after_its_end_keeps_its_exit_code(self):
        """A child that has ended but was not yet waited for keeps its exit code.

        With some versions of asyncio the signal's own look at the child takes it away.
        """
        async def main():
            waits, go_on = os.pipe()
            process = await asyncio.create_subprocess_exec(
                'sh', '-c', 'read line; exit 3', stdin=waits)
            os.close(waits)
            os.close(go_on)
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            return await process.wait()

        assert self.run(main()) == 3


both_sides(globals(), _TestSubprocesses, _TestPipes, _TestPipeStreams, _TestStubbornChildren)
