"""What fails, ends or is aborted in the midst of a call: nothing of it is left undone.

No future stays pending, no datagram uncounted, no buffer held.
"""
import array
import asyncio
import contextlib
import errno
import gc
import os
import resource
import socket

import pytest

from tests.support.cases import UringCase, on_the_fallback_too
from tests.support.protocols import Recorder, endpoint
from tests.support.sockets import LOCAL, bound, deserted, udp, unix_pair
from tests.support.turns import turns

CALLS = {
    'sendto_zerocopy': lambda transport, data, to: transport.sendto_zerocopy(data, to),
    'sendto_many': lambda transport, data, to: transport.sendto_many([data], to),
    'sendto_many_zerocopy': lambda transport, data, to: transport.sendto_many_zerocopy([data], to),
    'sendmsg': lambda transport, data, to: transport.sendmsg([data], addr=to),
    'sendto_with': lambda transport, data, to: transport.sendto_with(data, to),
}


async def outcome(call, *arguments):
    """The exception that it raises, or that its future has; None without one."""
    try:
        future = call(*arguments)
        if future is not None:
            await future
    except (TypeError, OSError) as exc:
        return exc
    return None


class Local(UringCase):
    """An AF_UNIX receiver takes few datagrams that nobody reads."""

    @contextlib.asynccontextmanager
    async def opened(self, kind, connected=False):
        """``(transport, protocol, receiver, address to send to)``."""
        there, here = ('\0' + os.urandom(8).hex() for _ in range(2))
        with bound(socket.AF_UNIX, there) as receiver:
            receiver.setblocking(False)
            transport, protocol = await self.loop.create_datagram_endpoint(
                kind, family=socket.AF_UNIX,
                **{'remote_addr': there} if connected else {'local_addr': here})
            try:
                yield transport, protocol, receiver, None if connected else there
            finally:
                transport.abort()
                await turns()

    def fill(self, transport, to):
        """How many it has taken, and one more waits."""
        count = 0
        while not transport.get_write_buffer_size():
            transport.sendto(b'before', to)
            count += 1
        return count

    async def read(self, receiver, count):
        return [await self.loop.sock_recv(receiver, 100) for _ in range(count)]

    def read_all(self, receiver):
        got = []
        with contextlib.suppress(BlockingIOError):
            while True:
                got.append(receiver.recv(100))
        return got


class TestToldToPause(Local):

    @pytest.mark.parametrize('connected', [True, False])
    @pytest.mark.parametrize('call', ['train', 'sendto_many_zerocopy', 'sendto_many'])
    def test_who_aborts_then(self, call, connected):
        """All is counted and told of, and the descriptor's number is free for another."""
        class Aborts(Recorder):
            def pause_writing(self):
                self.transport.abort()

        async def main():
            async with self.opened(Aborts, connected) as (transport, protocol, receiver, to):
                transport.set_write_buffer_limits(0)
                number = transport.get_extra_info('socket').fileno()
                if call == 'train':
                    future = transport.sendto_zerocopy(b'abc' * 200, to, segment_size=3)
                else:
                    future = getattr(transport, call)([b'abc'] * 200, to)
                if future is not None:
                    with pytest.raises(ConnectionAbortedError):
                        await future
                await protocol.until(lambda p: p.lost)
                stats = self.loop.stats()
                assert len(self.read_all(receiver)) == stats.datagrams_sent
                assert stats.datagrams_sent + stats.datagrams_dropped == 200
                assert transport.get_write_buffer_size() == 0
                later, heard = await endpoint(local_addr=LOCAL)
                assert later.get_extra_info('socket').fileno() == number
                later.sendto(b'hello', later.get_extra_info('sockname'))
                await heard.until(lambda p: p.datagrams)
                later.close()

        self.run(main())
        assert not self.problems

    @pytest.mark.parametrize('call', ['train', 'sendto_many_zerocopy', 'sendto_many'])
    def test_who_interrupts_then(self, call):
        """What was given to the call leaves all the same."""
        class Interrupts(Recorder):
            def pause_writing(self):
                raise KeyboardInterrupt

        async def main():
            async with self.opened(Interrupts) as (transport, _, receiver, to):
                transport.set_write_buffer_limits(0)
                data = [b'%03d' % n for n in range(100)]
                with pytest.raises(KeyboardInterrupt):
                    if call == 'train':
                        transport.sendto_zerocopy(b''.join(data), to, segment_size=3)
                    else:
                        getattr(transport, call)(data, to)
                assert await self.read(receiver, 100) == data

        self.run(main())


