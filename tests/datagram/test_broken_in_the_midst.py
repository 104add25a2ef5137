"""Code of the program that runs in the midst of a send, or is interrupted there."""
import asyncio
import contextlib
import itertools
import os
import signal
import socket

import pytest

import uringloop
from tests.support.cases import UringCase, on_the_fallback_too
from tests.support.endpoints import Endpoints
from tests.support.protocols import endpoint
from tests.support.sockets import LOCAL, bound, udp, unix_pair
from tests.support.turns import turns, turns_until

SIZE = 1200


class Broken(RuntimeError):
    """What the program's ``call_soon`` raises."""


def heard(future):
    """What the tests' futures call."""
    future.exception()


class RaisingLoop(uringloop.Loop):
    """Its ``call_soon`` raises ``broken`` times where a future is told."""

    broken = 0
    kind = Broken
    then = None             # what it raises from the second time on, if that is another

    def call_soon(self, callback, *args, **kwargs):
        if callback is heard and self.broken:
            self.broken -= 1
            kind, self.kind = self.kind, self.then or self.kind
            raise kind
        return super().call_soon(callback, *args, **kwargs)


class TestTelling(UringCase):
    """What is queued and dropped, or fails: all of it is told of and given back."""

    BUFFERS = 200
    timeout = 20.0

    def new_loop(self):
        return RaisingLoop()

    async def queued(self):
        """A transport, a pool, and futures of which the last wait in the queue."""
        one, self.peer = unix_pair()
        transport, protocol = await endpoint(sock=one)
        pool = self.loop.create_buffer_pool(self.BUFFERS, SIZE)
        futures = []
        for _ in range(self.BUFFERS):
            with pool.acquire_nowait() as lease:
                futures.append(transport.sendto_zerocopy(lease))
        await turns()
        assert 0 < pool.free < self.BUFFERS
        for future in futures:
            future.add_done_callback(heard)
        return transport, protocol, pool, futures

    async def all_given_back(self, pool, futures):
        await turns_until(lambda: pool.free == self.BUFFERS)
        assert all(future.done() for future in futures)
        stats = self.loop.stats()
        assert stats.datagrams_sent + stats.datagrams_dropped == self.BUFFERS

    def test_an_interrupt_behind_another_exception(self):
        """It is the interrupt that leaves."""
        async def main():
            transport, protocol, pool, futures = await self.queued()
            self.loop.broken = 2
            self.loop.kind = Broken
            futures[-1].add_done_callback(heard)
            self.loop.then = KeyboardInterrupt
            with pytest.raises(KeyboardInterrupt):
                transport.abort()
            await self.all_given_back(pool, futures)
            await protocol.until(lambda p: p.lost)
            self.peer.close()

        self.run(main())

    @pytest.mark.parametrize('broken', [1, 2])
    def test_aborted_while_a_bulk_of_another_leaves(self, broken):
        """Whatever its futures' ``call_soon`` raises, what is to be dropped is not sent."""
        async def main():
            transport, protocol, pool, futures = await self.queued()
            other, _ = await endpoint(local_addr=LOCAL)
            self.peer.setblocking(False)
            with udp() as peer:
                for n in range(12):
                    other.sendto_zerocopy(bytes(3 + n % 2), peer.getsockname()) \
                        .add_done_callback(heard)
                self.loop.kind = KeyboardInterrupt
                self.loop.broken = broken
                with pytest.raises(KeyboardInterrupt):
                    transport.abort()
                self.loop.broken = 0
                sent = self.loop.stats().datagrams_dropped
                with contextlib.suppress(BlockingIOError):
                    while True:
                        self.peer.recv(SIZE)
                await protocol.until(lambda p: p.lost)
                assert self.loop.stats().datagrams_dropped == sent
                with pytest.raises(BlockingIOError):
                    self.peer.recv(SIZE)
            assert all(future.done() for future in futures)
            await turns_until(lambda: pool.free == self.BUFFERS)
            other.close()
            self.peer.close()

        self.run(main())

    @pytest.mark.parametrize('broken', [1, 2, 20])
    @pytest.mark.parametrize('kind', [Broken, KeyboardInterrupt])
    def test_call_soon_that_raises_within_abort(self, broken, kind):
        async def main():
            transport, protocol, pool, futures = await self.queued()
            self.loop.kind = kind
            self.loop.broken = broken
            with pytest.raises(kind):
                transport.abort()
            self.loop.broken = 0
            await self.all_given_back(pool, futures)
            await protocol.until(lambda p: p.lost)
            self.peer.close()

        self.run(main())

    def test_call_soon_that_raises_where_a_send_fails(self):
        async def main():
            transport, protocol, pool, futures = await self.queued()
            self.loop.broken = 1
            self.peer.close()
            await self.all_given_back(pool, futures)
            transport.abort()
            await protocol.until(lambda p: p.lost)

        self.run(main())

    @pytest.mark.parametrize('how', ['close', 'abort'])
    def test_an_interrupt_where_what_was_deferred_leaves(self, how):
        async def main():
            peer = udp()
            transport, protocol = await endpoint(local_addr=LOCAL)
            sent = [transport.sendto_zerocopy(b'x', peer.getsockname()) for _ in range(12)]
            assert not sent[-1].done()
            sent[-1].add_done_callback(heard)
            self.loop.kind = KeyboardInterrupt
            self.loop.broken = 1
            with pytest.raises(KeyboardInterrupt):
                getattr(transport, how)()
            await protocol.until(lambda p: p.lost)
            assert all(future.done() for future in sent)
            peer.close()

        self.run(main())

    @pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
    def test_call_soon_that_raises_where_leases_are_given_back(self):
        """Those of one train come back together: one that wakes up somebody, and all the others."""
        async def main():
            peer = udp()
            transport, _ = await endpoint(local_addr=LOCAL)
            pool = self.loop.create_buffer_pool(12, SIZE)
            leases = await pool.acquire_many(12)
            waiting = pool._wait(1)
            waiting.add_done_callback(heard)
            sent = transport.sendto_many_zerocopy(leases, peer.getsockname())
            while leases:
                leases.pop().release()
            self.loop.broken = 1
            await sent
            await turns_until(waiting.done)
            [lease] = waiting.result()
            assert (pool.free, pool.held, self.loop.broken) == (11, 0, 0)
            lease.release()
            transport.close()
            await turns()
            peer.close()

        self.run(main())

    def test_interrupted_abort(self):
        class Interrupted(Exception):
            pass

        def interrupt(*_):
            raise Interrupted

        async def main():
            for delay in (0.00002, 0.00005, 0.0001, 0.0002, 0.0004) * 5:
                transport, protocol, pool, futures = await self.queued()
                with contextlib.suppress(Interrupted):
                    signal.setitimer(signal.ITIMER_REAL, delay)
                    try:
                        transport.abort()
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                transport.abort()
                await turns_until(lambda pool=pool: pool.free == self.BUFFERS)
                assert all(future.done() for future in futures)
                await protocol.until(lambda p: p.lost)
                self.peer.close()

        self.loop.set_debug(True)
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            self.run(main())
        finally:
            signal.signal(signal.SIGALRM, before)


