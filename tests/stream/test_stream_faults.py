"""Streams whose peers, programs or systems misbehave."""
import asyncio
import errno
import gc
import resource
import select
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import warnings

import pytest

from tests.support.cases import UringCase, both_sides
from tests.support.sockets import LOCAL, PAIRS, reset, tcp_pair
from tests.support.streams import MANY_BYTES, Buffered, Echo, Recorder, Streams, both_kinds
from tests.support.turns import turns, turns_until


class _TestPeers(Streams):

    @pytest.mark.parametrize('factory', [Recorder, Buffered])
    def test_reset(self, factory):
        async def main():
            near, peer = await self.half(factory)
            reset(peer)
            assert isinstance(await near.until_lost(), ConnectionResetError)
            assert near.calls == ['made', 'lost']
            assert near.transport.is_closing()
            assert not self.problems

        self.run(main())

    def test_reset_while_writing(self):
        async def main():
            near, peer = await self.half()
            near.transport.write(MANY_BYTES)
            await self.read(peer, 100_000)
            reset(peer)
            exc = await near.until_lost()
            assert isinstance(exc, (ConnectionResetError, BrokenPipeError))
            assert near.transport.get_write_buffer_size() == 0
            await turns()
            assert near.calls == ['made', 'pause', 'lost']
            assert not self.problems

        self.run(main())

    def test_reset_while_reading_is_paused(self):
        """A program that pauses reading until it has written learns of the reset by writing."""
        async def main():
            near, peer = await self.half()
            near.transport.pause_reading()
            await turns()
            near.transport.write(MANY_BYTES)
            await self.read(peer, 100_000)
            reset(peer)
            exc = await near.until_lost()
            assert isinstance(exc, (ConnectionResetError, BrokenPipeError))

        self.run(main())

    @both_kinds
    def test_reset_after_close(self, kind):
        async def main():
            near, peer = await self.half(kind=kind)
            near.transport.write(MANY_BYTES)
            near.transport.close()
            await self.read(peer, 100_000)
            reset(peer)
            exc = await near.until_lost()
            assert isinstance(exc, (ConnectionResetError, BrokenPipeError))
            assert len(near.lost) == 1

        self.run(main())

    def test_reset_after_close_while_reading_is_paused(self):
        async def main():
            near, peer = await self.half()
            near.transport.pause_reading()
            await turns()
            near.transport.write(MANY_BYTES)
            near.transport.close()
            await self.read(peer, 100_000)
            reset(peer)
            exc = await near.until_lost()
            assert isinstance(exc, (ConnectionResetError, BrokenPipeError))

        self.run(main())

    @both_kinds
    def test_peer_gone_before_a_write(self, kind):
        class Stays(Recorder):
            keep_open = True

        async def main():
            near, peer = await self.half(Stays, kind=kind)
            peer.close()
            await near.until(lambda: 'eof' in near.calls)
            while not near.lost:
                near.transport.write(b'x')
                await asyncio.sleep(0)
            assert isinstance(near.lost[0], (ConnectionResetError, BrokenPipeError))
            assert near.calls == ['made', 'eof', 'lost']

        self.run(main())

    def test_data_before_a_reset_is_not_needed_for_its_report(self):
        async def main():
            near, peer = await self.half()
            await self.loop.sock_sendall(peer, b'last words')
            await near.until_length(10)
            reset(peer)
            assert isinstance(await near.until_lost(), ConnectionResetError)
            assert near.data == b'last words'

        self.run(main())

    @both_kinds
    def test_half_open(self, kind):
        class Stays(Recorder):
            keep_open = True

        async def main():
            near, peer = await self.half(Stays, kind=kind)
            await self.loop.sock_sendall(peer, b'question')
            peer.shutdown(socket.SHUT_WR)
            await near.until(lambda: 'eof' in near.calls)
            assert near.data == b'question'
            near.transport.write(MANY_BYTES[:2_000_000])
            assert await self.read(peer, 2_000_000) == MANY_BYTES[:2_000_000]
            near.transport.write_eof()
            assert await self.loop.sock_recv(peer, 1) == b''
            near.transport.close()
            assert await near.until_lost() is None
            assert near.calls.count('eof') == 1

        self.run(main())

    @pytest.mark.parametrize('factory', [Recorder, Buffered])
    def test_dribbling(self, factory):
        async def main():
            near, peer = await self.half(factory)
            for length in range(1, 301):
                await self.loop.sock_sendall(peer, MANY_BYTES[length - 1:length])
                await near.until_length(length)
            assert near.data == MANY_BYTES[:300]
            assert near.calls.count('data') == 300

        self.run(main())

    def test_dribbling_lines(self):
        async def main():
            async def serve(reader, writer):
                lines.set_result([await reader.readline() for _ in range(2)])
                writer.close()
                await writer.wait_closed()

            lines = self.loop.create_future()
            async with await asyncio.start_server(serve, *LOCAL) as server:
                with socket.create_connection(server.sockets[0].getsockname()) as peer:
                    peer.setblocking(False)
                    for byte in b'first\nsecond\n':
                        await self.loop.sock_sendall(peer, bytes([byte]))
                        await turns(2)
                    assert await lines == [b'first\n', b'second\n']
                    assert await self.loop.sock_recv(peer, 1) == b''

        self.run(main())

    def test_garbage_for_tls(self, contexts):
        async def main():
            _, address = await self.serve(Echo, ssl=contexts[0])
            with socket.create_connection(address) as peer:
                peer.setblocking(False)
                await self.loop.sock_sendall(peer, b'GET / HTTP/1.1\r\n\r\n' * 20)
                try:
                    await self.read_all(peer)
                except ConnectionResetError as exc:
                    assert exc.errno == errno.ECONNRESET
            # Nobody was told of a connection, and the next one works.
            assert [protocol.calls for protocol in self.opened] in ([], [[]])
            self.opened.clear()
            client = await self.connect(address, ssl=contexts[1])
            client.transport.write(b'fine')
            await client.until_length(4)

        self.run(main())

    def test_tls_peer_vanishes_in_the_handshake(self, contexts):
        async def main():
            one, peer = tcp_pair()
            connecting = self.loop.create_task(self.loop.create_connection(
                Recorder, sock=one, ssl=contexts[1], server_hostname='127.0.0.1'))
            peer.setblocking(False)
            assert await self.loop.sock_recv(peer, 1) == b'\x16'
            reset(peer)
            with pytest.raises((ConnectionResetError, ssl.SSLError)):
                await connecting

        self.run(main())


