"""What is measured: a function a row, whose title and unit stand above it.

A coroutine function runs on a new loop. Any other makes its loops itself.
"""
from __future__ import annotations

import asyncio
import os
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uringloop.cli.bench.everyday.watch import Watch
from uringloop.cli.bench.process import FailedError, MissingError

HOST = '127.0.0.1'
KIB = 1024
MESSAGE = bytes(64 * KIB)
IDLE = 10_000               # connections
TOGETHER = 1_000            # tasks, timers


@dataclass(frozen=True)
class Task:
    name: str
    group: str
    unit: str
    title: str
    run: Callable[[Watch], Awaitable[None] | None]
    load: bool              # whether it needs stream_load
    by: str                 # what counts: see results.Row


GROUPS = {
    'connections': 'connections',
    'tls': 'TLS, both ends in the loop',
    'pipes': 'pipes and processes',
    'threads': 'threads',
    'turns': 'turns of the loop',
    'start': 'starting',
}
TASKS: dict[str, Task] = {}


def task(group: str, unit: str, title: str, *, load: bool = False, by: str = 'rate',
         ) -> Callable[[Any], Any]:
    def add(run: Any) -> Any:
        name = run.__name__.replace('_', '-')
        TASKS[name] = Task(name, group, unit, title, run, load, by)
        return run
    return add


# -- connections ---------------------------------------------------------------------------------

class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class AnswersOnce(Echo):
    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        self.transport.close()


class Lost(asyncio.Protocol):
    """Knows when its connection is gone."""

    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


