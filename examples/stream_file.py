"""Stream a file as datagrams, without copying them on their way into the network.

    .venv/bin/python examples/stream_file.py receive --host 0.0.0.0 --output copy.iso
    .venv/bin/python examples/stream_file.py send 192.0.2.10 --file debian.iso

The sender owns a pool of buffers that the kernel knows.  It leases one, reads as much of the
file into it as makes a train of datagrams, a header in front of each, and sends all of it by one
``sendto_zerocopy``.  1,456 bytes of content, the default, and the headers fill an Ethernet packet
over IPv4; over IPv6 1,436 do, and larger datagrams want a larger MTU.  The lease is released when
the receiver has said that all of it came.  Its buffer is filled anew when the kernel has let go
of it, too: that is the pool's affair.

The receiver acknowledges every datagram with the number of the next it lacks and
with how much its socket holds, so that a fast sender doesn't drown it.  What stays
unacknowledged is sent again.  There is no congestion control: use it on a network
of your own.
"""
import argparse
import asyncio
import hashlib
import io
import json
import os
import socket
import struct
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections import Counter, deque
from functools import partial
from pathlib import Path

import uringloop

HEADER = struct.Struct('!QB7x')     # sequence number, kind; 16 bytes, so that data stay aligned
ACK = struct.Struct('!QIB')         # next sequence number wanted, bytes of room, verdict
HELLO, DATA, END, BYE = range(4)
UNKNOWN, RIGHT, WRONG = range(3)

LONGEST = 65507 - HEADER.size       # what one IPv4 datagram can hold
ETHERNET = 1472 - HEADER.size       # what one can hold that fits an MTU of 1,500
SHORTEST = hashlib.sha256().digest_size
SOCKET_BUFFER = 4 << 20             # asked for; the kernel grants what net.core.*mem_max allow
COST = 512                          # of room: what the kernel keeps beside a short datagram
RESEND_AFTER = 0.1                  # seconds without news from the receiver
GIVE_UP_AFTER = 10.0
LINGER = 1.0                        # the receiver's, for a sender that missed the verdict


class Failure(Exception):
    """What ends the program with one line instead of a traceback."""


class Progress:
    """A bar on a terminal, a line a second anywhere else."""

    def __init__(self, total):
        self.total = total
        self.loop = type(asyncio.get_running_loop()).__module__.partition('.')[0]
        self.terminal = sys.stderr.isatty()
        self.interval = 0.1 if self.terminal else 1.0
        self.start = self.shown = time.monotonic()

    def update(self, done):
        now = time.monotonic()
        if now - self.shown >= self.interval:
            self.shown = now
            self.show(done, '' if self.terminal else '\n')

    def finish(self, done):
        self.show(done, '\n')

    def show(self, done, end):
        share = done / self.total if self.total else 1
        speed = done / 1e6 / max(time.monotonic() - self.start, 1e-9)
        text = f'{share:4.0%} of {self.total / 1e6:,.0f} MB, {speed:,.0f} MB/s by {self.loop}'
        if self.terminal:
            text = f'\r[{"#" * int(share * 30):30}] {text} '
        print(text, end=end, file=sys.stderr, flush=True)


class OrdinaryPool:
    """Where io_uring cannot be had: asyncio's ``sendto`` copies before it returns."""

    def __init__(self, size):
        self.size = size

    async def acquire(self):
        return OrdinaryBuffer(self.size)


class OrdinaryBuffer(bytearray):

    def release(self):
        pass


class Train:
    """Datagrams side by side in one buffer, until the receiver has them."""

    def __init__(self, lease, first):
        self.lease = lease
        self.view = memoryview(lease)
        self.first = first          # sequence number of the first datagram
        self.count = self.length = 0

    def release(self):
        self.view.release()
        self.lease.release()


