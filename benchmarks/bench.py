"""How fast the loop is, next to asyncio's own and uvloop: a table of ratios in two minutes.

    make bench
    make bench ARGS='udp-echo tcp-echo --rounds 9'
    make bench ARGS='--against asyncio --seconds 2'

The loops take turns (A B C A B C ...), each time in a new process, so that what else the machine
does falls on all of them.  A ratio is the median of the rounds' ratios, and its range tells how
far to believe it: a difference within the range is none.  The loop runs on one processor, its
peer on another.

    UDP echo, 64 bytes             61,000 answers a second
      asyncio    2.31 |#########|############        2.20 to 2.44; per CPU second 2.30

Here the loop answers 2.31 times as many datagrams as asyncio's; `|` stands at 1, as fast.  Echoes
are counted by the clock.  Sends, turns and timers are counted by the loop's own processor time,
for a receiver in Python may be slower than the sender; the other figure follows the range.

All that is sent is compared with what arrives: a measurement in which something is missing,
changed or out of order fails.  Only loopback is used, so nothing goes zero-copy here: that is for
`python -m uringloop bench zerocopy`; TLS, connections, pipes and threads are for `bench everyday`.
"""
from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from uringloop.cli.bench.loops import missing, new_loop
from uringloop.cli.bench.progress import tell

HOST = '127.0.0.1'
# The first is the loop's, the last the load's.
PROCESSORS = sorted(os.sched_getaffinity(0))
ECHOES = 32               # under way at once
DIFFERENT = 256           # payloads, so that what is lost or out of order is seen
LIMIT = 60.0              # seconds of one measurement, whatever happens
SO_RCVBUFFORCE = 33
END = b'end'
BAR = 10                  # characters for a ratio of 1
WIDEST = 40


class Wrong(Exception):
    """Something did not arrive as it was sent."""


def take_processor(number: int) -> None:
    os.sched_setaffinity(0, {number})