class _TestConnecting(Streams):

    def test_refused(self):
        async def main():
            with socket.socket() as sock:
                sock.bind(LOCAL)
                address = sock.getsockname()
                with pytest.raises(ConnectionRefusedError):
                    await self.connect(address)
            with pytest.raises(FileNotFoundError):
                await self.loop.create_unix_connection(Recorder, '/nonexistent/socket')
            assert not self.opened

        self.run(main())

    @pytest.mark.parametrize('how', ['cancelled', 'timeout'])
    def test_never_answered(self, how):
        async def main():
            with socket.socket() as listener:
                listener.bind(LOCAL)
                listener.listen(0)
                address = listener.getsockname()
                # What does not fit into the backlog is not answered.
                for _ in range(3):
                    filler = socket.socket()
                    filler.setblocking(False)
                    self.sockets.append(filler)
                    assert filler.connect_ex(address) == errno.EINPROGRESS
                if how == 'timeout':
                    with pytest.raises(asyncio.TimeoutError):
                        await asyncio.wait_for(self.connect(address), 0.05)
                else:
                    connecting = self.loop.create_task(self.connect(address))
                    await turns(20)
                    assert not connecting.done()
                    connecting.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await connecting
                assert not self.opened

        self.run(main())

    def test_client_factory_raises(self):
        def fail():
            raise ZeroDivisionError

        async def main():
            _, address = await self.serve(Echo)
            # asyncio leaves the socket to the collector, which complains.
            with warnings.catch_warnings():
                warnings.simplefilter('ignore', ResourceWarning)
                with pytest.raises(ZeroDivisionError):
                    await self.loop.create_connection(fail, *address)
                gc.collect()
            client = await self.connect(address)
            client.transport.write(b'x')
            await client.until_length(1)

        self.run(main())

    def test_server_factory_raises(self):
        def fail():
            if len(calls) == 0:
                calls.append('failed')
                raise ZeroDivisionError
            return Echo()

        async def main():
            self.loop.set_debug(True)       # or asyncio says nothing
            _, address = await self.serve(fail)
            with warnings.catch_warnings():
                warnings.simplefilter('ignore', ResourceWarning)
                with socket.create_connection(address) as peer:
                    peer.setblocking(False)
                    await turns_until(lambda: self.problems)
                    assert [problem['message'] for problem in self.problems] == [
                        'Error on transport creation for incoming connection']
                    assert isinstance(self.problems[0]['exception'], ZeroDivisionError)
                    self.problems.clear()
                    await turns()
                    gc.collect()
                    assert await self.loop.sock_recv(peer, 1) == b''
            client = await self.connect(address)
            client.transport.write(b'x')
            await client.until_length(1)

        calls = []
        self.run(main())

    def test_connection_made_raises_on_a_server(self):
        class Fails(Echo):
            def connection_made(self, transport):
                super().connection_made(transport)
                raise ZeroDivisionError

        async def main():
            _, address = await self.serve(Fails)
            for number in range(1, 3):
                client = await self.connect(address)
                client.transport.write(b'x')
                await client.until_length(1)
                assert [type(problem['exception']) for problem in self.problems] == [
                    ZeroDivisionError] * number

        self.run(main())

    def test_clients_gone_before_they_are_accepted(self):
        async def main():
            with socket.create_server(LOCAL) as listener:
                for _ in range(5):
                    reset(socket.create_connection(listener.getsockname()))
                server = await self.loop.create_server(self.kept(Echo), sock=listener.dup())
                self.servers.append(server)
                client = await self.connect(listener.getsockname())
                client.transport.write(b'x')
                await client.until_length(1)

        self.run(main())


