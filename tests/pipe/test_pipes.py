"""Pipe transports: what they read and write, flow control, order, how they end, and who notices."""
import asyncio
import contextvars
import fcntl
import gc
import io
import os
import pty
import socket
import threading
import warnings
from asyncio import unix_events

import pytest

from tests.support.cases import UringCase, both_sides
from tests.support.process import in_thread, until_asleep
from tests.support.turns import turns, turns_until

MEBIBYTE = 1 << 20
# From some release of Python 3.11 on (Debian 12 has 3.11.2) pipe transports say whether they read.
ASYNCIO_TELLS = (unix_events._UnixReadPipeTransport.is_reading
                 is not asyncio.ReadTransport.is_reading)
variable = contextvars.ContextVar('variable', default='unset')


class Told(asyncio.Protocol):
    """Notes what it is told, in order."""

    def __init__(self):
        self.calls = []
        self.data = bytearray()

    def connection_made(self, transport):
        self.calls.append('made')
        self.transport = transport

    def data_received(self, data):
        assert type(data) is bytes
        self.calls.append('data')
        self.data += data

    def eof_received(self):
        self.calls.append('eof')

    def connection_lost(self, exc):
        self.calls.append(('lost', type(exc)))

    def pause_writing(self):
        self.calls.append('pause')

    def resume_writing(self):
        self.calls.append('resume')

    @property
    def lost(self):
        return bool(self.calls) and self.calls[-1][0] == 'lost'


class Pipes:

    timeout = 10.0

    async def reader(self, protocol=None, fds=None):
        """A transport that reads, its protocol, and the descriptor to write to."""
        reading, writing = fds or os.pipe()
        protocol = protocol or Told()
        transport, _ = await self.loop.connect_read_pipe(
            lambda: protocol, os.fdopen(reading, 'rb', 0))
        return transport, protocol, writing

    async def writer(self, protocol=None, fds=None):
        """A transport that writes, its protocol, and the descriptor to read from."""
        reading, writing = fds or os.pipe()
        protocol = protocol or Told()
        transport, _ = await self.loop.connect_write_pipe(
            lambda: protocol, os.fdopen(writing, 'wb', 0))
        return transport, protocol, reading


