"""What ``soak.py`` has a loop do, each a coroutine that it calls again and again."""
from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import ssl
import struct
import subprocess
import tempfile
import warnings
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import uringloop

LOCAL = ('127.0.0.1', 0)
SOL_UDP, UDP_SEGMENT = 17, 103          # linux/udp.h


class Echo(asyncio.DatagramProtocol):

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)


class Counter(asyncio.DatagramProtocol):
    received = 0

    def datagram_received(self, data, addr):
        self.received += 1


class Batches(uringloop.DatagramProtocol):
    received = 0

    def datagrams_received(self, batch):
        self.received += len(batch)


class Trains(uringloop.DatagramProtocol):
    received = 0

    def datagram_train_received(self, data, segment_size, addr):
        self.received += -(-len(data) // segment_size)


class WithInfo(uringloop.DatagramProtocol):
    """Answers from the address that was asked, with the codepoint that came."""

    received = 0

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received_with_info(self, data, addr, info):
        self.received += 1
        self.transport.sendto_with(data[:1000], addr, ecn=info.ecn, source=info.local_address)


async def endpoint(protocol: Callable, **how) -> tuple:
    return await asyncio.get_running_loop().create_datagram_endpoint(
        protocol, **how or {'local_addr': LOCAL})


async def until(condition: Callable[[], object]) -> None:
    """Some may be lost, but not all: it comes true, or five seconds are over."""
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError('nothing has come')


# -- datagrams -------------------------------------------------------------------------------------

async def datagrams() -> None:
    """Single, in bulk, zero-copy; answered."""
    server, _ = await endpoint(Echo)
    client, counter = await endpoint(Counter, remote_addr=server.get_extra_info('sockname'))
    for _ in range(20):
        for _ in range(random.choice([1, 1, 2, 30])):
            client.sendto(bytes(random.choice([0, 1, 1200, 1200, 9000, 60_000])))
        await asyncio.sleep(0)
        await client.sendto_zerocopy(bytearray(random.randrange(1, 60_000)))
    await until(lambda: counter.received)
    client.close()
    random.choice([server.close, server.abort])()


async def many_and_trains() -> None:
    """``sendto_many`` and trains, received one by one, by the batch and uncut."""
    for protocol in Counter, Batches, Trains:
        receiver, received = await endpoint(protocol)
        sender, _ = await endpoint(Counter)
        to = receiver.get_extra_info('sockname')
        memory = memoryview(bytearray(60_000))
        for _ in range(5):
            sender.sendto_many([memory[i:i + 100] for i in range(0, 3000, 100)], to)
            report = await sender.sendto_many_zerocopy(
                [bytes(1200), (bytearray(3000), to), memory[:1200]], to)
            assert report.nbytes == 5400
            await sender.sendto_zerocopy(memory, to, segment_size=random.choice([1000, 1200]))
        await until(lambda: received.received)        # noqa: B023
        sender.close()
        receiver.abort()


async def metadata() -> None:
    """Asked for and sent; control messages; the error queue."""
    server, told = await endpoint(WithInfo, local_addr=LOCAL, ecn=True, pktinfo=True,
                                  timestamps=True, drops=True)
    client, answered = await endpoint(Counter, remote_addr=server.get_extra_info('sockname'))
    for ecn in range(4):
        client.sendto_with(bytes(100), ecn=ecn)
        client.sendmsg([bytes(50), bytearray(50)], [(socket.IPPROTO_IP, socket.IP_TOS,
                                                     struct.pack('i', ecn))])
        client.sendmsg([bytes(5000)], [(SOL_UDP, UDP_SEGMENT, struct.pack('H', 1000))])
        await asyncio.sleep(0)
    await until(lambda: told.received and answered.received)
    client.close()
    server.close()


async def refused() -> None:
    """Nobody is there, and nothing is that long."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(LOCAL)
        deserted = sock.getsockname()
    transport, _ = await endpoint(Counter, remote_addr=deserted)
    for _ in range(20):
        transport.sendto(b'is anybody there')
        transport.sendto(bytes(65_508))
        with contextlib.suppress(OSError):
            await transport.sendto_zerocopy(bytearray(20_000))
    transport.close()


# -- lent memory -----------------------------------------------------------------------------------

async def pools() -> None:
    """Leases: released at once, afterwards, never; waited for; of short buffers and long ones."""
    loop = asyncio.get_running_loop()
    receiver, _ = await endpoint(Counter)
    to = receiver.get_extra_info('sockname')
    sender, _ = await endpoint(Counter)
    for size in 1200, 20_000:
        pool = loop.create_buffer_pool(4, size)
        for _ in range(20):
            with await pool.acquire() as lease:
                lease[:4] = b'data'
                sender.sendto(lease[:size // 2], to)
                future = sender.sendto_zerocopy(lease, to, segment_size=500)
            if random.random() < 0.5:
                future.cancel()
            else:
                await future
            for each in await pool.acquire_many(3):
                sender.sendto_many([each, each[:100]], to)
                each.release()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', ResourceWarning)
            if pool.free:
                pool.acquire_nowait()           # dropped
        await pool.close()
    sender.close()
    receiver.close()


async def registered_memory() -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await endpoint(Counter)
    here = transport.get_extra_info('sockname')
    memory = bytearray(100_000)
    async with loop.register_buffer(memory) as registered:
        view = memoryview(memory)
        await asyncio.gather(*(transport.sendto_zerocopy(view[i:i + 9000], here)
                               for i in range(0, 90_000, 9000)))
        await transport.sendto_zerocopy(view[:50_000], here, segment_size=1000)
        assert len(registered) == len(memory)
        view.release()
    memory.append(0)
    transport.close()


# -- streams ---------------------------------------------------------------------------------------

async def serve(reader, writer) -> None:
    """Echo."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(1 << 17):
            writer.write(data)
            await writer.drain()
    writer.close()


async def streams() -> None:
    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    for size in (10, 1000, 300_000):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(bytes(size))
        await reader.readexactly(size)
        if size == 1000:
            writer.transport.abort()
        else:
            writer.close()
    server.close()


async def local_streams(where: Path) -> None:
    """AF_UNIX."""
    path = str(where / f'{random.randrange(1 << 40)}')
    server = await asyncio.start_unix_server(serve, path)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(bytes(200_000))
    await reader.readexactly(200_000)
    writer.close()
    server.close()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)          # servers do it themselves from Python 3.13 on
    await asyncio.sleep(0)