class TestBadAddress(Local):
    """It is the call's, also behind what waits for room, and ends nothing."""

    @pytest.mark.parametrize('bad', [5, ('127.0.0.1', 9), '\0' + 'x' * 200, None])
    @pytest.mark.parametrize('call', CALLS)
    def test_where_the_socket_is_full(self, call, bad):
        async def main():
            async with self.opened(Recorder) as (transport, protocol, receiver, to):
                count = self.fill(transport, to)
                exc = await outcome(CALLS[call], transport, b'bad', bad) \
                    if call != 'sendto_many_zerocopy' else None
                if exc is None:
                    future = transport.sendto_many_zerocopy([b'bad'], bad)
                    await turns()
                transport.sendto(b'behind', to)
                assert (await self.read(receiver, count + 1))[-1] == b'behind'
                if exc is None:
                    exc = future.exception()
                assert isinstance(exc, TypeError if bad != '\0' + 'x' * 200 else OSError)
                assert not transport.is_closing() and not protocol.errors

        self.run(main())
        assert not self.problems

    @pytest.mark.parametrize('call', ['sendto_many', 'sendto_many_zerocopy'])
    def test_in_the_midst_of_many(self, call):
        """What stands before it leaves, and what stands behind it does not."""
        async def main():
            async with self.opened(Recorder) as (transport, _, receiver, to):
                count = self.fill(transport, to)
                many = [b'one', (b'bad', 5), b'two']
                if call == 'sendto_many':
                    with pytest.raises(TypeError):
                        transport.sendto_many(many, to)
                else:
                    future = transport.sendto_many_zerocopy(many, to)
                transport.sendto(b'behind', to)
                got = await self.read(receiver, count + 2)
                assert got[count:] == [b'one', b'behind']
                await turns()
                assert not self.read_all(receiver)
                if call != 'sendto_many':
                    with pytest.raises(TypeError):
                        await future

        self.run(main())


class TestMemory(UringCase):
    """An exception that is gone holds no lease until the collector comes; that of a future none."""

    @pytest.mark.parametrize('call', CALLS)
    def test_a_bad_address(self, call):
        self.check(lambda transport, view: CALLS[call](transport, view, 'bad'))

    @pytest.mark.parametrize('call', ['sendto_many', 'sendto_many_zerocopy'])
    def test_a_bad_buffer(self, call):
        self.check(lambda transport, view: getattr(transport, call)(
            [view, 5], transport.get_extra_info('sockname')))

    @pytest.mark.parametrize('errors', [True, False])
    def test_what_the_network_says(self, errors):
        """Also of the second try, where the first may have failed by another's error."""
        class Queue(Recorder):
            def datagram_errqueue_received(self, data, ancdata, flags, addr):
                pass

        self.check(lambda transport, view: transport.sendto_zerocopy(view, ('240.0.0.1', 9)),
                   Queue if errors else Recorder)

    def check(self, send, kind=Recorder):
        def attempt(transport, view):
            try:
                return send(transport, view)
            except TypeError:
                return None

        async def main():
            transport, _ = await self.loop.create_datagram_endpoint(kind, local_addr=LOCAL)
            pool = self.loop.create_buffer_pool(1, 100)
            with pool.acquire_nowait() as lease:
                future = attempt(transport, lease[:])
                if future is not None:
                    await asyncio.wait([future])
                    kept = future.exception()
                    assert kept is not None
            del lease
            await turns()
            assert pool.free == 1
            transport.close()

        gc.disable()
        try:
            self.run(main())
        finally:
            gc.enable()