class _TestReading(Pipes):

    @pytest.mark.parametrize('size', [1, 8191, 8192, 65536])
    def test_pieces_of_any_length_come_whole(self, size):
        async def main():
            transport, protocol, fd = await self.reader()
            sent = b''
            for _ in range(5):
                piece = os.urandom(size)
                assert os.write(fd, piece) == size
                sent += piece
                length = len(sent)
                await turns_until(lambda length=length: len(protocol.data) == length)
            os.close(fd)
            await turns_until(lambda: protocol.lost)
            assert protocol.data == sent
            assert protocol.calls == ['made', *['data'] * 5, 'eof', ('lost', type(None))]
            assert transport.is_closing()

        self.run(main())

    def test_the_end_is_told_a_turn_after_what_came_before_it(self):
        class Later(Told):
            def data_received(self, data):
                super().data_received(data)
                loop.call_soon(self.calls.append, 'in the next turn')

        async def main():
            _, protocol, fd = await self.reader(Later())
            os.write(fd, b'data')
            os.close(fd)
            await turns_until(lambda: protocol.lost)
            assert protocol.calls == ['made', 'data', 'in the next turn', 'eof',
                                      ('lost', type(None))]

        loop = self.loop
        self.run(main())

    def test_nothing_is_taken_while_paused(self):
        async def main():
            transport, protocol, fd = await self.reader()
            transport.pause_reading()
            if self.uring or ASYNCIO_TELLS:
                assert not transport.is_reading()
            os.write(fd, b'later')
            await turns(5)
            assert protocol.calls == ['made']
            other = os.dup(transport.get_extra_info('pipe').fileno())
            assert os.read(other, 100) == b'later'
            os.close(other)
            os.write(fd, b'now')
            transport.resume_reading()
            await turns_until(lambda: protocol.data == b'now')
            for _ in range(3):
                transport.pause_reading()
                transport.resume_reading()
            os.write(fd, b' and then')
            await turns_until(lambda: protocol.data == b'now and then')
            os.close(fd)
            await turns_until(lambda: protocol.lost)

        self.run(main())

    def test_what_is_called_soon_comes_before_what_had_come_already(self):
        async def main():
            transport, protocol, fd = await self.reader()
            os.write(fd, b'data')
            self.loop.call_soon(transport.pause_reading)
            await turns(3)
            assert protocol.calls == ['made']
            transport.resume_reading()
            self.loop.call_soon(protocol.calls.append, 'called soon')
            await turns_until(lambda: protocol.data)
            assert protocol.calls == ['made', 'called soon', 'data']
            transport.close()
            await turns_until(lambda: protocol.lost)
            os.close(fd)

        self.run(main())

    def test_paused_in_data_received(self):
        class Pauses(Told):
            def data_received(self, data):
                super().data_received(data)
                self.transport.pause_reading()

        async def main():
            transport, protocol, fd = await self.reader(Pauses())
            for n in range(3):
                os.write(fd, b'x')
                await turns_until(lambda n=n: len(protocol.data) == n + 1)
                os.write(fd, b'y')
                await turns(4)
                assert len(protocol.data) == n + 1
                other = os.dup(transport.get_extra_info('pipe').fileno())
                assert os.read(other, 100) == b'y'
                os.close(other)
                transport.resume_reading()
            transport.close()
            await turns_until(lambda: protocol.lost)
            os.close(fd)

        self.run(main())

    def test_packets_that_wait_all_come(self):
        """Each read takes one (O_DIRECT), and nothing new tells of the others."""
        async def main():
            fds = os.pipe2(os.O_DIRECT)
            packets = [bytes([n]) * (n + 1) for n in range(12)]
            for packet in packets[:8]:
                os.write(fds[1], packet)
            transport, protocol, writing = await self.reader(fds=fds)
            await turns_until(lambda: len(protocol.data) == sum(map(len, packets[:8])))
            for packet in packets[8:]:
                os.write(writing, packet)
            await turns_until(lambda: bytes(protocol.data) == b''.join(packets))
            assert protocol.calls == ['made', *['data'] * 12]
            os.write(writing, b'last')
            os.close(writing)
            await turns_until(lambda: protocol.lost)
            assert protocol.data.endswith(b'last')
            assert transport.is_closing()

        self.run(main())

    @pytest.mark.parametrize('size', [1, 100_000, 262_144, 900_000])
    def test_what_comes_with_the_end_comes_before_it(self, size):
        async def main():
            fds = os.pipe()
            fcntl.fcntl(fds[1], fcntl.F_SETPIPE_SZ, MEBIBYTE)
            _transport, protocol, writing = await self.reader(fds=fds)
            data = os.urandom(size)
            await turns(3)
            assert os.write(writing, data) == size
            os.close(writing)
            await turns_until(lambda: protocol.lost)
            assert protocol.data == data
            assert protocol.calls[-2:] == ['eof', ('lost', type(None))]

        self.run(main())

    def test_a_pipe_that_others_read_too(self):
        """What was told of may be gone, and be told of again."""
        async def main():
            transport, protocol, writing = await self.reader()
            own = os.dup(transport.get_extra_info('pipe').fileno())
            for n in range(50):
                await turns(2)
                os.write(writing, b'x' * 10)
                os.read(own, 4 + n % 7)
            os.write(writing, b'!')
            await turns_until(lambda: protocol.data.endswith(b'!'))
            assert len(protocol.data) == 1 + sum(10 - 4 - n % 7 for n in range(50))
            transport.close()
            for fd in (own, writing):
                os.close(fd)
            await turns_until(lambda: protocol.lost)

        self.run(main())

    def test_a_writer_comes_when_the_last_has_gone(self, tmp_path):
        """Of a named pipe that this side holds open for writing as well."""
        async def main():
            os.mkfifo(tmp_path / 'pipe')
            reading = os.open(tmp_path / 'pipe', os.O_RDONLY | os.O_NONBLOCK)
            held = os.open(tmp_path / 'pipe', os.O_WRONLY)
            _transport, protocol, _ = await self.reader(fds=(reading, -1))
            for n in range(5):
                with open(tmp_path / 'pipe', 'wb', 0) as writer:
                    writer.write(b'%d' % n)
                    await turns_until(lambda n=n: len(protocol.data) == n + 1)
            assert protocol.data == b'01234'
            os.close(held)
            await turns_until(lambda: protocol.lost)

        self.run(main())

    def test_an_exception_is_reported_and_reading_goes_on(self):
        class Raises(Told):
            def data_received(self, data):
                super().data_received(data)
                raise ZeroDivisionError

        async def main():
            transport, protocol, fd = await self.reader(Raises())
            for n in range(2):
                os.write(fd, b'x')
                await turns_until(lambda n=n: len(self.problems) == n + 1)
                assert isinstance(self.problems[n]['exception'], ZeroDivisionError)
            transport.close()
            await turns_until(lambda: protocol.lost)
            os.close(fd)

        self.run(main())

    def test_an_interrupt_loses_nothing(self):
        class Interrupts(Told):
            def data_received(self, data):
                super().data_received(data)
                raise KeyboardInterrupt

        async def begin():
            return await self.reader(Interrupts())

        async def end():
            transport.close()
            await turns_until(lambda: protocol.lost)

        transport, protocol, fd = self.run(begin())
        for n in range(3):
            os.write(fd, b'x')
            with pytest.raises(KeyboardInterrupt):
                self.forever()
            assert len(protocol.data) == n + 1
        os.close(fd)
        self.run(end())

    def test_the_protocol_is_called_in_the_context_of_who_connects_and_resumes(self):
        class Notes(Told):
            def data_received(self, data):
                super().data_received(data)
                seen.append(variable.get())

        async def main():
            variable.set('connected')
            transport, protocol, fd = await self.reader(Notes())
            variable.set('resumed')
            os.write(fd, b'x')
            await turns_until(lambda: len(seen) == 1)
            transport.pause_reading()
            transport.resume_reading()
            os.write(fd, b'x')
            await turns_until(lambda: len(seen) == 2)
            transport.close()
            await turns_until(lambda: protocol.lost)
            os.close(fd)

        seen = []
        self.run(main())
        assert seen == ['connected', 'resumed']

    def test_a_socket_and_a_terminal_are_pipes_too(self):
        async def main():
            here, there = socket.socketpair()
            _, protocol, fd = await self.reader(fds=(here.detach(), there.detach()))
            os.write(fd, b'by a socket')
            await turns_until(lambda: protocol.data == b'by a socket')
            os.close(fd)
            await turns_until(lambda: protocol.lost)

            _, protocol, fd = await self.reader(fds=pty.openpty())
            os.write(fd, b'by a terminal')
            await turns_until(lambda: protocol.data == b'by a terminal')
            os.close(fd)                 # EIO, then
            await turns_until(lambda: protocol.lost)
            assert protocol.calls[-1] == ('lost', OSError)
            assert not self.problems

        self.run(main())

    def test_a_file_is_none(self, tmp_path):
        async def main():
            with open(tmp_path / 'file', 'w+b', 0) as file:
                with pytest.raises(ValueError, match='Pipe transport is '):
                    await self.loop.connect_read_pipe(Told, file)
                with pytest.raises(ValueError, match='Pipe transport is '):
                    await self.loop.connect_write_pipe(Told, file)

        self.run(main())

    def test_a_stream_reader_reads_bulk(self):
        async def main():
            reading, writing = os.pipe()
            stream = asyncio.StreamReader()
            transport, _ = await self.loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, 'rb', 0))
            writer, _, _ = await self.writer(fds=(-1, writing))
            data = os.urandom(3 * MEBIBYTE)
            writer.write(data)
            writer.close()
            assert await stream.read() == data
            transport.close()
            await turns(3)

        self.run(main())