class Sender(asyncio.DatagramProtocol):

    def __init__(self, size, window, blind):
        self.size = size
        self.step = HEADER.size + size
        # Datagrams of a train; one readv(2) fills it.
        self.longest = min((LONGEST + HEADER.size) // self.step, os.sysconf('SC_IOV_MAX'))
        self.window = window                    # trains
        self.limit = window * self.longest      # under way; the receiver may ask for fewer
        self.most = self.limit
        loop = asyncio.get_running_loop()
        if hasattr(loop, 'create_buffer_pool'):
            self.pool = loop.create_buffer_pool(window, self.longest * self.step)
        else:
            self.pool = OrdinaryPool(self.longest * self.step)
        self.blind = blind              # nobody answers
        self.under_way = deque()        # trains, until the receiver has them
        self.sequence = 0               # of the next datagram
        self.wanted = 0                 # what the receiver waits for: all before it came
        self.verdict = UNKNOWN
        self.resent = 0
        self.reports = Counter()        # datagrams, by SendReport.copied
        self.released = 0               # those whose memory was given back, sent or not
        self.sends = set()              # futures of what the kernel may still read
        self.writable = asyncio.Event()
        self.writable.set()
        self.news = None                # a future while somebody waits for the receiver
        self.failure = None

    def connection_made(self, transport):
        self.transport = transport
        transport.get_extra_info('socket').setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        # The window is the limit here; a transport left alone would pause at 64 KiB.
        transport.set_write_buffer_limits(high=self.most * self.step)

    def pause_writing(self):
        self.writable.clear()

    def resume_writing(self):
        self.writable.set()

    def error_received(self, exc):
        self.failure = exc
        self.tell()

    def datagram_received(self, data, addr):
        if len(data) != ACK.size:
            return
        wanted, room, verdict = ACK.unpack(data)
        if wanted > self.wanted:
            self.wanted = wanted
            self.verdict = verdict
            self.limit = min(self.most, max(self.longest, room // max(self.step, COST)))
            self.tell()

    def tell(self):
        if self.news is not None and not self.news.done():
            self.news.set_result(None)

    def check(self):
        if self.failure is not None:
            raise self.failure

    async def came(self, sequence):
        """Wait until the receiver has this datagram and all before; help where they got lost."""
        quiet_since = time.monotonic()
        while self.wanted <= sequence:
            self.news = asyncio.get_running_loop().create_future()
            done, _ = await asyncio.wait([self.news], timeout=RESEND_AFTER)
            self.check()
            if done:
                quiet_since = time.monotonic()
                continue
            if time.monotonic() - quiet_since > GIVE_UP_AFTER:
                raise Failure(f'the receiver has been silent for {GIVE_UP_AFTER:.0f} s')
            for train in self.under_way:
                if train.first + train.count > self.wanted:
                    self.transmit(train)
                    self.resent += train.count
        while self.under_way and self.under_way[0].first + self.under_way[0].count <= self.wanted:
            self.under_way.popleft().release()

    def transmit(self, train):
        data = train.view[:train.length]
        if not hasattr(self.transport, 'sendto_zerocopy'):
            for begin in range(0, train.length, self.step):
                self.transport.sendto(data[begin:begin + self.step])
        else:
            future = self.transport.sendto_zerocopy(data, segment_size=self.step)
            self.sends.add(future)
            future.add_done_callback(partial(self.sent, train.count))
        data.release()

    def sent(self, count, future):
        """The kernel has let go: count what became of the datagrams."""
        self.sends.discard(future)
        self.released += count
        if future.exception() is None:
            self.reports[future.result().copied] += count
        else:
            self.error_received(future.exception())

    async def returned(self):
        """Wait until the kernel has let go of everything, also of what it could not send."""
        while self.under_way:
            self.under_way.popleft().release()
        await asyncio.gather(*self.sends, return_exceptions=True)
        # From Python 3.12 on that goes on at once where all are done: let sent() hear of them.
        await asyncio.sleep(0)

    async def put(self, kind, fill=None):
        """Send the next train; ``fill`` writes contents and says how long they are together."""
        self.check()
        if not self.blind:
            await self.came(self.sequence + self.longest - 1 - self.limit)
            if len(self.under_way) == self.window:
                # Their leases are all there are, and only what has come gives one back: to wait
                # for the pool now would be to wait for ever.
                await self.came(self.under_way[0].first + self.under_way[0].count - 1)
        await self.writable.wait()
        train = Train(await self.pool.acquire(), self.sequence)
        contents = [train.view[begin + HEADER.size:begin + self.step]
                    for begin in range(0, len(train.view), self.step)]
        self.under_way.append(train)
        filled = 0 if fill is None else fill(contents)
        train.count = max(1, -(-filled // self.size))
        train.length = train.count * HEADER.size + filled
        for n in range(train.count):
            HEADER.pack_into(train.view, n * self.step, self.sequence + n, kind)
        for content in contents:
            content.release()
        self.transmit(train)
        self.sequence += train.count
        if self.blind:
            self.under_way.pop().release()

    async def stream(self, file, total):
        """Send all of a file; returns its SHA-256 digest, unless nobody would look at it."""
        def read(contents):
            # Pages that the system has cached; a slow disk would deserve a thread.
            nbytes = left = os.readv(file.fileno(), contents)
            for content in contents if not self.blind else ():
                digest.update(content[:left])
                left -= min(left, len(content))
            return nbytes

        def conclude(contents):
            contents[0][:digest.digest_size] = digest.digest()
            return digest.digest_size

        digest = hashlib.sha256()
        progress = Progress(total)
        if not self.blind:
            await self.put(HELLO)
            await self.came(0)
        for done in range(0, total, self.size * self.longest):
            await self.put(DATA, read)
            progress.update(done)
        if not self.blind:
            await self.put(END, conclude)
            await self.came(self.sequence - 1)
            await self.put(BYE)
        await self.returned()
        self.check()
        progress.finish(total)
        return None if self.blind else digest.hexdigest()


async def send(path, options):
    """Stream the file at ``path`` and report on it; whether all came."""
    loop = asyncio.get_running_loop()
    total = path.stat().st_size
    transport, sender = await loop.create_datagram_endpoint(
        lambda: Sender(options.size, options.window, options.blind),
        remote_addr=(options.host, options.port))
    start = time.monotonic()
    try:
        with path.open('rb', buffering=0) as file:
            digest = await sender.stream(file, total)
    finally:
        transport.close()
        await sender.returned()
    seconds = time.monotonic() - start
    report = {
        'bytes': total,
        'datagrams': sender.sequence + sender.resent,
        'resent': sender.resent,
        'seconds': seconds,
        'zerocopy': sender.reports[False],
        'copied': sender.reports[True],
        'unknown': sender.reports[None],     # kernels before 6.2 don't tell
        'released': sender.released,
        'sha256': digest,
        'delivered': None if options.blind else sender.verdict == RIGHT,
    }
    if options.json:
        print(json.dumps(report), flush=True)
    else:
        print('{bytes:,} bytes in {datagrams:,} datagrams, {resent:,} of them sent again; '
              '{zerocopy:,} without a copy, {copied:,} copied by the kernel, '
              'the memory of {released:,} given back'.format(**report))
        print(f'{total / 1e6 / seconds:,.0f} MB/s')
        if not options.blind:
            print(f'sha256 {digest}: {"as" if report["delivered"] else "NOT as"} received')
    return options.blind or report['delivered']


class Receiver(asyncio.DatagramProtocol):
    """Takes one file from the first who says hello."""

    def __init__(self, output):
        self.output = output
        self.sender = None
        self.wanted = 0
        self.early = {}                 # what came before its turn
        self.bytes = 0
        self.digest = hashlib.sha256()
        self.verdict = UNKNOWN
        self.timer = None
        self.finished = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        sock = transport.get_extra_info('socket')
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
        # Half of it is the kernel's bookkeeping.
        self.room = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2

    def datagram_received(self, data, addr):
        if len(data) < HEADER.size:
            return
        sequence, kind = HEADER.unpack_from(data)
        if self.sender is None and kind == HELLO:
            self.sender = addr
        if addr != self.sender or self.finished.done():
            return
        if kind == BYE:
            self.finish()
            return
        self.watch(GIVE_UP_AFTER if self.verdict == UNKNOWN else LINGER)
        if self.wanted <= sequence < self.wanted + self.room // HEADER.size:
            self.early[sequence] = data
        while (data := self.early.pop(self.wanted, None)) is not None:
            self.wanted += 1
            self.take(data)
        self.transport.sendto(ACK.pack(self.wanted, self.room, self.verdict), addr)

    def take(self, data):
        _, kind = HEADER.unpack_from(data)
        content = memoryview(data)[HEADER.size:]
        if kind == DATA:
            self.bytes += len(content)
            self.digest.update(content)
            if self.output is not None:
                self.output.write(content)
        elif kind == END:
            self.verdict = RIGHT if content == self.digest.digest() else WRONG
            self.watch(LINGER)

    def watch(self, seconds):
        if self.timer is not None:
            self.timer.cancel()
        self.timer = asyncio.get_running_loop().call_later(seconds, self.finish)

    def finish(self):
        self.timer.cancel()
        if not self.finished.done():
            self.finished.set_result(None)


async def receive(output, options):
    """Receive one file and report on it; whether it is what was sent."""
    loop = asyncio.get_running_loop()
    transport, receiver = await loop.create_datagram_endpoint(
        lambda: Receiver(output), local_addr=(options.host, options.port))
    name, port = transport.get_extra_info('sockname')[:2]
    print(f'listening on {name} port {port}', flush=True)
    try:
        await receiver.finished
    finally:
        transport.close()
    if receiver.verdict == UNKNOWN:
        raise Failure(f'the sender has been silent for {GIVE_UP_AFTER:.0f} s')
    right = receiver.verdict == RIGHT
    print(f'{receiver.bytes:,} bytes in {receiver.wanted:,} datagrams, none missing')
    print(f'sha256 {receiver.digest.hexdigest()}: {"as sent" if right else "NOT as sent"}')
    return right


def make_file(path, size):
    """Make a file of ``size`` bytes: a tar of Python's own library, over and over."""
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode='w') as tar:
        for source in Path(sysconfig.get_path('stdlib')).rglob('*.py'):
            if memory.tell() >= min(size, 16 << 20):
                break
            tar.add(source)
    content = memory.getvalue()
    with path.open('wb') as file:
        for done in range(0, size, len(content)):
            file.write(content[:size - done])


def port_number(text):
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f'{text!r} is not a port from 0 to 65535')
    return int(text)


def make_parser():
    parser = argparse.ArgumentParser(
        description='Stream a file as datagrams, and check that every byte came.',
        epilog='Start "receive" first; then "send" on this machine or another.  On one machine '
               'the kernel always copies what it delivers: zero-copy shows towards another.')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')

    command = commands.add_parser(
        'send', help='send a file to a receiver', description='Send a file to a receiver.')
    command.add_argument('host', help='where "receive" runs')
    command.add_argument('--file', type=Path,
                         help="what to send (default: a tar made of Python's library)")
    command.add_argument('--port', type=port_number, default=9000,
                         help='UDP port of the receiver (default: %(default)s)')
    command.add_argument('--size', type=int, default=ETHERNET, metavar='BYTES',
                         help=f'content of a datagram, from {SHORTEST} to {LONGEST}.  One that is '
                              "longer than the path's MTU arrives, but is fragmented and thus "
                              'copied: 1456 suits Ethernet, 8956 jumbo frames; over IPv6 20 less '
                              '(default: %(default)s)')
    command.add_argument('--window', type=int, default=32, metavar='BUFFERS',
                         help='buffers of 64 KiB under way at most, each with as many datagrams '
                              'as it holds (default: %(default)s)')
    command.add_argument('--loop', choices=('uringloop', 'asyncio', 'uvloop'), default='uringloop',
                         help='the event loop, to compare (default: %(default)s)')
    command.add_argument('--megabytes', type=int, default=64,
                         help='size of the file that is made when none is named '
                              '(default: %(default)s)')
    command.add_argument('--blind', action='store_true',
                         help='there is no receiver: wait for the buffers only, not for answers')
    command.add_argument('--json', action='store_true', help='report as one line of JSON')

    command = commands.add_parser(
        'receive', help='receive one file',
        description='Receive one file, check it, and say so.')
    command.add_argument('--host', default='127.0.0.1',
                         help='address to listen on; 0.0.0.0 or :: for all (default: %(default)s)')
    command.add_argument('--port', type=port_number, default=9000,
                         help='UDP port, 0 for any free one (default: %(default)s)')
    command.add_argument('--output', type=Path, metavar='FILE',
                         help='where to write it (default: it is checked and forgotten)')
    return parser


def run(options):
    """Do what was asked for; whether it went well."""
    if options.command == 'receive':
        if options.output is None:
            return uringloop.run(receive(None, options))
        with options.output.open('wb') as output:
            return uringloop.run(receive(output, options))
    if options.file is not None:
        return run_on(options.loop, send(options.file, options))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, 'library.tar')
        make_file(path, options.megabytes * 1_000_000)
        return run_on(options.loop, send(path, options))


def run_on(name, main):
    """Run a coroutine on the loop of that name."""
    if name == 'uringloop':
        return uringloop.run(main)
    if name == 'uvloop':
        try:
            import uvloop
        except ImportError:
            main.close()
            raise Failure('uvloop is not installed: pip install uvloop') from None
        loop = uvloop.new_event_loop()
    else:
        loop = asyncio.SelectorEventLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


def main():
    parser = make_parser()
    options = parser.parse_args()
    if options.command == 'send' and not SHORTEST <= options.size <= LONGEST:
        parser.error(f'--size must be from {SHORTEST} to {LONGEST}')
    if options.command == 'send' and options.window < 1:
        parser.error('--window must be at least 1')
    try:
        sys.exit(0 if run(options) else 1)
    except ConnectionRefusedError:
        sys.exit(f'stream_file: nobody listens on {options.host} port {options.port}: '
                 'start "receive" there first')
    except (OSError, Failure) as error:
        sys.exit(f'stream_file: {error}')
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == '__main__':
    main()
