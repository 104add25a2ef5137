"""The loop at work: a DNS server asked by dig, and a file streamed without copying it.

    sudo .venv/bin/python examples/demo.py

Without root the file is streamed over loopback.
"""
import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import namespaces
import stream_file

import uringloop

HERE = Path(__file__).resolve().parent
TIME_LIMIT = 55.0
START_LIMIT = 10.0
LONG = 60_000               # bytes of content: a datagram that only the largest MTU holds

# What is asked, and what dig must print.
QUERIES = [
    ('+short www.example.test A', '192.0.2.10\n192.0.2.11'),
    ('+short www.example.test AAAA', '2001:db8::10'),
    ('+short example.test MX', '10 mail.example.test.\n20 backup.example.test.'),
    ('+short example.test TXT', '"v=spf1 mx -all"'),
    ('nowhere.example.test A', 'status: NXDOMAIN'),
    ('+ignore long.example.test TXT', 'flags: qr aa tc'),
]


class Failure(Exception):
    """Something was not as promised."""


@dataclass
class Row:
    """A line of the table at the end; None where a column does not apply."""

    leg: str
    datagrams: int
    delivered: bool
    speed: float | None = None
    zerocopy: int | None = None
    copied: int | None = None
    released: int | None = None

    def kept(self):
        """Whether the leg went as promised."""
        return (self.delivered and self.released in (None, self.datagrams)
                and (self.leg not in ('ifb', 'mtu1500') or self.copied in (None, 0)))

    def cells(self):
        def share(count):
            return '-' if count is None else f'{count / self.datagrams:.1%}'

        return [self.leg, f'{self.datagrams:,}',
                '-' if self.speed is None else f'{self.speed:,.0f}',
                share(self.zerocopy), share(self.copied),
                '-' if self.released is None else f'{self.released:,}',
                'yes' if self.delivered else 'NO']


def show(rows):
    head = ['leg', 'datagrams', 'MB/s', 'zero-copy', 'copied by kernel', 'datagrams released',
            'all delivered']
    table = [head] + [row.cells() for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    print()
    for name, *cells in table:
        print(name.ljust(widths[0]), *map(str.rjust, cells, widths[1:]), sep='  ')
    print('\n-: the DNS server is an ordinary asyncio program that counts nothing; '
          'answers as short as its are copied, which is cheaper\n'
          'datagrams released: those whose memory the kernel has given back; it should be all')


def inside(name):
    """How to run a program in a network namespace, or right here."""
    return [] if name is None else ['ip', 'netns', 'exec', name]


@asynccontextmanager
async def program(*arguments, **streams):
    """A child process, which is gone when the with statement is."""
    process = await asyncio.create_subprocess_exec(
        *map(str, arguments), stdout=asyncio.subprocess.PIPE, **streams)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def listening(process):
    """The port of a server that has just been started."""
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), START_LIMIT)).decode()
    except asyncio.TimeoutError:
        raise Failure(f'a server has said nothing for {START_LIMIT:.0f} s') from None
    if not line.startswith('listening on '):
        raise Failure(f'a server said {line!r} instead of where it listens')
    return line.split()[-1]


async def ask(dig, port, query, expected):
    async with program(dig, '@127.0.0.1', '-p', port, '+tries=1', '+time=5',
                       *query.split()) as process:
        output, _ = await process.communicate()
    answer = output.decode().strip()
    if query.startswith('+short'):
        right = sorted(answer.splitlines()) == sorted(expected.splitlines())
    else:
        right = expected in answer
    verdict = ', '.join(expected.splitlines()) if right else f'WRONG: {answer!r}'
    print(f'  dig {query:32} {verdict}')
    return right


async def dns(dig):
    """An ordinary asyncio program on this loop, asked by a client that knows nothing of it."""
    print('DNS: python -m uringloop run examples/dns_server.py, asked by dig')
    async with program(sys.executable, '-m', 'uringloop', 'run', HERE / 'dns_server.py',
                       '--port', 0) as server:
        port = await listening(server)
        right = [await ask(dig, port, *query) for query in QUERIES]
    return Row('DNS', 2 * sum(right), all(right))


async def send(name, address, *arguments):
    async with program(*inside(name), sys.executable, HERE / 'stream_file.py', 'send', address,
                       '--json', *arguments) as sender:
        output, _ = await sender.communicate()
    if not output:
        raise Failure('the sender failed, see above')
    return json.loads(output)


def row(leg, report, delivered):
    told = not report['unknown']
    return Row(leg, report['datagrams'], delivered, report['bytes'] / 1e6 / report['seconds'],
               report['zerocopy'] if told else None, report['copied'] if told else None,
               report['released'])