def payloads(size: int) -> list[bytes]:
    return [number.to_bytes(4, 'big') * (size // 4) for number in range(DIFFERENT)]


def receiving_socket() -> tuple[socket.socket, int]:
    """A UDP socket, and how many bytes it holds."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((HOST, 0))
    sock.settimeout(LIMIT)
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
    except OSError:         # not root: as much as there is
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    return sock, sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


# -- the peers, each in a process of its own ---------------------------------------------------

def udp_echo_peer(port: int, seconds: float) -> None:
    sock, _ = receiving_socket()
    sock.connect((HOST, port))
    different = payloads(64)
    for number in range(ECHOES):
        sock.send(different[number])
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(64):
            if sock.recv(65535) != different[count % DIFFERENT]:
                raise Wrong('an answer is missing, changed or out of order')
            sock.send(different[(count + ECHOES) % DIFFERENT])
            count += 1
    print(count)


def tcp_echo_peer(port: int, seconds: float, size: int = 1024) -> None:
    socks = [socket.create_connection((HOST, port), LIMIT) for _ in range(ECHOES)]
    for sock in socks:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    different = payloads(size)
    for sock in socks:
        sock.sendall(different[0])
    rounds, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        expected, following = different[rounds % DIFFERENT], different[(rounds + 1) % DIFFERENT]
        for sock in socks:
            if sock.recv(size, socket.MSG_WAITALL) != expected:
                raise Wrong('an answer is missing or changed')
            sock.sendall(following)
        rounds += 1
    print(rounds * len(socks))


def udp_sink(size: int) -> None:
    """Receives until END comes; tells its peer what has arrived so far."""
    sock, room = receiving_socket()
    # What the kernel counts for a datagram, at the most.
    window = max(2, min(512, room // (2 * size + 2048)))
    print(sock.getsockname()[1], window, flush=True)
    different = payloads(size)
    count, told = 0, 0
    memory = bytearray(size + 1)
    view = memoryview(memory)
    while True:
        length, peer = sock.recvfrom_into(memory)
        if view[:length] == END:
            break
        if view[:length] != different[count % DIFFERENT]:
            raise Wrong('a datagram is missing, changed or out of order')
        count += 1
        if count - told >= window // 2:
            told = count
            sock.sendto(count.to_bytes(8, 'big'), peer)
    print(count)


def start(function: str, *arguments: object) -> subprocess.Popen[str]:
    code = (f'import bench; bench.take_processor({PROCESSORS[-1]}); '
            f'bench.{function}(*{arguments!r})')
    return subprocess.Popen([sys.executable, '-c', code], cwd=Path(__file__).parent,
                            stdout=subprocess.PIPE, text=True)


async def number_of(process: subprocess.Popen[str]) -> int:
    """What it prints in the end."""
    text, _ = await asyncio.to_thread(process.communicate)
    if process.returncode:
        raise Wrong('the peer has failed')
    return int(text.split()[-1])


# -- what is measured: returns how much was done -----------------------------------------------

class Echo(asyncio.Protocol):

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


async def udp_echo(seconds: float) -> int:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        Echo, local_addr=(HOST, 0))
    return await number_of(
        start('udp_echo_peer', transport.get_extra_info('sockname')[1], seconds))


async def tcp_echo(seconds: float) -> int:
    server = await asyncio.get_running_loop().create_server(Echo, HOST, 0)
    return await number_of(start('tcp_echo_peer', server.sockets[0].getsockname()[1], seconds))


class Sender(asyncio.DatagramProtocol):
    """Knows how much has arrived."""

    arrived = 0
    waiter = None

    def datagram_received(self, data, address):
        self.arrived = int.from_bytes(data, 'big')
        if self.waiter and not self.waiter.done():
            self.waiter.set_result(None)


async def udp_send(seconds: float, size: int, together: int) -> int:
    """``together`` datagrams in each turn of the loop."""
    loop = asyncio.get_running_loop()
    sink = start('udp_sink', size)
    assert sink.stdout is not None
    port, window = map(int, sink.stdout.readline().split())
    transport, sender = await loop.create_datagram_endpoint(Sender, remote_addr=(HOST, port))
    different = payloads(size)
    together = min(together, window // 2)
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        while count + together - sender.arrived > window:
            sender.waiter = loop.create_future()
            await asyncio.wait_for(sender.waiter, LIMIT)
        for _ in range(together):
            transport.sendto(different[count % DIFFERENT])
            count += 1
        await asyncio.sleep(0)
    transport.sendto(END)
    if await number_of(sink) != count:
        raise Wrong('datagrams are missing')
    return count


async def turns(seconds: float) -> int:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    count, end = 0, time.perf_counter() + seconds

    def turn():
        nonlocal count
        count += 1
        if count % 64 or time.perf_counter() < end:
            loop.call_soon(turn)
        else:
            done.set_result(None)

    turn()
    await done
    return count


async def timers(seconds: float) -> int:
    """A thousand at a time; half of them are cancelled, as timeouts are."""
    loop = asyncio.get_running_loop()
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        due = []
        handles = [loop.call_later((n * 7 % 100) * 1e-6, due.append, n) for n in range(1000)]
        for handle in handles[::2]:
            handle.cancel()
        await asyncio.sleep(100e-6)
        while len(due) < 500:
            await asyncio.sleep(0)
        if sorted(due) != list(range(1, 1000, 2)):
            raise Wrong('timers are missing')
        count += 1000
    return count


@dataclass(frozen=True)
class Work:
    title: str
    unit: str
    by_cpu: bool                # whether the loop's processor time is what counts
    run: Callable[[float], Awaitable[int]]


WORK = {
    'udp-echo': Work('UDP echo, 64 bytes', 'answers', False, udp_echo),
    'udp-small': Work('UDP send, 64 bytes, one a turn', 'datagrams', True,
                      lambda seconds: udp_send(seconds, 64, 1)),
    'udp-bulk': Work('UDP send, 1,200 bytes, 64 a turn', 'datagrams', True,
                     lambda seconds: udp_send(seconds, 1200, 64)),
    'udp-large': Work('UDP send, 60,000 bytes, 4 a turn', 'datagrams', True,
                      lambda seconds: udp_send(seconds, 60_000, 4)),
    'tcp-echo': Work('TCP echo, 1 KiB, 32 connections', 'answers', False, tcp_echo),
    'call-soon': Work('turns of one callback', 'turns', True, turns),
    'timers': Work('timers, half of them cancelled', 'timers', True, timers),
}


# -- taking turns ------------------------------------------------------------------------------

def measure(options: argparse.Namespace) -> None:
    """One measurement of one loop, in this process: work a second, and a second of its time."""
    take_processor(PROCESSORS[0])
    loop = new_loop(options.child)
    asyncio.set_event_loop(loop)
    [what] = options.work
    used = time.process_time()
    count = loop.run_until_complete(asyncio.wait_for(WORK[what].run(options.seconds), LIMIT))
    used = time.process_time() - used
    # The peers' start is in the time that has passed, but not in what was measured.
    print(json.dumps([count / options.seconds, count / used]))
    sys.stdout.flush()
    os._exit(0)


def measured(loop: str, what: str, options: argparse.Namespace) -> tuple[float, float]:
    paths = [str(Path(__file__).parent.parent), *([options.peers] if options.peers else []),
             os.environ.get('PYTHONPATH', '')]
    done = subprocess.run(
        [sys.executable, __file__, what, '--child', loop, '--seconds', str(options.seconds)],
        check=False, capture_output=True, text=True, timeout=LIMIT + 10,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths))})
    if done.returncode:
        sys.exit(f'{done.stderr}bench: {what} has failed with {loop}, see above')
    rate, per_cpu = json.loads(done.stdout)
    return rate, per_cpu


def bar(ratio: float) -> str:
    """`|` stands at 1."""
    length = min(round(ratio * BAR), WIDEST)
    drawn = list('#' * length + ' ' * (max(WIDEST, BAR + 1) - length))
    drawn[BAR - 1] = '|'
    return ''.join(drawn) + ('>' if ratio * BAR > WIDEST else ' ')


def show(what: str, figures: dict[str, list[tuple[float, float]]]) -> None:
    work = WORK[what]
    first, second = (1, 0) if work.by_cpu else (0, 1)
    names = ('by the clock', 'per CPU second')
    own = figures['uringloop']
    print(f'{work.title:33} {statistics.median(each[first] for each in own):10,.0f} {work.unit} a '
          f'second{" of processor time" * work.by_cpu}')
    for peer, theirs in figures.items():
        if peer == 'uringloop':
            continue
        ratios = [[mine[which] / other[which] for mine, other in zip(own, theirs, strict=True)]
                  for which in (first, second)]
        middle, beside = map(statistics.median, ratios)
        print(f'  {peer:9} {middle:5.2f} {bar(middle)} {min(ratios[0]):.2f} to '
              f'{max(ratios[0]):.2f}; {names[second]} {beside:.2f}', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='what can be measured:\n' + '\n'.join(
            f'  {name:10} {work.title}' for name, work in WORK.items()))
    parser.add_argument('work', nargs='*', metavar='WHAT', help='some of those below; else all')
    parser.add_argument('--against', default='asyncio,uvloop', metavar='LOOPS',
                        help='the others, with commas (default: asyncio,uvloop)')
    parser.add_argument('--rounds', type=int, default=5, help='(default: 5)')
    parser.add_argument('--seconds', type=float, default=0.5,
                        help='of one measurement (default: 0.5)')
    parser.add_argument('--peers', metavar='FOLDER', help='where uvloop is installed')
    parser.add_argument('--child', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.work) - set(WORK):
        parser.error(f'nothing is called {unknown.pop()}: choose from {", ".join(WORK)}')
    if options.rounds < 1 or not 0 < options.seconds <= LIMIT / 2:
        parser.error(f'--rounds is at least 1, --seconds more than 0 and at most {LIMIT / 2:.0f}')
    if options.child:
        return measure(options)
    loops = ['uringloop', *filter(None, options.against.split(','))]
    if options.peers:
        sys.path.append(options.peers)
    for peer in loops[1:]:
        if reason := missing(peer):
            print(f'Left out: {peer} ({reason})')
            loops.remove(peer)
    print(f'How many times as fast as each of the others uringloop is; medians of '
          f'{options.rounds} rounds\n')
    for what in options.work or WORK:
        figures: dict[str, list[tuple[float, float]]] = {loop: [] for loop in loops}
        for number in range(options.rounds):
            for loop in loops:
                tell(f'{what}: round {number + 1} of {options.rounds}, {loop}')
                figures[loop].append(measured(loop, what, options))
        tell('')
        show(what, figures)


if __name__ == '__main__':
    main()
