"""Datagram endpoints of trio's tasks: batches, backpressure, cancelling, errors, their end."""
import asyncio
import contextlib
import errno
import os

import pytest
import trio
import trio.testing

from tests.support.cases import ASYNCIO_PAUSES
from tests.support.features import needs_feature
from tests.support.hosting import Hosted, turns, turns_until
from tests.support.namespaces import needs_root
from tests.support.sockets import LOCAL, bound, deserted, unix_pair
from uringloop import SendReport
from uringloop.trio import open_datagram_endpoint
from uringloop.trio.endpoint import Inbox

LONGEST_BATCH = 256


async def received(endpoint, count):
    """So many datagrams."""
    datagrams = []
    while len(datagrams) < count:
        datagrams += await endpoint.receive()
    return datagrams


class TestReceiving(Hosted):

    def test_a_batch_has_what_has_come_with_its_addresses(self):
        async def main():
            async with await open_datagram_endpoint(LOCAL) as endpoint:
                with bound() as one, bound() as two:
                    one.sendto(b'1', endpoint.address)
                    two.sendto(b'', endpoint.address)
                    one.sendto(b'3', endpoint.address)
                    assert await received(endpoint, 3) == [
                        (b'1', one.getsockname()), (b'', two.getsockname()),
                        (b'3', one.getsockname())]

        self.run(main)

    def test_what_came_while_the_task_was_busy_is_one_batch(self):
        async def main():
            async with await open_datagram_endpoint(LOCAL) as endpoint:
                with bound() as peer:
                    for number in range(20):
                        peer.sendto(b'%d' % number, endpoint.address)
                    stats = asyncio.get_running_loop().stats
                    await turns_until(lambda: stats().datagrams_received == 20)
                    async for batch in endpoint:
                        return [data for data, _ in batch]

        assert self.run(main) == [b'%d' % number for number in range(20)]

    def test_a_train_is_cut(self):
        async def main():
            async with await open_datagram_endpoint(LOCAL) as endpoint:
                content = os.urandom(10_500)
                await endpoint.send_zerocopy(content, endpoint.address, segment_size=1000)
                datagrams = [data for data, _ in await received(endpoint, 11)]
                assert datagrams == [content[n:n + 1000] for n in range(0, 10_500, 1000)]

        self.run(main)

    def test_cancelling_loses_nothing(self):
        async def main():
            async with await open_datagram_endpoint(LOCAL) as endpoint:
                with trio.move_on_after(0.001):
                    await endpoint.receive()
                with bound() as peer:
                    peer.sendto(b'1', endpoint.address)
                    await turns_until(lambda: endpoint._inbox.batch)
                    with trio.CancelScope() as scope:
                        scope.cancel()
                        await endpoint.receive()
                    assert scope.cancelled_caught
                    assert await endpoint.receive() == [(b'1', peer.getsockname())]

        self.run(main)

    def test_of_several_tasks_each_batch_has_one(self):
        async def take(endpoint, seen):
            async for batch in endpoint:
                seen.extend(data for data, _ in batch)
                await trio.lowlevel.checkpoint()

        async def main():
            seen = []
            async with await open_datagram_endpoint(LOCAL) as endpoint:
                async with trio.open_nursery() as nursery:
                    for _ in range(3):
                        nursery.start_soon(take, endpoint, seen)
                    with bound() as peer:
                        for number in range(100):
                            peer.sendto(b'%d' % number, endpoint.address)
                            await trio.lowlevel.checkpoint()
                    await turns_until(lambda: len(seen) == 100)
                    nursery.cancel_scope.cancel()
            return sorted(map(int, seen))

        assert self.run(main) == list(range(100))

    def test_it_is_a_checkpoint(self):
        async def main():
            async with await open_datagram_endpoint(LOCAL) as endpoint:
                endpoint._inbox.batch = [(b'', None)]
                with trio.testing.assert_checkpoints():
                    await endpoint.receive()

        self.run(main)


