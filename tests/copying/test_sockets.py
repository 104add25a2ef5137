"""Sockets of the fallback: who waits for them to be ready."""
import asyncio
import contextlib
import contextvars
import errno
import gc
import os
import resource
import select
import socket
import ssl
import weakref
from unittest import mock

import pytest

from tests.support.cases import Case, FallbackMixin
from tests.support.protocols import endpoint
from tests.support.sockets import deserted, udp, unix_pair
from tests.support.turns import turns, turns_until
from uringloop.copying.loop import CopyingLoop
from uringloop.copying.readiness import Readiness

IP_RECVERR = 11                         # linux/in.h


class TestSockets(FallbackMixin, Case):

    def test_a_full_socket(self):
        async def main():
            ours, peer = unix_pair()
            for sock in ours, peer:
                sock.setblocking(False)
            with ours, peer:
                data = bytearray(b'abcd' * 1000)
                sending = self.loop.sock_sendto_zerocopy(
                    ours, data, peer.getsockname(), segment_size=4)
                data.clear()                           # copied
                await turns()
                assert not sending.done()
                got = [await self.loop.sock_recv(peer, 100) for _ in range(1000)]
                assert got == [b'abcd'] * 1000
                assert await sending == (4000, True)

        self.run(main())

    def test_each_has_its_turn(self):
        """Beside one that takes what comes, again and again."""
        async def take(count):
            for _ in range(count):
                await self.loop.sock_recvmsg(ours, 100)
                await asyncio.sleep(0)

        async def main():
            tasks = [asyncio.ensure_future(take(count)) for count in (1000, 1, 1, 5, 1)]
            await turns()
            while not all(task.done() for task in tasks[1:]):
                peer.send(b'x')
                await turns(4)
                assert not tasks[0].done()
            tasks[0].cancel()
            await asyncio.wait(tasks)

        ours, peer = unix_pair()
        with ours, peer:
            ours.setblocking(False)
            self.run(main())

    def test_one_that_sends_beside_many_has_its_turn(self):
        """They send again and again."""
        async def send(number):
            while True:
                sent = self.loop.sock_sendmsg(ours, [b'x']) if number % 2 else \
                    self.loop.sock_sendto_zerocopy(ours, b'x', peer.getsockname())
                await sent
                await asyncio.sleep(0)

        async def main():
            with contextlib.suppress(BlockingIOError):
                while True:
                    ours.send(b'before')
            tasks = [asyncio.ensure_future(send(number)) for number in range(4)]
            await turns()
            one = asyncio.ensure_future(self.loop.sock_sendmsg(ours, [b'one']))
            while not one.done():
                with contextlib.suppress(BlockingIOError):
                    peer.recv(100)
                await asyncio.sleep(0.0005)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

        ours, peer = unix_pair()
        with ours, peer:
            for sock in ours, peer:
                sock.setblocking(False)
            self.run(main())

    @pytest.mark.parametrize('count', [2, 5])
    def test_several_that_receive_have_each_their_turn(self, count):
        """Each asks again at once."""
        async def take(number):
            while True:
                await self.loop.sock_recvmsg(ours, 100)
                got[number] += 1

        async def main():
            tasks = [asyncio.ensure_future(take(number)) for number in range(count)]
            await turns()
            for n in range(1, 10 * count + 1):
                peer.send(b'x')
                while sum(got) < n:
                    await asyncio.sleep(0)
            assert got == [10] * count
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

        got = [0] * count
        ours, peer = unix_pair()
        with ours, peer:
            ours.setblocking(False)
            self.run(main())

    def test_cancelled_when_something_comes(self):
        """The others have it."""
        async def main():
            with ours, peer:
                tasks = [asyncio.ensure_future(self.loop.sock_recvmsg(ours, 100))
                         for _ in range(5)]
                await turns()
                for task in tasks[0], tasks[4]:
                    task.cancel()
                    peer.send(b'something')
                    await turns()
                while sum(task.done() for task in tasks) < 4:
                    await asyncio.sleep(0)
                peer.send(b'something')
                await asyncio.wait(tasks)
                assert [task.cancelled() for task in tasks] == [True] + [False] * 3 + [True]

        ours, peer = unix_pair()
        ours.setblocking(False)
        self.run(main())

    def test_beside_calls_of_asyncios_own(self):
        """None takes the place of another."""
        async def main():
            with ours, peer:
                tasks = [asyncio.ensure_future(call) for call in (
                    self.loop.sock_recvmsg(ours, 100), self.loop.sock_recv(ours, 100),
                    self.loop.sock_recvmsg(ours, 100))]
                await turns()
                for _ in tasks:
                    peer.send(b'something')
                await asyncio.wait(tasks)

        ours, peer = unix_pair()
        ours.setblocking(False)
        self.run(main())

    def test_closed_and_alive_elsewhere(self):
        """It is not told of for ever; the others go on."""
        async def main():
            with peer, other, other_peer:
                elsewhere = ours.dup()
                waiting, served = (asyncio.ensure_future(self.loop.sock_recvmsg(sock, 100))
                                   for sock in (ours, other))
                await turns()
                ours.close()
                peer.send(b'unread')
                await turns()
                assert not self.loop._readiness.epoll.poll(0)
                other_peer.send(b'something')
                assert (await served)[0] == b'something'
                waiting.cancel()
                await asyncio.wait([waiting])
                elsewhere.close()

        (ours, peer), (other, other_peer) = unix_pair(), unix_pair()
        for sock in ours, other:
            sock.setblocking(False)
        self.run(main())

    def test_nobody_is_in_the_way_of_who_has_the_number(self):
        """Of a socket that is closed under those who wait, by whatever call."""
        async def main():
            old, old_peer = unix_pair()
            old.setblocking(False)
            waiting = [asyncio.ensure_future(self.loop.sock_recvmsg(old, 100, 0, flags))
                       for flags in (0, socket.MSG_ERRQUEUE)]
            await turns()
            number = old.fileno()
            old.close()
            sock = udp()
            assert sock.fileno() == number
            name = sock.getsockname()
            with udp() as other:
                other.sendto(b'one', name)
                assert await self.loop.sock_recv(sock, 100) == b'one'
                receiving = asyncio.ensure_future(self.loop.sock_recv(sock, 100))
                await turns()
                other.sendto(b'two', name)
                assert await receiving == b'two'
                transport, protocol = await endpoint(sock=sock)
                for task in waiting:
                    task.cancel()
                assert await asyncio.gather(*waiting, return_exceptions=True)
                assert all(task.cancelled() for task in waiting)
                other.sendto(b'three', name)
                await protocol.until(lambda p: p.datagrams)
                transport.close()
                await turns()
            old_peer.close()

        self.run(main())

    def test_who_waits_for_errors_behind_who_waits_for_data(self):
        async def main():
            sock = udp()
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            data = [asyncio.ensure_future(self.loop.sock_recvmsg(sock, 100)) for _ in range(2)]
            await turns()
            errors = asyncio.ensure_future(
                self.loop.sock_recvmsg(sock, 100, 500, socket.MSG_ERRQUEUE))
            await turns()
            sock.sendto(b'x', deserted())
            await turns()
            with contextlib.suppress(ConnectionRefusedError):
                sock.sendto(b'x', sock.getsockname())
            assert (await errors)[2] & socket.MSG_ERRQUEUE
            for task in data:
                sock.sendto(b'x', sock.getsockname())
                with contextlib.suppress(ConnectionRefusedError):
                    await task
            sock.close()

        self.run(main())

    def test_many_that_are_cancelled_together(self):
        """The loop does not stand still meanwhile."""
        async def main():
            with ours, peer:
                waiting = [asyncio.ensure_future(self.loop.sock_recvmsg(ours, 100))
                           for _ in range(20_000)]
                await turns()
                for task in waiting:
                    task.cancel()
                await asyncio.wait(waiting)
                assert not self.loop._readiness.watched

        ours, peer = unix_pair()
        ours.setblocking(False)
        self.run(main())

    @pytest.mark.parametrize('before', ['sock_recvmsg', 'sock_sendmsg', 'both'])
    @pytest.mark.parametrize('call', ['sock_recvmsg', 'sock_sendmsg'])
    def test_the_number_of_one_that_was_closed_while_it_was_full(self, before, call):
        async def main():
            old, old_peer = unix_pair()
            new, new_peer = unix_pair()
            for sock in old, new:
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        sock.send(bytes(1000))
            calls = {'sock_recvmsg': lambda sock: self.loop.sock_recvmsg(sock, 100),
                     'sock_sendmsg': lambda sock: self.loop.sock_sendmsg(sock, [b'x'])}
            waiting = [asyncio.ensure_future(how(old)) for name, how in calls.items()
                       if before in (name, 'both')]
            await turns()
            number = old.detach()
            os.dup2(new.fileno(), number)
            new.close()
            with socket.socket(fileno=number) as sock:
                served = asyncio.ensure_future(calls[call](sock))
                await turns()
                assert not served.done()
                new_peer.send(b'something')
                with contextlib.suppress(BlockingIOError):
                    new_peer.setblocking(False)
                    while True:
                        new_peer.recv(1000)
                await served
                for task in waiting:
                    task.cancel()
                await asyncio.wait(waiting)
            for sock in old_peer, new_peer:
                sock.close()

        self.run(main())

    def test_the_number_of_one_that_was_closed(self):
        """Who waits on that is left to itself, as with asyncio; the next has nothing of it."""
        async def main():
            ours, peer = unix_pair()
            ours.setblocking(False)
            waiting = asyncio.ensure_future(self.loop.sock_recvmsg(ours, 100))
            await turns()
            number = ours.fileno()
            ours.close()
            with udp() as sock, udp() as other:
                assert sock.fileno() == number
                other.sendto(b'one', sock.getsockname())
                assert (await self.loop.sock_recvmsg(sock, 100))[0] == b'one'
                receiving = asyncio.ensure_future(self.loop.sock_recvmsg(sock, 100))
                await turns()
                other.sendto(b'two', sock.getsockname())
                assert (await receiving)[0] == b'two'
                assert not waiting.done()
                waiting.cancel()
                await asyncio.wait([waiting])
            peer.close()

        self.run(main())

    def test_cancelled_when_the_number_is_a_transports(self):
        async def main():
            ours, peer = unix_pair()
            ours.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    ours.send(bytes(1000))
            waiting = [asyncio.ensure_future(self.loop.sock_sendmsg(ours, [b'x']))
                       for _ in range(3)]
            await turns()
            number = ours.fileno()
            ours.close()
            with udp() as sock:
                assert sock.fileno() == number
                transport, _ = await endpoint(sock=sock)
                for task in waiting:
                    task.cancel()
                await asyncio.wait(waiting)
                assert all(task.cancelled() for task in waiting)
                transport.close()
                await turns()
            peer.close()

        self.run(main())

    def test_cancelled_while_it_waits(self):
        async def main():
            ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            for sock in (ours, peer):
                sock.setblocking(False)
            with ours, peer:
                waiting = asyncio.ensure_future(self.loop.sock_recvmsg(ours, 100))
                await turns()
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert not self.loop._selector.get_map().keys() & {ours.fileno()}

        self.run(main())

    def test_the_first_that_waits_has_a_socket_closed_before_it(self):
        """Which asyncio's selector still lists."""
        async def main():
            closed, sock = udp(), udp()
            reading = asyncio.ensure_future(self.loop.sock_recv(closed, 100))
            await turns()
            receiving = [asyncio.ensure_future(self.loop.sock_recvmsg(sock, 100))
                         for _ in range(3)]
            reading.cancel()
            closed.close()
            await turns()
            for task in receiving:
                sock.sendto(b'something', sock.getsockname())
                assert (await task)[0] == b'something'
            sock.close()

        self.run(main())

    def test_what_lives_on_elsewhere_wakes_nobody_who_has_its_number(self):
        """Cancelled and closed in one turn, its call has no number to take back."""
        async def main():
            with old_peer, peer, other, other_peer:
                elsewhere, number = old.dup(), old.fileno()
                kept = asyncio.ensure_future(self.loop.sock_recvmsg(other, 100))
                waiting = asyncio.ensure_future(self.loop.sock_recvmsg(old, 100))
                await turns()
                waiting.cancel()
                old.close()
                await asyncio.wait([waiting])
                os.dup2(sock.detach(), number)
                with socket.socket(fileno=number) as new:
                    new.setblocking(False)
                    receiving = asyncio.ensure_future(self.loop.sock_recvmsg(new, 100))
                    await turns()
                    old_peer.send(b'unread')
                    await turns()
                    assert not self.loop._readiness.epoll.poll(0)
                    peer.send(b'something')
                    assert (await receiving)[0] == b'something'
                    other_peer.send(b'other')
                    assert (await kept)[0] == b'other'
                elsewhere.close()

        (old, old_peer), (sock, peer), (other, other_peer) = (unix_pair() for _ in range(3))
        for each in old, other:
            each.setblocking(False)
        self.run(main())

    def test_one_that_is_cancelled_and_closed_costs_the_others_nothing(self):
        async def main():
            with ours, peer, mock.patch.object(Readiness, 'renew') as renew:
                kept = asyncio.ensure_future(self.loop.sock_recvmsg(ours, 100))
                for _ in range(3):
                    sock = udp()
                    waiting = asyncio.ensure_future(self.loop.sock_recvmsg(sock, 100))
                    await turns()
                    waiting.cancel()
                    sock.close()
                    await asyncio.wait([waiting])
                assert self.loop._readiness.watched.keys() == {ours.fileno()}
                peer.send(b'something')
                assert (await kept)[0] == b'something'
                renew.assert_not_called()

        ours, peer = unix_pair()
        ours.setblocking(False)
        self.run(main())

    def test_what_lives_on_elsewhere_while_no_descriptor_is_left(self):
        """Nobody can forget it then, and the loop does not spin."""
        async def main():
            with ours, peer, other, other_peer:
                elsewhere = ours.dup()
                waiting, served = (asyncio.ensure_future(self.loop.sock_recvmsg(sock, 100))
                                   for sock in (ours, other))
                await turns()
                ours.close()
                peer.send(b'unread')
                with mock.patch.object(select, 'epoll', side_effect=OSError(errno.EMFILE, '')):
                    await turns_until(lambda: woken)
                    await turns(100)
                    assert len(woken) < 10
                    other_peer.send(b'something')
                    assert (await served)[0] == b'something'
                await turns_until(lambda: not self.loop._readiness.epoll.poll(0))
                waiting.cancel()
                await asyncio.wait([waiting])
                elsewhere.close()

        def wake(readiness):
            woken.append(True)
            original(readiness)

        original, woken = Readiness.wake, []
        (ours, peer), (other, other_peer) = unix_pair(), unix_pair()
        for sock in ours, other:
            sock.setblocking(False)
        with mock.patch.object(Readiness, 'wake', wake):
            self.run(main())

    def test_interrupted_before_one_is_told(self):
        """It is told in the next turn, then."""
        class Interrupted(asyncio.Future):
            def set_result(self, result):
                if not interrupts:
                    interrupts.append(True)
                    raise KeyboardInterrupt
                super().set_result(result)

        async def begin():
            receiving = asyncio.ensure_future(self.loop.sock_recvmsg(ours, 100))
            with mock.patch.object(
                    self.loop, 'create_future', lambda: Interrupted(loop=self.loop)):
                await turns()
            return receiving

        async def end(receiving):
            assert (await receiving)[0] == b'something'

        interrupts = []
        ours, peer = unix_pair()
        ours.setblocking(False)
        with ours, peer:
            receiving = self.run(begin())
            peer.send(b'something')
            with pytest.raises(KeyboardInterrupt):
                self.turns()
            assert interrupts
            self.run(end(receiving))

    def test_the_error_of_one_and_what_lives_on_of_another(self):
        """By the same number; who waits is not told for ever of what is not there."""
        async def main():
            with old_peer:
                elsewhere, number = old.dup(), old.fileno()
                waiting = asyncio.ensure_future(self.loop.sock_recvmsg(old, 100))
                await turns()
                waiting.cancel()
                old.close()
                await asyncio.wait([waiting])
                os.dup2(sock.detach(), number)
                with socket.socket(fileno=number) as new:
                    new.setblocking(False)
                    new.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
                    receiving = asyncio.ensure_future(self.loop.sock_recvmsg(new, 100))
                    new.sendto(b'are you there?', deserted())
                    with pytest.raises(ConnectionRefusedError):
                        await receiving
                    receiving = asyncio.ensure_future(self.loop.sock_recvmsg(new, 100))
                    await turns()
                    old_peer.send(b'unread')
                    await turns(10)
                    assert {events for _, events in self.loop._readiness.epoll.poll(0)} <= {
                        select.EPOLLERR}
                    new.sendto(b'something', new.getsockname())
                    assert (await receiving)[0] == b'something'
                elsewhere.close()

        (old, old_peer), sock = unix_pair(), udp()
        old.setblocking(False)
        self.run(main())

    def test_nobodys_context_is_kept(self):
        async def request():
            variable.set(thing := Thing())
            things.append(weakref.ref(thing))
            receiving = asyncio.ensure_future(self.loop.sock_recvmsg(ours, 100))
            await turns()
            peer.send(b'something')
            await receiving

        async def main():
            with ours, peer:
                for _ in range(2):           # (what has run last may be held a while)
                    await asyncio.ensure_future(request())
                gc.collect()
                assert things[0]() is None

        class Thing:
            pass

        variable, things = contextvars.ContextVar('variable'), []
        ours, peer = unix_pair()
        ours.setblocking(False)
        self.run(main())

    def test_registered_memory_of_a_stream(self):
        async def main():
            with ours, peer:
                async with self.loop.register_buffer(bytearray(b'registered')) as memory:
                    await self.loop.sock_sendall(ours, memory)
                assert peer.recv(100) == b'registered'

        ours, peer = socket.socketpair()
        ours.setblocking(False)
        self.run(main())

    def test_a_blocking_socket_is_refused_in_debug_mode(self):
        async def main():
            self.loop.set_debug(True)
            with udp() as sock:
                sock.setblocking(True)
                for call in (self.loop.sock_recvfrom(sock, 1), self.loop.sock_recvmsg(sock, 1),
                             self.loop.sock_recvfrom_into(sock, bytearray(1)),
                             self.loop.sock_sendmsg(sock, [b'x'], (), 0, sock.getsockname()),
                             self.loop.sock_sendto(sock, b'x', sock.getsockname())):
                    with pytest.raises(ValueError, match='the socket must be non-blocking'):
                        await call

        self.run(main())

    def test_sockets_of_tls_are_refused(self):
        async def main():
            plain, peer = socket.socketpair()
            with peer, ssl.create_default_context().wrap_socket(
                    plain, server_hostname='x', do_handshake_on_connect=False) as sock:
                for call in self.loop.sock_sendmsg(sock, [b'x']), self.loop.sock_recvmsg(sock, 1):
                    with pytest.raises(TypeError, match='SSLSocket'):
                        await call

        self.run(main())

    def test_without_descriptors(self):
        """To wait takes none."""
        async def main():
            with ours, peer:
                resource.setrlimit(resource.RLIMIT_NOFILE, (peer.fileno() + 1, limits[1]))
                held = []
                try:
                    with pytest.raises(OSError, match='open files'):
                        while True:
                            held.append(os.dup(0))
                    receiving = asyncio.ensure_future(self.loop.sock_recvmsg(ours, 100))
                    await turns()
                    peer.send(b'something')
                    assert (await receiving)[0] == b'something'
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                    for fd in held:
                        os.close(fd)

        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        ours, peer = unix_pair()
        ours.setblocking(False)
        self.run(main())

    def test_no_loop_is_made_without_descriptors(self):
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with udp() as highest:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest.fileno() + 9, limits[1]))
            held = []
            try:
                with pytest.raises(OSError, match='open files'):
                    while True:
                        held.append(os.dup(0))
                for _ in range(3):           # for asyncio's epoll and its pair of sockets
                    os.close(held.pop())
                with pytest.raises(OSError, match='open files'):
                    CopyingLoop()
                gc.collect()
                held.extend(os.dup(0) for _ in range(3))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                for fd in held:
                    os.close(fd)
