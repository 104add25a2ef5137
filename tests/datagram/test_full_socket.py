"""Datagrams for which the socket has no room: they wait in order, without spinning."""
import asyncio
import contextlib
import gc
import socket
import sys

import pytest

from tests.support.cases import Case, UringCase, both_sides
from tests.support.endpoints import numbered
from tests.support.features import needs_feature
from tests.support.namespaces import Wire, needs_root
from tests.support.protocols import Recorder, endpoint
from tests.support.sockets import SO_RCVBUFFORCE, bound
from tests.support.turns import turns, turns_until
from tests.support.wires import roomy_peer


class _TestWaiting(Case):

    @pytest.mark.parametrize('kind', [bytes, bytearray])
    def test_part_of_a_buffer_waits_as_it_was(self, kind, tmp_path):
        """What waits for room is the view, not the buffer; and it is as it was at the call."""
        async def main():
            near, far = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
            with far:
                for sock, name in (near, 'near'), (far, 'far'):
                    sock.bind(str(tmp_path / name))
                    sock.setblocking(False)
                near.connect(str(tmp_path / 'far'))
                transport, protocol = await endpoint(sock=near)
                sent = []
                while not transport.get_write_buffer_size() or len(sent) < 20:
                    data = kind(b'before%06dbehind' % len(sent))
                    sent.append(bytes(data[6:12]))
                    transport.sendto(memoryview(data)[6:12])
                    if kind is bytearray:
                        data[:] = bytes(len(data))
                received = [await self.loop.sock_recv(far, 100) for _ in sent]
                assert received == sent
                transport.close()
                await protocol.until(lambda p: p.lost)

        self.run(main())

    @needs_root
    @pytest.mark.parametrize('size', [0, 100, 1000, 20_000])
    def test_paused_within_a_bulk(self, size):
        """The socket is full: nobody goes on queueing without being told to pause."""
        async def main():
            with wire.far.entered():
                far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with far:
                far.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
                far.bind(wire.peer)
                far.setblocking(False)
                wire.hold()
                sock = wire.socket(address=('10.98.1.1', 0))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
                transport, protocol = await endpoint(sock=sock)
                sent = []
                while not protocol.pauses:
                    sent.append(b'%06d' % len(sent) + bytes(size))
                    transport.sendto(sent[-1], wire.peer)
                    assert len(sent) < 40_000
                wire.release()
                await protocol.until(lambda p: p.resumes)
                while transport.get_write_buffer_size():
                    await asyncio.sleep(0)
                assert [far.recv(70_000) for _ in sent] == sent
                assert not protocol.errors
                transport.close()
                await asyncio.sleep(0)

        if not self.uring and sys.version_info >= (3, 13):
            pytest.skip('asyncio counts a header with each that it never strikes off')
        if not self.uring:
            self.timeout = 60        # it adds up all that waits at each call
        with Wire() as wire:
            self.run(main())