class TestSlowConsumer(Hosted):
    """What nobody takes stays in the socket, where the kernel drops what has no room."""

    LIMIT = 10

    async def flooded(self, endpoint, peer, numbers):
        for number in numbers:
            peer.sendto(b'%d' % number, endpoint.address)
            await trio.lowlevel.checkpoint()

    def test_no_more_than_the_limit_is_taken(self):
        if self.way == 'fallback' and not ASYNCIO_PAUSES:
            pytest.skip('the asyncio of this Python cannot pause datagrams')

        async def main():
            inbox_room = self.LIMIT + LONGEST_BATCH
            async with await open_datagram_endpoint(
                    LOCAL, receive_limit=self.LIMIT) as endpoint:
                with bound() as peer:
                    await self.flooded(endpoint, peer, range(100))
                    await turns_until(lambda: endpoint._inbox.paused)
                    taken = len(endpoint._inbox.batch)
                    assert self.LIMIT <= taken <= inbox_room
                    await self.flooded(endpoint, peer, range(100, 5100))
                    assert len(endpoint._inbox.batch) <= inbox_room
                    # What the socket has kept comes, from the first on and in its order.
                    seen = [int(data) for data, _ in await received(endpoint, 120)]
                    assert seen[:100] == list(range(100))
                    assert seen == sorted(set(seen))
                    # And there is room again.
                    peer.sendto(b'last', endpoint.address)
                    while b'last' not in {data for data, _ in await endpoint.receive()}:
                        peer.sendto(b'last', endpoint.address)

        self.run(main)

    def test_where_a_transport_cannot_pause_what_is_more_is_dropped_here(self):
        class Transport:
            def pause_reading(self):
                raise NotImplementedError

        async def main():
            inbox = Inbox(self.LIMIT)
            inbox.transport = Transport()
            for number in range(3 * self.LIMIT):
                inbox.datagrams_received([(b'%d' % number, None)] * 2)
                assert len(inbox.batch) <= self.LIMIT
            assert [data for data, _ in inbox.take()[::2]] == [b'0', b'1', b'2', b'3', b'4']
            inbox.datagrams_received([(b'', None)])
            assert inbox.take() == [(b'', None)]

        self.run(main)

    def test_closed_while_it_is_full(self):
        async def main():
            async with await open_datagram_endpoint(LOCAL, receive_limit=1) as endpoint:
                with bound() as peer:
                    await self.flooded(endpoint, peer, range(5))
                    await turns_until(lambda: endpoint._inbox.paused)
                endpoint.transport.close()
                assert (await endpoint.receive())[0][0] == b'0'
                with pytest.raises(trio.ClosedResourceError):
                    await received(endpoint, 10)

        self.run(main)

    @pytest.mark.parametrize('limit', [0, -1])
    def test_some_limit_there_is(self, limit):
        async def main():
            with pytest.raises(ValueError, match='receive_limit must be at least 1'):
                await open_datagram_endpoint(LOCAL, receive_limit=limit)

        self.run(main)


class TestSending(Hosted):

    def test_to_where_it_is_told(self):
        async def main():
            async with await open_datagram_endpoint(LOCAL) as endpoint:
                with bound() as one, bound() as two:
                    await endpoint.send(b'first', one.getsockname())
                    await endpoint.send_many([b'second', (b'other', two.getsockname())],
                                             one.getsockname())
                    assert [one.recv(100), one.recv(100), two.recv(100)] == [
                        b'first', b'second', b'other']

        self.run(main)

    def test_to_the_connected_peer(self):
        async def main():
            with bound() as peer:
                async with await open_datagram_endpoint(remote_addr=peer.getsockname()) as endpoint:
                    await endpoint.send(bytearray(b'there'))
                    assert peer.recvfrom(100) == (b'there', endpoint.address)

        self.run(main)

    def test_a_batch_goes_back_as_it_came(self):
        async def echo(endpoint):
            async for batch in endpoint:
                await endpoint.send_many(batch)

        async def main():
            async with await open_datagram_endpoint(LOCAL) as server, \
                    await open_datagram_endpoint(remote_addr=server.address) as client:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(echo, server)
                    sent = [b'%d' % number for number in range(50)]
                    await client.send_many(sent)
                    assert [data for data, _ in await received(client, 50)] == sent
                    nursery.cancel_scope.cancel()

        self.run(main)

    def test_waits_for_room_and_is_not_sent_where_that_is_cancelled(self):
        async def main():
            one, two = unix_pair()
            one.setblocking(False)
            two.setblocking(False)
            with two:
                async with await open_datagram_endpoint(sock=one) as endpoint:
                    # Python 3.13.0 counts eight bytes more for each than it gives back.
                    endpoint.transport.set_write_buffer_limits(100, 95)
                    sent = 0
                    while not endpoint._inbox.full:
                        await endpoint.send(b'%d' % sent)
                        sent += 1
                    with trio.move_on_after(0.001) as scope:
                        await endpoint.send(b'cancelled')
                    assert scope.cancelled_caught
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(endpoint.send, b'the last')
                        await turns()
                        got = []
                        while b'the last' not in got:
                            with contextlib.suppress(BlockingIOError):
                                got.append(two.recv(100))
                            await trio.lowlevel.checkpoint()
                    assert got == [*(b'%d' % number for number in range(sent)), b'the last']

        self.run(main)

    @pytest.mark.parametrize('call', ['send', 'send_many', 'send_zerocopy', 'send_many_zerocopy'])
    def test_in_a_cancelled_scope_nothing_is_sent(self, call):
        async def main():
            async with await open_datagram_endpoint(LOCAL) as endpoint:
                content = b'1' if call.startswith('send_z') or call == 'send' else [b'1']
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await getattr(endpoint, call)(content, endpoint.address)
                assert scope.cancelled_caught
                await endpoint.send(b'2', endpoint.address)
                assert await endpoint.receive() == [(b'2', endpoint.address)]

        self.run(main)

    @pytest.mark.parametrize('call', ['send', 'send_many', 'send_zerocopy', 'send_many_zerocopy'])
    def test_it_is_a_checkpoint(self, call):
        async def main():
            async with await open_datagram_endpoint(LOCAL) as endpoint:
                content = b'1' if call.startswith('send_z') or call == 'send' else [b'1']
                with trio.testing.assert_checkpoints():
                    await getattr(endpoint, call)(content, endpoint.address)

        self.run(main)

    def test_zerocopy_reports(self):
        async def main():
            async with await open_datagram_endpoint(LOCAL) as endpoint:
                buffer = bytearray(b'x' * 20_000)
                report = await endpoint.send_zerocopy(buffer, endpoint.address)
                assert report == SendReport(20_000, True)
                buffer.clear()
                report = await endpoint.send_many_zerocopy([b'1', b'23'], endpoint.address)
                assert report.nbytes == 3
                assert [len(data) for data, _ in await received(endpoint, 3)] == [20_000, 1, 2]

        self.run(main)


