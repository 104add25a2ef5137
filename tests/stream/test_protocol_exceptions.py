"""Exceptions of stream protocols: which are the connection's end, and which are reported."""
import pytest

from tests.support.cases import both_sides
from tests.support.streams import MANY_BYTES, Buffered, Recorder, Streams
from tests.support.turns import turns


class _TestRaising(Streams):

    @pytest.mark.parametrize('base, method', [
        (Recorder, 'data_received'), (Buffered, 'get_buffer'), (Buffered, 'buffer_updated')])
    def test_receiving_that_raises_is_fatal(self, base, method):
        def fail(self, argument):
            raise ZeroDivisionError

        async def main():
            near, peer = await self.half(type('Fails', (base,), {method: fail}))
            near.transport.write(b'dropped or not')
            await self.loop.sock_sendall(peer, b'x')
            assert isinstance(await near.until_lost(), ZeroDivisionError)
            assert near.calls == ['made', 'lost']
            assert [problem['message'] for problem in self.problems] == [
                f'Fatal error: protocol.{method}() call failed.']
            assert self.problems[0]['transport'] is near.transport
            assert near.transport.is_closing()

        self.run(main())

    def test_an_empty_buffer_is_fatal(self):
        class Empty(Buffered):
            size = 0

        async def main():
            near, peer = await self.half(Empty)
            await self.loop.sock_sendall(peer, b'x')
            assert isinstance(await near.until_lost(), RuntimeError)
            assert len(self.problems) == 1

        self.run(main())

    def test_a_new_protocol_that_raises_is_fatal(self):
        class Fails(Recorder):
            def data_received(self, data):
                raise ZeroDivisionError

        class Header(Buffered):
            size = 4

            def received(self, data):
                self.transport.set_protocol(body)

        async def main():
            near, peer = await self.half(Header)
            self.opened.append(body)
            self.opened.remove(near)
            body.transport = near.transport
            await self.loop.sock_sendall(peer, b'headbody')
            assert isinstance(await body.until_lost(), ZeroDivisionError)
            assert body.transport.is_closing()
            assert [problem['message'] for problem in self.problems] == [
                'Fatal error: protocol.data_received() call failed.']

        body = Fails()
        self.run(main())

    @pytest.mark.parametrize('method', ['pause_writing', 'resume_writing'])
    def test_flow_control_that_raises_is_reported(self, method):
        def fail(self):
            self.note(method)
            raise ZeroDivisionError

        async def main():
            near, peer = await self.half(type('Fails', (Recorder,), {method: fail}))
            near.transport.write(MANY_BYTES)
            assert await self.read(peer, len(MANY_BYTES)) == MANY_BYTES
            await near.until(lambda: method in near.calls)
            assert [problem['message'] for problem in self.problems] == [
                f'protocol.{method}() failed']
            assert not near.transport.is_closing()

        self.run(main())

    def test_connection_made_that_raises_is_reported(self):
        class Fails(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                raise ZeroDivisionError

        async def main():
            near, peer = await self.half(Fails)
            assert [type(problem['exception']) for problem in self.problems] == [
                ZeroDivisionError]
            await self.loop.sock_sendall(peer, b'x')
            await near.until_length(1)
            near.transport.close()
            assert await near.until_lost() is None

        self.run(main())

    def test_connection_lost_that_raises_is_reported(self):
        class Fails(Recorder):
            def connection_lost(self, exc):
                super().connection_lost(exc)
                raise ZeroDivisionError

        async def main():
            near, peer = await self.half(Fails)
            near.transport.close()
            await near.until_lost()
            await turns()
            assert [type(problem['exception']) for problem in self.problems] == [
                ZeroDivisionError]
            assert await self.loop.sock_recv(peer, 1) == b''

        self.run(main())


both_sides(globals(), _TestRaising)