async def stream(leg, path, sender, receiver, address):
    """From one place to another, where a receiver checks every byte."""
    async with program(*inside(receiver), sys.executable, HERE / 'stream_file.py', 'receive',
                       '--host', address, '--port', 0) as process:
        port = await listening(process)
        report = await send(sender, address, '--port', port, '--file', path, '--size', LONG)
        output, _ = await process.communicate()
    same = f'sha256 {report["sha256"]}: as sent' in output.decode()
    return row(leg, report, report['delivered'] and same and process.returncode == 0)


async def drop(path, name, address):
    """Into a device that copies nothing; its counter says what it was given."""
    report = await send(name, address, '--file', path, '--blind', '--size', LONG)
    return row('ifb', report, namespaces.taken(name) == report['datagrams'])


async def trains(path, name, address):
    """At the MTU of every Ethernet: datagrams of 1,472 bytes, in trains; and others beside it."""
    options = '--file', path, '--blind', '--size', stream_file.ETHERNET
    before = namespaces.taken_bytes(name)
    report = await send(name, address, *options)
    sent = report['bytes'] + report['datagrams'] * stream_file.HEADER.size
    right = namespaces.taken_bytes(name) - before == sent
    loops = {'uringloop': report}
    for other in ('asyncio', 'uvloop'):
        if other == 'asyncio' or find_spec(other):
            loops[other] = await send(name, address, *options, '--loop', other)
    for loop, told in loops.items():
        print(f'  {told["datagrams"] / told["seconds"]:12,.0f} datagrams a second by {loop}')
    return row('mtu1500', report, right)


async def stream_all(path):
    """The legs in namespaces; loopback where those cannot be had."""
    with ExitStack() as stack:
        try:
            sender, receiver, address = stack.enter_context(namespaces.veth_pair())
        except namespaces.NamespaceError as error:
            print(f'loopback: {error}; here the kernel copies each datagram, and as root you '
                  'would also see a device into which it copies none')
            return [await stream('loopback', path, None, None, '127.0.0.1')]
        print('veth: from one network namespace to another, every byte checked; '
              'a receiver on the same machine makes the kernel copy')
        rows = [await stream('veth', path, sender, receiver, address)]
        try:
            name, address = stack.enter_context(namespaces.black_hole())
            narrow, _ = stack.enter_context(namespaces.black_hole('1500', 'd'))
        except namespaces.NamespaceError as error:
            print(f'ifb: left out: {error}')
            return rows
        print('ifb: into a device that takes memory as it is and drops it; '
              'the speed includes reading the file')
        rows.append(await drop(path, name, address))
        print('mtu1500: into such a device at the MTU of an ordinary network, in trains')
        return rows + [await trains(path, narrow, address)]


async def demo(dig, megabytes):
    rows = [await dns(dig)]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, 'library.tar')
        print(f"file: {megabytes} MB of Python's own library as a tar")
        stream_file.make_file(path, megabytes * 1_000_000)
        rows += await stream_all(path)
    show(rows)
    broken = [row.leg for row in rows if not row.kept()]
    if broken:
        raise Failure(f'not as promised: {", ".join(broken)}')


async def interruptible(main, seconds):
    """Run a coroutine that Ctrl-C, SIGTERM and time end in order: it cleans up behind itself."""
    task = asyncio.ensure_future(main)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await asyncio.wait_for(task, seconds)


def main():
    parser = argparse.ArgumentParser(
        description='Show the loop at work: a DNS server asked by dig, then a file streamed '
                    'between network namespaces and into a device that drops it.',
        epilog='As root all of it is shown; otherwise the file is streamed over loopback.')
    parser.add_argument('--megabytes', type=int, default=128,
                        help='size of the file that is streamed (default: %(default)s)')
    options = parser.parse_args()
    if options.megabytes < 1:
        parser.error(f'--megabytes must be 1 or more, not {options.megabytes}')
    os.environ['URINGLOOP_REQUIRE'] = '1'        # no child may do without io_uring
    sys.stdout.reconfigure(line_buffering=True)  # in order with what children print
    dig = shutil.which('dig')
    if dig is None:
        sys.exit('demo: dig is not installed: apt install bind9-dnsutils')
    if find_spec('dnslib') is None:
        sys.exit('demo: dnslib is not installed: pip install dnslib')
    try:
        uringloop.new_event_loop().close()
        uringloop.run(interruptible(demo(dig, options.megabytes), TIME_LIMIT))
    except (Failure, uringloop.UringUnavailableError) as error:
        sys.exit(f'demo: {error}')
    except asyncio.TimeoutError:
        sys.exit(f'demo: not done after {TIME_LIMIT:.0f} s')
    except asyncio.CancelledError:
        sys.exit(130)


if __name__ == '__main__':
    main()
