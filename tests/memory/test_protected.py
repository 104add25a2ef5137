"""Nothing writes to memory that is lent for a send: here it cannot be written.

Its pages are protected from before the call on.  Whoever writes to them, of the loop, of Python or
of the kernel, ends the process, or its call fails (EFAULT).
"""
import asyncio
import contextlib
import ctypes
import mmap
import os
import signal
import socket
import textwrap

import pytest

from tests.support.cases import UringCase
from tests.support.endpoints import Endpoints
from tests.support.features import needs_feature
from tests.support.namespaces import needs_root
from tests.support.programs import python
from tests.support.protocols import endpoint
from tests.support.sockets import deserted
from tests.support.turns import turns_until

SIZE = 60_000
SEGMENT = 1200
LIBC = ctypes.CDLL(None, use_errno=True)


def protect(address, length, protection=mmap.PROT_READ):
    if LIBC.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(length), protection):
        raise OSError(ctypes.get_errno(), 'mprotect')


def address_of(buffer):
    """Where it is; it is exported for this moment only."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


@pytest.fixture
def memory():
    """Pages that can be read only, with random bytes; and what those are."""
    content = os.urandom(SIZE)
    with mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        pages[:] = content
        place = address_of(pages)
        protect(place, SIZE)
        yield pages, content
        protect(place, SIZE, mmap.PROT_READ | mmap.PROT_WRITE)


class TestProtected(Endpoints, UringCase):

    def test_datagrams(self, memory):
        """By every call, and in trains."""
        pages, content = memory

        async def main():
            transport, receiver = await self.pair()
            view = memoryview(pages)
            parts = [view[i:i + SEGMENT] for i in range(0, SIZE, SEGMENT)]
            ways = (
                lambda: transport.sendto(view),
                lambda: [transport.sendto(part) for part in parts],
                lambda: transport.sendto_zerocopy(pages),
                lambda: transport.sendto_zerocopy(view, segment_size=SEGMENT),
                lambda: transport.sendto_many(parts),
                lambda: transport.sendto_many_zerocopy(parts),
                lambda: transport.sendmsg(parts),
            )
            for way in ways:
                future = way()
                got = b''
                while len(got) < SIZE:
                    got += (await receiver.datagrams.get())[0]
                assert got == content
                if asyncio.isfuture(future):
                    assert (await future).nbytes == SIZE
            for part in parts:
                part.release()
            view.release()

        self.run(main())

    @pytest.mark.parametrize('how', ['refused', 'cancelled', 'closed', 'aborted', 'full'])
    def test_whatever_becomes_of_it(self, memory, how):
        async def main():
            near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            near.setblocking(False)
            if how == 'full':
                far.bind(b'\0uringloop-%d-protected' % os.getpid())
                near.connect(far.getsockname())
                transport, protocol = await endpoint(sock=near)
            else:
                near.close()
                transport, protocol = await endpoint(
                    remote_addr=deserted() if how == 'refused' else self.bound())
            futures = [transport.sendto_zerocopy(pages) for _ in range(50)]
            if how in ('closed', 'aborted'):
                getattr(transport, {'closed': 'close', 'aborted': 'abort'}[how])()
            elif how == 'cancelled':
                for future in futures:
                    future.cancel()
            elif how == 'full':
                assert transport.get_write_buffer_size() > 0
            far.close()
            await asyncio.wait(futures)
            for future in futures:
                if not future.cancelled():
                    future.exception()
            transport.close()
            await protocol.until(lambda p: p.lost)
            self.peer.close()

        pages, content = memory
        self.peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.run(main())
        assert pages[:] == content

    def bound(self):
        self.peer.bind(('127.0.0.1', 0))
        return self.peer.getsockname()

    @needs_feature('send_zc')
    @needs_root
    def test_while_the_kernel_holds_it(self, memory, wire):
        pages, content = memory

        async def main():
            wire.hold()
            receiver, received = await endpoint(sock=wire.far.socket(address=wire.peer))
            transport, _ = await endpoint(sock=wire.socket())
            future = transport.sendto_zerocopy(pages, wire.peer)
            await turns_until(lambda: self.loop.stats().bytes_pinned == SIZE)
            wire.release()
            await received.until(lambda p: p.datagrams)
            assert received.datagrams == [content]
            assert (await future).nbytes == SIZE
            transport.close()
            receiver.close()

        try:
            self.run(main())
        finally:
            wire.release()

    @needs_feature('registered_buffers')
    def test_registered(self):
        """It could be written when it was registered: the kernel wants that."""
        async def main():
            transport, receiver = await self.pair()
            with mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
                pages[:] = content
                place = address_of(pages)
                async with self.loop.register_buffer(pages) as registered:
                    protect(place, SIZE)
                    for sent in registered, pages:
                        report = await transport.sendto_zerocopy(sent, segment_size=SEGMENT)
                        assert report.nbytes == SIZE
                        got = b''
                        while len(got) < SIZE:
                            got += (await receiver.datagrams.get())[0]
                        assert got == content

        content = os.urandom(SIZE)
        self.run(main())

    def test_leased(self):
        async def main():
            transport, receiver = await self.pair()
            pool = self.loop.create_buffer_pool(2, SIZE)
            lease = await pool.acquire()
            lease[:] = content
            place = address_of(lease)
            protect(place, SIZE)
            for sent in lease, lease[:SIZE]:
                transport.sendto(sent)
                assert (await receiver.datagrams.get())[0] == content
                assert (await transport.sendto_zerocopy(sent)).nbytes == SIZE
                assert (await receiver.datagrams.get())[0] == content
            protect(place, SIZE, mmap.PROT_READ | mmap.PROT_WRITE)
            lease.release()

        content = os.urandom(SIZE)
        self.run(main())

    def test_streams(self, memory):
        pages, content = memory

        async def main():
            async def serve(reader, writer):
                read.set_result(await reader.readexactly(20 * SIZE))
                writer.close()

            read = self.loop.create_future()
            server = await asyncio.start_server(serve, '127.0.0.1', 0)
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            view = memoryview(pages)
            for _ in range(20):
                writer.write(view)
            assert await read == content * 20
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            server.close()
            view.release()

        self.run(main())

    def test_who_does_write_is_caught(self):
        """That this finds anything."""
        done = python('-c', textwrap.dedent('''
            import asyncio, ctypes, faulthandler, uringloop
            from tests.memory.test_protected import SIZE, address_of, protect

            async def main():
                loop = asyncio.get_running_loop()
                transport, _ = await loop.create_datagram_endpoint(
                    asyncio.DatagramProtocol, local_addr=('127.0.0.1', 0))
                memory = bytearray(3 * SIZE)
                place = -(-address_of(memory) // 4096) * 4096
                begin = place - address_of(memory)
                protect(place, SIZE // 4096 * 4096)
                future = transport.sendto_zerocopy(
                    memoryview(memory)[begin:begin + SIZE], ('127.0.0.1', 9))
                print('sent', flush=True)
                memory[begin] = 1

            uringloop.run(main())
            '''), ASAN_OPTIONS='detect_leaks=0:handle_segv=0')
        assert done.stdout == 'sent\n'
        assert done.returncode == -signal.SIGSEGV