class TestBrokenTrain(UringCase):

    def test_what_follows_one_that_is_refused_is_not_sent(self):
        async def main():
            there = deserted()
            transport, _ = await endpoint(remote_addr=there)
            transport.pause_reading()
            transport.sendto(b'knock')           # the socket has its error, for the next
            with udp(there) as receiver:
                before = self.loop.stats()
                with pytest.raises(ConnectionRefusedError):
                    await transport.sendto_zerocopy(b'aabbcc', segment_size=2)
                await turns()
                with pytest.raises(BlockingIOError):
                    receiver.recv(10)
                after = self.loop.stats()
                assert after.datagrams_sent == before.datagrams_sent
                assert after.datagrams_dropped - before.datagrams_dropped == 3
            transport.close()

        self.needs_pausing()
        self.run(main())


class TestNamelessPair(UringCase):

    @pytest.mark.parametrize('full', [False, True])
    @pytest.mark.parametrize('call', CALLS)
    def test_no_address_is_needed(self, call, full):
        async def main():
            ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            peer.setblocking(False)
            with peer:
                transport, protocol = await endpoint(sock=ours)
                count = 0
                while full and not transport.get_write_buffer_size():
                    transport.sendto_many([b'before'])
                    count += 1
                future = CALLS[call](transport, b'x', None)
                got = [await self.loop.sock_recv(peer, 100) for _ in range(count + 1)]
                assert got[-1] == b'x'
                assert future is None or await future == (1, True)
                assert not protocol.errors
                transport.close()

        self.run(main())


class TestDescriptors(UringCase):

    def test_one_is_passed_though_none_is_left(self):
        """None is needed where the message leaves at once."""
        async def main():
            ours, peer = unix_pair()
            transport, protocol = await endpoint(sock=ours)
            with peer, open(os.devnull) as file:
                soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
                lowest = os.dup(file.fileno())
                os.close(lowest)
                resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
                try:
                    transport.sendmsg([b'file'], [(
                        socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [file.fileno()]))])
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                data, fds, _, _ = socket.recv_fds(peer, 100, 1)
                assert data == b'file' and len(fds) == 1
                os.close(fds[0])
                assert not protocol.errors
            transport.close()

        self.run(main())


class TestLostWithAQueue(Local):
    """An endpoint that was closed is lost when what waited has left."""

    @pytest.mark.parametrize('when', ['told', 'later'])
    @pytest.mark.parametrize('connected', [True, False])
    def test_nothing_is_sent_by_it(self, when, connected):
        class Last(Recorder):
            def connection_lost(self, exc):
                if when == 'told':
                    futures.extend(sent(self.transport))
                super().connection_lost(exc)

        def sent(transport):
            to = None if connected else there[0]
            data = [b'x'] * 3
            transport.sendto_many(data, to)
            transport.sendmsg(data, addr=to)
            transport.sendto_with(b'x', to)
            return [transport.sendto_zerocopy(b'xxx', to, segment_size=1),
                    transport.sendto_many_zerocopy(data, to)]

        async def main():
            async with self.opened(Last, connected) as (transport, protocol, receiver, to):
                there.append(to)
                number = transport.get_extra_info('socket').fileno()
                count = self.fill(transport, to)
                transport.close()
                assert await self.read(receiver, count) == [b'before'] * count
                await protocol.until(lambda p: p.lost)
                if when == 'later':
                    futures.extend(sent(transport))
                for future in futures:
                    with pytest.raises(ConnectionAbortedError):
                        await future
                assert self.loop.stats().datagrams_dropped == 11
                assert not self.read_all(receiver)
                await turns()
                later, heard = await endpoint(local_addr=LOCAL)
                assert later.get_extra_info('socket').fileno() == number
                later.sendto(b'hello', later.get_extra_info('sockname'))
                await heard.until(lambda p: p.datagrams)
                later.close()

        there, futures = [], []
        self.run(main())
        assert not self.problems


