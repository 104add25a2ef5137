"""Exceptions of datagram protocols: where they come out, and that the endpoint goes on."""
import asyncio
import contextlib
import socket

import pytest

from tests.support.cases import UringCase, both_sides
from tests.support.endpoints import Endpoints, QueuingRecorder
from tests.support.protocols import Recorder
from tests.support.sockets import LOCAL, bound, udp


class _TestRaising(Endpoints):

    @pytest.mark.parametrize('where', ['connection_made', 'datagram_received', 'error_received'])
    def test_exceptions_are_reported_and_the_rest_comes(self, where):
        def broken(self, *args):
            getattr(QueuingRecorder, where)(self, *args)
            raise ZeroDivisionError(where)

        async def main():
            factory = type('Broken', (QueuingRecorder,), {where: broken})
            with bound() as sock:
                dead = sock.getsockname()
            transport, protocol = await self.endpoint(factory, remote_addr=dead)
            if where == 'error_received':
                transport.sendto(b'x')
                await protocol.errors.get()
            with bound(address=dead) as peer:
                peer.sendto(b'1', transport.get_extra_info('sockname'))
                peer.sendto(b'2', transport.get_extra_info('sockname'))
                assert (await protocol.datagrams.get())[0] == b'1'
                assert (await protocol.datagrams.get())[0] == b'2'
            assert isinstance(self.problems[0]['exception'], ZeroDivisionError)
            assert 'message' in self.problems[0]
            assert not protocol.lost.done()

        self.run(main())

    @pytest.mark.parametrize('kind', [SystemExit, KeyboardInterrupt])
    def test_exits_leave_the_loop_and_the_rest_comes(self, kind):
        class Leaving(QueuingRecorder):
            def datagram_received(self, data, addr):
                super().datagram_received(data, addr)
                if data == b'leave':
                    raise kind

        transport, protocol = self.loop.run_until_complete(
            self.loop.create_datagram_endpoint(Leaving, local_addr=LOCAL))
        with bound() as peer:
            peer.sendto(b'leave', transport.get_extra_info('sockname'))
            peer.sendto(b'stay', transport.get_extra_info('sockname'))
            with pytest.raises(kind):
                self.forever()

        async def rest():
            assert (await protocol.datagrams.get())[0] == b'leave'
            assert (await protocol.datagrams.get())[0] == b'stay'
            transport.close()
            await protocol.lost
            await asyncio.sleep(0)

        super().run(rest())

    def test_an_exit_among_long_ones_loses_none(self):
        class Leaving(QueuingRecorder):
            def datagram_received(self, data, addr):
                super().datagram_received(data, addr)
                if data[0] == 6:
                    raise KeyboardInterrupt

        transport, protocol = self.loop.run_until_complete(
            self.loop.create_datagram_endpoint(Leaving, local_addr=LOCAL))

        async def receive(n):
            assert (await protocol.datagrams.get())[0][0] == n

        with bound() as peer:
            for n in range(10):
                peer.sendto(bytes([n]) * 50_000, transport.get_extra_info('sockname'))
                if n == 6:
                    with pytest.raises(KeyboardInterrupt):
                        self.forever()
                super().run(receive(n))

        async def rest():
            transport.close()
            await protocol.lost
            await asyncio.sleep(0)

        super().run(rest())

    @pytest.mark.parametrize('long', [False, True])
    def test_an_exit_of_error_received_loses_nothing(self, long):
        """What else was due is done when the loop runs again."""
        class Leaving(QueuingRecorder):
            def error_received(self, exc):
                super().error_received(exc)
                raise KeyboardInterrupt

        transport, protocol = self.loop.run_until_complete(
            self.loop.create_datagram_endpoint(Leaving, local_addr=LOCAL))
        mine = transport.get_extra_info('sockname')

        async def before(peer):
            for _ in range(8 if long else 0):
                peer.sendto(b'l' * 40_000, mine)
                await protocol.datagrams.get()

        def trouble(peer):
            peer.sendto(b'y' * 40_000, mine)
            transport.sendto(b'x' * 100, peer.getsockname())
            transport.sendto(b'x' * 70_000, peer.getsockname())

        async def rest(peer):
            assert (await protocol.datagrams.get())[0] == b'y' * 40_000
            peer.sendto(b'z', mine)
            assert (await protocol.datagrams.get())[0] == b'z'
            transport.close()
            await protocol.lost
            assert protocol.calls.count('pause') == protocol.calls.count('resume')
            await asyncio.sleep(0)

        with bound() as peer:
            super().run(before(peer))
            self.loop.call_soon(trouble, peer)
            with pytest.raises(KeyboardInterrupt):
                self.forever()
            super().run(rest(peer))