class TestFullSocket(UringCase):

    def test_unix_order_holds(self, tmp_path):
        """1,000 datagrams to a receiver that holds eleven: none lost, none overtaken."""
        async def main():
            path = str(tmp_path / 'receiver')
            receiver, received = await endpoint(local_addr=path, family=socket.AF_UNIX)
            receiver.pause_reading()
            transport, protocol = await endpoint(
                local_addr=str(tmp_path / 'sender'), family=socket.AF_UNIX)
            datagrams = numbered(1000, 200)
            for data in datagrams:
                transport.sendto(data, path)
            assert protocol.pauses == 1
            receiver.resume_reading()
            await received.until(lambda p: len(p.datagrams) == 1000)
            assert received.datagrams == datagrams
            await protocol.until(lambda p: p.resumes)
            assert (protocol.pauses, protocol.resumes) == (1, 1)
            assert transport.get_write_buffer_size() == 0
            assert not protocol.errors
            transport.close()
            receiver.close()

        self.run(main())

    @needs_root
    @pytest.mark.parametrize('size', [1000, 20_000])
    def test_udp_order_holds(self, wire, size):
        """The socket's buffer is full of what waits for a neighbour; then all of it leaves."""
        async def main():
            wire.hold()
            receiver, received = await roomy_peer(wire)
            out = wire.socket()
            out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 30_000)
            transport, protocol = await endpoint(sock=out)
            datagrams = [data[:size - i % 2] for i, data in enumerate(numbered(300, size))]
            for data in datagrams:
                transport.sendto(data, wire.peer)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert protocol.pauses == 1
            assert transport.get_write_buffer_size() > 0
            wire.release()
            await received.until(lambda p: len(p.datagrams) == 300)
            assert received.datagrams == datagrams
            await protocol.until(lambda p: p.resumes)
            assert (protocol.pauses, protocol.resumes) == (1, 1)
            assert not protocol.errors
            transport.close()
            receiver.close()

        try:
            self.run(main())
        finally:
            wire.release()

    @needs_feature('report_usage', where='send_zc')
    @needs_root
    def test_order_of_long_answers_holds(self, wire):
        """Answers that leave one by one: without room the rest waits, in its order."""
        answers = numbered(40, 40_000)

        async def main():
            wire.release()
            receiver, received = await roomy_peer(wire)
            out = wire.socket()
            out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000)
            out.bind(('10.98.1.1', 0))
            transport, protocol = await endpoint(sock=out)
            # From now on it is known that this path copies.
            assert (await transport.sendto_zerocopy(b'first' * 100, wire.peer)).copied
            await received.until(lambda p: p.datagrams)
            received.datagrams.clear()
            wire.hold()
            protocol.datagram_received = lambda data, addr: transport.sendto(
                answers[data[0]], wire.peer)
            with wire.socket() as asking:
                for n in range(40):
                    asking.sendto(bytes([n]) * 40_000, out.getsockname())
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
            await protocol.until(lambda p: p.pauses)
            wire.release()
            await received.until(lambda p: len(p.datagrams) == 40)
            assert received.datagrams == answers
            assert not protocol.errors
            transport.close()
            receiver.close()

        try:
            self.run(main())
        finally:
            wire.release()

    @needs_root
    @pytest.mark.parametrize('how', ['close', 'abort'])
    @pytest.mark.parametrize('explicit', [False, True])
    def test_close_waits_and_abort_drops(self, wire, how, explicit):
        """close() waits until all has left; abort() drops what has not, and says so."""
        async def main():
            wire.hold()
            out = wire.socket()
            out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 30_000)
            transport, protocol = await endpoint(sock=out)
            futures = []
            for data in numbered(20, 20_000):
                if explicit:
                    futures.append(transport.sendto_zerocopy(data, wire.peer))
                else:
                    transport.sendto(data, wire.peer)
            await asyncio.sleep(0)
            assert transport.get_write_buffer_size() > 0
            getattr(transport, how)()
            if how == 'abort':
                await protocol.until(lambda p: p.lost)
            else:
                await asyncio.sleep(0)
                assert not protocol.lost
            wire.release()
            await protocol.until(lambda p: p.lost)
            assert protocol.lost == [None]
            reports = await asyncio.gather(*futures, return_exceptions=True)
            sent = [report for report in reports if isinstance(report, tuple)]
            stats = self.loop.stats()
            if how == 'close':
                assert stats.datagrams_sent == 20
                assert len(sent) == len(futures)
            else:
                assert stats.datagrams_sent + stats.datagrams_dropped == 20
                assert stats.datagrams_dropped > 0
                assert {type(r) for r in reports[len(sent):]} <= {ConnectionAbortedError}
                if explicit:
                    assert len(sent) == stats.datagrams_sent
            await turns_until(lambda: self.loop.stats().bytes_pinned == 0)

        try:
            self.run(main())
        finally:
            wire.release()

    @pytest.mark.parametrize('explicit', [False, True])
    def test_a_closed_loop_lets_go_of_what_waits(self, tmp_path, explicit):
        """What could not be sent when the loop is closed is let go of, and futures are told."""
        async def main():
            path = str(tmp_path / 'receiver')
            nobody.bind(path)
            transport, _ = await endpoint(
                local_addr=str(tmp_path / 'sender'), family=socket.AF_UNIX)
            futures = []
            for data in sent:
                if explicit:
                    futures.append(transport.sendto_zerocopy(data, path))
                else:
                    transport.sendto(data, path)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert transport.get_write_buffer_size() > 0
            return transport, futures

        sent = numbered(200)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nobody:
            transport, futures = self.run(main())
            closed, self.loop = self.loop, self.new_loop()
            closed.close()
            states = [future.done() for future in futures]
            with pytest.warns(ResourceWarning, match='unclosed'):
                del transport, futures
                gc.collect()
            stats = closed.stats()
            assert (stats.operations_in_flight, stats.operations_live) == (0, 0)
            assert all(states)
            references = sys.getrefcount(sent[-1])
            assert references == 2


