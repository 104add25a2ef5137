"""Which transport has which descriptor, and what becomes of that when a transport is dropped."""
import asyncio
import gc
import socket
import threading
import warnings
import weakref

import pytest

import uringloop
from tests.support.cases import Case, UringCase, both_sides
from tests.support.protocols import endpoint
from tests.support.turns import turns


class TestRegistry(UringCase):

    def test_a_transport_with_a_finalizer_of_its_own_is_forgotten(self):
        """Which descriptor a transport has is forgotten with it, whatever its class does."""
        class Transport(uringloop.DatagramTransport):
            def __del__(self):
                gone.append(True)

        gone = []

        async def main():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.bind(('127.0.0.1', 0))
            transport = Transport(self.loop, sock, asyncio.DatagramProtocol())
            fd = sock.fileno()
            assert self.loop._transports[fd] is transport
            with pytest.raises(RuntimeError, match='is used by transport'):
                await self.loop.sock_recv(sock, 1)
            await asyncio.sleep(0)
            transport.pause_reading()
            await asyncio.sleep(0.01)
            del transport
            gc.collect()
            assert gone
            assert self.loop._transports.get(fd) is None
            with pytest.raises(KeyError):
                _ = self.loop._transports[fd]
            sock.close()

        self.run(main())

    def test_a_dropped_endpoint_frees_its_port(self):
        async def main():
            transport, _ = await endpoint(local_addr=('127.0.0.1', 0))
            address = transport.get_extra_info('sockname')
            await asyncio.sleep(0)
            transport.pause_reading()
            await asyncio.sleep(0.01)
            del transport, _
            gc.collect()
            await asyncio.sleep(0)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(address)

        with warnings.catch_warnings():
            warnings.simplefilter('ignore', ResourceWarning)
            self.run(main())


def test_an_endpoint_collected_in_another_thread_frees_its_port():
    """Its port is free again once the loop has had its turn."""
    async def main():
        transport, protocol = await endpoint(local_addr=('127.0.0.1', 0))
        address = transport.get_extra_info('sockname')
        await asyncio.sleep(0)
        transport.pause_reading()
        await asyncio.sleep(0.01)           # nothing of the loop refers to it now
        protocol.cycle = [protocol, transport]        # for the collector only
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', ResourceWarning)
            del transport, protocol
            collector = threading.Thread(target=gc.collect)
            collector.start()
            collector.join()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            while True:
                try:
                    sock.bind(address)
                    return
                except OSError:  # noqa: PERF203
                    await asyncio.sleep(0.001)

    loop = uringloop.new_event_loop(require_uring=True)
    loop.run_until_complete(asyncio.wait_for(main(), 5))
    loop.close()


class _TestDying(Case):

    def test_callbacks_of_weak_references_find_no_transport(self):
        """What is told of a transport's end does not come upon it once more."""
        async def main():
            with warnings.catch_warnings():
                warnings.simplefilter('ignore', ResourceWarning)
                for _ in range(20):
                    transport, _ = await self.loop.create_datagram_endpoint(
                        asyncio.DatagramProtocol, local_addr=('127.0.0.1', 0))
                    await turns(2)
                    transport.pause_reading()
                    await asyncio.sleep(0.01)
                    fd = transport._sock_fd
                    found = []
                    reference = weakref.ref(
                        transport, lambda _, fd=fd, found=found: found.append(
                            (self.loop._transports.get(fd), self.loop.remove_reader(fd))))
                    transport = _ = None
                    gc.collect()
                    await turns(2)
                    if reference() is None:
                        assert found[0][0] is None

        self.needs_pausing()
        gc.freeze()        # else each of those would look at all that other tests have left
        try:
            self.run(main())
        finally:
            gc.unfreeze()


both_sides(globals(), _TestDying)
