"""The loop as its users first meet it."""
import asyncio
import sys

import pytest

import uringloop
from tests.support.cases import AsyncioCase, UringCase


class _TestSmoke:

    def test_a_datagram_is_echoed(self):
        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, addr):
                self.transport.sendto(data, addr)

        class Client(asyncio.DatagramProtocol):
            def __init__(self, answer):
                self.answer = answer

            def datagram_received(self, data, addr):
                self.answer.set_result((data, addr))

        async def main():
            loop = asyncio.get_running_loop()
            server, _ = await loop.create_datagram_endpoint(Echo, local_addr=('127.0.0.1', 0))
            address = server.get_extra_info('sockname')
            answer = loop.create_future()
            client, _ = await loop.create_datagram_endpoint(
                lambda: Client(answer), remote_addr=address)
            client.sendto(b'hello')
            assert await answer == (b'hello', address)
            client.close()
            server.close()

        self.run(main())


class TestSmokeAsyncio(_TestSmoke, AsyncioCase):
    pass


class TestSmokeUring(_TestSmoke, UringCase):
    pass


def test_run_uses_this_loop():
    async def main():
        return type(asyncio.get_running_loop())

    assert uringloop.run(main()) is uringloop.Loop


@pytest.mark.skipif(sys.version_info < (3, 11), reason='asyncio.Runner is new in 3.11')
def test_runner_takes_the_factory():
    async def main():
        return asyncio.get_running_loop()

    with asyncio.Runner(loop_factory=uringloop.new_event_loop) as runner:
        assert type(runner.run(main())) is uringloop.Loop
