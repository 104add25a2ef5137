"""Compare event loops from outside: TLS, idle connections, connecting, starting processes.

    python benchmarks/compare.py tls asyncio uringloop
    python benchmarks/compare.py idle uvloop uringloop --count 10000

tls      echo over 16 TLS connections, 1 KiB each: answers a second
idle     bytes of memory that each of --count idle TCP connections costs the server
         (what the process and the kernel's own caches hold; and the CPU it used meanwhile)
connect  create_connection and close, one after another: a second
spawn    subprocess_exec("true") and wait, one after another: a second

The loops take turns, --rounds times; the ratio is that of the last one's median to
the first one's.  The loop runs on one processor, its load on another.
"""
from __future__ import annotations

import argparse
import asyncio
import os
import resource
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from uringloop.cli.bench.loops import new_loop

HOST = '127.0.0.1'


class Echo(asyncio.Protocol):

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


# The first is the loop's, the last the load's.
PROCESSORS = sorted(os.sched_getaffinity(0))


def take_processor(number: int) -> None:
    os.sched_setaffinity(0, {number})


def load(function: str, *arguments: object) -> subprocess.Popen:
    """Run one of the functions below in a process of its own."""
    code = (f'import compare; compare.take_processor({PROCESSORS[-1]}); '
            f'compare.{function}(*{arguments!r})')
    return subprocess.Popen([sys.executable, '-c', code], cwd=Path(__file__).parent,
                            stdout=subprocess.PIPE, text=True)


async def outcome(process: subprocess.Popen) -> float:
    """The number that it prints in the end."""
    text, _ = await asyncio.to_thread(process.communicate)
    return float(text)


# -- TLS ---------------------------------------------------------------------------------------

def make_certificate(folder: str) -> tuple[str, str]:
    key, certificate = f'{folder}/key.pem', f'{folder}/cert.pem'
    subprocess.run(
        ['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256',
         '-nodes', '-days', '2', '-subj', '/CN=localhost', '-keyout', key, '-out', certificate],
        check=True, stderr=subprocess.DEVNULL)
    return certificate, key


def tls_load(port: int, seconds: float, connections: int = 16, size: int = 1024) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    socks = [context.wrap_socket(socket.create_connection((HOST, port)))
             for _ in range(connections)]
    data = bytes(size)
    count, begin = 0, time.perf_counter()
    for sock in socks:
        sock.sendall(data)
    while time.perf_counter() - begin < seconds:
        for sock in socks:
            left = size
            while left:
                left -= len(sock.recv(left))
            sock.sendall(data)
            count += 1
    print(count / (time.perf_counter() - begin))


async def tls(options: argparse.Namespace) -> float:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        context.load_cert_chain(*make_certificate(folder))
    context.set_ciphers('ECDHE-ECDSA-AES128-GCM-SHA256')
    context.maximum_version = ssl.TLSVersion.TLSv1_2      # so that this is the cipher
    server = await asyncio.get_running_loop().create_server(Echo, HOST, 0, ssl=context)
    rate = await outcome(load('tls_load', server.sockets[0].getsockname()[1], options.seconds))
    server.close()
    return rate


# -- idle connections --------------------------------------------------------------------------

def idle_load(port: int, count: int) -> None:
    raise_limit()
    socks = []
    for n in range(count):
        sock = socket.socket()
        # Each address has some 28,000 ports only.
        sock.bind((f'127.0.{1 + n // 20000}.1', 0))
        sock.connect((HOST, port))
        socks.append(sock)
    print(count, flush=True)
    sys.stdout.close()
    time.sleep(3600)     # until it is ended


