"""What passes through a TLS connection, message by message, and what is told of it."""
import asyncio
import gc
import ssl
import sys
import warnings
import weakref

import pytest

from tests.support.cases import UringCase, both_sides
from tests.support.streams import MANY_BYTES, Buffered, BufferedEcho, Echo, Recorder, Streams
from tests.support.tls import older_tls_warns

newer_tls = pytest.mark.skipif(sys.version_info < (3, 11), reason='its TLS is another')
pytestmark = older_tls_warns


class InView:
    """asyncio fills the rest of a buffer by way of a slice, which must not be a copy."""

    def get_buffer(self, sizehint):
        return memoryview(self.buffer)


class Buffers(InView, Buffered):
    pass


class EchoesBuffer(InView, BufferedEcho):
    pass


class Tls(Streams):

    async def tls_pair(self, contexts, near=Recorder, far=Echo):
        """The client's and the server's protocol of a connection."""
        made = []

        def make():
            made.append(far())
            return made[-1]

        _, address = await self.serve(make, ssl=contexts[0])
        client = await self.connect(address, near, ssl=contexts[1])
        while not made or made[0].transport is None:
            await asyncio.sleep(0)
        return client, made[0]


class _TestRecords(Tls):

    @pytest.mark.parametrize('version', ['TLSv1_2', 'TLSv1_3'])
    @pytest.mark.parametrize(('near', 'far'), [
        (Recorder, Echo), (Buffers, EchoesBuffer), (Recorder, EchoesBuffer)])
    def test_every_length_comes_back(self, contexts, version, near, far):
        async def main():
            contexts[0].maximum_version = getattr(ssl.TLSVersion, version)
            client, _ = await self.tls_pair(contexts, near, far)
            sent = 0
            for length in (1, 1000, 16384, 16385, 65536, 300_000, 2):
                client.transport.write(MANY_BYTES[sent:sent + length])
                sent += length
                await client.until_length(sent)
            assert client.data == MANY_BYTES[:sent]
            client.transport.close()
            assert await client.until_lost() is None

        self.run(main())

    def test_every_kind_of_bytes_is_taken_as_it_is_at_the_call(self, contexts):
        async def main():
            client, _ = await self.tls_pair(contexts)
            changed = bytearray(b'before')
            client.transport.write(changed)
            changed[:] = b'after.'
            client.transport.write(memoryview(b' and'))
            client.transport.writelines([b' then', bytearray(b' more'), memoryview(b'!')])
            client.transport.write(b'')
            await client.until_length(21)
            assert client.data == b'before and then more!'
            with pytest.raises(TypeError, match='expecting a bytes-like instance, got str'):
                client.transport.write('text')

        self.run(main())

    def test_a_reader_that_pauses_stops_the_writer(self, contexts):
        async def main():
            client, server = await self.tls_pair(contexts, far=Recorder)
            client.transport.pause_reading()
            sent = 0
            # Every write is at least what both sockets and the records' memory may hold.
            while 'pause' not in server.calls:
                server.transport.write(MANY_BYTES)
                sent += len(MANY_BYTES)
            assert not client.data
            assert server.transport.get_write_buffer_size() > 0
            client.transport.resume_reading()
            await client.until_length(sent)
            await server.until(lambda: 'resume' in server.calls)
            assert bytes(client.data) == MANY_BYTES * (sent // len(MANY_BYTES))
            assert server.calls.count('pause') == server.calls.count('resume')

        self.run(main())

    def test_what_is_paused_within_a_message_waits(self, contexts):
        class Sips(Recorder):
            def received(self, data):
                super().received(data)
                self.transport.pause_reading()
                loop.call_soon(self.transport.resume_reading)

        async def main():
            nonlocal loop
            loop = asyncio.get_running_loop()
            client, _ = await self.tls_pair(contexts, Sips)
            for k in range(50):
                client.transport.write(MANY_BYTES[k * 1000:k * 1000 + 1000])
                await asyncio.sleep(0)
            await client.until_length(50_000)
            assert client.data == MANY_BYTES[:50_000]

        loop = None
        self.run(main())

    def test_another_protocol_of_the_transport_below(self, contexts):
        """Nobody else may hold the one that is at work."""
        class Leaves(Recorder):
            def received(self, data):
                below = self.transport._ssl_protocol._transport
                protocol = weakref.ref(self.transport._ssl_protocol)
                below.set_protocol(Recorder())
                self.transport = None
                gc.collect()
                self.alive = protocol() is not None
                below.abort()

        async def main():
            near, far = await self.pair(Leaves, Recorder)
            far.transport, near.transport = await asyncio.gather(
                self.loop.start_tls(far.transport, far, contexts[0], server_side=True),
                self.loop.start_tls(near.transport, near, contexts[1],
                                    server_hostname='127.0.0.1'))
            far.transport.write(b'answer')
            await far.until_lost()
            assert near.alive
            near.lost.append(None)       # it is told of nothing more

        with warnings.catch_warnings():
            warnings.simplefilter('ignore', ResourceWarning)
            self.run(main())
            gc.collect()

    @newer_tls
    @pytest.mark.parametrize('limits', [
        {}, {'high': 1 << 70}, {'high': 1000.5}, {'high': float('inf'), 'low': 0}])
    def test_limits_are_numbers_of_any_kind(self, contexts, limits):
        async def main():
            client, _ = await self.tls_pair(contexts)
            client.transport.set_write_buffer_limits(**limits)
            client.transport._ssl_protocol._set_read_buffer_limits(**limits)
            client.transport.write(MANY_BYTES[:100_000])
            await client.until_length(100_000)
            if 'high' in limits:
                assert client.transport.get_write_buffer_limits()[1] == limits['high']
            assert client.calls.count('pause') == client.calls.count('resume')

        self.run(main())

    @pytest.mark.parametrize('ending', ['close', 'abort'])
    def test_ended_while_it_is_told_of_data(self, contexts, ending):
        class Ends(Recorder):
            def received(self, data):
                super().received(data)
                getattr(self.transport, ending)()

        async def main():
            client, server = await self.tls_pair(contexts, far=Ends)
            client.transport.write(b'question')
            await server.until_lost()
            await client.until_lost()
            assert server.data == b'question'
            assert server.lost == [None]
            # What is written to what is closed goes nowhere, without a word.
            server.transport.write(b'too late')

        self.run(main())

    @newer_tls
    def test_a_protocol_that_raises_loses_its_connection(self, contexts):
        class Raises(Recorder):
            def received(self, data):
                super().received(data)
                raise ZeroDivisionError

        async def main():
            told = []
            self.loop.set_exception_handler(lambda loop, context: told.append(context))
            client, server = await self.tls_pair(contexts, far=Raises)
            client.transport.write(b'data')
            assert type(await server.until_lost()) is ZeroDivisionError
            await client.until_lost()
            assert [context['message'] for context in told] == ['Fatal error on SSL protocol']
            assert type(told[0]['exception']) is ZeroDivisionError

        self.run(main())

    def test_a_record_that_is_none(self, contexts):
        async def main():
            told = []
            self.loop.set_exception_handler(lambda loop, context: told.append(context))
            client, server = await self.tls_pair(contexts)
            server.transport._ssl_protocol._transport.write(b'this is no record at all')
            await client.until_lost()
            assert isinstance(client.lost[0], ssl.SSLError)
            assert not client.data
            await server.until_lost()

        self.run(main())

    @newer_tls
    def test_the_end_comes_after_the_data(self, contexts):
        class SaysAndCloses(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                transport.write(MANY_BYTES[:100_000])
                transport.close()

        async def main():
            client, server = await self.tls_pair(contexts, far=SaysAndCloses)
            await client.until_lost()
            assert client.data == MANY_BYTES[:100_000]
            assert client.calls[-2:] == ['eof', 'lost']
            assert await server.until_lost() is None

        self.run(main())

    @newer_tls
    def test_tls_within_tls(self, contexts):
        async def main():
            client, server = await self.tls_pair(contexts)
            inner = await asyncio.gather(
                self.loop.start_tls(server.transport, server, contexts[0], server_side=True),
                self.loop.start_tls(client.transport, client, contexts[1],
                                    server_hostname='127.0.0.1'))
            server.transport, client.transport = inner
            client.transport.write(MANY_BYTES[:1_000_000])
            await client.until_length(1_000_000)
            assert client.data == MANY_BYTES[:1_000_000]
            client.transport.close()
            await client.until_lost()
            await server.until_lost()

        self.run(main())

    def test_start_tls_says_what_it_cannot_do(self, contexts):
        async def main():
            client, server = await self.tls_pair(contexts)
            with pytest.raises(TypeError, match='sslcontext is expected to be an instance of'):
                await self.loop.start_tls(client.transport, client, None)
            with pytest.raises(TypeError, match=r'is not supported by start_tls\(\)'):
                await self.loop.start_tls(object(), client, contexts[1])
            with pytest.raises(TypeError, match='sslcontext is expected to be an instance of'):
                await self.loop.start_tls(client.transport, client, server)

        self.run(main())


class TestMemory(Tls, UringCase):

    @newer_tls
    def test_a_connection_has_no_memory_of_its_own_to_receive_into(self, contexts):
        async def main():
            client, _ = await self.tls_pair(contexts)
            client.transport.write(MANY_BYTES[:100_000])
            await client.until_length(100_000)
            assert len(client.transport._ssl_protocol._ssl_buffer) == 0

        self.run(main())


both_sides(globals(), _TestRecords)