class _TestWriting(Pipes):

    def test_pauses_and_resumes_when_all_is_written(self):
        async def main():
            transport, protocol, fd = await self.writer()
            data = os.urandom(MEBIBYTE)
            transport.write(data[:100_000])
            assert protocol.calls == ['made']
            transport.write(bytearray(data[100_000:500_000]))
            transport.writelines([data[500_000:600_000], memoryview(data)[600_000:]])
            assert protocol.calls == ['made', 'pause']
            assert transport.get_write_buffer_size() > 900_000
            transport.close()
            received = b''
            while part := await self.loop.run_in_executor(None, os.read, fd, MEBIBYTE):
                received += part
            assert received == data
            await turns_until(lambda: protocol.lost)
            assert protocol.calls == ['made', 'pause', 'resume', ('lost', type(None))]
            os.close(fd)

        self.run(main())

    def test_a_reader_that_closes_is_noticed(self):
        async def main():
            transport, protocol, fd = await self.writer()
            await turns(3)
            os.close(fd)
            await turns_until(lambda: protocol.lost)
            assert protocol.calls == ['made', ('lost', type(None))]
            transport.write(b'in vain')
            assert transport.get_write_buffer_size() == 0

        self.run(main())

    def test_a_reader_that_closes_with_something_queued_is_an_error(self):
        async def main():
            transport, protocol, fd = await self.writer()
            transport.write(bytes(MEBIBYTE))
            await turns(3)
            os.close(fd)
            await turns_until(lambda: protocol.lost)
            assert protocol.calls == ['made', 'pause', ('lost', BrokenPipeError)]

        self.run(main())

    def test_a_write_that_fails_is_an_error(self):
        async def main():
            transport, protocol, fd = await self.writer()
            os.close(fd)
            transport.write(b'x')
            await turns_until(lambda: protocol.lost)
            assert protocol.calls == ['made', ('lost', BrokenPipeError)]

        self.run(main())

    def test_what_is_not_in_one_piece_is_an_error(self):
        async def main():
            transport, protocol, fd = await self.writer()
            transport.write(memoryview(b'0123456789')[::2])
            await turns_until(lambda: protocol.lost)
            assert protocol.calls == ['made', ('lost', BufferError)]
            assert [type(problem['exception']) for problem in self.problems] == [BufferError]
            self.problems.clear()
            os.close(fd)

        self.run(main())

    def test_it_reads_nothing(self):
        async def main():
            transport, protocol, fd = await self.writer()
            for name in 'is_reading', 'pause_reading', 'resume_reading':
                with pytest.raises(NotImplementedError):
                    getattr(transport, name)()
            transport.close()
            await turns_until(lambda: protocol.lost)
            os.close(fd)

        self.run(main())

    def test_abort_drops_what_is_queued(self):
        async def main():
            transport, protocol, fd = await self.writer()
            transport.write(bytes(MEBIBYTE))
            await turns(2)
            transport.abort()
            await turns_until(lambda: protocol.lost)
            assert protocol.calls == ['made', 'pause', ('lost', type(None))]
            length = 0
            while part := os.read(fd, MEBIBYTE):
                length += len(part)
            assert length < MEBIBYTE
            os.close(fd)

        self.run(main())

    def test_write_eof_is_close(self):
        async def main():
            transport, protocol, fd = await self.writer()
            assert transport.can_write_eof()
            transport.write(b'last')
            transport.write_eof()
            assert transport.is_closing()
            transport.write_eof()
            transport.write(b'in vain')
            await turns_until(lambda: protocol.lost)
            assert os.read(fd, 100) == b'last'
            assert os.read(fd, 100) == b''
            os.close(fd)

        self.run(main())

    def test_limits(self):
        async def main():
            transport, protocol, fd = await self.writer()
            assert transport.get_write_buffer_limits() == (16384, 65536)
            transport.set_write_buffer_limits(high=1000)
            assert transport.get_write_buffer_limits() == (250, 1000)
            with pytest.raises(ValueError, match='must be >= low'):
                transport.set_write_buffer_limits(high=1, low=2)
            with pytest.raises(AssertionError):
                transport.write('text')
            transport.close()
            await turns_until(lambda: protocol.lost)
            os.close(fd)

        self.run(main())

    def test_what_is_written_stays_what_it_was(self):
        async def main():
            transport, protocol, fd = await self.writer()
            data = bytearray(b'a' * MEBIBYTE)
            transport.write(data)
            data[:] = b'b' * MEBIBYTE
            transport.close()
            received = b''
            while part := await self.loop.run_in_executor(None, os.read, fd, MEBIBYTE):
                received += part
            assert received == b'a' * MEBIBYTE
            await turns_until(lambda: protocol.lost)
            os.close(fd)

        self.run(main())

    def test_pieces_of_any_kind_and_length_wait_in_their_order(self):
        async def main():
            transport, protocol, fd = await self.writer()
            kinds = (bytes, bytearray, memoryview, lambda data: memoryview(data).cast('H'))
            sent = os.urandom(70_000)
            transport.write(sent)
            for n in range(400):
                data = os.urandom(2 * (n * 7 % 50 + 1) * (1000 if n % 40 == 0 else 1))
                transport.write(kinds[n % 4](data))
                sent += data
            taken = len(sent) - transport.get_write_buffer_size()
            assert 0 < taken < 70_000
            assert transport._buffer == sent[taken:]
            assert type(transport._buffer) is bytearray
            transport.close()
            received = b''
            while part := os.read(fd, 777):
                received += part
                await turns(1)
            assert received == sent
            await turns_until(lambda: protocol.lost)
            assert transport.get_write_buffer_size() == 0
            os.close(fd)

        self.run(main())