def raise_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def memory() -> int:
    """Bytes of this process, and of the kernel's objects that io_uring and epoll make."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    slabs = 0
    try:
        for line in Path('/proc/slabinfo').read_text().splitlines():
            name, *numbers = line.split()
            if name in ('io_kiocb', 'eventpoll_epi', 'eventpoll_pwq', 'ep_head'):
                slabs += int(numbers[0]) * int(numbers[2])
    except OSError:
        pass          # root only: the process alone then
    return pages * os.sysconf('SC_PAGESIZE') + slabs


async def idle(options: argparse.Namespace) -> float:
    raise_limit()
    made = 0
    everyone = asyncio.Event()

    class Idle(asyncio.Protocol):
        def connection_made(self, transport):
            nonlocal made
            made += 1
            if made == options.count + 1:
                everyone.set()

    server = await asyncio.get_running_loop().create_server(Idle, HOST, 0, backlog=1000)
    port = server.sockets[0].getsockname()[1]
    first = load('idle_load', port, 1)         # what is made once is not counted
    while not made:
        await asyncio.sleep(0.01)
    before = memory()
    rest = load('idle_load', port, options.count)
    await everyone.wait()
    await asyncio.sleep(0.2)
    used = memory() - before
    begin = time.process_time()
    await asyncio.sleep(1)
    options.note = f'{(time.process_time() - begin) * 1e6:.0f} us of CPU in a second'
    for process in (first, rest):
        process.kill()
        process.wait()
    return used / options.count


# -- connecting --------------------------------------------------------------------------------

def accept_load() -> None:
    listening = socket.create_server((HOST, 0), backlog=1000)
    print(listening.getsockname()[1], flush=True)
    while True:
        sock, _ = listening.accept()
        sock.close()


async def connect(options: argparse.Namespace) -> float:
    process = load('accept_load')
    assert process.stdout is not None
    port = int(process.stdout.readline())
    loop = asyncio.get_running_loop()
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < options.seconds:
        transport, protocol = await loop.create_connection(Lost, HOST, port)
        transport.close()
        await protocol.lost
        count += 1
    elapsed = time.perf_counter() - begin
    process.kill()
    process.wait()
    return count / elapsed


class Lost(asyncio.Protocol):

    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc):
        self.lost.set_result(None)


# -- processes ---------------------------------------------------------------------------------

async def spawn(options: argparse.Namespace) -> float:
    loop = asyncio.get_running_loop()
    if sys.version_info < (3, 12) and type(loop).__module__.startswith('asyncio'):
        asyncio.get_child_watcher().attach_loop(loop)
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < options.seconds:
        process = await asyncio.create_subprocess_exec('true')
        assert await process.wait() == 0
        count += 1
    return count / (time.perf_counter() - begin)


# -- taking turns ------------------------------------------------------------------------------

UNITS = {'tls': 'answers a second', 'idle': 'bytes a connection',
         'connect': 'connections a second', 'spawn': 'processes a second'}


def child(options: argparse.Namespace) -> None:
    """One measurement of one loop, in this process."""
    if options.what != 'spawn':
        take_processor(PROCESSORS[0])
    loop = new_loop(options.loops[0])
    asyncio.set_event_loop(loop)
    threading.stack_size(1 << 20)
    options.note = ''
    print(loop.run_until_complete(globals()[options.what](options)), options.note)
    sys.stdout.flush()
    os._exit(0)          # thousands of transports need no farewell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=UNITS)
    parser.add_argument('loops', nargs='+', metavar='LOOP',
                        help='asyncio, a module with new_event_loop, or MODULE:CALLABLE')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=float, default=1.5, help='of one measurement')
    parser.add_argument('--count', type=int, default=10_000, help='of idle connections')
    parser.add_argument('--child', action='store_true', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options)
    figures: dict[str, list[float]] = {loop: [] for loop in options.loops}
    notes = {}
    for number in range(options.rounds):
        for loop in options.loops:
            done = subprocess.run(
                [sys.executable, __file__, options.what, loop, '--child',
                 '--seconds', str(options.seconds), '--count', str(options.count)],
                stdout=subprocess.PIPE, text=True, check=True)
            figure, _, notes[loop] = done.stdout.strip().partition(' ')
            figures[loop].append(float(figure))
        print(f'\rround {number + 1} of {options.rounds}', end='', file=sys.stderr, flush=True)
    print('\r', end='', file=sys.stderr)
    base = statistics.median(figures[options.loops[0]])
    for loop, each in figures.items():
        middle = statistics.median(each)
        print(f'{loop:12} {middle:12,.0f} {UNITS[options.what]} ({min(each):,.0f} to '
              f'{max(each):,.0f}), {middle / base:.2f} of the first{notes[loop] and "; "}'
              f'{notes[loop]}')


if __name__ == '__main__':
    main()