class TestErrors(Hosted):

    def test_what_a_send_meets_is_its_own(self):
        async def main():
            async with await open_datagram_endpoint(LOCAL) as endpoint:
                for send in endpoint.send, endpoint.send_zerocopy:
                    with pytest.raises(OSError) as caught:
                        await send(bytes(70_000), endpoint.address)
                    assert caught.value.errno == errno.EMSGSIZE
                await endpoint.send(b'1', endpoint.address)
                assert len(await endpoint.receive()) == 1

        self.run(main)

    @pytest.mark.parametrize('call', ['send', 'send_zerocopy'])
    @pytest.mark.parametrize(('data', 'addr'), [('text', LOCAL), (b'1', ('127.0.0.1', 'x', 1))])
    def test_what_is_no_datagram_ends_nothing(self, call, data, addr):
        async def main():
            async with await open_datagram_endpoint(LOCAL) as endpoint:
                with pytest.raises((TypeError, OSError)):
                    await getattr(endpoint, call)(data, addr)
                await endpoint.send(b'1', endpoint.address)
                assert len(await endpoint.receive()) == 1

        self.run(main)

    def test_what_the_network_has_told_is_raised_behind_what_came_before(self):
        async def main():
            with bound() as peer:
                async with await open_datagram_endpoint(remote_addr=peer.getsockname()) as endpoint:
                    peer.sendto(b'1', endpoint.address)
                    await turns_until(lambda: endpoint._inbox.batch)
                    endpoint._inbox.error_received(ConnectionRefusedError())
                    assert await endpoint.receive() == [(b'1', peer.getsockname())]
                    with pytest.raises(ConnectionRefusedError):
                        await endpoint.receive()
                    peer.sendto(b'2', endpoint.address)
                    assert await endpoint.receive() == [(b'2', peer.getsockname())]

        self.run(main)

    def test_nobody_listens(self):
        async def main():
            async with await open_datagram_endpoint(remote_addr=deserted()) as endpoint:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(endpoint.send, b'1')
                    with pytest.raises(ConnectionRefusedError):
                        await endpoint.receive()

        self.run(main)

    def test_no_endpoint_can_be_made(self):
        async def main():
            with bound() as other, pytest.raises(OSError) as caught:
                await open_datagram_endpoint(other.getsockname())
            assert caught.value.errno == errno.EADDRINUSE

        self.run(main)

    @pytest.mark.parametrize('name', ['ecn', 'pktinfo', 'timestamps', 'recieve_limit'])
    def test_what_is_no_option_of_its_own_is_named(self, name):
        async def main():
            with pytest.raises(TypeError, match=rf'^open_datagram_endpoint\(\) .* {name!r}'):
                await open_datagram_endpoint(LOCAL, **{name: True})

        self.run(main)

    def test_drops_are_counted(self):
        async def main():
            async with await open_datagram_endpoint(LOCAL, drops=True):
                assert asyncio.get_running_loop().stats().datagrams_overflowed == 0

        self.run(main)

    def test_not_in_a_program_of_asyncio(self):
        with pytest.raises(RuntimeError, match="is for trio's tasks: start trio by uringloop"):
            asyncio.run(open_datagram_endpoint(LOCAL))

    def test_not_without_a_loop(self):
        async def main():
            with pytest.raises(RuntimeError, match=r'start it by uringloop\.trio\.run'):
                await open_datagram_endpoint(LOCAL)

        trio.run(main)


