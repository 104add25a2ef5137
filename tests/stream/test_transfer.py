"""What is written arrives: any size, any buffer, whole and in order."""
import array
import asyncio
import os
import random
import socket
import sys

import pytest

from tests.support.cases import Case, FallbackMixin, UringCase, both_sides
from tests.support.streams import (
    MANY_BYTES,
    Buffered,
    BufferedEcho,
    Echo,
    Recorder,
    Streams,
    both_kinds,
)
from tests.support.turns import turns

SIZES = [1, 100, 4096, 65_537, 1_000_003, 5_000_000]


class _TestTransfer(Streams):

    @both_kinds
    @pytest.mark.parametrize('size', SIZES)
    @pytest.mark.parametrize('factories', [(Recorder, Echo), (Buffered, BufferedEcho)])
    def test_any_size_is_echoed(self, kind, size, factories):
        async def main():
            near, far = await self.pair(*factories, kind=kind)
            near.transport.write(MANY_BYTES[:size])
            await near.until_length(size)
            assert near.data == MANY_BYTES[:size]
            assert far.data == MANY_BYTES[:size]
            assert near.transport.get_write_buffer_size() == 0

        self.run(main())

    @both_kinds
    def test_many_small_writes_arrive(self, kind):
        async def main():
            near, far = await self.pair(kind=kind)
            for start in range(0, 20_000, 10):
                near.transport.write(MANY_BYTES[start:start + 10])
                if start % 700 == 0:
                    await asyncio.sleep(0)
            await far.until_length(20_000)
            assert far.data == MANY_BYTES[:20_000]

        self.run(main())

    @both_kinds
    def test_mixed_sizes_keep_their_order(self, kind):
        async def main():
            near, far = await self.pair(kind=kind)
            sizes, start = random.Random(3), 0
            while start < 3_000_000:
                step = sizes.choice((1, 10, 1000, 20_000, 100_000, 300_000))
                near.transport.write(MANY_BYTES[start:start + step])
                start += step
                if step == 1:
                    await asyncio.sleep(0)
            await far.until_length(start)
            assert far.data == MANY_BYTES[:start]

        self.run(main())

    def test_views_arrive_as_bytes(self):
        async def main():
            near, far = await self.pair()
            numbers = array.array('I', range(1000))
            near.transport.write(memoryview(numbers))
            near.transport.write(memoryview(MANY_BYTES)[5:3000])
            expected = numbers.tobytes() + MANY_BYTES[5:3000]
            await far.until_length(len(expected))
            assert far.data == expected

        self.run(main())

    @both_kinds
    def test_writelines_takes_any_iterable(self, kind):
        async def main():
            near, far = await self.pair(kind=kind)
            pieces = [MANY_BYTES[start:start + 1000] for start in range(0, 300_000, 1000)]
            near.transport.writelines(iter(pieces))
            near.transport.writelines([b'', bytearray(b'a'), memoryview(b'bc'), b''])
            near.transport.writelines([])
            near.transport.write(b'd')
            await far.until_length(300_004)
            assert far.data == MANY_BYTES[:300_000] + b'abcd'

        self.run(main())

    def test_bad_data_is_refused(self):
        async def main():
            near, far = await self.pair()
            for bad in ('text', 1, None, [b'list']):
                with pytest.raises(TypeError):
                    near.transport.write(bad)
            # In asyncio of Python 3.15 what came before the error stays, and nobody sends it.
            if self.uring or sys.version_info < (3, 15):
                with pytest.raises(TypeError):
                    near.transport.writelines([b'x', 'text'])
            near.transport.write(b'')
            near.transport.write(b'good')
            await far.until_length(4)
            # 3.12's writelines() keeps what came before the bad one.
            assert far.data.endswith(b'good')
            if self.uring:
                assert far.data == b'good'

        self.run(main())

    def test_another_protocol_takes_over(self):
        async def main():
            near, far = await self.pair()
            other, buffered = Recorder(), Buffered()
            near.transport.write(b'one')
            await far.until_length(3)
            far.transport.set_protocol(other)
            assert far.transport.get_protocol() is other
            near.transport.write(b'two')
            await other.until_length(3)
            far.transport.set_protocol(buffered)
            near.transport.write(b'three')
            await buffered.until_length(5)
            far.transport.set_protocol(far)
            near.transport.write(b'four')
            await far.until_length(7)
            assert (far.data, other.data, buffered.data) == (b'onefour', b'two', b'three')
            far.transport.set_protocol(other)
            near.transport.close()
            assert await other.until_lost() is None
            assert not far.lost
            self.opened.remove(far)

        self.run(main())

    def test_another_protocol_takes_over_within_a_receive(self):
        class Header(Buffered):
            size = 4

            def received(self, data):
                super().received(data)
                self.transport.set_protocol(body)

        async def main():
            near, far = await self.pair(far=Header)
            near.transport.write(b'headbody')
            await body.until_length(4)
            assert (far.data, body.data) == (b'head', b'body')
            far.transport.set_protocol(far)

        body = Recorder()
        self.run(main())


