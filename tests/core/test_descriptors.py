"""``add_reader`` and ``add_writer``: descriptors that the loop's epoll watches."""
import asyncio
import contextvars
import os
import resource
import socket
import sys
import tempfile
import threading

import pytest

from tests.support.cases import Case, UringCase, both_sides
from tests.support.turns import turns, turns_until

variable = contextvars.ContextVar('variable', default='unset')
SIZE = 3_000_000


class _TestDescriptors:

    def test_reader_and_writer_are_called_and_removed(self):
        one, two = socket.socketpair()
        with one, two:
            one.setblocking(False)
            two.setblocking(False)
            seen = []

            def readable():
                seen.append(two.recv(100))
                self.loop.stop()

            def writable():
                one.send(b'hello')
                assert self.loop.remove_writer(one) is True

            self.loop.add_reader(two, readable)
            self.loop.add_writer(one, writable)
            self.forever()
            assert seen == [b'hello']
            assert self.loop.remove_reader(two.fileno()) is True
            assert self.loop.remove_reader(two) is False
            assert self.loop.remove_writer(one) is False

    def test_all_that_are_ready_are_called_in_one_turn(self):
        async def main():
            pipes = [os.pipe() for _ in range(200)]
            calls = []
            for reading, writing in pipes:
                self.loop.add_reader(reading, calls.append, reading)
                os.write(writing, b'!')
            await turns_until(lambda: calls)
            assert sorted(calls) == sorted(reading for reading, _ in pipes)
            for reading, writing in pipes:
                self.loop.remove_reader(reading)
                os.close(reading)
                os.close(writing)

        self.run(main())

    def test_the_first_is_added_by_another_thread(self):
        """Which asyncio does not allow; but it works, and is relied on."""
        def add():
            # By then the loop sleeps, most likely; it must not matter.
            self.loop.add_reader(two, heard.set_result, None)

        async def main():
            nonlocal heard
            heard = self.loop.create_future()
            timer = threading.Timer(0.05, add)
            timer.start()
            await heard
            self.loop.remove_reader(two)
            timer.join()

        heard = None
        one, two = socket.socketpair()
        with one, two:
            one.send(b'something')
            self.run(main())

    def test_called_as_long_as_there_is_something(self):
        reader, writer = os.pipe()
        try:
            seen = []

            def readable():
                seen.append(os.read(reader, 1))
                if len(seen) == 5:
                    self.loop.stop()

            self.loop.add_reader(reader, readable)
            os.write(writer, b'abcde')
            self.forever()
            assert b''.join(seen) == b'abcde'
            self.loop.remove_reader(reader)
        finally:
            os.close(reader)
            os.close(writer)

    def test_a_hangup_is_readable(self):
        reader, writer = os.pipe()
        self.loop.add_reader(reader, self.loop.stop)
        self.loop.call_soon(os.close, writer)
        self.forever()
        self.loop.remove_reader(reader)
        os.close(reader)

    def test_a_reader_replaces_another(self):
        reader, writer = os.pipe()
        seen = []
        self.loop.add_reader(reader, seen.append, 'first')
        self.loop.add_reader(reader, lambda: (seen.append('second'), self.loop.stop()))
        os.write(writer, b'x')
        self.forever()
        assert set(seen) == {'second'}
        self.loop.remove_reader(reader)
        os.close(reader)
        os.close(writer)

    def test_both_directions_of_one(self):
        one, two = socket.socketpair()
        with one, two:
            seen = []

            def note(what):
                if what not in seen:
                    seen.append(what)
                if len(seen) == 2:
                    self.loop.stop()

            two.send(b'x')
            self.loop.add_writer(one, note, 'writable')
            self.loop.add_reader(one, note, 'readable')
            self.forever()
            assert sorted(seen) == ['readable', 'writable']
            assert self.loop.remove_writer(one)
            assert self.loop.remove_reader(one)

    def test_one_removed_in_the_same_turn_is_not_called(self):
        pairs = [socket.socketpair() for _ in range(2)]
        seen = []

        def readable(n):
            seen.append(n)
            for one, _ in pairs:
                self.loop.remove_reader(one)
            self.loop.call_soon(self.loop.stop)

        for n, (one, two) in enumerate(pairs):
            self.loop.add_reader(one, readable, n)
            two.send(b'x')
        self.forever()
        assert len(seen) == 1
        for pair in pairs:
            for sock in pair:
                sock.close()

    def test_a_regular_file_is_refused(self):
        with tempfile.TemporaryFile() as file:
            with pytest.raises(PermissionError):
                self.loop.add_reader(file, print)
            assert self.loop.remove_reader(file) is False

    def test_bad_descriptors_are_refused(self):
        for bad in (-1, 'file', None):
            with pytest.raises(ValueError):
                self.loop.add_reader(bad, print)
        with pytest.raises(OSError):
            self.loop.add_reader(10 ** 6, print)

    def test_closed_without_remove_harms_nobody(self):
        one, two = socket.socketpair()
        descriptor = one.fileno()
        self.loop.add_reader(one, print)
        self.turns(2)
        one.close()
        two.close()
        assert self.run(asyncio.sleep(0.001, 'alive')) == 'alive'
        assert self.loop.remove_reader(descriptor) is True

    @pytest.mark.parametrize('debug', [False, True])
    def test_an_error_is_told_with_the_callback(self, debug):
        def fails(argument):
            self.loop.stop()
            raise ValueError(argument)

        told = []
        self.loop.set_exception_handler(lambda loop, context: told.append(context))
        reading, writing = os.pipe()
        os.write(writing, b'!')
        self.loop.add_reader(reading, fails, 'an argument')
        self.loop.set_debug(debug)          # which counts when the error is told
        self.forever()
        context, = told
        assert sorted(context) == ['exception', 'handle', 'message']
        assert 'fails(' in context['message']
        named = debug or sys.version_info < (3, 13)
        assert ("'an argument'" in context['message']) == named
        assert isinstance(context['handle'], asyncio.Handle)
        self.loop.remove_reader(reading)
        for fd in (reading, writing):
            os.close(fd)

    def test_called_in_the_context_of_add_reader(self):
        reader, writer = os.pipe()
        seen = []
        token = variable.set('then')
        try:
            self.loop.add_reader(
                reader, lambda: (seen.append(variable.get()), self.loop.stop()))
        finally:
            variable.reset(token)
        os.write(writer, b'x')
        self.forever()
        assert set(seen) == {'then'}
        self.loop.remove_reader(reader)
        os.close(reader)
        os.close(writer)

    def test_an_exception_in_a_reader_is_reported(self):
        reader, writer = os.pipe()

        def broken():
            os.read(reader, 1)
            self.loop.stop()
            raise ZeroDivisionError

        self.loop.add_reader(reader, broken)
        os.write(writer, b'x')
        self.forever()
        assert isinstance(self.problems[0]['exception'], ZeroDivisionError)
        assert self.loop.remove_reader(reader) is True
        os.close(reader)
        os.close(writer)

    def test_many_readers_are_all_called(self):
        pairs = [socket.socketpair() for _ in range(100)]
        seen = set()

        def readable(n):
            pairs[n][0].recv(1)
            seen.add(n)
            if len(seen) == len(pairs):
                self.loop.stop()

        for n, (one, two) in enumerate(pairs):
            self.loop.add_reader(one, readable, n)
            self.loop.call_soon(two.send, b'x')
        self.forever()
        for pair in pairs:
            self.loop.remove_reader(pair[0])
            for sock in pair:
                sock.close()

    def test_readers_go_on_in_another_thread(self):
        # A loop that moves to another thread keeps its readers.
        reader, writer = os.pipe()
        seen = []
        self.loop.add_reader(
            reader, lambda: (seen.append(os.read(reader, 1)), self.loop.stop()))
        os.write(writer, b'a')
        self.forever()
        os.write(writer, b'b')
        thread = threading.Thread(target=self.loop.run_forever)
        thread.start()
        thread.join(self.timeout)
        assert not thread.is_alive()
        os.write(writer, b'c')
        self.forever()
        assert seen == [b'a', b'b', b'c']
        self.loop.remove_reader(reader)
        os.close(reader)
        os.close(writer)