class TestFullUnixSocket(UringCase):

    @pytest.mark.parametrize('how', ['transport', 'sock_sendto', 'transport of a pair'])
    def test_waits_without_spinning(self, tmp_path, how):
        """A socket that is not connected, or to another, is writable however full this one is."""
        async def main():
            far, near, other = (
                socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(3))
            if how == 'transport of a pair':
                near.close()
                other.close()
                near, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            with far, near, other:
                far.bind(path := str(tmp_path / 'far'))
                for sock in far, near:
                    sock.setblocking(False)
                sent = 0
                with contextlib.suppress(BlockingIOError):
                    while True:
                        near.sendto(b'%04d' % sent, path)
                        sent += 1
                if how != 'sock_sendto':
                    transport, _ = await endpoint(sock=near)
                    transport.sendto(b'last', path)
                    sending = None
                else:
                    sending = asyncio.ensure_future(self.loop.sock_sendto(near, b'last', path))
                for _ in range(20):
                    await asyncio.sleep(0.001)
                before = self.loop.stats().syscalls
                await asyncio.sleep(0.2)
                # By its own timer: once a millisecond at most, not tens of thousands of times.
                assert self.loop.stats().syscalls - before < 2000
                received = [far.recv(100) for _ in range(sent)]
                received.append(await self.loop.sock_recv(far, 100))
                assert received == [b'%04d' % i for i in range(sent)] + [b'last']
                if sending is None:
                    transport.close()
                else:
                    assert await sending == 4
                await asyncio.sleep(0)
                await asyncio.sleep(0)

        self.run(main())


class TestRoom(UringCase):

    def test_pauses_only_where_there_is_no_room(self):
        async def main():
            receiver, _ = await endpoint(local_addr=('127.0.0.1', 0))
            sender, protocol = await endpoint(remote_addr=receiver.get_extra_info('sockname'))
            for size in (1200, 30_000, 60_000):
                for _ in range(100):
                    sender.sendto(bytes(size))
                await turns(3)
            assert not protocol.pauses
            assert isinstance(protocol, Recorder)
            sender.close()
            receiver.close()

        self.run(main())


class TestInterrupted(UringCase):

    @pytest.mark.parametrize('after', range(1, 8))
    def test_while_what_waited_is_sent(self, after):
        """By a signal, say: all of it leaves, when the loop runs again."""
        class Interrupts(socket.socket):
            calls = -1

            def fileno(self):
                self.calls -= 1
                if self.calls == 0:
                    raise KeyboardInterrupt
                return super().fileno()

        async def fill():
            count = 0
            while not transport.get_write_buffer_size() or count % 10:
                transport.sendto(b'%d' % count)
                count += 1
            return count

        async def read():
            with contextlib.suppress(BlockingIOError):
                while True:
                    arrived.append(far.recv(100))
            await asyncio.sleep(0.001)

        def run(main):
            return self.loop.run_until_complete(main)

        arrived = []
        with bound(socket.AF_UNIX, '') as far, \
                Interrupts(socket.AF_UNIX, socket.SOCK_DGRAM) as near:
            for sock in near, far:
                sock.setblocking(False)
            near.connect(far.getsockname())
            transport, _ = run(endpoint(sock=near))
            count = run(fill())
            run(asyncio.sleep(0.001))
            near.calls = after
            with contextlib.suppress(KeyboardInterrupt):
                for _ in range(3):
                    run(read())
            near.calls = -1
            for _ in range(100):
                run(read())
                if len(arrived) == count:
                    break
            assert arrived == [b'%d' % number for number in range(count)]
            assert self.loop.stats().datagrams_sent == count
            transport.close()
            run(turns())


both_sides(globals(), _TestWaiting)
