"""anyio on this loop, by its ``loop_factory``: its sockets, threads, processes, signals."""
import asyncio
import os
import signal
import threading

import anyio
import anyio.from_thread
import anyio.to_process
import anyio.to_thread
import pytest
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSStream

import uringloop
from tests.support.cases import assert_no_leaks
from tests.support.sockets import LOCAL

HOST = LOCAL[0]


def run(main):
    """Run it by anyio; returns what it does."""
    loops = []

    def factory():
        loops.append(uringloop.new_event_loop(require_uring=True))
        return loops[-1]

    async def bounded():
        assert asyncio.get_running_loop() is loops[0]
        with anyio.fail_after(5):
            return await main()

    result = anyio.run(bounded, backend='asyncio', backend_options={'loop_factory': factory})
    assert_no_leaks(loops[0])
    return result


class TestDatagrams:

    def test_sent_and_received(self):
        async def main():
            async with await anyio.create_udp_socket(local_host=HOST) as one, \
                    await anyio.create_udp_socket(local_host=HOST) as two:
                address = one.extra(SocketAttribute.local_address)
                for payload in (b'1', b'x' * 60_000):
                    await two.sendto(payload, *address)
                    assert await one.receive() == (
                        payload, two.extra(SocketAttribute.local_address))

        run(main)

    def test_to_a_connected_peer_and_back(self):
        async def main():
            async with await anyio.create_udp_socket(local_host=HOST) as server, \
                    await anyio.create_connected_udp_socket(
                        *server.extra(SocketAttribute.local_address)) as client:
                for number in range(100):
                    await client.send(b'%d' % number)
                got = [(await server.receive())[0] for _ in range(100)]
                assert got == [b'%d' % number for number in range(100)]
                await server.sendto(b'back', *client.extra(SocketAttribute.local_address))
                assert await client.receive() == b'back'

        run(main)

    def test_receiving_is_cancelled_and_goes_on(self):
        async def main():
            async with await anyio.create_udp_socket(local_host=HOST) as one:
                with anyio.move_on_after(0.01) as scope:
                    await one.receive()
                assert scope.cancelled_caught
                await one.sendto(b'1', *one.extra(SocketAttribute.local_address))
                assert (await one.receive())[0] == b'1'

        run(main)

    def test_closing_wakes_who_receives(self):
        async def main():
            one = await anyio.create_udp_socket(local_host=HOST)

            async def wait():
                with pytest.raises(anyio.ClosedResourceError):
                    await one.receive()

            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                await one.aclose()

        run(main)

    def test_of_the_unix_family(self, tmp_path):
        async def main():
            here, there = str(tmp_path / 'one'), str(tmp_path / 'two')
            async with await anyio.create_unix_datagram_socket(local_path=here) as one, \
                    await anyio.create_connected_unix_datagram_socket(
                        here, local_path=there) as two:
                await two.send(b'there')
                assert await one.receive() == (b'there', there)
                await one.sendto(b'back', there)
                assert await two.receive() == b'back'

        run(main)


class TestStreams:

    async def through(self, listener, connect, wrap=None):
        """A mebibyte to a server that sends it back, and is told of the end."""
        content = os.urandom(1 << 20)

        async def echo(stream):
            if wrap:
                stream = await wrap(stream)
            async with stream:
                async for chunk in stream:
                    await stream.send(chunk)

        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            async with await connect() as stream:
                group.start_soon(stream.send, content)
                back = b''
                while len(back) < len(content):
                    back += await stream.receive()
                assert back == content
                if not wrap:
                    await stream.send_eof()
                    with pytest.raises(anyio.EndOfStream):
                        await stream.receive()
            group.cancel_scope.cancel()
        await listener.aclose()

    def test_tcp(self):
        async def main():
            listener = await anyio.create_tcp_listener(local_host=HOST)
            port = listener.extra(SocketAttribute.local_port)
            await self.through(listener, lambda: anyio.connect_tcp(HOST, port))

        run(main)

    def test_unix(self, tmp_path):
        async def main():
            listener = await anyio.create_unix_listener(tmp_path / 'socket')
            await self.through(listener, lambda: anyio.connect_unix(tmp_path / 'socket'))

        run(main)

    def test_tls(self, contexts):
        server, client = contexts

        async def main():
            listener = await anyio.create_tcp_listener(local_host=HOST)
            port = listener.extra(SocketAttribute.local_port)
            await self.through(
                listener, lambda: anyio.connect_tcp(HOST, port, ssl_context=client),
                lambda stream: TLSStream.wrap(stream, server_side=True, ssl_context=server))

        run(main)

    def test_nobody_listens(self):
        async def main():
            async with await anyio.create_tcp_listener(local_host=HOST) as listener:
                port = listener.extra(SocketAttribute.local_port)
            with pytest.raises(OSError):
                await anyio.connect_tcp(HOST, port)

        run(main)


class TestTheRest:

    def test_threads(self):
        def in_thread():
            return anyio.from_thread.run(anyio.sleep, 0), threading.current_thread()

        async def main():
            return await anyio.to_thread.run_sync(in_thread)

        assert run(main)[1] is not threading.current_thread()

    def test_from_a_thread_of_the_programs_own(self):
        """A portal: the loop is in that thread, and callers are here."""
        options = {'loop_factory': lambda: uringloop.new_event_loop(require_uring=True)}
        with anyio.from_thread.start_blocking_portal('asyncio', options) as portal:
            assert type(portal.call(asyncio.get_running_loop)) is uringloop.Loop
            assert portal.start_task_soon(anyio.sleep, 0).result(5) is None

    def test_processes(self):
        async def main():
            done = await anyio.run_process(['cat'], input=b'through')
            async with await anyio.open_process(['sh', '-c', 'read line; exit 3']) as process:
                await process.stdin.send(b'\n')
                return done.stdout, await process.wait()

        assert run(main) == (b'through', 3)

    def test_a_worker_process(self):
        async def main():
            return await anyio.to_process.run_sync(os.getpid)

        assert run(main) not in (None, os.getpid())

    def test_signals(self):
        async def main():
            with anyio.open_signal_receiver(signal.SIGUSR1) as signals:
                os.kill(os.getpid(), signal.SIGUSR1)
                return await signals.__anext__()

        assert run(main) == signal.SIGUSR1

    def test_descriptors_that_are_waited_for(self):
        async def main():
            reader, writer = os.pipe()
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(anyio.wait_readable, reader)
                    await anyio.wait_all_tasks_blocked()
                    os.write(writer, b'1')
            finally:
                os.close(reader)
                os.close(writer)

        run(main)
