"""Datagrams of the fallback: what waits for room, and is told of, though asyncio queues it."""
import asyncio
import contextlib
import errno
import gc
import os
import socket
import sys

import pytest

import uringloop
from tests.support.cases import Case, FallbackMixin
from tests.support.protocols import Recorder, endpoint
from tests.support.sockets import LOCAL, bound, deserted, udp, unix_pair
from tests.support.turns import turns
from uringloop.copying.datagrams import EMPTY_ALLOWED
from uringloop.copying.loop import UDP_GRO, CopyingLoop

IP_RECVERR = 11                         # linux/in.h
UDP_SEGMENT = 103                       # linux/udp.h


class FullSocket(FallbackMixin, Case):
    """A connected pair of Unix sockets takes few datagrams that nobody reads."""

    async def full(self):
        """``(transport, protocol, peer, sent)``: all of ``sent`` has left, and no more will."""
        ours, peer = unix_pair()
        peer.setblocking(False)
        transport, protocol = await endpoint(sock=ours)
        sent = 0
        while not transport.get_write_buffer_size():
            transport.sendto(b'%d' % sent)
            sent += 1
        return transport, protocol, peer, sent

    async def read(self, peer, count):
        return [await self.loop.sock_recv(peer, 1000) for _ in range(count)]


class TestFull(FullSocket):

    def test_a_report_waits_until_it_has_left(self):
        """So a program that awaits its reports is held back, as by the ring."""
        async def main():
            transport, _, peer, sent = await self.full()
            with peer:
                one = transport.sendto_zerocopy(bytearray(b'one'))
                cut = transport.sendto_zerocopy(b'abcdefgh', segment_size=3)
                many = transport.sendto_many_zerocopy([b'x', b'', b'z'])
                transport.sendto_many([b'plain', bytearray(b'too')])
                await turns()
                assert not one.done() and not cut.done() and not many.done()
                got = await self.read(peer, sent + 1 + 3 + 3 + 2)
                assert got[sent:] == [b'one', b'abc', b'def', b'gh', b'x', b'', b'z', b'plain',
                                      b'too']
                assert [await each for each in (one, cut, many)] == [
                    uringloop.SendReport(3, True), (8, True), (2, True)]
                transport.close()

        self.run(main())

    def test_aborted(self):
        async def main():
            transport, protocol, peer, _ = await self.full()
            with peer:
                before = self.loop.stats().datagrams_dropped
                one = transport.sendto_zerocopy(b'one')
                many = transport.sendto_many_zerocopy([b'two', b'three'])
                transport.abort()
                for each in one, many:
                    with pytest.raises(ConnectionAbortedError, match=r'was aborted: . bytes'):
                        await each
                # And one of those that have filled it.
                assert self.loop.stats().datagrams_dropped - before == 4
                await protocol.until(lambda p: p.lost)

        self.run(main())

    def test_aborted_without_a_future(self):
        """As asyncio: the protocol hears that the connection is lost, and nothing more."""
        async def main():
            transport, protocol, peer, _ = await self.full()
            with peer:
                transport.sendto_many([b'one', b'two'])
                transport.sendmsg([b'three'])
                transport.abort()
                await protocol.until(lambda p: p.lost)
                assert not protocol.errors

        self.run(main())

    def test_closed_by_who_is_told_of_an_error(self):
        """Once, as by asyncio's own ``sendto``."""
        class Closing(Recorder):
            def error_received(self, exc):
                super().error_received(exc)
                self.transport.close()

        async def main():
            ours, peer = unix_pair()
            transport, protocol = await self.loop.create_datagram_endpoint(Closing, sock=ours)
            while not transport.get_write_buffer_size():
                transport.sendto_many([b'x'])
            peer.close()
            await protocol.until(lambda p: p.lost)
            await turns()
            assert len(protocol.errors) == 1
            assert not told

        told = []
        self.loop.set_exception_handler(lambda _, context: told.append(context))
        self.run(main())

    @pytest.mark.parametrize('call', ['sendto_many', 'sendto_zerocopy'])
    def test_aborted_by_who_is_told_to_pause(self, call):
        """The futures hear of it, and nobody else."""
        class Aborts(Recorder):
            def pause_writing(self):
                self.transport.abort()

        async def main():
            ours, peer = unix_pair()
            with peer:
                transport, protocol = await self.loop.create_datagram_endpoint(Aborts, sock=ours)
                transport.set_write_buffer_limits(0)
                while not transport.is_closing():
                    what = [b'x'] if call == 'sendto_many' else b'x'
                    future = getattr(transport, call)(what)
                if call == 'sendto_zerocopy':
                    with pytest.raises(ConnectionAbortedError, match='was aborted'):
                        await future
                await protocol.until(lambda p: p.lost)
                assert not protocol.errors

        # asyncio's own code has more to say of it.
        self.loop.set_exception_handler(lambda *_: None)
        self.run(main())

    def test_closed(self):
        """What waits still leaves."""
        async def main():
            transport, protocol, peer, sent = await self.full()
            with peer:
                one = transport.sendto_zerocopy(b'one')
                transport.close()
                assert (await self.read(peer, sent + 1))[-1] == b'one'
                assert await one == (3, True)
                await protocol.until(lambda p: p.lost)

        self.run(main())

    def test_an_error_is_its_own_and_not_the_protocols(self):
        async def main():
            transport, protocol, peer, _ = await self.full()
            one = transport.sendto_zerocopy(b'one')
            transport.sendto(b'plain')
            peer.close()
            # The one that has filled it is the first to hear of that, from asyncio.
            with pytest.raises(OSError, match='not connected'):
                await one
            await protocol.until(lambda p: len(p.errors) == 2)
            transport.close()

        self.run(main())

    def test_cancelled(self):
        async def main():
            transport, _, peer, sent = await self.full()
            with peer:
                transport.sendto_zerocopy(b'one').cancel()
                assert (await self.read(peer, sent + 1))[-1] == b'one'
                transport.close()

        self.run(main())

    def test_the_memory_is_the_callers_at_once(self):
        async def main():
            transport, _, peer, sent = await self.full()
            with peer, self.loop.create_buffer_pool(1, 3).acquire_nowait() as lease:
                data = bytearray(b'one')
                lease[:] = b'two'
                transport.sendto_zerocopy(data)
                transport.sendto(lease)
                data[:] = lease[:] = b'new'
                data.append(1)
                assert (await self.read(peer, sent + 2))[-2:] == [b'one', b'two']
                transport.close()

        self.run(main())


