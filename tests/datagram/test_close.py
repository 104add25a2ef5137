"""Closing datagram transports: once, in time, and with the socket and the port."""
import asyncio
import gc
import logging
import warnings
import weakref

import pytest

from tests.support.cases import UringCase, both_sides
from tests.support.endpoints import Endpoints, QueuingRecorder
from tests.support.programs import script
from tests.support.sockets import LOCAL, bound, deserted
from tests.support.turns import turns


class _TestClose(Endpoints):

    @pytest.mark.parametrize('how', ['close', 'abort'])
    def test_told_once_and_never_within_the_call(self, how):
        self.needs_pausing()

        async def main():
            transport, protocol = await self.endpoint()
            getattr(transport, how)()
            assert transport.is_closing()
            assert not transport.is_reading()
            assert not protocol.lost.done()      # never from within the call
            transport.close()
            transport.abort()
            assert await protocol.lost is None
            await turns()
            transport.close()
            transport.abort()
            await turns()
            assert protocol.calls == ['made', 'lost']
            transport.pause_reading()
            transport.resume_reading()

        self.run(main())

    def test_closed_in_connection_made(self):
        class Closing(QueuingRecorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                transport.close()

        async def main():
            transport, protocol = await self.endpoint(Closing)
            assert await protocol.lost is None
            assert protocol.calls == ['made', 'lost']
            assert transport.is_closing()

        self.run(main())

    def test_nothing_is_received_afterwards(self):
        async def main():
            transport, protocol = await self.endpoint()
            with bound() as peer:
                peer.sendto(b'too late', transport.get_extra_info('sockname'))
                transport.close()
                await protocol.lost
            assert protocol.calls == ['made', 'lost']

        self.run(main())

    @pytest.mark.parametrize('how', ['close', 'abort'])
    @pytest.mark.parametrize('waits', [0, 1, 2])
    def test_errors_are_not_told_afterwards(self, how, waits):
        """Neither one that has come, nor those of what was sent in bulk: these are told before."""
        async def main():
            transport, protocol = await self.endpoint(remote_addr=deserted())
            await turns()
            transport.sendto(b'x')
            await turns(waits)
            told = len(protocol.calls)
            getattr(transport, how)()
            await protocol.lost
            assert protocol.calls[told:] == ['lost']
            transport, protocol = await self.endpoint()
            for _ in range(10):
                transport.sendto(bytes(100), ('127.255.255.255', 9))
            await turns(waits)
            getattr(transport, how)()
            assert protocol.calls == ['made', *['error'] * 10]
            await protocol.lost
            assert protocol.calls == ['made', *['error'] * 10, 'lost']

        self.run(main())

    @pytest.mark.parametrize('how', ['close', 'abort'])
    def test_closed_by_who_is_told_of_an_error(self, how):
        class Closing(QueuingRecorder):
            def error_received(self, exc):
                super().error_received(exc)
                getattr(self.transport, how)()

        async def main():
            transport, protocol = await self.endpoint(Closing)
            transport.sendto(bytes(100), ('127.0.0.1', 9))
            for _ in range(10):
                transport.sendto(bytes(100), ('127.255.255.255', 9))
            getattr(transport, how)()
            await protocol.lost
            assert set(protocol.calls) == {'made', 'error', 'lost'}
            assert protocol.calls.count('lost') == 1

        self.run(main())

    def test_the_port_is_free_again(self):
        async def main():
            for _ in range(20):
                transport, protocol = await self.endpoint()
                address = transport.get_extra_info('sockname')
                transport.close()
                await protocol.lost
                await asyncio.sleep(0)
                bound(address=address).close()

        self.run(main())

    def test_the_socket_is_open_in_connection_lost(self):
        class Looking(QueuingRecorder):
            def connection_lost(self, exc):
                self.fileno = self.transport.get_extra_info('socket').fileno()
                super().connection_lost(exc)

        async def main():
            transport, protocol = await self.endpoint(Looking)
            transport.close()
            await protocol.lost
            assert protocol.fileno >= 0
            await asyncio.sleep(0)
            assert transport.get_extra_info('socket').fileno() == -1

        self.run(main())

    def test_sends_of_a_closed_connected_endpoint_are_dropped(self, caplog):
        async def main():
            client, receiver = await self.pair()
            client.close()
            await client.get_protocol().lost
            await asyncio.sleep(0)
            with caplog.at_level(logging.WARNING, logger='asyncio'):
                for _ in range(10):
                    client.sendto(b'too late')
            assert caplog.messages.count('socket.send() raised exception.') == 6
            await turns()
            assert receiver.datagrams.empty()

        self.run(main())

    def test_repr_tells_the_state(self):
        async def main():
            transport, protocol = await self.endpoint()
            fd = transport.get_extra_info('socket').fileno()
            await turns(2)
            assert f'fd={fd} read=polling write=<idle, bufsize=0>>' in repr(transport)
            transport.close()
            assert ' closing fd=' in repr(transport)
            await protocol.lost
            await asyncio.sleep(0)
            assert f' closed fd={fd}' in repr(transport)

        self.run(main())

    def test_unclosed_warns(self):
        async def main():
            return await self.loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=LOCAL)

        transport, protocol = self.loop.run_until_complete(main())
        self.turns(2)
        self.loop.close()
        sock = transport.get_extra_info('socket')
        with pytest.warns(ResourceWarning, match='unclosed transport'):
            del transport, protocol
            gc.collect()
        assert sock.fileno() == -1

    @pytest.mark.filterwarnings('ignore:unclosed transport')
    def test_a_last_message_after_the_loop_is_closed(self):
        """Sent by an ``atexit`` handler, say: the socket is still there."""
        async def main():
            return await self.loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=LOCAL)

        with bound() as peer:
            transport, _ = self.loop.run_until_complete(main())
            self.turns(2)
            self.loop.close()
            for data in (b'goodbye', bytearray(b'for ever')):
                transport.sendto(data, peer.getsockname())
                assert peer.recv(100) == data
            transport.get_extra_info('socket')._sock.close()
            del transport
            gc.collect()

    @pytest.mark.parametrize('size', [10, 20000])
    def test_sent_in_connection_lost_after_abort(self, size):
        class Answering(QueuingRecorder):
            def connection_lost(self, exc):
                for _ in range(8):
                    transport.sendto(bytes(size), peer.getsockname())
                super().connection_lost(exc)

        async def main():
            nonlocal transport
            transport, protocol = await self.endpoint(Answering)
            transport.abort()
            await protocol.lost
            for _ in range(8):
                assert len(peer.recv(65536)) == size

        transport = None
        with bound() as peer:
            self.run(main())

    def test_the_transport_goes_with_its_last_reference(self):
        async def main():
            transport, protocol = await self.endpoint()
            transport.close()
            await protocol.lost
            await turns()
            self.opened.clear()
            del protocol.transport
            reference = weakref.ref(transport)
            del transport, protocol
            await turns()
            gc.collect()
            assert reference() is None

        self.run(main())