class TestMutableData(Streams, UringCase):
    """asyncio keeps a view of what the socket has not taken; here the caller may go on."""

    @both_kinds
    @pytest.mark.parametrize('size', [10, 1_000_000])
    def test_mutable_data_is_the_callers_at_once(self, kind, size):
        async def main():
            near, far = await self.pair(kind=kind)
            for wrap in (bytes, memoryview):
                data = bytearray(MANY_BYTES[:size])
                near.transport.write(data if wrap is bytes else wrap(data))
                data[:] = bytes(size)
            data = bytearray(MANY_BYTES[:size])
            near.transport.writelines([data, memoryview(data)])
            data[:] = bytes(size)
            data.clear()        # nothing may hold an export of it
            await far.until_length(4 * size)
            assert far.data == 4 * MANY_BYTES[:size]

        self.run(main())


class _TestDescriptors(Streams):

    @pytest.mark.parametrize('how', ['create_connection', 'create_unix_connection',
                                     'connect_accepted_socket'])
    def test_what_the_program_sends_itself_comes_between_writes(self, how):
        """By the Unix socket it has made: that is how descriptors are passed."""
        async def main():
            ours, peer = socket.socketpair()
            peer.setblocking(False)
            make = getattr(self.loop, how)
            given = {'sock': ours} if how != 'connect_accepted_socket' else {}
            transport, _ = await make(self.kept(Recorder), *([] if given else [ours]), **given)
            for _ in range(3):
                for n in range(6):
                    transport.write(b'%d ' % n)
                socket.send_fds(ours, [b'file '], [0])
                transport.write(b'end')
                await turns()
                data = b''
                while not data.endswith(b'end'):
                    part, passed, _, _ = socket.recv_fds(peer, 1000, 5)
                    for fd in passed:
                        os.close(fd)
                    data += part
                assert data == b'0 1 2 3 4 5 file end'
            peer.close()

        self.run(main())


class _TestDribbling(Streams):

    @pytest.mark.parametrize('factory', [Recorder, Buffered])
    def test_each_byte_comes_by_itself(self, factory):
        async def main():
            near, peer = await self.half(factory)
            for length in range(1, 301):
                await self.loop.sock_sendall(peer, MANY_BYTES[length - 1:length])
                await near.until_length(length)
            assert near.data == MANY_BYTES[:300]
            assert near.calls.count('data') == 300

        self.run(main())


class _TestWrites(Case):

    timeout = 20.0

    @pytest.mark.parametrize('kind', [bytes, bytearray])
    def test_part_of_a_buffer_waits_as_it_was(self, kind):
        """What the socket does not take is the rest of the view, as it was at the call."""
        async def main():
            near, far = socket.socketpair()
            with far:
                far.setblocking(False)
                transport, _ = await self.loop.create_connection(asyncio.Protocol, sock=near)
                sent = bytearray()
                for i in range(200):
                    data = kind(b'<%04d' % i * 1000 + b'not this')
                    view = memoryview(data)[:5000]
                    sent += view
                    transport.write(view)
                    if kind is bytearray:
                        data[:] = bytes(len(data))
                    await asyncio.sleep(0)         # so that it is no bulk
                assert transport.get_write_buffer_size()
                received = bytearray()
                while len(received) < len(sent):
                    received += await self.loop.sock_recv(far, 1 << 16)
                assert received == sent
                transport.close()
                await turns(3)

        if not self.uring and kind is bytearray and sys.version_info >= (3, 12):
            pytest.skip('asyncio sends what the buffer holds by then')
        self.run(main())

    def test_a_write_has_left_at_the_call(self):
        """A peer that is read by blocking calls, in the same callback."""
        async def main():
            listening = socket.create_server(('127.0.0.1', 0))
            transport, _ = await self.loop.create_connection(
                asyncio.Protocol, *listening.getsockname())
            peer = listening.accept()[0]
            peer.settimeout(5)
            for i in range(20):
                transport.write(b'%02d' % i)
                assert peer.recv(100) == b'%02d' % i
                await asyncio.sleep(0)
            transport.close()
            peer.close()
            listening.close()
            await turns(5)

        self.run(main())


class _TestItems(Streams):

    def test_writelines_takes_items_of_more_than_bytes(self):
        """Buffers whose items are not bytes are written as the bytes they are."""
        async def main():
            near, peer = await self.half()
            numbers = array.array('i', range(100))
            near.transport.writelines([b'<', numbers, memoryview(numbers)[::], b'>'])
            near.transport.close()
            assert await self.read_all(peer) == b'<' + 2 * numbers.tobytes() + b'>'

        self.run(main())


class _Leases(Streams):

    def test_after_the_end(self):
        """Nobody is there to have it, as with bytes."""
        async def main():
            near, peer = await self.half()
            near.transport.close()
            await near.until_lost()
            with self.loop.create_buffer_pool(1, 100).acquire_nowait() as lease:
                near.transport.write(lease)
            peer.close()

        self.run(main())


class TestLeases(_Leases, UringCase):

    def test_writelines_with_one_that_was_released(self):
        """Nothing of it is written, nor later."""
        async def main():
            near, peer = await self.half()
            pool = self.loop.create_buffer_pool(1, 100)
            with pool.acquire_nowait() as lease:
                view = memoryview(lease)
            with pytest.raises(ValueError, match='was released'):
                near.transport.writelines([b'head', view])
            assert near.transport.get_write_buffer_size() == 0
            near.transport.write(b'next')
            near.transport.close()
            assert await self.read_all(peer) == b'next'

        self.run(main())


class TestLeasesOfTheFallback(_Leases, FallbackMixin, Case):
    pass


both_sides(globals(), _TestTransfer, _TestDescriptors, _TestDribbling, _TestWrites, _TestItems)