class _TestTransports(Pipes):

    def test_what_they_are(self):
        async def main():
            reading, protocol, fd = await self.reader()
            writing, other, _ = await self.writer(fds=(-1, fd))
            assert isinstance(reading, asyncio.ReadTransport)
            assert isinstance(writing, asyncio.WriteTransport)
            assert reading.get_protocol() is protocol
            assert 'fd=' in repr(reading)
            assert 'polling' in repr(reading)
            assert 'idle' in repr(writing)
            assert writing.get_extra_info('pipe').fileno() == fd
            assert writing.get_extra_info('nothing', 5) == 5
            replacement = Told()
            reading.set_protocol(replacement)
            writing.write(b'x')
            await turns_until(lambda: replacement.data == b'x')
            writing.close()
            await turns_until(lambda: other.lost and replacement.lost)
            assert 'closed' in repr(reading)
            assert 'closed' in repr(writing)

        self.run(main())

    def test_closed_in_the_constructors_turn(self):
        async def main():
            transport, protocol, fd = await self.reader()
            transport.close()
            transport.close()
            await turns_until(lambda: protocol.lost)
            os.close(fd)
            transport, protocol, fd = await self.writer()
            transport.close()
            transport.close()
            await turns_until(lambda: protocol.lost)
            os.close(fd)

        self.run(main())

    def test_a_dropped_one_warns(self):
        async def main():
            transport, protocol, fd = await self.reader()
            await turns(3)
            transport.pause_reading()
            await asyncio.sleep(0.01)
            protocol.transport = None
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter('always')
                del transport
                gc.collect()
            assert any('unclosed transport' in str(warning.message) for warning in caught)
            os.close(fd)

        self.run(main())