class TestEnd(Hosted):

    def test_closing_wakes_who_waits(self):
        async def wait(call, *args):
            with pytest.raises(trio.ClosedResourceError):
                await call(*args)

        async def main():
            endpoint = await open_datagram_endpoint(LOCAL)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait, endpoint.receive)
                endpoint._inbox.pause_writing()
                nursery.start_soon(wait, endpoint.send, b'1', LOCAL)
                await turns()
                endpoint.close()
            for call in endpoint.send, endpoint.send_zerocopy:
                await wait(call, b'1', LOCAL)
            await wait(endpoint.receive)
            await endpoint.aclose()
            await endpoint.aclose()

        self.run(main)

    def test_the_socket_is_closed_behind_aclose(self):
        async def main():
            async with await open_datagram_endpoint(LOCAL) as endpoint:
                address = endpoint.address
            with bound(address=address):
                pass

        self.run(main)

    def test_a_transport_that_breaks(self):
        async def wait(endpoint, seen):
            with pytest.raises(trio.BrokenResourceError, match='as if') as caught:
                await endpoint.receive()
            seen.append(caught.value.__cause__)

        async def main():
            seen = []
            async with await open_datagram_endpoint(LOCAL) as endpoint:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wait, endpoint, seen)
                    await turns()
                    endpoint._inbox.connection_lost(OSError('as if'))
                with pytest.raises(trio.BrokenResourceError):
                    await endpoint.send(b'1', LOCAL)
                endpoint._inbox.lost = False
            assert isinstance(seen[0], OSError)

        self.run(main)

    def test_a_cancelled_aclose_drops_what_waits(self):
        async def main():
            one, two = unix_pair()
            one.setblocking(False)
            with two:
                endpoint = await open_datagram_endpoint(sock=one)
                endpoint.transport.set_write_buffer_limits(0)
                while not endpoint._inbox.full:
                    await endpoint.send(b'1')
                with trio.move_on_after(0.001) as scope:
                    await endpoint.aclose()
                assert scope.cancelled_caught
                await endpoint.aclose()
                assert one.fileno() == -1

        self.run(main)


@needs_feature('send_zc')
@needs_root
class TestHeldBuffers(Hosted):
    """The kernel has sent, as far as the program can see, and still reads the buffer."""

    @pytest.fixture(autouse=True, params=['direct', 'thread'])
    def way(self, request):
        return request.param

    @pytest.fixture(autouse=True)
    def _hold(self, wire):
        wire.hold()
        yield
        wire.release()

    async def cancelled(self, endpoint, wire):
        """A buffer, of which the send was cancelled when the kernel had it."""
        buffer = bytearray(b'x' * 20_000)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(endpoint.send_zerocopy, buffer, wire.peer)
                await turns_until(lambda: endpoint._inbox.lent)
                scope.cancel()
        assert scope.cancelled_caught
        return buffer

    def test_a_cancelled_send_keeps_its_buffer_until_the_notification(self, wire):
        async def main():
            with wire.far.socket(address=wire.peer) as peer:
                peer.settimeout(5)
                async with await open_datagram_endpoint(sock=wire.socket()) as endpoint:
                    buffer = await self.cancelled(endpoint, wire)
                    with trio.move_on_after(0.001) as scope:
                        await endpoint.wait_released()
                    assert scope.cancelled_caught
                    with pytest.raises(BufferError):
                        buffer.clear()
                    wire.release()
                    await endpoint.wait_released()
                    await trio.lowlevel.checkpoint()
                    buffer.clear()
                    assert peer.recv(65_535) == b'x' * 20_000

        self.run(main)

    def test_the_end_waits_for_it(self, wire):
        async def main():
            endpoint = await open_datagram_endpoint(sock=wire.socket())
            buffer = await self.cancelled(endpoint, wire)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(endpoint.aclose)
                await turns(20)
                assert endpoint._inbox.lent == 1
                wire.release()
            buffer.clear()

        self.run(main)

    def test_the_end_of_a_cancelled_task_does_not(self, wire):
        async def main():
            endpoint = await open_datagram_endpoint(sock=wire.socket())
            buffer = await self.cancelled(endpoint, wire)
            with trio.CancelScope() as scope:
                scope.cancel()
                await endpoint.aclose()
            with pytest.raises(BufferError):
                buffer.clear()
            wire.release()
            await endpoint.wait_released()

        self.run(main)

