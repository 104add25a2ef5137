"""Memory that programs lend: it is what was exported, keeps its size, and may be too long."""
import asyncio
import errno
import mmap
import os
import socket
import sys

import pytest

import uringloop
from tests.support.cases import UringCase, assert_no_leaks
from tests.support.protocols import endpoint
from tests.support.sockets import udp


class Shifting:
    """Whoever asks gets another piece of memory."""

    def __init__(self, size, others):
        self.size = size
        self.others = others

    def __buffer__(self, flags):
        self.others.append(bytearray(b'Z' * self.size))
        return memoryview(bytearray(b'A' * self.size))


class TestExports(UringCase):
    """Memory is what was exported, for as long as the kernel may use it."""

    python_buffers = pytest.mark.skipif(
        sys.version_info < (3, 12), reason='buffers in Python (PEP 688) are new in 3.12')

    @python_buffers
    def test_every_export_is_other_memory_sending(self):
        async def main():
            others = []
            with udp() as sink:
                transport, _ = await endpoint(remote_addr=sink.getsockname())
                report = await transport.sendto_zerocopy(Shifting(4096, others))
                assert report.nbytes == 4096
                assert await self.loop.sock_recv(sink, 5000) == b'A' * 4096
                transport.close()

        self.run(main())

    @python_buffers
    def test_every_export_is_other_memory_receiving(self):
        async def main():
            others = []
            one, two = socket.socketpair()
            with one, two:
                one.setblocking(False)
                task = asyncio.ensure_future(
                    self.loop.sock_recv_into(one, Shifting(4096, others)))
                for _ in range(3):
                    await asyncio.sleep(0)
                two.send(b'K' * 4096)
                assert await task == 4096
                assert not any(b'K' in other for other in others)

        self.run(main())

    def test_an_address_that_moves_the_memory(self):
        class Port:
            def __index__(self):
                data.extend(b'B' * 30_000)
                return number

        data = bytearray(b'A' * 1000)
        with udp() as sink, udp() as sock:
            number = sink.getsockname()[1]

            async def main():
                try:
                    await self.loop.sock_sendto(sock, data, ('127.0.0.1', Port()))
                except BufferError:
                    return          # asyncio's answer, as good
                assert await self.loop.sock_recv(sink, 65536) == data

            self.run(main())


def test_a_buffer_keeps_its_size_while_others_leave_first(tmp_path):
    """What is being sent can't be resized by code that runs before it leaves."""
    path = str(tmp_path / 'far')

    class Changing(uringloop.Loop):
        frame = bytearray()

        def call_soon(self, *args, **kwargs):
            if self.frame:
                try:
                    self.frame.clear()
                except BufferError:
                    refused.append(True)
            return super().call_soon(*args, **kwargs)

    async def main():
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as far, udp() as peer:
            far.bind(path)
            # The loop's own socket: on others such a bulk does not wait.
            deferring, _ = await endpoint(family=socket.AF_UNIX, remote_addr=path)
            sender, _ = await endpoint(remote_addr=peer.getsockname())
            for _ in range(10):
                deferring.sendto_zerocopy(b'x').add_done_callback(lambda report: None)
            frame = loop.frame = bytearray(b'frame' * 1000)
            sender.sendto(frame)
            loop.frame = bytearray()
            peer.settimeout(5)
            assert peer.recv(10_000) == b'frame' * 1000
            frame.clear()                # lent no more
            deferring.close()
            sender.close()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    refused = []
    loop = Changing()
    loop.run_until_complete(asyncio.wait_for(main(), 5))
    loop.close()
    assert refused
    assert_no_leaks(loop)


class TestTooLong(UringCase):

    @pytest.mark.skipif(sys.maxsize < 1 << 33, reason='no buffer is as long')
    def test_more_than_4_gibibytes_are_refused(self):
        """The kernel takes 32 bits of the length: 100 bytes would leave."""
        async def main():
            with udp() as sink, udp() as sock:
                transport, _ = await endpoint(remote_addr=sink.getsockname())
                for send in (lambda: transport.sendto_zerocopy(memory),
                             lambda: self.loop.sock_sendto_zerocopy(
                                 sock, memory, sink.getsockname())):
                    with pytest.raises(OSError) as caught:
                        await send()
                    assert caught.value.errno == errno.EMSGSIZE
                with pytest.raises(BlockingIOError):
                    sink.recv(100)
                transport.close()

        try:
            # Never touched, so none of it is really there.
            memory = mmap.mmap(-1, (4 << 30) + 100, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
                               | getattr(mmap, 'MAP_NORESERVE', 0x4000))
        except OSError as exc:
            pytest.skip(f'no address space: {os.strerror(exc.errno)}')
        with memory:
            self.run(main())
