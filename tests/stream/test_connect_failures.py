"""Connections that are not made: refused, unanswered, cancelled, factories that raise."""
import asyncio
import contextlib
import errno
import gc
import socket
import warnings

import pytest

from tests.support.cases import both_sides
from tests.support.sockets import LOCAL, reset
from tests.support.streams import Echo, Recorder, Streams
from tests.support.turns import turns, turns_until


class _TestRefusals(Streams):

    @pytest.mark.parametrize('host', ['127.0.0.1', 'localhost'])
    def test_a_refusal_names_the_call(self, host):
        async def main():
            with socket.create_server(LOCAL) as listening:
                port = listening.getsockname()[1]
            with pytest.raises(ConnectionRefusedError, match='Connect call failed') as caught:
                await self.loop.create_connection(Recorder, host, port, family=socket.AF_INET)
            with pytest.raises(ConnectionRefusedError) as short:
                await self.loop.create_connection(Recorder, '127.0.0.1', port)
            assert str(short.value) == str(caught.value)

        self.run(main())

    @pytest.mark.parametrize('port', [-1, 65536])
    def test_a_bad_port_is_refused(self, port):
        async def main():
            with pytest.raises(OverflowError, match=r'connect\(\): port must be 0-65535'):
                await self.loop.create_connection(Recorder, '127.0.0.1', port)

        self.run(main())

    def test_an_exception_of_the_factory_comes_out(self):
        async def main():
            with socket.create_server(LOCAL) as listening:
                with pytest.raises(ZeroDivisionError):
                    await self.loop.create_connection(lambda: 1 // 0, *listening.getsockname())

        with warnings.catch_warnings():
            warnings.simplefilter('ignore', ResourceWarning)
            self.run(main())
            gc.collect()

    @pytest.mark.parametrize('begun_by', ['the loop', 'the program'])
    def test_a_connection_in_progress_is_waited_for(self, begun_by):
        """Until the kernel asks again, after a second."""
        async def main():
            with socket.socket() as listening, contextlib.ExitStack() as stack:
                listening.bind(LOCAL)
                listening.listen(0)
                listening.setblocking(False)
                address = listening.getsockname()
                fillers = [stack.enter_context(socket.socket()) for _ in range(2)]
                for filler in fillers:
                    filler.setblocking(False)
                    filler.connect_ex(address)
                sock = stack.enter_context(socket.socket())
                sock.setblocking(False)
                if begun_by == 'the program':
                    assert sock.connect_ex(address) == errno.EINPROGRESS
                else:
                    first = self.loop.create_task(self.loop.sock_connect(sock, address))
                    await turns(20)
                    first.cancel()
                    await asyncio.wait([first])
                connecting = self.loop.create_task(self.loop.sock_connect(sock, address))
                await turns(20)
                assert not connecting.done()
                while not connecting.done():
                    accepted, _ = await self.loop.sock_accept(listening)
                    stack.enter_context(accepted)
                    if accepted.getpeername() == sock.getsockname():
                        await connecting
                assert sock.getpeername() == address

        self.run(main())

    def test_connected_once_more(self):
        """One that is connected, or was refused, is what ``connect`` says of it."""
        async def main():
            with socket.create_server(LOCAL) as listening, socket.socket() as sock:
                address = listening.getsockname()
                sock.setblocking(False)
                await self.loop.sock_connect(sock, address)
                await self.loop.sock_connect(sock, address)     # it begins, and is done
                with pytest.raises(OSError) as caught:
                    await self.loop.sock_connect(sock, address)
                assert caught.value.errno == errno.EISCONN
            with socket.socket() as sock:
                sock.setblocking(False)
                for number in (errno.ECONNREFUSED, errno.ECONNABORTED, errno.ECONNREFUSED):
                    with pytest.raises(OSError) as caught:
                        await self.loop.sock_connect(sock, address)
                    assert caught.value.errno == number

        self.run(main())

    def test_a_unix_listener_without_room(self):
        """There is nothing to wait for; the socket is not connected."""
        async def main():
            with socket.socket(socket.AF_UNIX) as listening, contextlib.ExitStack() as stack:
                listening.bind('')
                listening.listen(0)
                connected = []
                for _ in range(3):
                    sock = stack.enter_context(socket.socket(socket.AF_UNIX))
                    sock.setblocking(False)
                    await self.loop.sock_connect(sock, listening.getsockname())
                    try:
                        sock.getpeername()
                    except OSError as exc:
                        connected.append(exc.errno)
                    else:
                        connected.append(0)
                assert connected == [0, errno.ENOTCONN, errno.ENOTCONN]

        self.run(main())

    def test_cancelled_while_connecting(self):
        async def main():
            # A full backlog: the handshake is not answered.
            with socket.socket() as listening, contextlib.ExitStack() as stack:
                listening.bind(LOCAL)
                listening.listen(0)
                for _ in range(3):
                    filler = stack.enter_context(socket.socket())
                    filler.setblocking(False)
                    filler.connect_ex(listening.getsockname())
                task = self.loop.create_task(
                    self.loop.create_connection(Recorder, *listening.getsockname()))
                await turns(20)
                assert not task.done()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        self.run(main())


class _TestFailures(Streams):

    def test_refused_makes_no_protocol(self):
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
    def test_never_answered_makes_no_protocol(self, how):
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

    def test_a_client_factory_that_raises_harms_no_other(self):
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

    def test_a_server_factory_that_raises_is_reported(self):
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

    def test_connection_made_that_raises_is_reported(self):
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

    def test_clients_gone_before_they_are_accepted_harm_no_other(self):
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


both_sides(globals(), _TestRefusals, _TestFailures)