class TestErrorReceived(UringCase):

    @pytest.mark.parametrize('call', ['sendmsg', 'sendto_with', 'sendto_many'])
    @pytest.mark.parametrize('problem', [ZeroDivisionError, KeyboardInterrupt])
    def test_what_it_raises(self, call, problem):
        """It is the caller's, as that of ``sendto``; of many the others leave before it is told."""
        class Raises(Recorder):
            def error_received(self, exc):
                super().error_received(exc)
                if len(self.errors) == 1:
                    raise problem

        async def main():
            transport, protocol = await self.loop.create_datagram_endpoint(
                Raises, local_addr=LOCAL)
            nowhere = ('127.0.0.1', 0)
            with udp() as receiver:
                many = [(b'one', nowhere), (b'two', receiver.getsockname()), (b'three', nowhere)]
                of_the_handler = call == 'sendto_many' and problem is ZeroDivisionError
                with pytest.raises(problem) if not of_the_handler else contextlib.nullcontext():
                    if call == 'sendto_many':
                        transport.sendto_many(many)
                    else:
                        CALLS[call](transport, b'x', nowhere)
                if call == 'sendto_many':
                    assert receiver.recv(10) == b'two'
                    await turns()
                    transport.sendto(b'more', receiver.getsockname())
            assert [exc.errno for exc in protocol.errors] == [errno.EINVAL] * (
                2 if call == 'sendto_many' else 1)
            assert len(self.problems) == of_the_handler
            transport.close()

        self.run(main())

    @pytest.mark.parametrize('call', ['sendto', 'sendto_many', 'sendto_with', 'sendmsg'])
    def test_what_it_keeps_holds_no_memory(self, call):
        class Keeps(Recorder):
            pass

        def send(transport, pool):
            with pool.acquire_nowait() as lease:
                view = lease[:]
                if call == 'sendto':
                    transport.sendto(view, ('127.0.0.1', 0))
                else:
                    CALLS[call](transport, view, ('127.0.0.1', 0))

        async def main():
            transport, protocol = await self.loop.create_datagram_endpoint(
                Keeps, local_addr=LOCAL)
            pool = self.loop.create_buffer_pool(1, 100)
            send(transport, pool)
            await protocol.until(lambda p: p.errors)
            await turns()
            assert pool.free == 1
            transport.close()

        gc.disable()
        try:
            self.run(main())
        finally:
            gc.enable()

    def test_what_it_keeps_holds_no_files(self):
        def descriptors():
            return len(os.listdir('/proc/self/fd'))

        async def main():
            ours, peer = unix_pair()
            with open(os.devnull) as file:
                transport, protocol = await endpoint(sock=ours)
                while not transport.get_write_buffer_size():
                    transport.sendto(b'x')
                before = descriptors()
                for _ in range(10):
                    transport.sendmsg([b'file'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                                   array.array('i', [file.fileno()]))])
                peer.close()
                await protocol.until(lambda p: len(p.errors) == 11)
                await turns()
                assert descriptors() == before - 1
            transport.close()

        self.run(main())


class TestClosedLoop(Local):

    def test_reports_that_wait_are_cancelled(self):
        async def main():
            ours, peer = unix_pair()
            transport, _ = await endpoint(sock=ours)
            while not transport.get_write_buffer_size():
                transport.sendto(b'x')
            return (ours, peer, transport, transport.sendto_zerocopy(b'one'),
                    transport.sendto_many_zerocopy([b'two', b'three']))

        ours, peer, transport, one, many = self.run(main())
        with peer:
            self.loop.close()
        assert one.cancelled() and many.cancelled()
        assert self.loop.stats().datagrams_dropped == 4
        refused = transport.sendto_zerocopy(b'xy')
        assert isinstance(refused.exception(), ConnectionAbortedError)
        assert self.loop.stats().datagrams_dropped == 5
        with pytest.warns(ResourceWarning, match='unclosed transport'):
            del transport
            gc.collect()
        ours.close()


on_the_fallback_too(
    globals(), TestToldToPause, TestBadAddress, TestMemory, TestBrokenTrain, TestNamelessPair,
    TestDescriptors, TestLostWithAQueue, TestErrorReceived, TestClosedLoop)