class TestCounted(FallbackMixin, Case):

    def test_what_leaves_comes_and_is_dropped(self):
        async def main():
            receiver, received = await endpoint(local_addr=LOCAL)
            sender, protocol = await endpoint(remote_addr=receiver.get_extra_info('sockname'))
            sender.sendto(b'plain')
            sender.sendto_many([b'a', b'b'])
            await sender.sendto_zerocopy(b'zero-copy, as asked for')
            sender.sendto(bytes(65_508))
            with pytest.raises(OSError, match='too long') as caught:
                await sender.sendto_zerocopy(bytes(65_508))
            assert caught.value.errno == errno.EMSGSIZE
            await received.until(lambda p: len(p.datagrams) == 4)
            assert len(protocol.errors) == 1
            stats = self.loop.stats()
            assert (stats.datagrams_sent, stats.datagrams_received, stats.datagrams_dropped) \
                == (4, 4, 2)
            assert (stats.zerocopy_sent, stats.zerocopy_copied) == (1, 1)
            assert stats.submissions == stats.operations_live == stats.bytes_pinned == 0
            sender.close()
            receiver.close()

        self.run(main())

    @pytest.mark.parametrize('method', [
        'datagram_received', 'datagram_msg_received', 'datagrams_received'])
    def test_what_is_cut(self, method):
        async def main():
            ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            with peer:
                transport, _ = await self.loop.create_datagram_endpoint(kind, sock=ours)
                transport.max_size = 100
                for size in 100, 101, 1000, 3:
                    peer.send(bytes(size))
                while len(told) < 4:
                    await asyncio.sleep(0)
                stats = self.loop.stats()
                assert (stats.datagrams_received, stats.datagrams_truncated) == (4, 2)
                transport.close()
                await turns()

        told = []
        kind = type('Told', (asyncio.DatagramProtocol,), {
            method: lambda protocol, *arguments: told.append(arguments)})
        self.run(main())

    def test_the_memory_of_what_has_failed_is_the_callers_too(self):
        """Whoever keeps the error keeps no frame of the call, and so no view of the buffer."""
        async def main():
            transport, _ = await endpoint(local_addr=LOCAL)
            data = bytearray(65_508)
            failed = transport.sendto_zerocopy(
                memoryview(data), transport.get_extra_info('sockname'))
            assert failed.exception().errno == errno.EMSGSIZE
            data.append(1)
            transport.close()

        self.run(main())

    def test_a_train_that_is_refused_in_the_middle(self):
        async def main():
            transport, protocol = await endpoint(remote_addr=deserted())
            with pytest.raises(ConnectionRefusedError):
                await transport.sendto_zerocopy(bytes(300), segment_size=100)
            assert not protocol.errors
            transport.close()

        self.run(main())


    def test_a_train_of_a_socket(self):
        """Each of it, as of a transport."""
        async def main():
            with udp() as sock:
                await self.loop.sock_sendto_zerocopy(
                    sock, bytes(10), sock.getsockname(), segment_size=2)
                stats = self.loop.stats()
                assert (stats.datagrams_sent, stats.zerocopy_sent, stats.zerocopy_copied) \
                    == (5, 5, 5)

        self.run(main())