class _TestWriters:

    @pytest.mark.parametrize('order', [[False], [True], [False, True]])
    def test_writer_is_called_until_all_is_sent(self, order):
        async def main():
            for renewed in order:
                await send_all(renewed)

        async def send_all(renewed):
            one, two = socket.socketpair()
            with one, two:
                one.setblocking(False)
                two.setblocking(False)
                sent = received = 0

                def ready():
                    nonlocal sent
                    if renewed:
                        self.loop.remove_writer(one)
                    try:
                        while sent < SIZE:
                            sent += one.send(bytes(min(65_536, SIZE - sent)))
                    except BlockingIOError:
                        if renewed:
                            self.loop.add_writer(one, ready)
                    else:
                        self.loop.remove_writer(one)

                self.loop.add_writer(one, ready)
                try:
                    while received < SIZE:
                        received += len(await self.loop.sock_recv(two, 1 << 18))
                finally:
                    self.loop.remove_writer(one)

        self.run(main())


class Numbers(Case):
    """Descriptors that the loop has closed, and whose numbers come again."""

    async def number_is_usable(self, fd):
        """The next descriptor has this number, and can be watched."""
        one, two = socket.socketpair()
        with one, two:
            assert fd == one.fileno()
            heard = self.loop.create_future()
            self.loop.add_reader(one, heard.set_result, None)
            two.send(b'x')
            await heard
            self.loop.remove_reader(one)

    async def gone(self, fd):
        while True:
            try:
                os.fstat(fd)
            except OSError:
                return
            await asyncio.sleep(0)

    def closed_during_sendfile(self, how):
        async def main():
            one, two = socket.socketpair()
            fd = one.fileno()
            transport, _ = await self.loop.create_connection(asyncio.Protocol, sock=one)
            with tempfile.TemporaryFile() as file:
                file.truncate(50_000_000)
                sending = self.loop.create_task(self.loop.sendfile(transport, file))
                while fd not in self.loop._selector.get_map():
                    await asyncio.sleep(0)
                getattr(transport, how)()
                await self.gone(fd)
                await self.number_is_usable(fd)
                process = await asyncio.create_subprocess_exec('true')
                assert await process.wait() == 0
                # Nobody hears of it, as with asyncio: whoever waits is to be cancelled.
                sending.cancel()
                await asyncio.wait([sending])
            two.close()

        self.run(main())