async def tls(server_side: ssl.SSLContext, client_side: ssl.SSLContext) -> None:
    server = await asyncio.start_server(serve, '127.0.0.1', 0, ssl=server_side)
    reader, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=client_side, server_hostname='127.0.0.1')
    for size in (10, 100_000):
        writer.write(bytes(size))
        await reader.readexactly(size)
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()
    server.close()


# -- everything else -------------------------------------------------------------------------------

async def sock_calls() -> None:
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        sending = asyncio.ensure_future(loop.sock_sendall(near, bytes(500_000)))
        left = 500_000
        while left:
            left -= len(await loop.sock_recv(far, 1 << 16))
        await sending
        waiting = asyncio.ensure_future(loop.sock_recv(far, 10))
        await asyncio.sleep(0)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(LOCAL)
        to = sock.getsockname()
        for size in 10, 20_000:
            await loop.sock_sendto(sock, bytes(size), to)
            await loop.sock_sendto_zerocopy(sock, bytearray(size), to)
            await loop.sock_sendmsg(sock, [bytes(size)], (), 0, to)
            for _ in range(3):
                assert len((await loop.sock_recvfrom(sock, 1 << 16))[0]) == size


async def threads() -> None:
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    for _ in range(20):
        await loop.run_in_executor(None, loop.call_soon_threadsafe, done.set)
        await done.wait()
        done.clear()


async def timers() -> None:
    loop = asyncio.get_running_loop()
    for handle in [loop.call_later(random.random() * 100, int) for _ in range(500)]:
        handle.cancel()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(loop.create_future(), 0.005)


async def children() -> None:
    process = await asyncio.create_subprocess_exec(
        'cat', stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate(bytes(100_000))
    assert len(out) == 100_000
    await asyncio.sleep(0.2)


def certified(where: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's context and the client's, of a certificate that is made for this."""
    names = str(where / 'certificate.pem'), str(where / 'key.pem')
    subprocess.run(
        ['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256',
         '-nodes', '-days', '2', '-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1',
         '-out', names[0], '-keyout', names[1]], check=True, capture_output=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*names)
    return server, ssl.create_default_context(cafile=names[0])


@contextlib.contextmanager
def all_works():
    """All of them; what they need is there as long as this lasts."""
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        works: list[Callable[[], Awaitable[None]]] = [
            datagrams, datagrams, many_and_trains, metadata, refused, pools, registered_memory,
            streams, streams, partial(local_streams, where), partial(tls, *certified(where)),
            sock_calls, threads, timers, children]
        yield works