class TestQueue(FullSocket):

    def test_telling_that_fails(self):
        """What waits behind it leaves all the same."""
        class Loop(CopyingLoop):
            broken = False

            def call_soon(self, callback, *args, **kwargs):
                if self.broken and callback is told:
                    raise ZeroDivisionError
                return super().call_soon(callback, *args, **kwargs)

        def told(_):
            pass

        async def main():
            transport, _, peer, sent = await self.full()
            with peer:
                one, two = [transport.sendto_zerocopy(data) for data in (b'one', b'two')]
                one.add_done_callback(told)
                self.loop.broken = True
                assert (await self.read(peer, sent + 2))[-2:] == [b'one', b'two']
                assert await two == (3, True) and one.done()
                more = [transport.sendto_zerocopy(b'more') for _ in range(sent + 3)]
                more[-3].add_done_callback(told)
                await turns()
                transport.abort()
                assert all(future.done() for future in more)
                await asyncio.wait(more)
                self.loop.broken = False

        self.loop.close()
        self.loop = Loop()
        self.loop.set_exception_handler(lambda _, context: self.problems.append(context))
        self.run(main())
        assert {type(context['exception']) for context in self.problems} == {ZeroDivisionError}

    def test_interrupted_while_it_is_aborted(self):
        """All of them are told."""
        class Loop(CopyingLoop):
            def call_soon(self, callback, *args, **kwargs):
                if callback is told:
                    raise KeyboardInterrupt
                return super().call_soon(callback, *args, **kwargs)

        def told(_):
            pass

        async def main():
            transport, protocol, peer, _ = await self.full()
            with peer:
                waiting = [transport.sendto_zerocopy(b'one') for _ in range(3)]
                for future in waiting:
                    future.add_done_callback(told)
                await turns()
                with pytest.raises(KeyboardInterrupt):
                    transport.abort()
                assert {type(future.exception()) for future in waiting} == {ConnectionAbortedError}
                assert self.loop.stats().datagrams_dropped == 4
                await protocol.until(lambda p: p.lost)

        self.loop.close()
        self.loop = Loop()
        self.run(main())

    @pytest.mark.filterwarnings('ignore:unclosed transport')
    @pytest.mark.parametrize('end', ['abort', 'close'])
    def test_interrupted_before_one_is_told(self, end):
        """By a signal, which comes anywhere: that one is told, too."""
        async def main():
            transport, _, peer, _ = await self.full()
            waiting = [transport.sendto_zerocopy(b'one') for _ in range(5)]
            report = transport._buffer[3][0].report
            if end == 'abort':
                report.told = interrupted
            else:
                report.future = Interrupted(report.future)
            return transport, peer, waiting

        def interrupted(*arguments):
            del waiting_report().told
            raise KeyboardInterrupt

        def waiting_report():
            return transport._buffer[0][0].report

        class Interrupted:
            def __init__(self, future):
                self.future = future

            def cancel(self):
                waiting_report().future = self.future
                raise KeyboardInterrupt

        transport, peer, waiting = self.run(main())
        with pytest.raises(KeyboardInterrupt):
            if end == 'abort':
                transport.abort()
            else:
                self.loop.close()
        assert all(future.done() for future in waiting)
        for future in waiting:
            future.cancelled() or future.exception()
        if end == 'abort':
            self.turns(3)
        else:
            transport._sock.close()
        peer.close()

    def test_aborted_by_who_is_told_of_the_last(self):
        """The descriptor is watched no more: the next of that number hears what comes."""
        class Aborts(Recorder):
            def error_received(self, exc):
                self.transport.abort()

        async def main():
            ours, peer = unix_pair()
            transport, protocol = await self.loop.create_datagram_endpoint(Aborts, sock=ours)
            while not transport.get_write_buffer_size():
                transport.sendto(b'x')
            number = ours.fileno()
            peer.close()
            await protocol.until(lambda p: p.lost)
            await self.hears(number)

        self.run(main())
        assert not self.problems

    @pytest.mark.parametrize('when', ['closed', 'lost'])
    def test_what_asyncio_queues_without_a_connection(self, when):
        """It is dropped, and counted."""
        class Last(Recorder):
            def connection_lost(self, exc):
                if when == 'lost':
                    self.transport.sendto(b'last', there)
                super().connection_lost(exc)

        async def main():
            receiver.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    sender.sendto(b'x', there)
            transport, protocol = await self.loop.create_datagram_endpoint(
                Last, local_addr=there + 'sender', family=socket.AF_UNIX)
            number = transport.get_extra_info('socket').fileno()
            transport.close()
            if when == 'closed':
                transport.sendto(b'last', there)
            await protocol.until(lambda p: p.lost)
            assert self.loop.stats().datagrams_dropped == 1
            await self.hears(number)

        there = '\0fallback-' + os.urandom(8).hex()
        with bound(socket.AF_UNIX, there) as receiver, \
                socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            self.run(main())
        assert not self.problems

    async def hears(self, number):
        """An endpoint of that descriptor does."""
        others = []
        while not others or others[-1][0].get_extra_info('socket').fileno() < number:
            others.append(await endpoint(local_addr=LOCAL))
        transport, protocol = others[-1]
        assert transport.get_extra_info('socket').fileno() == number
        transport.sendto(b'hello', transport.get_extra_info('sockname'))
        await protocol.until(lambda p: p.datagrams)
        for transport, _ in others:
            transport.close()
        await turns()