class ActingLoop(uringloop.Loop):
    """Its ``call_soon`` does ``act``, once, where a future is told."""

    act = None

    def call_soon(self, callback, *args, **kwargs):
        if callback is heard and self.act is not None:
            act, self.act = self.act, None
            act()
        return super().call_soon(callback, *args, **kwargs)


class TestAborted(UringCase):
    """By code that runs while many are sent: what is left of them is not, and that is told."""

    CALLS = (
        lambda transport, peer: transport.sendto_zerocopy(
            bytes(100 * 64 * 200), peer, segment_size=100),
        lambda transport, peer: transport.sendto_many_zerocopy([bytes(100)] * 12_800, peer),
        lambda transport, peer: transport.sendto_many_zerocopy(
            [bytes([n % 256]) * (1000 + n % 2) for n in range(12_800)], peer),
    )

    def new_loop(self):
        return ActingLoop()

    @pytest.mark.parametrize('call', CALLS)
    def test_while_many_are_sent(self, call):
        async def main():
            peer = udp(room=64 << 20)
            transport, protocol = await endpoint(local_addr=LOCAL)
            before = self.loop.stats()
            for _ in range(10):                  # a bulk: the last of these waits
                last = transport.sendto_zerocopy(b'first', peer.getsockname())
            assert not last.done()
            last.add_done_callback(heard)
            self.loop.act = transport.abort
            with pytest.raises(ConnectionAbortedError, match='not sent'):
                await call(transport, peer.getsockname())
            await protocol.until(lambda p: p.lost)
            after = self.loop.stats()
            assert (after.datagrams_sent + after.datagrams_dropped
                    - before.datagrams_sent - before.datagrams_dropped) == 12_810
            assert self.loop.act is None
            peer.close()

        self.run(main())

    def test_the_socket_is_closed_while_many_are_sent(self):
        """By then the number is another's, which sends nothing of it."""
        async def main():
            peer, another = udp(), udp()
            own = udp()
            own.connect(peer.getsockname())
            transport, _ = await endpoint(sock=own, batch=True)

            def swap():
                number = own.fileno()
                own.close()
                others.append(udp())
                assert others[0].fileno() == number
                others[0].connect(another.getsockname())

            for _ in range(10):
                last = transport.sendto_zerocopy(b'first')
            assert not last.done()
            last.add_done_callback(heard)
            self.loop.act = swap
            transport.sendto_many([b'more'] * 20)
            await turns()
            with pytest.raises(BlockingIOError):
                another.recv(100)
            transport.abort()
            await turns()
            for sock in peer, another, *others:
                sock.close()

        others = []
        self.run(main())