class _TestOthers(Pipes):
    """What other threads, other processes and the collector do meanwhile."""

    def test_a_pipe_that_was_made_one_that_blocks_stops_this_thread_only(self):
        """As a child may do to its standard streams, which are the parent's pipes."""
        def read_all(fd):
            os.set_blocking(fd, True)
            received = b''
            while part := os.read(fd, MEBIBYTE):
                received += part
            os.close(fd)
            return received

        async def main():
            transport, protocol, fd = await self.writer()
            os.set_blocking(transport.get_extra_info('pipe').fileno(), True)
            reading = self.loop.run_in_executor(None, read_all, fd)
            transport.write(bytes(300_000))
            transport.close()
            assert await reading == bytes(300_000)
            await turns_until(lambda: protocol.lost)

        self.run(main())

    def test_a_pipe_that_blocks_is_read_only_when_it_has_something(self):
        """Though it was told of twice what one read has taken."""
        async def main():
            transport, protocol, writing = await self.reader()
            other = Told()
            other.data_received = lambda data: os.write(writing, b'2')
            telling, _, told = await self.reader(other)
            await turns(3)
            own = os.dup(transport.get_extra_info('pipe').fileno())
            os.set_blocking(own, True)
            os.write(told, b'x')
            os.write(writing, b'1')

            def release():
                os.set_blocking(own, False)
                os.write(writing, b'3')

            released = threading.Timer(5, release)
            released.start()
            await turns_until(lambda: protocol.data == b'12')
            await turns(50)
            assert protocol.data == b'12'        # and not what lets go of a read that blocks
            released.cancel()
            os.set_blocking(own, False)
            for end in transport, telling:
                end.close()
            for fd in own, writing, told:
                os.close(fd)
            await turns(3)

        self.run(main())

    def test_closed_by_another_thread_while_the_loop_does_not_run(self):
        async def begin():
            return await self.reader(), await self.writer()

        async def end():
            await turns_until(lambda: protocol.lost and other.lost)

        (reading, protocol, fd), (writing, other, unread) = self.run(begin())
        self.run(turns(3))
        in_thread(reading.close)
        in_thread(writing.close)
        self.run(end())
        assert os.read(unread, 1) == b''
        with pytest.raises(BrokenPipeError):
            os.write(fd, b'x')
        os.close(fd)
        os.close(unread)

    def test_connection_lost_is_called_in_the_context_of_the_write_that_waited(self):
        class Notes(Told):
            def connection_lost(self, exc):
                super().connection_lost(exc)
                seen.append(variable.get())

        async def main():
            transport, protocol, fd = await self.writer(Notes())
            variable.set('written')
            transport.write(bytes(100_000))
            transport.close()
            variable.set('read')
            length = 0
            while part := await self.loop.run_in_executor(None, os.read, fd, MEBIBYTE):
                length += len(part)
            assert length == 100_000
            await turns_until(lambda: protocol.lost)
            os.close(fd)

        seen = []
        self.run(main())
        assert seen == ['written']