class TestPairs(FallbackMixin, Case):

    def test_a_peer_without_a_name_needs_no_address(self):
        """As with the ring."""
        async def main():
            ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            with peer:
                transport, protocol = await endpoint(sock=ours)
                transport.sendto(b'one')
                transport.sendto_many([b'two'])
                transport.sendto(bytearray(b'three'))
                assert [peer.recv(10) for _ in range(3)] == [b'one', b'two', b'three']
                transport.close()
                await protocol.until(lambda p: p.lost)
                assert protocol.lost == [None]

        self.run(main())


class TestErrors(FallbackMixin, Case):

    @pytest.mark.parametrize('kind', [KeyboardInterrupt, asyncio.CancelledError])
    def test_an_interrupt_where_one_leaves_that_has_waited(self, kind):
        """Of the program's address, say: its future does not stay pending."""
        class Port:
            def __init__(self, port):
                self.port = port
                self.asked = 0

            def __index__(self):
                self.asked += 1
                if self.asked == 2:
                    raise kind
                return self.port

        class Full:
            """A socket that has no room at first."""

            def __init__(self, sock):
                self.sock = sock
                self.full = True

            def __getattr__(self, name):
                return getattr(self.sock, name)

            def sendto(self, *arguments):
                if self.full:
                    raise BlockingIOError
                return self.sock.sendto(*arguments)

        async def send():
            transport, _ = await endpoint(local_addr=LOCAL)
            transport._sock.real = full = Full(transport._sock.real)
            with udp() as peer:
                host, port = peer.getsockname()
            futures = [transport.sendto_zerocopy(b'x', (host, to))
                       for to in (port, Port(port), port)]
            return transport, futures, full

        transport, futures, full = self.run(send())
        full.full = False
        with contextlib.suppress(KeyboardInterrupt):
            self.turns(10)
        self.turns(10)
        transport.abort()
        self.turns(3)
        assert [future.cancelled() for future in futures] == [False, True, False]
        for future in futures[::2]:
            future.exception()               # told, whatever
        stats = self.loop.stats()
        assert stats.datagrams_sent + stats.datagrams_dropped == 3

    @pytest.mark.parametrize('method', ['datagram_received_with_info',
                                        'datagram_errqueue_received'])
    def test_what_is_no_error_of_the_network_ends_the_endpoint(self, method):
        """As with asyncio: it would be so each time."""
        async def main():
            kind = type('Kind', (Recorder,), {method: lambda self, *args: None})
            transport, protocol = await self.loop.create_datagram_endpoint(
                kind, local_addr=LOCAL)
            transport.max_size = -1
            with udp() as sock:
                sock.sendto(b'x', transport.get_extra_info('sockname'))
                await protocol.until(lambda p: p.lost)
            assert [type(exc) for exc in protocol.lost] == [ValueError]
            assert len(self.problems) == 1

        self.run(main())

    def test_an_error_that_is_kept_keeps_no_buffer(self):
        """Its traceback would: what was sent is in it."""
        async def main():
            transport, _ = await endpoint(local_addr=LOCAL)
            pool = self.loop.create_buffer_pool(2, 70_000)
            errors = []
            for _ in range(4):
                with pool.acquire_nowait() as lease:
                    errors += await asyncio.gather(
                        transport.sendto_zerocopy(lease[:], LOCAL), return_exceptions=True)
            assert [exc.errno for exc in errors] == [errno.EMSGSIZE] * 4
            assert pool.free == 2
            transport.close()
            await pool.close()

        self.run(main())


    @pytest.mark.parametrize('kept', [False, True])
    def test_of_a_train_that_a_socket_sends(self, kept):
        async def main():
            pool = self.loop.create_buffer_pool(1, 100)
            with udp() as sock:
                sock.connect(deserted())
                with pool.acquire_nowait() as lease:
                    future = self.loop.sock_sendto_zerocopy(
                        sock, lease[:], sock.getpeername(), segment_size=10)
                error = future.exception()
                assert isinstance(error, ConnectionRefusedError)
                if not kept:
                    del future, error
                del lease
                await turns()
                assert pool.free == 1

        gc.disable()
        try:
            self.run(main())
        finally:
            gc.enable()