class _TestClosedByTheLoop(Numbers):
    """What is closed with its transport or server is in nobody's way who has its number next."""

    @pytest.mark.parametrize('family', [socket.SOCK_STREAM, socket.SOCK_DGRAM])
    @pytest.mark.parametrize('how', ['close', 'abort'])
    def test_watched_before_the_transport_was_made(self, family, how):
        async def main():
            one, two = socket.socketpair(type=family)
            seen = []
            self.loop.add_reader(one, seen.append, 'the program')
            if family == socket.SOCK_STREAM:
                transport, _ = await self.loop.create_connection(asyncio.Protocol, sock=one)
            else:
                transport, _ = await self.loop.create_datagram_endpoint(
                    asyncio.DatagramProtocol, sock=one)
            fd = one.fileno()
            two.send(b'x')
            await turns(10)
            assert not seen, "the transport's has taken its place"
            getattr(transport, how)()
            await self.gone(fd)
            two.close()
            await self.number_is_usable(fd)

        self.run(main())

    def test_closed_during_sendfile(self):
        self.closed_during_sendfile('close')

    def test_a_server_takes_the_place_of_a_reader(self):
        async def main():
            sock = socket.create_server(('127.0.0.1', 0))
            sock.setblocking(False)
            fd, address, seen = sock.fileno(), sock.getsockname(), []
            self.loop.add_reader(sock, seen.append, 'the program')
            accepted = self.loop.create_future()

            class Accepted(asyncio.Protocol):
                def connection_made(self, transport):
                    accepted.set_result(transport)

            server = await self.loop.create_server(Accepted, sock=sock)
            with socket.create_connection(address) as client:
                client.setblocking(False)
                transport = await accepted
                assert not seen
                server.close()
                await turns()
                await self.number_is_usable(fd)
                transport.abort()
                await turns()

        self.run(main())