def failing(name):
    """A protocol whose method of that name raises, once it has recorded the call."""
    class Failing(Recorder):
        pass

    def fail(self, *args):
        getattr(Recorder, name)(self, *args)
        raise ZeroDivisionError

    setattr(Failing, name, fail)
    return Failing()


class TestReported(UringCase):
    """What user code raises comes out where asyncio lets it out, and the loop goes on."""

    @pytest.mark.parametrize('name', ['datagram_received', 'error_received'])
    def test_datagram_received_and_error_received(self, name):
        async def main():
            transport, protocol = await self.loop.create_datagram_endpoint(
                lambda: failing(name), local_addr=('127.0.0.1', 0))
            address = transport.get_extra_info('sockname')
            transport.sendto(bytes(1000), address)
            # What asyncio tells at the call comes out of it.
            with pytest.raises(ZeroDivisionError) if name == 'error_received' \
                    else contextlib.nullcontext():
                transport.sendto(bytes(70_000), address)
            transport.sendto(b'last', address)
            await protocol.until(lambda p: len(p.datagrams) == 2 and p.errors)
            await asyncio.sleep(0)
            assert protocol.datagrams == [bytes(1000), b'last']
            assert [type(context['exception']) for context in self.problems] == \
                [ZeroDivisionError] * (2 if name == 'datagram_received' else 0)
            transport.close()
            await protocol.until(lambda p: p.lost)

        self.run(main())

    @pytest.mark.parametrize('name', ['pause_writing', 'resume_writing'])
    def test_pause_writing_and_resume_writing(self, name):
        async def main():
            near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            near.setblocking(False)
            far.setblocking(False)
            transport, protocol = await self.loop.create_datagram_endpoint(
                lambda: failing(name), sock=near)
            transport.set_write_buffer_limits(high=100)
            sent = 0
            while not protocol.pauses:
                transport.sendto(b'%0100d' % sent)
                sent += 1
            received = []
            while not protocol.resumes:
                received.append(await self.loop.sock_recv(far, 1000))
            transport.sendto(b'last')
            while received[-1] != b'last':
                received.append(await self.loop.sock_recv(far, 1000))
            assert received == [b'%0100d' % i for i in range(sent)] + [b'last']
            assert [type(context['exception']) for context in self.problems] == [ZeroDivisionError]
            transport.close()
            far.close()
            await protocol.until(lambda p: p.lost)

        self.run(main())

    @pytest.mark.parametrize('name', ['connection_made', 'connection_lost'])
    def test_connection_made_and_connection_lost(self, name):
        async def main():
            sock = udp()
            transport, protocol = await self.loop.create_datagram_endpoint(
                lambda: failing(name), sock=sock)
            transport.sendto(b'x', transport.get_extra_info('sockname'))
            await protocol.until(lambda p: p.datagrams)
            transport.close()
            await protocol.until(lambda p: p.lost)
            await asyncio.sleep(0)
            assert sock.fileno() == -1
            assert [type(context['exception']) for context in self.problems] == [ZeroDivisionError]

        self.run(main())


both_sides(globals(), _TestRaising)