OUT_OF_DESCRIPTORS = '''
    import asyncio, os, resource, sys
    from asyncio import constants, selector_events

    constants.ACCEPT_RETRY_DELAY = 0.05

    class Greeter(asyncio.Protocol):
        def connection_made(self, transport):
            transport.write(b'hello')
            transport.close()

    def report(loop, context):
        print(context['message'], context['exception'].errno, context['socket'].fileno() >= 0,
              flush=True)
        while hoard:
            os.close(hoard.pop())

    hoard = []

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(report)
        loop.call_later(10, os._exit, 1)
        # An accept that waits in the kernel keeps the limit that it was made with.
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, limit))
        server = await loop.create_server(Greeter, '127.0.0.1', 0)
        await asyncio.sleep(0)
        try:
            while True:
                hoard.append(os.open('/dev/null', os.O_RDONLY))
        except OSError:
            print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    if sys.argv[1] == 'uring':
        import uringloop
        loop = uringloop.new_event_loop(require_uring=True)
    else:
        loop = asyncio.SelectorEventLoop()
    loop.run_until_complete(main())
'''


class _TestSystem(Streams):

    def test_out_of_descriptors(self):
        child = subprocess.Popen(
            [sys.executable, '-c', textwrap.dedent(OUT_OF_DESCRIPTORS),
             'uring' if self.uring else 'asyncio'], stdout=subprocess.PIPE, text=True)
        try:
            port = int(child.stdout.readline())
            for number in range(3):
                with socket.create_connection(('127.0.0.1', port), timeout=5) as sock:
                    if number == 0:
                        assert child.stdout.readline() == (
                            f'socket.accept() out of system resource {errno.EMFILE} True\n')
                    assert sock.recv(5, socket.MSG_WAITALL) == b'hello'
        finally:
            child.kill()
            child.wait()
            child.stdout.close()

    def test_child_that_ignores_sigterm(self):
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

    def test_socket_closed_under_the_transport(self):
        async def main():
            one, peer = tcp_pair()
            self.sockets.append(peer)
            near = await self.open(one)
            one.close()
            near.transport.write(b'x')
            exc = await near.until_lost()
            assert isinstance(exc, OSError)
            assert exc.errno == errno.EBADF
            assert near.lost == [exc]

        self.run(main())

    def test_number_is_anothers_after_a_close_under_the_transport(self):
        """What is written then must not reach whoever has the descriptor's number now."""
        async def main():
            one, peer = tcp_pair()
            self.sockets.append(peer)
            near = await self.open(one)
            number = one.fileno()
            one.close()
            ends = socket.socketpair()
            self.sockets += ends
            assert number in [end.fileno() for end in ends], 'the lowest number free'
            near.transport.write(b'secret')
            await near.until_lost()
            await turns()
            for end in ends:
                end.setblocking(False)
                with pytest.raises(BlockingIOError):
                    end.recv(100)

        self.run(main())

    @both_kinds
    def test_loop_closed_with_open_connections(self, kind):
        async def main():
            one, peer = PAIRS[kind]()
            peer.settimeout(5)
            _, protocol = await self.loop.create_connection(Recorder, sock=one)
            protocol.transport.write(b'last words')
            await turns()
            return protocol, peer

        protocol, peer = self.loop.run_until_complete(main())
        self.loop.close()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            del protocol
            gc.collect()
        assert any('unclosed transport' in str(warning.message) for warning in caught)
        with peer:
            assert peer.recv(100) == b'last words'
            assert peer.recv(100) == b''

    def test_loop_closed_with_a_server(self):
        server, address = self.run(self.serve_only())
        self.loop.close()
        server.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)

    async def serve_only(self):
        server = await self.loop.create_server(Echo, *LOCAL)
        await turns()
        self.servers.clear()
        return server, server.sockets[0].getsockname()

    def test_another_thread(self):
        """The connections, paused or not, go on when the loop runs in another thread."""
        async def start():
            server = await self.loop.create_server(Echo, *LOCAL)
            address = server.sockets[0].getsockname()
            one, two = [
                (await self.loop.create_connection(Recorder, *address))[1] for _ in range(2)]
            one.transport.write(b'first')
            await one.until_length(5)
            two.transport.pause_reading()
            two.transport.write(b'later')
            await turns()
            return server, one, two

        async def go_on():
            one.transport.write(MANY_BYTES[:500_000])
            await one.until_length(500_005)
            two.transport.resume_reading()
            await two.until_length(5)
            _, three = await self.loop.create_connection(
                Recorder, *server.sockets[0].getsockname())
            three.transport.write(b'new')
            await three.until_length(3)
            assert (one.data[5:], two.data) == (MANY_BYTES[:500_000], b'later')
            one.data.clear()
            three.transport.close()
            await three.until_lost()

        async def end():
            one.transport.write(b'back')
            await one.until_length(4)
            server.close()
            for protocol in (one, two):
                protocol.transport.close()
                assert await protocol.until_lost() is None
            await turns()

        def work():
            try:
                self.loop.run_until_complete(asyncio.wait_for(go_on(), 5))
            except BaseException as exc:
                raised.append(exc)
                raise

        raised = []
        server, one, two = self.loop.run_until_complete(asyncio.wait_for(start(), 5))
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert not raised
        self.loop.run_until_complete(asyncio.wait_for(end(), 5))