class TestClosed(FallbackMixin, Case):
    """``sendto`` is asyncio's."""

    @pytest.mark.parametrize('loop', ['ours', 'asyncios'])
    @pytest.mark.parametrize('lost', [False, True])
    def test_with_a_remote_address(self, lost, loop, caplog):
        async def main():
            with udp() as peer:
                there = peer.getsockname()
                transport, protocol = await endpoint(remote_addr=there)
                transport.close()
                if lost:
                    await protocol.until(lambda p: p.lost)
                for other in ('127.0.0.1', 9), 'no address':
                    with pytest.raises(ValueError, match='Invalid address: must be None or'):
                        transport.sendto(b'x', other)
                for _ in range(6):
                    transport.sendto(b'x')
                assert caplog.messages == ['socket.send() raised exception.'] * 2
                with pytest.raises(BlockingIOError):
                    peer.recv(100)
                await turns()

        if loop == 'asyncios':
            self.loop.close()
            self.loop = asyncio.SelectorEventLoop()
        self.run(main())
        if loop == 'ours':
            assert self.loop.stats().datagrams_dropped == 6

    def test_empty_ones_are_counted_where_they_are_sent(self):
        async def main():
            for how in {'local_addr': LOCAL}, {'remote_addr': deserted()}:
                transport, protocol = await endpoint(**how)
                transport.close()
                await protocol.until(lambda p: p.lost)
                before = self.loop.stats().datagrams_dropped
                transport.sendto(b'')
                transport.sendto_many([b'', b''])
                assert self.loop.stats().datagrams_dropped - before == 3 * EMPTY_ALLOWED

        self.run(main())


class TestTrains(FallbackMixin, Case):

    @pytest.mark.parametrize('gro', [None, True, False])
    def test_on_a_socket_that_has_them_put_together(self, gro):
        """``gro=True`` says that the loop is to cut them: so the kernel leaves them as they are."""
        async def main():
            with udp() as sender:
                sock = udp()
                sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
                transport, protocol = await endpoint(sock=sock, gro=gro)
                sender.sendmsg([bytes(1000)], [(
                    socket.IPPROTO_UDP, UDP_SEGMENT, (300).to_bytes(2, sys.byteorder))], 0,
                    transport.get_extra_info('sockname'))
                await protocol.until(lambda p: sum(map(len, p.datagrams)) == 1000)
                assert [len(data) for data in protocol.datagrams] == (
                    [300, 300, 300, 100] if gro else [1000])
                transport.close()

        self.run(main())