class TestGathered(Endpoints, UringCase):
    """``sendto_many`` holds what its views are of: the views may be released meanwhile."""

    @pytest.mark.parametrize('size', [SIZE, 16_000])
    def test_a_wrong_item_that_gives_up_those_before_it(self, size):
        class Wrong:
            def __repr__(self):
                for view in views:
                    view.release()
                views.clear()
                # In the place of what was freed.
                others.extend(bytes([0xff]) * size for _ in range(50))
                return 'wrong'

        views = [memoryview(bytes([number]) * size) for number in range(1, 5)]
        others = []

        async def main():
            peer = udp()
            transport, _ = await self.endpoint()
            with pytest.raises(TypeError, match='wrong'):
                transport.sendto_many([*views, (Wrong(), 1, 2)], peer.getsockname())
            for number in range(1, 5):
                assert set(await self.loop.sock_recv(peer, 65_536)) == {number}
            peer.close()

        self.run(main())


class Sends(socket.socket):
    """Calls ``back`` within ``fileno``, once, after so many calls."""

    calls_left = -1

    def fileno(self):
        self.calls_left -= 1
        if self.calls_left == -1:
            self.back()
        return super().fileno()


class TestFileno(UringCase):

    @pytest.mark.parametrize('kind', [RuntimeError, KeyboardInterrupt])
    def test_raises_where_what_connection_lost_has_sent_leaves(self, kind):
        """The socket is closed all the same."""
        def interrupt():
            raise kind

        class Last(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def connection_lost(self, exc):
                for _ in range(20):
                    self.transport.sendto(bytes(100), LOCAL[:1] + (9,))
                sock.calls_left = 0

        async def main():
            transport, _ = await self.loop.create_datagram_endpoint(Last, sock=sock, batch=True)
            opened.append(transport)
            transport.abort()

        opened = []
        sock = Sends(socket.AF_INET, socket.SOCK_DGRAM)
        sock.back = interrupt
        sock.setblocking(False)
        sock.bind(LOCAL)
        with contextlib.suppress(KeyboardInterrupt):
            self.run(main())
        for _ in range(2):
            with contextlib.suppress(KeyboardInterrupt):
                self.turns(3)
        assert socket.socket.fileno(sock) == -1
        assert opened[0].get_protocol() is None

    def test_what_is_sent_within_it_leaves(self):
        content = memoryview(bytes(itertools.chain(*([n] * 100 for n in range(6)))))

        async def main():
            peer = udp()
            for calls in range(8):
                sock = Sends(socket.AF_INET, socket.SOCK_DGRAM)
                sock.bind(LOCAL)
                sock.setblocking(False)
                transport, _ = await endpoint(sock=sock, batch=True)
                sock.back = lambda transport=transport: transport.sendto(
                    content[500:560], peer.getsockname())
                before = self.loop.stats().datagrams_sent
                for part in range(5):
                    transport.sendto(content[100 * part:100 * part + 100], peer.getsockname())
                sock.calls_left = calls
                await turns()
                within = sock.calls_left < 0
                sock.calls_left = -1
                for part in range(5 + within):
                    got = await self.loop.sock_recv(peer, 1000)
                    assert got == content[100 * part:100 * part + (60 if part == 5 else 100)]
                assert self.loop.stats().datagrams_sent - before == 5 + within
                transport.abort()
                await turns()
            peer.close()

        self.run(main())

    @pytest.mark.parametrize('call', ['sendto_many', 'sendto_many_zerocopy'])
    def test_raises_where_many_are_sent(self, call):
        """What is queued leaves all the same, without another call."""
        sent = [bytes(size) for size in range(10, 20)]

        def broken():
            raise Broken

        async def main():
            sock = Sends(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(LOCAL)
            sock.setblocking(False)
            transport, protocol = await endpoint(sock=sock)
            sock.back, sock.calls_left = broken, 0
            with pytest.raises(Broken):
                getattr(transport, call)(sent, peer.getsockname())
            assert [await self.loop.sock_recv(peer, 100) for _ in sent] == sent
            transport.close()
            await protocol.until(lambda p: p.lost)

        with udp() as peer:
            self.run(main())

    def test_what_is_sent_within_it_several_times(self):
        """None joins another that is being sent."""
        content = memoryview(bytes(itertools.chain(*([n] * 100 for n in range(8)))))

        async def sent_at(calls):
            def back():
                sock.seen += 1
                if sock.seen in calls:
                    send()

            def send():
                transport.sendto(content[100 * sock.sent:100 * sock.sent + 100],
                                 peer.getsockname())
                sock.sent += 1

            sock = Sees(socket.AF_INET, socket.SOCK_DGRAM)
            sock.sent = sock.seen = 0
            sock.bind(LOCAL)
            sock.setblocking(False)
            transport, _ = await endpoint(sock=sock, batch=True)
            for _ in range(5):
                send()
            sock.seen = 0
            sock.back = back
            await turns()
            sock.back = None
            assert [await self.loop.sock_recv(peer, 1000) for _ in range(sock.sent)] == [
                content[100 * part:100 * part + 100] for part in range(sock.sent)]
            transport.abort()
            await turns()

        async def main():
            for calls in itertools.combinations(range(1, 12), 3):
                await sent_at(calls)

        class Sees(socket.socket):
            back = None

            def fileno(self):
                if self.back is not None:
                    self.back()
                return super().fileno()

        with udp() as peer:
            self.run(main())


CALLS = {
    'sendto_zerocopy': lambda loop, transport, sock, view, to:
        transport.sendto_zerocopy(view, to),
    'sendto_many': lambda loop, transport, sock, view, to:
        transport.sendto_many([b'x', view], to),
    'sendto_with': lambda loop, transport, sock, view, to:
        transport.sendto_with(view, to),
    'sock_sendto': lambda loop, transport, sock, view, to:
        loop.sock_sendto(sock, view, to),
    'sock_sendto_zerocopy': lambda loop, transport, sock, view, to:
        loop.sock_sendto_zerocopy(sock, view, to),
}


class TestReleasedViews(Endpoints, UringCase):
    """A view that was released points to what may be gone: ValueError."""

    @pytest.mark.parametrize('call', CALLS.values(), ids=CALLS)
    def test_raises(self, call):
        async def main():
            sock = udp()
            transport, _ = await self.endpoint()
            # So large that its memory is given back to the system.
            view = memoryview(bytes(1 << 22))
            view.release()
            with pytest.raises(ValueError, match='released'):
                sent = call(self.loop, transport, sock, view, sock.getsockname())
                if sent is not None:
                    await sent
            sock.close()

        self.run(main())

    def test_is_a_fault_of_the_future_of_many(self):
        async def main():
            transport, _ = await self.endpoint()
            view = memoryview(bytes(1 << 22))
            view.release()
            with pytest.raises(ValueError, match='released'):
                await transport.sendto_many_zerocopy(
                    [view], transport.get_extra_info('sockname'))

        self.run(main())


class TestReceiving(UringCase):

    def test_the_senders_path_is_no_python_code(self, monkeypatch, tmp_path):
        """A signal could interrupt that, and what has come would be lost."""
        async def main():
            near, far = (bound(socket.AF_UNIX, str(tmp_path / name)) for name in 'ab')
            near.setblocking(False)
            transport, protocol = await endpoint(sock=near)
            with monkeypatch.context() as patch:
                patch.setattr(os, 'fsdecode', None)
                far.sendto(b'x', str(tmp_path / 'a'))
                await protocol.until(lambda p: p.datagrams)
            assert protocol.addresses == [str(tmp_path / 'b')]
            transport.close()
            await turns()
            far.close()

        self.run(main())


class TestCounted(UringCase):
    """A datagram with an address that is none ends the transport, as with asyncio; it counts."""

    @pytest.mark.parametrize(
        'address', [('127.0.0.1',), ('127.0.0.1', 'x'), ('127.0.0.1', 1 << 20)])
    def test_wrong_addresses(self, address):
        async def main():
            transport, protocol = await endpoint(local_addr=LOCAL)
            transport.sendto(b'x', address)
            await protocol.until(lambda p: p.lost)
            assert self.loop.stats().datagrams_dropped == 1

        self.run(main())


on_the_fallback_too(globals(), TestReleasedViews, TestCounted)