class TestThreads(Pipes, UringCase):

    def test_what_one_of_them_writes_goes_on_while_the_loop_sleeps(self):
        """Not allowed; with asyncio it goes on all the same."""
        async def main():
            transport, protocol, fd = await self.writer()
            received = self.loop.create_future()
            loops_thread = threading.current_thread()

            def write():
                until_asleep(loops_thread, self.timeout)
                transport.write(bytes(MEBIBYTE))
                os.set_blocking(fd, True)
                left = MEBIBYTE
                while left:
                    left -= len(os.read(fd, left))
                self.loop.call_soon_threadsafe(received.set_result, True)

            thread = threading.Thread(target=write)
            thread.start()
            assert await received
            thread.join()
            transport.close()
            await turns_until(lambda: protocol.lost)
            os.close(fd)

        self.run(main())

    def test_what_two_of_them_write_at_once_comes_once(self):
        """Nobody promises the order; asyncio's writer may also fail with BufferError."""
        async def main():
            for _ in range(50):
                transport, protocol, fd = await self.writer()
                start = threading.Barrier(2)

                def write(data, transport=transport, start=start):
                    start.wait(5)
                    transport.write(data)

                threads = [threading.Thread(target=write, args=(letter * 100_000,))
                           for letter in (b'a', b'b')]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                transport.close()
                received = b''
                while part := await self.loop.run_in_executor(None, os.read, fd, MEBIBYTE):
                    received += part
                assert (received.count(b'a'), received.count(b'b')) == (100_000, 100_000)
                await turns_until(lambda: protocol.lost)  # noqa: B023
                os.close(fd)

        self.run(main())


class TestIdle(Pipes, UringCase):

    def test_nothing_spins(self):
        """With something to read while paused, with a full pipe, and with a peer that is gone."""
        async def main():
            paused, protocol, fd = await self.reader()
            full, other, unread = await self.writer()
            paused.pause_reading()
            os.write(fd, b'x')
            full.write(bytes(MEBIBYTE))
            await asyncio.sleep(0.02)
            before = self.loop.stats().syscalls
            await asyncio.sleep(0.05)
            assert self.loop.stats().syscalls - before < 5
            os.close(fd)
            await asyncio.sleep(0.02)
            before = self.loop.stats().syscalls
            await asyncio.sleep(0.05)
            assert self.loop.stats().syscalls - before < 5
            paused.close()
            full.abort()
            await turns_until(lambda: protocol.lost and other.lost)
            os.close(unread)

        self.run(main())

    def test_a_pipe_that_the_program_closes_is_let_go_of(self):
        """Its other end is told, as with asyncio, whose epoll forgets a closed descriptor."""
        async def main():
            transport, protocol, fd = await self.writer()
            await turns(3)
            transport.get_extra_info('pipe').close()
            assert await self.loop.run_in_executor(None, os.read, fd, 1) == b''
            transport.close()
            await turns_until(lambda: protocol.lost)
            os.close(fd)

        self.run(main())


both_sides(globals(), _TestReading)
both_sides(globals(), _TestWriting)
both_sides(globals(), _TestTransports)
both_sides(globals(), _TestOthers)


class TestDropped(Pipes, UringCase):

    def test_by_what_runs_the_loop(self):
        """What is watched while it is let go of is not found any more."""
        class Runs(asyncio.BaseProtocol):
            def __del__(self):
                loop.run_until_complete(asyncio.sleep(0.001))
                ran.append(True)

        loop = self.loop
        ran = []
        end, terminal = pty.openpty()
        transport, _ = loop.run_until_complete(
            loop.connect_write_pipe(Runs, io.FileIO(terminal, 'w')))
        loop.run_until_complete(asyncio.sleep(0.001))
        with pytest.warns(ResourceWarning, match='unclosed transport'):
            del transport, _
            gc.collect()
        assert ran
        loop.run_until_complete(asyncio.sleep(0.001))
        os.close(end)
