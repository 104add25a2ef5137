"""A transport that does not read is told all the same that its sends have failed."""
import asyncio
import socket

import uringloop


class Told(asyncio.DatagramProtocol):
    """Keeps what it is told in futures."""

    def __init__(self):
        loop = asyncio.get_running_loop()
        self.error, self.lost, self.paused = (loop.create_future() for _ in range(3))

    def error_received(self, exc):
        if not self.error.done():
            self.error.set_result(exc)

    def connection_lost(self, exc):
        self.lost.set_result(exc)

    def pause_writing(self):
        self.paused.set_result(None)


def test_stream_that_does_not_read_hears_of_a_failed_write():
    async def main():
        near, far = socket.socketpair()
        with far:
            transport, told = await asyncio.get_running_loop().create_connection(Told, sock=near)
            transport.pause_reading()
            transport.write(bytes(1 << 22))
            await asyncio.wait_for(told.paused, 5)
        try:
            return await asyncio.wait_for(told.lost, 5)
        finally:
            transport.abort()

    assert isinstance(uringloop.run(main()), (BrokenPipeError, ConnectionResetError))


def test_datagram_transport_that_does_not_read_hears_of_a_failed_send():
    async def main():
        transport, told = await asyncio.get_running_loop().create_datagram_endpoint(
            Told, local_addr=('127.0.0.1', 0))
        try:
            transport.pause_reading()
            # More than a datagram of IPv4 can hold.
            transport.sendto(bytes(65_530), transport.get_extra_info('sockname'))
            return await asyncio.wait_for(told.error, 5)
        finally:
            transport.close()

    assert isinstance(uringloop.run(main()), OSError)