class TestRing(Streams, UringCase):
    """What only this loop has."""

    def test_zerocopy_is_given_up_where_it_is_copied(self):
        async def main():
            near, peer = await self.half()
            near.transport.write(MANY_BYTES[:1_000_000])
            assert await self.read(peer, 1_000_000) == MANY_BYTES[:1_000_000]
            await turns_until(lambda: self.loop.stats().zerocopy_copied)
            before = self.loop.stats()
            assert before.zerocopy_sent >= before.zerocopy_copied
            near.transport.write(MANY_BYTES[:1_000_000])
            assert await self.read(peer, 1_000_000) == MANY_BYTES[:1_000_000]
            assert self.loop.stats().zerocopy_sent == before.zerocopy_sent
            # Nor does another connection to that host ask for it.
            _, address = await self.serve(Echo)
            client = await self.connect(address)
            client.transport.write(MANY_BYTES[:1_000_000])
            await client.until_length(1_000_000)
            assert self.loop.stats().zerocopy_sent == before.zerocopy_sent

        self.run(main())

    @both_kinds
    def test_mutable_and_unix_data_do_not_ask_for_zerocopy(self, kind):
        async def main():
            near, peer = await self.half(kind=kind)
            near.transport.write(MANY_BYTES[:10])
            if kind == 'unix':
                near.transport.write(MANY_BYTES[:1_000_000])
                await self.read(peer, 1_000_010)
            else:
                await self.read(peer, 10)
            assert self.loop.stats().zerocopy_sent == 0

        self.run(main())

    def test_idle_connections_cost_nothing(self):
        async def main():
            for _ in range(1000):
                await self.half(kind='unix')
            await turns(10)
            before = self.loop.stats()
            assert before.operations_in_flight >= 1000
            await turns(50)
            after = self.loop.stats()
            assert after.syscalls == before.syscalls
            assert after.submissions == before.submissions

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4096, hard)), hard))
        try:
            self.run(main())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_paused_connection_leaves_the_data_in_the_socket(self):
        """A paused transport must not go on filling memory: the sender has to block."""
        async def main():
            near, peer = await self.half()
            near.transport.pause_reading()
            await turns()
            sent = 0
            while select.select([], [peer], [], 0)[1]:
                sent += peer.send(bytes(100_000))
                await turns(2)
            received = self.loop.stats().bytes_pinned
            assert received == 0
            near.transport.resume_reading()
            await near.until_length(sent)

        self.run(main())


both_sides(globals(), _TestPeers, _TestConnecting, _TestSystem)