def _port(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


async def _tcp_echo(watch: Watch, size: int, connections: int) -> None:
    server = await asyncio.get_running_loop().create_server(Echo, HOST, 0)
    await watch.loaded('echo', _port(server), size, connections)


@task('connections', 'answers', 'TCP echo, 1 KiB on 64 connections', load=True)
async def tcp_1k(watch: Watch) -> None:
    await _tcp_echo(watch, KIB, 64)


@task('connections', 'answers', 'TCP echo, 64 KiB on 8 connections', load=True)
async def tcp_64k(watch: Watch) -> None:
    await _tcp_echo(watch, 64 * KIB, 8)


@task('connections', 'answers', 'AF_UNIX echo, 1 KiB on 50 connections', load=True)
async def unix_1k(watch: Watch) -> None:
    path = watch.folder / f'echo-{os.getpid()}'
    server = await asyncio.get_running_loop().create_unix_server(Echo, str(path))
    await watch.loaded('echo', str(path), KIB, 50)
    server.close()


@task('connections', 'MB', 'StreamWriter to StreamReader, 64 KiB, both ends in the loop')
async def streams(watch: Watch) -> None:
    sent = received = 0
    ended = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        while data := await reader.read(64 * KIB):
            received += len(data)
        writer.close()
        ended.set()

    server = await asyncio.start_server(handle, HOST, 0)
    _, writer = await asyncio.open_connection(HOST, _port(server))
    with watch:
        while watch.going():
            writer.write(MESSAGE)
            await writer.drain()
            sent += len(MESSAGE)
        writer.close()
        await ended.wait()
    watch.delivered(sent, received)


@task('connections', 'connections', 'connect and close, one by one, both ends in the loop')
async def connect(watch: Watch) -> None:
    loop = asyncio.get_running_loop()
    with watch:
        while watch.going():
            # To one port there are so many connections a minute, and not many more.
            if watch.units % 10_000 == 0:
                server = await loop.create_server(asyncio.Protocol, HOST, 0)
            transport, protocol = await loop.create_connection(Lost, HOST, _port(server))
            transport.close()
            await protocol.lost
            watch.units += 1


@task('connections', 'connections', 'accept, answer 1 KiB and close, 16 at a time', load=True)
async def accept(watch: Watch) -> None:
    server = await asyncio.get_running_loop().create_server(AnswersOnce, HOST, 0)
    await watch.loaded('connect', _port(server), KIB, 16)


def _memory() -> int:
    """Bytes of this process and, for root only, of what the kernel keeps for polls."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    slabs = 0
    try:
        for line in Path('/proc/slabinfo').read_text().splitlines():
            name, *numbers = line.split()
            if name in ('io_kiocb', 'eventpoll_epi', 'eventpoll_pwq', 'ep_head'):
                slabs += int(numbers[0]) * int(numbers[2])
    except OSError:
        pass
    return pages * os.sysconf('SC_PAGESIZE') + slabs


@task('connections', 'bytes',
      f'memory for each of {IDLE:,} idle TCP connections (the less the better)',
      load=True, by='less')
async def idle(watch: Watch) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < IDLE + 100:
        raise MissingError(f'so many files cannot be open: ulimit -n {2 * IDLE}')
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    made = 0
    due: asyncio.Future[None]

    class Idle(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            nonlocal made
            made += 1
            if made in (1, IDLE + 1):
                due.set_result(None)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Idle, HOST, 0, backlog=1000)
    loads = []
    # What is made once does not count.
    for connections in (1, IDLE):
        before, due = _memory(), loop.create_future()
        loads.append(watch.start_load('idle', _port(server), connections=connections))
        await due
        await asyncio.sleep(0.2)
    watch.units, watch.took = (_memory() - before) / IDLE, 1.0
    for load in loads:
        load.communicate()


# -- TLS -----------------------------------------------------------------------------------------

def _contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    key, certificate = folder / 'key.pem', folder / 'certificate.pem'
    if not certificate.exists():
        if shutil.which('openssl') is None:
            raise MissingError('openssl is not installed: apt install openssl')
        subprocess.run(
            ['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256',
             '-nodes', '-days', '2', '-subj', '/CN=localhost', '-keyout', key,
             '-out', certificate], check=True, capture_output=True)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.check_hostname = False
    asking.verify_mode = ssl.CERT_NONE
    return serving, asking


async def _tls_echo(watch: Watch, size: int, connections: int) -> None:
    message = MESSAGE[:size]

    class Asks(asyncio.Protocol):
        got = 0

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.got += len(data)
            if self.got >= size:
                self.got -= size
                watch.units += 1
                self.transport.write(message)

    serving, asking = _contexts(watch.folder)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, HOST, 0, ssl=serving)
    transports = [(await loop.create_connection(Asks, HOST, _port(server), ssl=asking))[0]
                  for _ in range(connections)]
    with watch:
        for transport in transports:
            transport.write(message)
        await asyncio.sleep(watch.seconds)
    if any(transport.is_closing() for transport in transports):
        raise FailedError('a connection was lost')


@task('tls', 'answers', 'TLS echo, 1 KiB on 16 connections')
async def tls_1k(watch: Watch) -> None:
    await _tls_echo(watch, KIB, 16)


@task('tls', 'answers', 'TLS echo, 64 KiB on 4 connections')
async def tls_64k(watch: Watch) -> None:
    await _tls_echo(watch, 64 * KIB, 4)


# -- pipes and processes -------------------------------------------------------------------------

@task('pipes', 'MB', 'pipe, 64 KiB a write, both ends in the loop')
async def pipe(watch: Watch) -> None:
    sent = received = 0
    ended, writable = asyncio.Event(), asyncio.Event()
    writable.set()

    class Reads(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            nonlocal received
            received += len(data)

        def connection_lost(self, exc: Exception | None) -> None:
            ended.set()

    class Writes(asyncio.BaseProtocol):
        def pause_writing(self) -> None:
            writable.clear()

        def resume_writing(self) -> None:
            writable.set()

    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    await loop.connect_read_pipe(Reads, os.fdopen(reading, 'rb', 0))
    transport, _ = await loop.connect_write_pipe(Writes, os.fdopen(writing, 'wb', 0))
    with watch:
        while watch.going():
            transport.write(MESSAGE)
            sent += len(MESSAGE)
            await writable.wait()
            await asyncio.sleep(0)
        transport.close()
        await ended.wait()
    watch.delivered(sent, received)


@task('pipes', 'answers', '1 KiB through cat and back')
async def cat(watch: Watch) -> None:
    process = await asyncio.create_subprocess_exec('cat', stdin=subprocess.PIPE,
                                                   stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    message = os.urandom(KIB)
    with watch:
        while watch.going():
            process.stdin.write(message)
            if await process.stdout.readexactly(KIB) != message:
                raise FailedError('what came back is not what was sent')
            watch.units += 1
    process.stdin.close()
    await process.wait()


@task('pipes', 'processes', 'true, started and waited for, one by one')
async def spawn(watch: Watch) -> None:
    with watch:
        while watch.going():
            process = await asyncio.create_subprocess_exec('true')
            if await process.wait():
                raise FailedError('true was false')
            watch.units += 1


# -- threads -------------------------------------------------------------------------------------

@task('threads', 'calls', 'call_soon_threadsafe, one at a time, by a thread that waits')
async def threadsafe(watch: Watch) -> None:
    loop = asyncio.get_running_loop()
    called = threading.Event()

    def calls() -> None:
        while watch.going():
            loop.call_soon_threadsafe(called.set)
            called.wait()
            called.clear()
            watch.units += 1

    with watch:
        await asyncio.to_thread(calls)


def _flood(watch: Watch, count: int) -> None:
    """How many calls are made until the loop has stopped, which it is to do when time is up."""
    loop = watch.new_loop()
    stopped = False

    def called() -> None:
        watch.units += 1

    def calls() -> None:
        while not stopped:
            loop.call_soon_threadsafe(called)

    threads = [threading.Thread(target=calls) for _ in range(count)]
    with watch:
        loop.call_later(watch.seconds, loop.stop)
        for thread in threads:
            thread.start()
        loop.run_forever()
    stopped = True
    for thread in threads:
        thread.join()


@task('threads', 'calls', 'call_soon_threadsafe, a flood from a thread, until the loop has stopped')
def flood_1(watch: Watch) -> None:
    _flood(watch, 1)


@task('threads', 'calls', 'call_soon_threadsafe, a flood from 8 threads, until it has stopped')
def flood_8(watch: Watch) -> None:
    _flood(watch, 8)


@task('threads', 'calls', 'run_in_executor(None, int), one by one')
async def executor(watch: Watch) -> None:
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, int)
    with watch:
        while watch.going():
            await loop.run_in_executor(None, int)
            watch.units += 1


# -- turns of the loop ---------------------------------------------------------------------------

def _nothing() -> None:
    pass


@task('turns', 'callbacks', 'call_soon, 2,000 a turn')
def call_soon(watch: Watch) -> None:
    loop = watch.new_loop()
    with watch:
        while watch.going():
            for _ in range(2_000):
                loop.call_soon(_nothing)
            loop.call_soon(loop.stop)
            loop.run_forever()
            watch.units += 2_000


@task('turns', 'turns', 'call_soon, one a turn')
async def chain(watch: Watch) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def step() -> None:
        watch.units += 1
        if watch.units % 100 or watch.going():
            loop.call_soon(step)
        else:
            done.set_result(None)

    with watch:
        loop.call_soon(step)
        await done


@task('turns', 'turns', 'await sleep(0)')
async def sleep_0(watch: Watch) -> None:
    with watch:
        while watch.going():
            for _ in range(100):
                await asyncio.sleep(0)
            watch.units += 100


@task('turns', 'tasks', 'gather, 1,000 coroutines at a time')
async def gather(watch: Watch) -> None:
    async def nothing() -> None:
        pass

    with watch:
        while watch.going():
            await asyncio.gather(*[nothing() for _ in range(TOGETHER)])
            watch.units += TOGETHER


@task('turns', 'timers', 'call_later, 1,000 at a time, of which every other one is cancelled')
async def timers(watch: Watch) -> None:
    loop = asyncio.get_running_loop()
    with watch:
        while watch.going():
            due: list[int] = []
            handles = [loop.call_later((n * 7 % 100) * 1e-6, due.append, n)
                       for n in range(TOGETHER)]
            for handle in handles[::2]:
                handle.cancel()
            while len(due) < TOGETHER // 2:
                await asyncio.sleep(100e-6)
            if sorted(due) != list(range(1, TOGETHER, 2)):
                raise FailedError('other timers came than those that were left')
            watch.units += TOGETHER


@task('turns', 'bytes', 'add_reader, a byte to and fro on a pair of sockets')
async def add_reader(watch: Watch) -> None:
    loop = asyncio.get_running_loop()
    pair = socket.socketpair()

    def readable(sock: socket.socket) -> None:
        sock.send(sock.recv(16))
        watch.units += 1

    for sock in pair:
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), readable, sock)
    with watch:
        pair[0].send(b'x')
        await asyncio.sleep(watch.seconds)


# -- starting ------------------------------------------------------------------------------------

IMPORT = '''
import time
begin, used = time.perf_counter(), time.process_time()
import asyncio, {}
print(time.perf_counter() - begin, time.process_time() - used)
'''


@task('start', 'imports', 'import of asyncio and of the loop\'s module, in new processes')
def imports(watch: Watch) -> None:
    program = [sys.executable, '-c', IMPORT.format(watch.loop_name.partition(':')[0])]
    times: list[list[float]] = []
    with watch:
        while watch.going() or len(times) < 2:
            done = subprocess.run(program, check=True, capture_output=True, text=True)
            times.append([float(figure) for figure in done.stdout.split()])
    # The first one has brought the files into memory.
    watch.units = len(times) - 1
    watch.took, watch.cpu = map(sum, zip(*times[1:], strict=True))


@task('start', 'loops', 'new_event_loop and close')
def new_loop(watch: Watch) -> None:
    with watch:
        while watch.going():
            watch.new_loop().close()
            watch.units += 1


@task('start', 'runs', 'a loop made, an empty coroutine run on it, and closed, as asyncio.run does')
def run(watch: Watch) -> None:
    async def nothing() -> None:
        pass

    with watch:
        while watch.going():
            loop = watch.new_loop()
            asyncio.set_event_loop(loop)
            loop.run_until_complete(nothing())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            asyncio.set_event_loop(None)
            loop.close()
            watch.units += 1