class _TestWithoutDescriptors:
    """A program that has no descriptor left watches those that it has."""

    @pytest.fixture(autouse=True)
    def _limit(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        yield
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    @staticmethod
    def allow_no_more():
        """No descriptor is left from here on."""
        first_free = os.dup(0)
        os.close(first_free)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (first_free, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        with pytest.raises(OSError, match='Too many open files'):
            os.pipe()

    @pytest.mark.parametrize('how', ['before it runs', 'while it runs'])
    def test_a_reader_can_be_added(self, how):
        reader, writer = os.pipe()
        os.write(writer, b'x')
        if how == 'while it runs':
            self.turns(2)
        self.allow_no_more()
        self.loop.add_reader(reader, self.loop.stop)
        self.forever()
        self.loop.remove_reader(reader)
        os.close(reader)
        os.close(writer)

    def test_a_file_is_sent(self):
        async def main():
            one, two = socket.socketpair()
            two.setblocking(False)
            transport, _ = await self.loop.create_connection(asyncio.Protocol, sock=one)
            with tempfile.TemporaryFile() as file, two:
                file.truncate(SIZE)
                self.allow_no_more()
                sending = self.loop.create_task(self.loop.sendfile(transport, file))
                received = 0
                while received < SIZE:
                    received += len(await self.loop.sock_recv(two, 1 << 18))
                assert await sending == SIZE
                transport.close()
                await turns()

        self.run(main())


class TestAbortedDuringSendfile(Numbers, UringCase):
    """asyncio's ``abort`` leaves the dead descriptor in its selector."""

    def test_aborted_during_sendfile(self):
        self.closed_during_sendfile('abort')


class TestSelectorIsLeftAlone(UringCase):

    def test_connections_do_not_ask_it_while_something_else_is_watched(self):
        # Each look for what is not there makes the selector format the text of a KeyError, twice.
        async def main():
            one, two = socket.socketpair()
            with one, two:
                self.loop.add_reader(one, one.recv, 1)
                server = await self.loop.create_server(asyncio.Protocol, '127.0.0.1', 0)
                asked = []
                self.loop._selector.get_key = asked.append
                for _ in range(3):
                    transport, _ = await self.loop.create_connection(
                        asyncio.Protocol, *server.sockets[0].getsockname())
                    transport.close()
                    await turns(5)
                del self.loop._selector.get_key
                assert not asked
                self.loop.remove_reader(one)
                server.close()

        self.run(main())


class TestInterrupted(UringCase):

    def test_watched_on_after_an_interrupt_among_events(self):
        """Descriptors of add_reader are watched on."""
        reading, writing = os.pipe()
        got = []
        self.loop.add_reader(reading, lambda: (got.append(os.read(reading, 1)),
                                               self.loop.stop()))

        def interrupted(handle):
            del self.loop._add_callback
            raise KeyboardInterrupt

        self.loop._add_callback = interrupted
        os.write(writing, b'!')
        with pytest.raises(KeyboardInterrupt):
            self.forever()
        self.forever()
        assert got == [b'!']
        self.loop.remove_reader(reading)
        for fd in (reading, writing):
            os.close(fd)


both_sides(globals(), _TestDescriptors, _TestWriters, _TestClosedByTheLoop,
           _TestWithoutDescriptors)
