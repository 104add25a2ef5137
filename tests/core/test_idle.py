"""A loop that is idle sleeps, whatever traffic it has had; what is open costs nothing."""
import asyncio
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import uringloop
from tests.support.cases import UringCase, assert_no_leaks
from tests.support.features import needs_feature
from tests.support.protocols import endpoint
from tests.support.streams import Streams
from tests.support.turns import turns


async def udp():
    receiver, _ = await endpoint(local_addr=('127.0.0.1', 0))
    sender, _ = await endpoint(remote_addr=receiver.get_extra_info('sockname'))
    for i in range(3000):
        sender.sendto(bytes(30_000) if i % 2 else b'y')
        if i % 20 == 0:
            await asyncio.sleep(0)
    return [sender, receiver]


async def zerocopy():
    receiver, _ = await endpoint(local_addr=('127.0.0.1', 0))
    sender, _ = await endpoint(remote_addr=receiver.get_extra_info('sockname'))
    for _ in range(30):
        await asyncio.gather(*(sender.sendto_zerocopy(bytearray(20_000)) for _ in range(20)))
    return [sender, receiver]


async def tcp(server_context=None, client_context=None):
    async def serve(reader, writer):
        while data := await reader.read(100_000):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, '127.0.0.1', 0, ssl=server_context)
    reader, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=client_context)
    for size in (10, 1000, 100_000) * 30:
        writer.write(bytes(size))
        await reader.readexactly(size)
    server.close()
    return [writer]


async def tls(contexts):
    return await tcp(*contexts)


async def unix_streams():
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    far.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=near)
    for size in (10, 1000, 50_000) * 30:
        writer.write(bytes(size))
        left = size
        while left:
            left -= len(await loop.sock_recv(far, 50_000))
    far.close()
    assert await reader.read() == b''
    return [writer]


async def sock_calls():
    loop = asyncio.get_running_loop()
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with one, two:
        one.setblocking(False)
        two.setblocking(False)
        for _ in range(200):
            sending = asyncio.ensure_future(loop.sock_sendall(one, bytes(300_000)))
            left = 300_000
            while left:
                left -= len(await loop.sock_recv(two, 70_000))
            await sending
    return []


async def subprocesses():
    for _ in range(5):
        process = await asyncio.create_subprocess_exec(
            'cat', stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        out, _ = await process.communicate(bytes(200_000))
        assert len(out) == 200_000
    return []


async def threads():
    loop = asyncio.get_running_loop()
    called = 0

    def count():
        nonlocal called
        called += 1

    def flood():
        for _ in range(5000):
            loop.call_soon_threadsafe(count)

    flooding = [threading.Thread(target=flood) for _ in range(3)]
    for thread in flooding:
        thread.start()
    while called < 15_000:
        await loop.run_in_executor(None, int)
    for thread in flooding:
        thread.join()
    return []


async def add_reader():
    loop = asyncio.get_running_loop()
    one, two = socket.socketpair()
    got = asyncio.Queue()
    loop.add_reader(one, lambda: got.put_nowait(one.recv(10)))
    for _ in range(500):
        two.send(b'x')
        await got.get()
    loop.remove_reader(one)
    one.close()
    two.close()
    return []


@needs_feature('taskrun_flag')
@pytest.mark.parametrize('busy_poll', [0, 50])
@pytest.mark.parametrize('traffic', [
    udp, zerocopy, tcp, tls, unix_streams, sock_calls, subprocesses, threads, add_reader],
    ids=lambda traffic: traffic.__name__)
def test_idle_after(traffic, busy_poll, contexts):
    async def main():
        open_still = await (traffic(contexts) if traffic is tls else traffic())
        for _ in range(20):                  # whatever that has set going
            await asyncio.sleep(0.005)
        entered, used = loop.stats().syscalls, time.process_time()
        await asyncio.sleep(0.5)
        entered, used = loop.stats().syscalls - entered, time.process_time() - used
        assert entered <= 5
        assert used < 0.1
        # A flag that stays set costs one system call, not one a turn.
        before = loop.stats().syscalls
        for _ in range(1000):
            await asyncio.sleep(0)
        assert loop.stats().syscalls - before <= 5
        for transport in open_still:
            getattr(transport, 'transport', transport).abort()
        await asyncio.sleep(0.01)

    loop = uringloop.new_event_loop(require_uring=True, busy_poll=busy_poll)
    loop.run_until_complete(asyncio.wait_for(main(), 20))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert_no_leaks(loop)


def blocked():
    """How many threads of this machine are waiting for a disk."""
    [line] = [line for line in Path('/proc/stat').read_text().splitlines()
              if line.startswith('procs_blocked')]
    return int(line.split()[1])


IDLE = '''
import asyncio, threading
import uringloop

async def idle():
    end = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(ready.release)
    await end

def run():
    loop = uringloop.new_event_loop(require_uring=True, busy_poll=0)
    loop.run_until_complete(idle())

ready = threading.Semaphore(0)
for _ in range(30):
    threading.Thread(target=run, daemon=True).start()
for _ in range(30):
    ready.acquire()
print('ready', flush=True)
input()
'''


@needs_feature('no_iowait')
@pytest.mark.skipif(tuple(map(int, os.uname().release.split('.')[:2])) < (6, 15),
                    reason='IORING_ENTER_NO_IOWAIT is new in Linux 6.15')
def test_idle_is_not_waiting_for_a_disk():
    with subprocess.Popen([sys.executable, '-c', IDLE], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as idle:
        try:
            assert idle.stdout.readline() == b'ready\n'
            # Other programs come and go; the threads would stay.
            least = min(blocked() for _ in range(50) if not time.sleep(0.01))
        finally:
            idle.kill()
    assert least < 15


class TestIdleConnections(Streams, UringCase):

    @needs_feature('taskrun_flag')
    def test_they_cost_no_system_call(self):
        async def main():
            for _ in range(1000):
                await self.half(kind='unix')
            await turns(10)
            before = self.loop.stats()
            assert before.operations_in_flight >= 1000
            await turns(50)
            after = self.loop.stats()
            assert after.syscalls == before.syscalls
            assert after.submissions == before.submissions

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4096, hard)), hard))
        try:
            self.run(main())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