class TestDropped(Endpoints, UringCase):

    @pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
    def test_where_warnings_are_errors(self):
        """The ring keeps the socket: that has to be given up all the same."""
        async def main():
            transport, _ = await self.loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=LOCAL)
            address = transport.get_extra_info('sockname')
            transport.pause_reading()
            await turns(20)                  # until its poll is gone: the ring refers to it
            with warnings.catch_warnings():
                warnings.simplefilter('error')
                del transport, _
                gc.collect()
            await turns()
            bound(address=address).close()

        self.run(main())

    def test_collected_in_the_midst_of_code_that_cannot_import(self):
        """A namedtuple is made by such: ``warnings.warn`` would fail there."""
        async def main():
            transport, protocol = await self.loop.create_datagram_endpoint(
                QueuingRecorder, local_addr=LOCAL)       # which has its transport: a circle
            transport.pause_reading()
            await turns(20)                  # until its poll is gone: the ring refers to it
            del transport, protocol
            with pytest.warns(ResourceWarning, match='unclosed transport'):
                exec('collect()', {'__builtins__': {}, 'collect': gc.collect})
            await turns()

        self.run(main())


def test_a_finalizer_that_runs_while_a_bulk_is_sent_may_abort_it():
    """The collector starts it: each lease that is given back wakes a task, which allocates."""
    assert script("""
        import asyncio, gc, socket, uringloop

        class Owner:
            def __init__(self, transport):
                self.transport, self.itself = transport, self

            def __del__(self):
                self.transport.abort()

        async def main(threshold):
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                peer.bind(('127.0.0.1', 0))
                transport, _ = await loop.create_datagram_endpoint(
                    asyncio.DatagramProtocol, local_addr=('127.0.0.1', 0))
                pool = loop.create_buffer_pool(40, 4000)
                leases = [pool.acquire_nowait() for _ in range(40)]
                views = [memoryview(lease)[:100] for lease in leases]
                waiters = [asyncio.ensure_future(pool.acquire()) for _ in range(20)]
                await asyncio.sleep(0)
                gc.collect()
                gc.disable()
                for view in views:
                    transport.sendto(view, peer.getsockname())
                    view.release()
                for lease in leases[5:]:         # those before have left
                    lease.release()
                gc.collect()
                Owner(transport)
                del lease, view
                gc.enable()
                gc.set_threshold(threshold)
                await asyncio.sleep(0.001)
                gc.set_threshold(700)
                for waiter in waiters:
                    waiter.cancel()

        for threshold in range(8, 60):
            uringloop.run(main(threshold))
        print('alive')
    """) == 'alive\n'


both_sides(globals(), _TestClose)
