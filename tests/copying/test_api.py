"""The fallback has every name that this loop and its transports have, with the same arguments."""
import asyncio
import inspect
import sys

import pytest

import uringloop
from tests.support.cases import Case, FallbackMixin
from tests.support.protocols import endpoint
from tests.support.sockets import LOCAL, tcp_pair, udp
from tests.support.turns import turns
from uringloop.copying.datagrams import CopyingDatagramTransport
from uringloop.copying.loop import CopyingLoop
from uringloop.copying.streams import CopyingStreamTransport
from uringloop.stream.transport import StreamTransport

PAIRS = [(uringloop.Loop, CopyingLoop), (uringloop.DatagramTransport, CopyingDatagramTransport),
         (StreamTransport, CopyingStreamTransport)]


def public(kind):
    return {name for name in dir(kind) if not name.startswith('_')}


def arguments(method):
    """Names and kinds and defaults, without annotations."""
    return [(each.name, each.kind, each.default)
            for each in inspect.signature(method).parameters.values()]


@pytest.mark.parametrize(('ours', 'fallback'), PAIRS)
def test_every_public_name_is_there(ours, fallback):
    assert public(ours) - public(fallback) == set()


@pytest.mark.parametrize(('ours', 'fallback', 'name'), [
    (ours, fallback, name) for ours, fallback in PAIRS
    for name in sorted(public(ours) - public(asyncio.SelectorEventLoop)
                       - public(asyncio.DatagramTransport) - public(asyncio.Transport))
    if callable(getattr(ours, name))])
def test_what_is_not_asyncios_takes_the_same_arguments(ours, fallback, name):
    assert arguments(getattr(fallback, name)) == arguments(getattr(ours, name))


@pytest.mark.parametrize('fallback', [pair[1] for pair in PAIRS])
def test_its_own_methods_have_docstrings(fallback):
    for name, method in vars(fallback).items():
        if not name.startswith('_') and callable(method):
            assert method.__doc__, name


class TestKinds(FallbackMixin, Case):

    def test_transports_are_what_isinstance_asks_for(self):
        async def main():
            transport, _ = await endpoint(local_addr=LOCAL)
            assert isinstance(transport, uringloop.DatagramTransport)
            assert isinstance(transport, asyncio.DatagramTransport)
            transport.close()
            near, far = tcp_pair()
            with far:
                stream, _ = await self.loop.create_connection(asyncio.Protocol, sock=near)
                assert isinstance(stream, asyncio.Transport)
                stream.close()

        self.run(main())

    def test_the_loop_is_what_isinstance_asks_for(self):
        assert isinstance(self.loop, uringloop.Loop)
        assert isinstance(self.loop, asyncio.SelectorEventLoop)

    def test_a_class_put_in_the_place_of_the_loops(self):
        """As test clocks do, of what they are told that it is, or of what it is."""
        class Clock:
            def time(self):
                return 1.0

        kind = type(self.loop)
        for base in kind, self.loop.__class__:
            self.loop.__class__ = type('Still', (Clock, base), {'still': True})
            assert isinstance(self.loop, uringloop.Loop)
            assert type(self.loop).__name__ == 'Still'
            assert self.loop.still
            assert self.loop.call_later(1, int).when() == 2.0
            self.loop.__class__ = kind
            assert self.loop.call_later(1, int).when() > 2.0

    def test_a_class_made_of_what_the_loop_seems_to_be(self):
        seems = self.loop.__class__

        class Still(seems):
            def time(self):
                return super().time() * 0 + 1.0

        class Later(Still):
            def time(self):
                return super().time() + 1.0

        other = CopyingLoop()
        for kind, now in (Still, 1.0), (Later, 2.0):
            for loop in self.loop, other:
                loop.__class__ = kind
                assert isinstance(loop, kind)
                assert isinstance(loop, uringloop.Loop)
                assert loop.__class__ is kind
                assert loop.call_later(1, int).when() == now + 1.0
        self.loop.__class__ = seems
        assert self.loop.call_later(1, int).when() > 3.0
        assert type(self.loop) is CopyingLoop
        other.close()
        with_a_ring = uringloop.new_event_loop(require_uring=True)
        with_a_ring.__class__ = Later        # which is what it was
        assert with_a_ring.call_later(1, int).when() == 3.0
        with_a_ring.close()

    @pytest.mark.skipif(sys.version_info < (3, 12), reason='asyncio refuses it from 3.12 on')
    def test_one_socket_has_one_transport(self):
        async def main():
            near, far = tcp_pair()
            sock = udp()
            with far:
                stream, _ = await self.loop.create_connection(asyncio.Protocol, sock=near)
                transport, _ = await endpoint(sock=sock)
                with pytest.raises(RuntimeError, match='is used by transport'):
                    await self.loop.create_connection(asyncio.Protocol, sock=near)
                with pytest.raises(RuntimeError, match='is used by transport'):
                    await endpoint(sock=sock)
                stream.close()
                transport.close()
                await turns()

        self.run(main())

    @pytest.mark.skipif(sys.version_info < (3, 13), reason='asyncio before 3.13 raises at the call')
    def test_a_view_that_was_released_ends_the_transport(self):
        async def main():
            transport, protocol = await endpoint(local_addr=LOCAL)
            view = memoryview(b'x')
            view.release()
            transport.sendto(view, LOCAL)
            await protocol.until(lambda p: p.lost)
            assert isinstance(protocol.lost[0], ValueError)
            assert len(self.problems) == 1

        self.run(main())

    def test_what_tells_it_from_the_one_with_a_ring(self):
        assert type(self.loop) is not uringloop.Loop
        self.run(asyncio.sleep(0))
        assert self.loop.stats().submissions == 0
        assert repr(self.loop) == '<CopyingLoop running=False closed=False debug=False>'

    def test_options_that_mean_nothing_here_are_looked_at_all_the_same(self):
        with pytest.raises(ValueError, match='not 2'):
            self.run(endpoint(local_addr=LOCAL, batch=2))

        async def main():
            transport, _ = await endpoint(local_addr=LOCAL, batch=False)
            transport.close()

        self.run(main())

    def test_closing_a_loop_that_runs_is_refused_and_closes_nothing(self):
        async def main():
            memory = bytearray(100)
            registered = self.loop.register_buffer(memory)
            with pytest.raises(RuntimeError):
                self.loop.close()
            assert repr(registered) == '<RegisteredBuffer of 100 bytes, open>'
            await registered.close()

        self.run(main())
